"""Numbers that are not finite stop a pass at its first batch, and are never kept, written or answered with."""

import pytest
import torch
from torch.utils.data import DataLoader

from inference.answers import answer_table
from reliabit.errors import NotFiniteError, ReliabitError
from reliabit.inference.answer_store import Answers, AnswerStore
from reliabit.inference.encoded_store import VisionEncoding
from reliabit.inference.features import feature_writer
from reliabit.inference.further_passes import sample_answers, self_evaluations
from reliabit.inference.prediction_loop import first_overflow, is_finite, predict
from reliabit.inference.settings import FeatureSettings, SamplingSettings, SelfEvaluationPrompt
from reliabit.models.loading import load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.quant import ResidentDecoder, collect

HOW = {"batch_size": 4, "accelerator": "cpu", "progress": False}
ASKED = {**HOW, "max_new_tokens": 4}
TOO_MUCH = 3e5


@pytest.fixture(scope="module")
def questions(tables):
    return tables["easy_vqa"]["test"].select(range(8))


@pytest.fixture
def overflowing(untrained, family):
    """A model that is fine in float32 and overflows in float16, in its second layer, and that layer's name."""

    def load(dtype, place="mlp.down_proj"):
        checkpoint = load_checkpoint(
            ModelConfig(path=str(untrained), family=family, dtype="float32", template="{question}")
        )
        name = f"{checkpoint.encoder.adapter.decoder_layers}.1.{place}"
        with torch.no_grad():
            checkpoint.model.get_submodule(name).weight.mul_(TOO_MUCH)
            checkpoint.model.to(getattr(torch, dtype))
        return checkpoint, name

    return load


def stopped(match):
    return pytest.raises(NotFiniteError, match=match)


def test_what_is_not_finite_is_found_wherever_it_is():
    assert is_finite({"a": [1.0, (torch.ones(2), "nan", None, torch.tensor([1]))]})
    for bad in (float("inf"), float("nan"), -float("inf")):
        assert not is_finite([{"a": bad}])
        assert not is_finite((torch.tensor([1.0, bad]),))


def test_the_first_batch_stops_and_names_type_and_layer(overflowing, questions):
    checkpoint, layer = overflowing("float16")
    batches = []
    checkpoint.model.register_forward_pre_hook(lambda *_, **__: batches.append(1))
    message = rf"not finite in float16, from {layer} on, for \d questions .*; set model.dtype=bfloat16 or model.dtype="
    with stopped(message) as refusal:
        answer_table(questions, checkpoint, **ASKED)
    assert "\n" not in str(refusal.value)
    assert len(batches) <= 2 * ASKED["max_new_tokens"], "one batch, and once more to find the layer"


def test_the_same_model_answers_in_float32(overflowing, questions):
    checkpoint, _ = overflowing("float32")
    assert is_finite(answer_table(questions, checkpoint, **ASKED))


def test_a_weight_that_is_infinite_in_float32_has_another_remedy(checkpoint, questions):
    layer = f"{checkpoint.encoder.adapter.decoder_layers}.0.self_attn.o_proj"
    with torch.no_grad():
        checkpoint.model.get_submodule(layer).weight[0, 0] = float("nan")
    with stopped(rf"not finite in float32, from {layer} on, .* its weights are damaged"):
        answer_table(questions, checkpoint, **ASKED)


def test_states_that_overflow_alone_stop_it_too(overflowing, questions, tmp_path):
    checkpoint, layer = overflowing("float16")
    keys = questions.add_column("split", ["test"] * 8).add_column("shift", ["none"] * 8)
    keys = keys.select_columns(["source", "split", "shift", "question_id"]).with_format("arrow")[:]
    with (
        stopped(rf"from {layer} on"),
        feature_writer(tmp_path / "features", keys=keys, settings=FeatureSettings(layer=1)) as writer,
    ):
        answer_table(questions, checkpoint, features=writer, **ASKED)
    assert not (tmp_path / "features").exists()


def test_nothing_of_it_is_kept(overflowing, questions, tmp_path):
    checkpoint, _ = overflowing("float16")
    asked = questions.add_column("split", ["test"] * 8).add_column("shift", ["none"] * 8)
    store = AnswerStore(folder=tmp_path / "answers", identity="a", chunk=4, features=None)

    def answer(chunk, writer):
        return Answers(answer_table(chunk.questions, checkpoint, **ASKED), seconds=1.0)

    with stopped("not finite"):
        list(store.ask(asked, answer))
    assert not [path for path in tmp_path.rglob("*.json") if "record" not in path.name]


def test_further_passes_stop_too(overflowing, questions):
    checkpoint, layer = overflowing("float16")
    prompt = SelfEvaluationPrompt(template="{question} {answer}", right="yes", wrong="no")
    with stopped(rf"from {layer} on"):
        self_evaluations(questions, ["yes"] * 8, checkpoint, prompt=prompt, **HOW)
    settings = SamplingSettings(samples=2, temperature=1.0, seed=0)
    with stopped(rf"from {layer} on"):
        sample_answers(questions, checkpoint, settings=settings, **ASKED)


def test_what_is_seen_stops_before_it_is_kept(checkpoint, questions):
    names = [name for name, module in checkpoint.model.named_modules() if isinstance(module, torch.nn.LayerNorm)]
    with torch.no_grad():
        checkpoint.model.get_submodule(names[0]).weight.fill_(float("inf"))
    batches = DataLoader(questions, batch_size=4, collate_fn=checkpoint.encoder)
    with stopped(rf"from {names[0]} on"):
        predict(VisionEncoding(checkpoint), batches, accelerator="cpu", progress=False)


def test_calibration_names_the_first_layer(overflowing, questions, tmp_path):
    from reliabit.models.batches import calibration_batches

    checkpoint, _ = overflowing("float16")
    path = checkpoint.encoder.adapter.decoder_layers
    batches = calibration_batches(list(questions), encoder=checkpoint.encoder, batch_size=4)
    with pytest.raises(ReliabitError, match=rf"the outputs of {path}.1 are not finite .* float16; set model.dtype="):
        collect(ResidentDecoder(checkpoint.model, path), batches, tmp_path / "statistics", key="k")
    assert not (tmp_path / "statistics").exists()


def test_nothing_is_named_where_nothing_overflows():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    assert first_overflow(model, lambda: model(torch.ones(1, 2))) is None
    assert not model[0]._forward_hooks
