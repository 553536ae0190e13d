"""A label means one number: in a sweep's table, its Pareto table, the gate's decision and the card of the bundle."""

import re
from argparse import Namespace

import pytest
import yaml

from registry.bundles import CODE, write_bundle
from registry.measured import costs, table
from registry.test_policy import CLEAN, composed
from reliabit.commands.promoting import find_candidate, promote
from reliabit.composition import to_mapping
from reliabit.evaluation import certification, paired_reliability
from reliabit.evaluation.report import build_report
from reliabit.identity import FINGERPRINT, identify
from reliabit.inference.predictions import COLUMNS, PREDICTIONS, write_predictions
from reliabit.metrics.intervals import corrected_level
from reliabit.registry.card import CardFacts, model_card
from reliabit.registry.registering import register_bundle
from reliabit.registry.terms import Terms, terms_of_settings
from reliabit.registry.versions import CHAMPION, find_alias
from reliabit.tasks.bundling import describe, recorded_config
from reliabit.tracking.sweep.parent import start_parent
from reliabit.tracking.sweep.running import OpenSweep, close
from reliabit.tracking.tracker import Tracker
from tracking.stores import store_at, tracker_at

IMAGES = {"test": 150, "val": 80, "cal": 300}
CELLS = {"none": ("quant=none", 0.92), "hqq·4b": ("quant.bits=4", 0.92), "hqq·2b": ("quant.bits=2", 0.85)}
POINT, CERTIFIED = "C@5% selector", "certified C@5% selector (best of 3)"
LENIENT = ("registry.accuracy_loss=0.3", "registry.slice_loss=0.9", "registry.minimum_coverage=0.0")


def answers(accuracy):
    import pyarrow as pa

    found = table(accuracy=accuracy, skill=0.6, images=IMAGES)
    for name, kind in COLUMNS.items():
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(found.num_rows, pa.type_for_alias(kind)))
    # The Selector knows more than MaxProb, so that no number of the one passes for the other's.
    return found.append_column("conf_selector", table(accuracy=accuracy, skill=0.95, images=IMAGES)["conf_maxprob"])


def config_at(folder, *overrides):
    store = [f"tracking.{key}={value}" for key, value in store_at(folder).items()]
    few = ("registry.resamples=400", "evaluation.resamples=20", "evaluation.slices=[]", "trainer.threads=1")
    return composed(*store, *few, "registry.slices=[question_type]", *LENIENT, *overrides)


def record(tracker, folder, config, name, *, accuracy, parent):
    """Record a cell as `task=pipeline` does, with the report of its answers."""
    predictions = answers(accuracy)
    identity = identify(to_mapping(config), inputs={"model/model.safetensors": "a" * 64, "data/test": "b" * 64})
    tags = {"model": config.model.name, "data": config.data.name, "quant": config.quant.name}
    bits = str(config.quant.bits or 16)
    with tracker.run(name, tags={**CLEAN, **tags, "bits": bits, **identity.to_tags()}, parent=parent) as run:
        run.log_parameters(to_mapping(config))
        run.log_text(yaml.safe_dump(dict(to_mapping(config))), "config.yaml")
        run.log_text(identity.to_json(), FINGERPRINT)
        report = build_report(predictions, config.evaluation)
        run.log_metrics({**report.recorded(), **costs(stored=int(bits) / 4, resident=int(bits) / 4)})
        write_predictions(predictions, folder / PREDICTIONS)
        run.log_file(folder / PREDICTIONS)
    return run.run_id


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("swept")


@pytest.fixture(scope="module")
def swept(place):
    """The files of a finished sweep's parent run, by name."""
    tracker = tracker_at(place)
    parent = start_parent(tracker, overrides=["quant.bits=2,4"])
    for name, (override, accuracy) in CELLS.items():
        record(tracker, place, config_at(place, override), name, accuracy=accuracy, parent=parent.run_id)
    config = config_at(place)
    sweep = OpenSweep(
        tracker,
        config.tracking,
        parent,
        new=True,
        asked=len(CELLS),
        settings=config.evaluation,
        policy=config.registry,
        paper=False,
        folder=place / "sweep",
    )
    close(sweep, status="FINISHED")
    return {
        name: tracker.fetch(parent.run_id, name, place / "fetched").read_text()
        for name in ("summary.md", "pareto.md", "pareto.csv")
    }


@pytest.fixture(scope="module")
def found(place, swept):
    config = config_at(place)
    return find_candidate(tracker_at(place), config.registry, sweep="last", run=None)


def rows_of(text):
    """The rows of every Markdown table, as mappings from heading to cell."""
    found, headings = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            headings = None
        elif headings is None:
            headings = cells
        elif not set(cells[0]) <= {"-", " "}:
            found.append(dict(zip(headings, cells, strict=True)))
    return found


def numbers_of(text):
    """Every number of a table of configurations, by label and configuration, as it is written."""
    return {
        (label.removesuffix(" %"), row["configuration"]): value
        for row in rows_of(text)
        if "configuration" in row
        for label, value in row.items()
        if label.endswith(" %")
    }


def point(text):
    return text.partition(" ")[0]


def agree(one, other):
    """Whether two numbers are one, as far as the shorter of them is written."""
    digits = min(len(point(text).partition(".")[2]) for text in (one, other))
    return abs(float(point(one)) - float(point(other))) <= 0.5 * 10**-digits + 0.005


def test_a_label_of_two_tables_is_one_number(swept, capsys, place):
    promote(config_at(place), Namespace(sweep="last", run=None, dry_run=True))
    printed = capsys.readouterr().out
    tables = {"sweep": swept["summary.md"], "pareto": swept["pareto.md"], "promote": printed}
    numbers = {name: numbers_of(text) for name, text in tables.items()}
    for label in (POINT, CERTIFIED, "accuracy"):
        for cell in CELLS:
            values = [found[label, cell] for found in numbers.values()]
            assert all(agree(values[0], value) for value in values), (label, cell, values)
    shared = set(numbers["sweep"]) & set(numbers["pareto"])
    assert all(agree(numbers["sweep"][key], numbers["pareto"][key]) for key in shared)
    # The printout of a promotion is the Pareto table of the sweep, interval by interval.
    assert numbers["promote"] == numbers["pareto"]
    # Nothing of one confidence goes by the name of another, and no label is bare.
    assert not any(re.fullmatch(r"(certified )?C@[\d.]+%", label) for label, _ in numbers["sweep"] | numbers["pareto"])
    assert any(numbers["sweep"]["C@5% maxprob", cell] != numbers["sweep"][POINT, cell] for cell in CELLS), (
        "the two confidences have to differ for this test to tell"
    )


def test_the_gate_and_the_card_say_what_the_tables_say(swept, found, place):
    decision, policy = found.against(None), found.policy
    name = found.candidate.name
    tables = numbers_of(swept["pareto.md"])
    level = corrected_level(policy.level, 3)
    shown = f"{100 * level:.4g} %"
    (rule,) = [reason.text for reason in decision.reasons if reason.rule == "certified coverage"]
    assert f"{CERTIFIED} is {tables[CERTIFIED, name]} % at {shown}" in rule
    assert {one.level for one in decision.measured.values()} == {level}
    recorded = recorded_config(found.candidate, config_at(place))
    facts = CardFacts(
        candidate=found.candidate,
        decision=decision,
        description=describe(found.candidate, decision, recorded),
        commit="f" * 40,
        stand_in=False,
    )
    card = model_card(facts)
    figures = {row["on the split test"]: row for row in rows_of(card) if "on the split test" in row}
    assert {POINT, CERTIFIED, "accuracy", "AUGRC selector"} == set(figures)
    for label, row in figures.items():
        assert (row["%, with its interval"], row["level"]) == (tables[label, name], shown)
    # Coverage stands nowhere else on the card but in the certificates, which are the decision's.
    assert "coverage at" not in card
    certified = next(one for one in facts.description.certificates if one.risk == policy.required_risk)
    assert f"{100 * certified.coverage:.2f}" == point(tables[CERTIFIED, name])
    assert f"{100 * certified.coverage:.1f} % of {certified.n_cal}" in card


def test_the_written_front_names_its_confidence_and_its_level(swept):
    lines = [line.split(",") for line in swept["pareto.csv"].splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert {row["confidence"] for row in rows if "coverage" in row["objective"]} == {"selector"}
    assert {(row["level"], row["best_of"]) for row in rows if row["low"]} == {(f"{corrected_level(0.95, 3):.6g}", "3")}


def counted(monkeypatch):
    """How many cells were resampled, how many certificates were made, and how often files were fetched."""
    calls = {"bootstraps": 0, "certificates": 0, "fetched": []}
    bootstrap, certify = paired_reliability.cluster_bootstrap, certification.certify_threshold
    fetch = Tracker.fetch

    def counting_bootstrap(configurations, *arguments, **named):
        calls["bootstraps"] += len(configurations)
        return bootstrap(configurations, *arguments, **named)

    def counting_certificate(*arguments, **named):
        calls["certificates"] += 1
        return certify(*arguments, **named)

    def counting_fetch(tracker, run_id, name, folder):
        calls["fetched"].append((run_id, name))
        return fetch(tracker, run_id, name, folder)

    monkeypatch.setattr(paired_reliability, "cluster_bootstrap", counting_bootstrap)
    monkeypatch.setattr(certification, "certify_threshold", counting_certificate)
    monkeypatch.setattr(Tracker, "fetch", counting_fetch)
    return calls


@pytest.mark.parametrize(("confidence", "measured"), [("selector", 3), ("maxprob", 4)])
def test_a_promotion_measures_each_cell_once(place, swept, monkeypatch, confidence, measured):
    config, tracker = config_at(place), tracker_at(place)
    policy = config.registry
    # What is live is a cell of the same sweep, by the confidence that it serves with.
    own = terms_of_settings(policy)
    terms = Terms(confidence, own.default_risk, own.deltas)
    baseline = next(run for run in tracker.runs_with({"kind": "cell"}) if run.info.run_name == "none")
    bundle = write_bundle(place / f"bundle-{confidence}", content=confidence)
    tags = {"fingerprint": baseline.data.tags["fingerprint"], **terms.to_tags()}
    version = register_bundle(tracker, bundle, run_id=baseline.info.run_id, name="reliabit", tags=tags, code=CODE)
    tracker.client.set_registered_model_alias("reliabit", CHAMPION, version.number)
    calls = counted(monkeypatch)
    candidacy = find_candidate(tracker, policy, sweep="last", run=None)
    # Once to say it, and once under the registry's lock.
    first, again = (candidacy.against(find_alias(tracker, "reliabit", CHAMPION)) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    assert first.incumbent == "none"
    assert calls["bootstraps"] == measured
    assert calls["certificates"] == measured * len(policy.certified_risks)
    assert len(calls["fetched"]) == len(set(calls["fetched"])) == 3 * len(CELLS)
