"""A model behind an endpoint is measured as any other, and nothing is kept of one that changes meanwhile."""

import csv
import json
import math
from collections import Counter

import pyarrow as pa
import pytest
from PIL import Image

from added_packages import composed
from engines.served import completion, sees, served, token
from reliabit.data.bad_samples import tell
from reliabit.engines.asking import Asking, ProbedEngine
from reliabit.engines.engine import ServedModel
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import is_costed
from reliabit.paths import project_root
from reliabit.tasks import _served as served_module
from reliabit.tasks._measurement import measure
from reliabit.tasks._results import tell_cell
from reliabit.tasks._served import CERTAIN, PREFLIGHT, ServedCheckpoint, remarks, served_inputs, served_store
from reliabit.tasks.preflight import preflight

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0)}
SPLITS = ["val"] * 2 + ["cal"] * 2 + ["test"] * 6


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with (folder / "questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answer", "split"])
        for number, split in enumerate(SPLITS):
            color = ("red", "green")[number % 2]
            Image.new("RGB", (20 + number, 20), COLORS[color]).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", "which color?", color, split])
    (tmp_path / "options").mkdir()
    tell.cache_clear()
    return folder


def config_of(folder, url, *overrides):
    root = folder.parent
    given = [f"paths.root={root}", f"paths.output={root / 'output'}", "data=folder", f"data.root={folder}"]
    asked = ["engine=openai", f"engine.url={url}", "evaluation.resamples=50", "trainer.progress_bar=false"]
    return composed(root, *given, *asked, *overrides)


def answer_with(probability):
    """Always says red, surer where there is a picture."""

    def answer(body):
        share = probability if len(sees(body)) > 0 else 0.1
        # A picture is known by its bytes, so that a blank one is answered less surely.
        share *= 0.5 + 0.5 * (sum(sees(body).encode()) % 7) / 7
        return 200, completion("red", [token("red", share, others=[("green", (1 - share) / 10)]), token("</s>", 1.0)])

    return answer


def measured(config):
    config.paths.output_folder().mkdir(parents=True, exist_ok=True)
    seen = []
    found = measure(config, folder=config.paths.output_folder(), loaded=seen.append, logger_of=lambda _: None)
    return found, seen[0]


def test_answers_of_an_endpoint_are_measured(pictures):
    with served(answer_with(0.8)) as (url, bodies):
        found, checkpoint = measured(config_of(pictures, url, "confidence.estimators=[maxprob,min_token,top_entropy]"))
    table = found.selected.predictions
    assert found.recorded()["accuracy/mean"] == 0.5
    assert table["answer"].to_pylist() == ["red"] * len(SPLITS)
    assert table["first_token_entropy"].null_count == len(SPLITS)
    # exp(-H) of the three events that are told of: both words, and all others.
    probability = table["first_token_prob"].to_numpy()
    for p, confidence in zip(probability, table["conf_top_entropy"].to_pylist(), strict=True):
        shares = [p, (1 - p) / 10, (1 - p) * 0.9]
        assert confidence == pytest.approx(math.exp(sum(share * math.log(share) for share in shares)))
    assert table["conf_maxprob"].to_numpy() == pytest.approx(probability)
    # Three probes, the questions, and the probe's question after each chunk: one a split.
    assert len(bodies) == 3 + len(SPLITS) + 3
    assert Counter(body["temperature"] for body in bodies) == {0.0: 2 + len(SPLITS) + 3, 2.0: 1}
    efficiency = found.efficiency
    assert efficiency["efficiency/latency_p99_seconds"] >= efficiency["efficiency/latency_p50_seconds"] > 0
    assert efficiency[CERTAIN] == 0
    assert not is_costed(efficiency)
    assert '"answer": "red"' in checkpoint.write(pictures.parent).read_text()
    assert (pictures.parent / PREFLIGHT).is_file()


def test_what_was_answered_is_not_asked_again(pictures):
    with served(answer_with(0.8)) as (url, bodies):
        config = config_of(pictures, url, "engine.stored_mib=3")
        first, _ = measured(config)
        asked = len(bodies)
        second, _ = measured(config)
        # The probes alone.
        assert len(bodies) == asked + 3
    assert first.selected.predictions.equals(second.selected.predictions)
    assert second.efficiency["efficiency/stored_bytes"] == 3 * 2**20
    assert is_costed(second.efficiency)


def test_another_model_of_the_same_name_is_another_one(pictures):
    with served(answer_with(0.8)) as (url, _):
        one = served_inputs(config_of(pictures, url))
        again = served_inputs(config_of(pictures, url))
    with served(answer_with(0.3)) as (url, _):
        other = served_inputs(config_of(pictures, url))
    assert one == again
    assert one["model/served"] == other["model/served"]
    assert one["model/answer"] != other["model/answer"]


def test_nothing_is_kept_where_the_model_is_replaced_meanwhile(pictures):
    calls = []

    def answer(body):
        calls.append(1)
        return answer_with(0.8 if len(calls) < 8 else 0.2)(body)

    with served(answer) as (url, _):
        config = config_of(pictures, url)
        with pytest.raises(ReliabitError, match="the model was replaced during the run; run again"):
            measured(config)
    # The chunk that the first model had answered.
    assert len([*(pictures.parent / "cache" / "answers").glob("*/answers.json")]) == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        pytest.param(["quant=hqq"], "engine=openai asks a model as it is served, and quant=hqq", id="quantized"),
        pytest.param(
            ["confidence.estimators=[maxprob,selector]"],
            r"confidence.estimators=\['selector'\] cannot be had with engine=openai",
            id="states",
        ),
        pytest.param(
            ["confidence.estimators=[maxprob,entropy]"], r"estimators=\['entropy'\] cannot be had", id="entropy"
        ),
        pytest.param(["trainer.devices=2"], "trainer.devices=2 is for models that are loaded here", id="devices"),
    ],
)
def test_what_no_endpoint_tells_is_refused_before_it_is_asked(pictures, overrides, says):
    with pytest.raises(ReliabitError, match=says):
        preflight(config_of(pictures, "http://127.0.0.1:9/v1", *overrides))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        pytest.param(["engine=openai"], "engine=openai needs engine.url", id="nowhere"),
        pytest.param(["engine=openai", "engine.url=ftp://a/v1"], "is no address", id="no-address"),
        pytest.param(["engine=openai", "engine.url=http://a:b@c/v1"], "engine.url holds a password", id="password"),
        pytest.param(["engine.url=http://a/v1"], "is asked with engine=openai", id="not-asked"),
        pytest.param(["engine=vllm", "engine.python=null"], "engine=vllm needs engine.python", id="no-python"),
        pytest.param(
            ["engine=openai", "engine.url=http://a/v1", "engine.top_logprobs=21"], "must lie in 2 to 20", id="too-many"
        ),
        pytest.param(["engine=openai", "engine.url=http://a/v1", "engine.retries=-1"], "at least 0", id="retries"),
    ],
)
def test_settings_that_name_no_engine_are_refused(tmp_path, overrides, says):
    (tmp_path / "options").mkdir()
    with pytest.raises(ReliabitError, match=says):
        composed(tmp_path, *overrides)


def test_nobody_there_is_told_before_anything_is_read(pictures):
    with pytest.raises(ReliabitError, match="cannot be reached .*start the server, or correct engine.url"):
        preflight(config_of(pictures, "http://127.0.0.1:9/v1"))
    (pictures / "questions.csv").unlink()
    with pytest.raises(ReliabitError, match="engine.python=.*is no file"):
        preflight(composed(pictures.parent, "engine=vllm", "engine.python=nowhere/python"))
    missing = pytest.raises(ReliabitError, match="engine.model=other is not served")
    with served(answer_with(0.8)) as (url, bodies), missing:
        preflight(config_of(pictures, url, "engine.model=other"))
    assert bodies == []


def test_a_served_model_has_no_checkpoint_to_quantize(tmp_path):
    (tmp_path / "options").mkdir()
    config = composed(tmp_path, "model=served", "task=quantize", "task.checkpoint=x")
    with pytest.raises(ReliabitError, match="model=served has no checkpoint here"):
        preflight(config)


def test_the_threshold_that_users_apply_is_told(tmp_path, capsys):
    (tmp_path / "options").mkdir()
    config = composed(tmp_path, "engine=openai", "engine.url=http://a/v1")
    certificates = {"maxprob": [{"risk": 0.05, "delta": 0.05, "threshold": 0.875}, {"risk": 0.01, "threshold": None}]}
    (tmp_path / "report.json").write_text(json.dumps({"certificates": certificates}))
    tell_cell(config, name="mine", metrics={"accuracy/questions": 9.0}, link="", folder=tmp_path)
    assert "maxprob >= 0.875000: at most 5 % wrong, held with 95 % probability" in capsys.readouterr().out
    config.registry.required_risk = 0.01
    tell_cell(config, name="mine", metrics={"accuracy/questions": 9.0}, link="", folder=tmp_path)
    assert "no threshold holds 1 % risk" in capsys.readouterr().out


def test_answers_of_vllm_are_known_by_its_options_and_its_version_too(tmp_path, monkeypatch):
    monkeypatch.setattr(served_module, "installed_version", lambda settings: "vllm 0.32.0")
    (tmp_path / "options").mkdir()
    asking = Asking(template="{question}", max_tokens=8, alternatives=20, warm_up=1.0)
    found = ProbedEngine(engine=None, model=ServedModel("m"), asking=asking, probed=("?", b""), probes=None)

    def identity(*overrides):
        config = composed(tmp_path, "engine=vllm", "model.path=models/qwen2_vl_tiny", *overrides)
        config.model.path = str(project_root() / "models" / "qwen2_vl_tiny")
        return served_store(config, ServedCheckpoint(found, stored_bytes=None)).identity

    assert identity() == identity("engine.timeout=7")
    before = identity()
    assert before != identity("+engine.options.kv_cache_dtype=fp8")
    monkeypatch.setattr(served_module, "installed_version", lambda settings: "vllm 0.33.0")
    assert identity() != before


@pytest.mark.parametrize(
    ("log_probs", "truncated", "says"),
    [
        pytest.param([-0.1, -0.2], [False, False], [], id="nothing"),
        pytest.param(
            [0.0, -0.2], [False, False], ["50 % of the answers have a log-probability of exactly 0"], id="ties"
        ),
        pytest.param([-0.1, -0.2], [True, True], ["100 % of the answers were cut off after 8 tokens"], id="cut"),
    ],
)
def test_what_spoils_a_ranking_is_said(log_probs, truncated, says):
    found = remarks(pa.table({"log_prob": log_probs, "truncated": truncated}), longest=8)
    assert [sentence[: len(start)] for sentence, start in zip(found, says, strict=True)] == says
