"""What the MLflow UI is told of runs: links, columns, descriptions, saved views, and what it compares runs by."""

import json
import math
import re

import pytest
import requests

from reliabit.paths import project_root
from reliabit.tracking.parameters import parameters_of
from reliabit.tracking.settings import TrackingConfig
from reliabit.tracking.sweep.parent import start_parent
from reliabit.tracking.tags import NOTE, PLACES
from reliabit.tracking.tracker import TrackedRun
from reliabit.tracking.ui.columns import best_columns, column_names, columns_of, empty_columns
from reliabit.tracking.ui.links import compare_link, run_link, runs_link, ui_hint
from reliabit.tracking.ui.notes import LONGEST, CellNote, Judging, describe, plain
from reliabit.tracking.ui.views import EXPERIMENT_KIND, TRAINING, VIEW, save_sweep_view
from tracking.servers import mlflow_server

CONFIG = {
    "task": {"name": "pipeline"},
    "model": {"name": "tiny", "path": "models/tiny", "revision": "0" * 40, "dtype": "float32"},
    "quant": {"name": "hqq", "bits": 4, "group_size": 64},
    "data": {"name": "easy_vqa", "root": "/data/here", "seed": 0},
    "evaluation": {"level": 0.95, "reported": "test"},
    "trainer": {"threads": 1, "batch_size": 8},
    "tracking": {"uri": "sqlite:///a.db"},
    "registry": {"confidence": "maxprob", "required_risk": 0.05},
    "sweep": {"force": False},
    "paths": {"root": "/project", "output": "/out"},
    "seed": 0,
}
METRICS = {
    "accuracy/mean": 0.8968,
    "accuracy/mean.low": 0.85,
    "accuracy/mean.high": 0.93,
    "accuracy/questions": 978.0,
    "selective/aurc": 0.0127,
    "certified/coverage_at_5pct_risk": 0.713,
    "efficiency/stored_bytes": 2.63 * 2**20,
    "efficiency/effective_bits": 4.5,
}
POLICY = Judging(confidence="maxprob", required_risk=0.05)


def note_of(run_id="a" * 32, **changed):
    values = {"run_id": run_id, "config": CONFIG, "data": "easy_vqa", "metrics": METRICS, "policy": POLICY}
    return CellNote(**{**values, "then": "reliabit promote --dry-run", **changed})


@pytest.mark.parametrize(
    ("uri", "where"),
    [
        ("https://me:s3cret@mlflow.example:8443/prefix/", "https://mlflow.example:8443/prefix"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("sqlite:////elsewhere/mlflow.db", "http://127.0.0.1:5000"),
    ],
)
def test_links_go_straight_to_the_page_of_trained_models_and_name_nobody(uri, where):
    tracking = TrackingConfig(uri=uri)
    links = [
        run_link(tracking, experiment_id="7", run_id="r"),
        runs_link(tracking, experiment_id="7"),
        compare_link(tracking, experiment_id="7", sweep="s"),
    ]
    assert links[0] == f"{where}/#/experiments/7/runs/r?workflowType=machine_learning"
    assert links[1] == f"{where}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=cells"
    assert links[2].startswith(f"{where}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=sweep-s")
    assert links[2].endswith("&compareRunsMode=CHART")
    assert "s3cret" not in "".join(links)


def test_a_journal_has_no_pages():
    tracking = TrackingConfig(uri="journal:///somewhere")
    assert run_link(tracking, experiment_id="0", run_id="r") == "r"
    assert (runs_link(tracking, experiment_id="0"), compare_link(tracking, experiment_id="0", sweep="s")) == ("", "")
    assert ui_hint(tracking) == ""


def test_what_to_start_before_a_link_opens_is_said():
    assert ui_hint(TrackingConfig(uri=f"sqlite:///{project_root()}/mlruns/mlflow.db")) == "make ui"
    elsewhere = TrackingConfig(uri="sqlite:////elsewhere/mlflow.db")
    assert ui_hint(elsewhere) == "mlflow ui --backend-store-uri sqlite:////elsewhere/mlflow.db"


def test_columns_have_the_readme_s_numbers_and_names_that_mlflow_takes():
    found = columns_of(METRICS, confidence="maxprob", required_risk=0.05)
    assert found == {
        "accuracy percent": 89.7,
        "AURC percent": 1.27,
        "certified C at 5 percent alone": 71.3,
        "stored MiB": 2.63,
        "bits per weight": 4.5,
    }
    assert all(re.fullmatch(r"[\w.\- ]+", name) for name in column_names(0.05))
    assert [*found] == [name for name in column_names(0.05) if name in found], "the order of all tables"


def test_the_best_of_a_column_is_the_lowest_where_less_is_better():
    cells = [{"AURC percent": 1.0, "C at 1 percent": 70.0}, {"AURC percent": 2.0, "C at 1 percent": 80.0}, {}]
    unmeasured = {"AURC percent": math.nan}
    found = best_columns([*cells, unmeasured], required_risk=0.05)
    assert found == {"best AURC percent": 1.0, "best C at 1 percent": 80.0}


def test_the_store_gives_the_headline_numbers_first(tracker):
    with tracker.run("cell", tags={}) as run:
        run.log_metrics(empty_columns(0.05))
        run.log_metrics({"training/loss": 1.0, "usage/cpu": 5.0})
        run.log_metrics({**columns_of(METRICS, confidence="maxprob", required_risk=0.05), **METRICS})
    found = tracker.client.get_run(run.run_id).data.metrics
    assert [*found][: len(column_names(0.05))] == column_names(0.05)
    assert found["accuracy percent"] == 89.7
    assert math.isnan(found["ECE percent"]), "not measured"


def test_paths_and_hashes_are_tags_and_no_parameters(tracker):
    assert parameters_of(CONFIG) == {
        "model.name": "tiny",
        "model.dtype": "float32",
        "quant.name": "hqq",
        "quant.bits": 4,
        "quant.group_size": 64,
        "data.name": "easy_vqa",
        "data.seed": 0,
        "evaluation.level": 0.95,
        "evaluation.reported": "test",
        "trainer.batch_size": 8,
        "seed": 0,
    }
    assert PLACES == ("model.path", "model.revision", "data.root", "engine.url")


def test_an_experiment_opens_as_model_training_and_has_the_view_of_its_cells(tracker):
    tags = tracker.client.get_experiment(tracker.experiment_id).tags
    assert tags[EXPERIMENT_KIND] == TRAINING == "custom_model_development"
    view = json.loads(tags[f"{VIEW}cells"])
    state = json.loads(view["state"])
    assert view["name"] == "Reliabit: all cells"
    assert state["searchFilter"] == "tags.kind = 'cell'"
    assert state["selectedColumns"][:4] == [
        f"metrics.`{name}`"
        for name in ("accuracy percent", "AURC percent", "certified C at 5 percent alone", "stored MiB")
    ]


def test_what_somebody_chose_for_an_experiment_stays(folder, request):
    from tracking.stores import tracker_at

    first = tracker_at(folder, experiment=request.node.name)
    first.client.set_experiment_tag(first.experiment_id, EXPERIMENT_KIND, "regression")
    again = tracker_at(folder, experiment=request.node.name)
    assert again.client.get_experiment(again.experiment_id).tags[EXPERIMENT_KIND] == "regression"


def test_a_sweep_s_view_finds_its_cells_and_charts_what_a_choice_takes(tracker):
    for name in ("a", "b", "other"):
        with tracker.run(name, tags={"kind": "cell"}):
            pass
    runs = {run.info.run_name: run.info.run_id for run in tracker.runs_with({"kind": "cell"})}
    save_sweep_view(
        tracker.client, tracker.experiment_id, sweep="s", name="mine", cells=[runs["a"], runs["b"]], required_risk=0.05
    )
    view = json.loads(tracker.client.get_experiment(tracker.experiment_id).tags[f"{VIEW}sweep-s"])
    state = json.loads(view["state"])
    found = tracker.client.search_runs([tracker.experiment_id], filter_string=state["searchFilter"])
    assert {run.info.run_name for run in found} == {"a", "b"}
    shown = {chart["metricKey"] for chart in state["compareRunCharts"] if chart["type"] == "BAR"}
    assert shown == {"certified C at 5 percent alone", "AURC percent", "stored MiB"}
    axes = [chart["xaxis"]["key"] for chart in state["compareRunCharts"] if chart["type"] == "SCATTER"]
    assert axes == ["stored MiB", "bits per weight"]
    section = state["compareRunSections"][0]["uuid"]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {section}


def test_a_cell_s_description_begins_with_what_matters(tracker):
    text = note_of(figures=["description/risk coverage.png"]).markdown()
    first, second, *_ = text.split("\n\n")
    assert first == "**accuracy 89.7 %, AURC 1.27 %, certified C@5% 71.3 %, stored 2.63 MiB**"
    assert second == (
        r"tiny, quantized by hqq to 4 bits in groups of 64; 978 questions of easy\_vqa (test); it abstains by maxprob; "
        "intervals 95 %."
    )
    assert "| accuracy | 89.7 % | 85.0 to 93.0 |" in text
    assert f"![risk coverage](get-artifact?path=description/risk%20coverage.png&run_uuid={'a' * 32})" in text
    assert text.endswith("Next: `reliabit promote --dry-run`")
    assert "not quantized" in note_of(config={**CONFIG, "quant": {**CONFIG["quant"], "name": "none"}}).markdown()


def test_descriptions_hold_no_secret_no_foreign_markup_and_no_more_than_mlflow_keeps(tracker, journal, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "t0ken-of-mine")
    with tracker.run("cell", tags={}) as run:
        describe(tracker, run.run_id, "t0ken-of-mine\n" + "a line\n" * 5000)
    found = tracker.client.get_run(run.run_id).data.tags[NOTE]
    assert "t0ken-of-mine" not in found
    assert len(found) <= LONGEST
    assert found.endswith("a line\n\n...")
    assert plain("a<img src=x>|[b](c)") == r"a&lt;img src=x&gt;\|\[b\]\(c\)"


def test_a_journal_holds_no_description(journal):
    with journal.run("cell", tags={}) as run:
        describe(journal, run.run_id, "anything")
    assert NOTE not in journal.client.get_run(run.run_id).data.tags


def test_a_sweep_is_named_after_what_it_varies(tracker):
    told = ["quant.bits=2,3", "tracking.uri=sqlite:///x.db", "paths.data=/d", "trainer.threads=1"]
    run = start_parent(tracker, overrides=told, of=("tiny", "easy_vqa"))
    found = tracker.client.get_run(run.run_id)
    assert found.info.run_name == "sweep·tiny·easy_vqa·quant.bits=2,3"
    assert json.loads(found.data.tags["overrides.json"]) == told, "what it is gone on with"


@pytest.mark.slow
def test_a_real_server_gives_the_same_to_its_ui(tmp_path):
    from reliabit.tracking.tracker import Tracker

    with mlflow_server(f"sqlite:///{tmp_path}/server.db", folder=tmp_path) as address:
        tracker = Tracker(uri=address, artifacts="mlflow-artifacts:/", experiment="reliabit")
        with tracker.run("cell", tags={"kind": "cell"}) as run:
            run.log_metrics(empty_columns(0.05))
            run.log_metrics({"usage/cpu": 5.0, **columns_of(METRICS, confidence="maxprob", required_risk=0.05)})
            assert isinstance(run, TrackedRun)
            (tmp_path / "figure.png").write_bytes(b"a picture")
            run.log_file(tmp_path / "figure.png", folder="description")
            describe(tracker, run.run_id, note_of(run.run_id, figures=["description/figure.png"]).markdown())
        got = requests.get(f"{address}/ajax-api/2.0/mlflow/runs/get?run_id={run.run_id}", timeout=30).json()["run"]
        text = next(tag["value"] for tag in got["data"]["tags"] if tag["key"] == NOTE)
        picture = re.search(r"\((get-artifact\S+)\)", text)[1]
        assert requests.get(f"{address}/{picture}", timeout=30).content == b"a picture"
    assert [metric["key"] for metric in got["data"]["metrics"]][:10] == column_names(0.05)
