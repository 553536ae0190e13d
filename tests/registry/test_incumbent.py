"""What is live is judged as it is served: by its own confidence and terms, on the candidate's data."""

import re
from dataclasses import replace

import pytest

from registry.bundles import CODE, write_bundle
from registry.measured import POLICY, SETTINGS, configuration, costs, live, table, unquantized
from registry.test_policy import record
from reliabit.errors import ReliabitError
from reliabit.metrics import Certificate
from reliabit.registry.gate import decide
from reliabit.registry.incumbent import live_version
from reliabit.registry.registering import register_bundle
from reliabit.registry.terms import TAG, Terms, terms_of_settings
from reliabit.serving.bundle.description import Description
from reliabit.serving.bundle.manifest import write_manifest

LENIENT = replace(POLICY, minimum_coverage=0.0, slices=())
SELECTOR = replace(LENIENT, confidence="selector")


def with_selector(answers, confidence):
    return answers.append_column("conf_selector", confidence)


@pytest.fixture(scope="module")
def plain():
    """A MaxProb that knows nothing beside a Selector that knows all there is to know."""
    skilled = table(accuracy=0.9)
    return with_selector(table(accuracy=0.9, skill=0.2), skilled["conf_maxprob"])


def failed(decision):
    return [reason.rule for reason in decision.reasons if not reason.passed]


def text_of(decision, rule):
    (found,) = [reason.text for reason in decision.reasons if reason.rule == rule]
    return found


def test_another_confidence_is_another_thing_to_serve_and_judged_as_such(plain):
    good, baseline = configuration("good", plain), unquantized(plain)
    served = live(good, confidence="selector")
    assert decide(good, served, SELECTOR, baseline=baseline, compared=1).verdict == "unchanged"
    decision = decide(good, served, LENIENT, baseline=baseline, compared=1)
    assert decision.verdict == "refused"
    assert "AUGRC against the live version" in failed(decision)
    back = decide(good, live(good), SELECTOR, baseline=baseline, compared=1)
    assert back.accepted, back.markdown()
    assert "surely better in AUGRC" in text_of(back, "improvement")


def test_a_loss_against_the_selector_that_serves_is_seen_by_a_policy_of_maxprob(plain):
    small, now = configuration("small", plain, efficiency=costs(resident=1)), configuration("now", plain)
    verdicts = {
        confidence: decide(small, live(now, confidence=confidence), LENIENT, baseline=unquantized(plain), compared=1)
        for confidence in ("maxprob", "selector")
    }
    assert verdicts["maxprob"].accepted, verdicts["maxprob"].markdown()
    lost = ["AUGRC against the live version", "certified C@10% against the live version"]
    assert failed(verdicts["selector"]) == lost


def test_what_is_measured_apart_is_still_paired():
    answers = table(accuracy=0.9, skill=0.6)
    both = with_selector(answers, answers["conf_maxprob"])
    small, now = configuration("small", both, efficiency=costs(resident=1)), configuration("now", both)
    decision = decide(small, live(now, confidence="selector"), LENIENT, baseline=unquantized(both), compared=1)
    for metric in ("accuracy", "AUGRC", "certified C@10%"):
        told = text_of(decision, f"{metric} against the live version")
        # What 900 images without a difference leave open.
        assert re.match(r"a gain of [+-]0.00 \[-0.41, \+0.41\] points", told), told


def test_the_confidence_of_what_is_live_has_to_be_on_record(plain):
    lacking = configuration("old", table())
    decision = decide(
        configuration("good", plain),
        live(lacking, confidence="selector"),
        LENIENT,
        baseline=unquantized(plain),
        compared=1,
    )
    assert failed(decision) == ["comparable"]
    assert "incumbent old has no column conf_selector" in text_of(decision, "comparable")


@pytest.mark.parametrize(
    ("deltas", "kept"), [({0.05: 0.1, 0.1: 0.2}, True), ({0.01: 0.1, 0.1: 0.1}, False), ({0.1: 0.05}, False)]
)
def test_a_risk_that_is_certified_stays_certified(plain, deltas, kept):
    small, now = configuration("small", plain, efficiency=costs(resident=1)), configuration("now", plain)
    decision = decide(small, live(now, deltas=deltas), LENIENT, baseline=unquantized(plain), compared=1)
    assert failed(decision) == ([] if kept else ["certified risks against the live version"])
    # The same run at other terms is not what is live, and better in nothing.
    again = decide(now, live(now, deltas=deltas), LENIENT, baseline=unquantized(plain), compared=1)
    assert (again.verdict, "improvement" in failed(again)) == ("refused", True)


OTHER = {"data/test": "new", "data/cal": "new"}


def on_other_data(name, answers, **other):
    return configuration(name, answers, inputs=OTHER, **other)


def test_on_other_data_the_same_cell_stands_for_what_is_live():
    plain = table(accuracy=0.9)
    old = live(configuration("now", plain))
    baseline = unquantized(plain, inputs=OTHER)
    small = on_other_data("small", plain, bits=2, efficiency=costs(resident=1))
    twin = on_other_data("twin", plain)
    alone = old.on_the_data_of(small, [baseline, small])
    assert not alone.represented
    refused = decide(small, alone, LENIENT, baseline=baseline, compared=2)
    assert "same data" in failed(refused)
    assert "run that configuration in the candidate's sweep" in text_of(refused, "same data")
    found = old.on_the_data_of(small, [baseline, small, twin])
    assert (found.represented, found.measured.name, found.fingerprint) == (True, "twin", old.fingerprint)
    decision = decide(small, found, LENIENT, baseline=baseline, compared=3)
    assert decision.accepted, decision.markdown()
    assert "now was measured on other data, so the run run of twin" in text_of(decision, "live version")
    # Nobody stands for what answered the same questions itself.
    assert old.on_the_data_of(configuration("here", plain), [twin]) is old


@pytest.mark.parametrize(
    "change",
    [
        {"status": "FAILED"},
        {"inputs": {"data/test": "third"}},
        {"model": {"model/model.safetensors": "other"}},
        {"config": {"quant": {"method": "hqq", "bits": 4}, "model": {"name": "tiny"}, "seed": 1}},
        {"config": {"quant": {"method": "hqq", "bits": 3}, "model": {"name": "tiny"}, "seed": 0}},
    ],
)
def test_no_other_cell_stands_for_what_is_live(plain, change):
    small = on_other_data("small", plain, bits=2)
    another = replace(on_other_data("another", plain), **change)
    assert not live(configuration("now", plain)).on_the_data_of(small, [small, another]).represented


def test_what_is_live_can_be_certified_anew_on_other_data(plain):
    old, twin = live(configuration("now", plain)), on_other_data("twin", plain)
    found = old.on_the_data_of(twin, [twin])
    decision = decide(twin, found, LENIENT, baseline=unquantized(plain, inputs=OTHER), compared=1)
    assert decision.accepted, decision.markdown()
    assert "certified on other data" in text_of(decision, "improvement")
    # By another confidence it has to be better, as anything else.
    other = replace(found, terms=Terms("selector", 0.1, found.terms.deltas))
    assert failed(decide(twin, other, LENIENT, baseline=unquantized(plain, inputs=OTHER), compared=1))


def registered(tracker, folder, name, *, tags):
    run_id, identity = record(tracker, folder, f"{name}·hqq·3b·s0", overrides=["quant.bits=3"])
    bundle = write_bundle(folder / "bundle", content=name)
    certificate = Certificate(
        risk=0.1,
        delta=0.2,
        threshold=0.7,
        method="binomial",
        n_cal=9,
        n_accepted=8,
        loss_sum=0.0,
        p_value=0.01,
        bound=0.04,
        seed=0,
        cal_sha256="",
    )
    description = Description(
        name=name,
        family="tiny",
        dtype="float32",
        template="{}",
        max_new_tokens=3,
        batch_size=2,
        confidence="selector",
        certificates=(certificate,),
        default_risk=0.1,
        run_id=run_id,
        fingerprint=identity.hex,
        inputs={},
    )
    (bundle / "bundle.json").write_text(description.to_json())
    write_manifest(bundle)
    version = register_bundle(tracker, bundle, run_id=run_id, name=name, tags=tags, code=CODE)
    stored = tracker.client.get_model_version(name, version.number).source.removeprefix("file://")
    return version, identity, f"{stored}/artifacts/bundle/bundle.json"


def test_a_version_says_at_what_terms_it_serves(tracker, tmp_path):
    version, identity, stored = registered(tracker, tmp_path, "tagged", tags=terms_of_settings(SETTINGS).to_tags())
    with open(stored, "a") as file:  # noqa: PTH123
        file.write("damaged")
    found = live_version(tracker, version)
    # A damaged champion can still be replaced: the registry knows the terms.
    assert found.terms == Terms("maxprob", 0.1, {0.05: 0.1, 0.1: 0.1})
    assert (found.fingerprint, found.represented) == (identity.hex, False)
    with pytest.raises(ReliabitError, match="holds no terms"):
        live_version(tracker, replace(version, tags={**version.tags, TAG: "selector"}))


def test_a_version_from_before_says_it_in_its_bundle(tracker, tmp_path):
    version, _, stored = registered(tracker, tmp_path, "untagged", tags={})
    assert live_version(tracker, version).terms == Terms("selector", 0.1, {0.1: 0.2})
    with open(stored, "a") as file:  # noqa: PTH123
        file.write(" ")
    with pytest.raises(ReliabitError, match="bundle.json of models:/untagged/1 differs"):
        live_version(tracker, version)
    with pytest.raises(ReliabitError, match="has no run to compare with"):
        live_version(tracker, replace(version, run_id=None))
