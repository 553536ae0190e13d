"""Models spread over memory and disk answer as whole ones do, quantized or not."""

import pytest
from torch.utils.data import DataLoader

from inference.answers import answer_table
from reliabit.inference.encoded_store import VisionEncoding
from reliabit.inference.features import BLOCKS
from reliabit.inference.further_passes import sample_answers, self_evaluations
from reliabit.inference.prediction_loop import predict
from reliabit.inference.settings import FeatureSettings, SamplingSettings, SelfEvaluationPrompt
from reliabit.models.loading import load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.models.spread import Spread, is_spread, offloaded, tensors_of
from reliabit.quant import plan_from_config, quantize_model
from reliabit.quant.checkpoint_io import save_checkpoint

HOW = {"batch_size": 4, "accelerator": "cpu", "progress": False}
LITTLE = Spread("auto", host_memory="1500KB")
"""Less than the reference models take; the rest stays on disk."""

RULES = [{"components": ["language_attention", "language_mlp"], "bits": 4, "group_size": 64}]


class Kept:
    """Takes states and keeps them."""

    settings = FeatureSettings(layer=1, dtype="float32")

    def __init__(self):
        self.blocks = []

    def append(self, blocks):
        self.blocks += [blocks[name].tolist() for name in BLOCKS]


@pytest.fixture
def questions(tables):
    return tables["scenes"]["test"].select(range(10))


@pytest.fixture(params=["as it is", "quantized"])
def folder(request, checkpoint, untrained, tmp_path):
    if request.param == "as it is":
        return untrained
    quantize_model(checkpoint.model, plan_from_config(RULES))
    save_checkpoint(checkpoint.model, tmp_path / "quantized", processor_from=untrained)
    return tmp_path / "quantized"


def load(folder, family, spread=None):
    return load_checkpoint(
        ModelConfig(path=str(folder), family=family, dtype="float32", template="{question}"), spread=spread
    )


def test_a_spread_model_answers_as_a_whole_one(folder, family, questions):
    whole, spread = load(folder, family), load(folder, family, LITTLE)
    assert {"cpu", "disk"} == set(map(str, spread.model.hf_device_map.values()))
    kept, also_kept = Kept(), Kept()
    expected = answer_table(questions, whole, max_new_tokens=6, features=kept, **HOW)
    assert answer_table(questions, spread, max_new_tokens=6, features=also_kept, **HOW) == expected
    assert also_kept.blocks == kept.blocks
    assert offloaded(spread.model), "what was on disk must be there again after the pass"


def test_further_passes_are_those_of_a_whole_model(untrained, family, questions):
    whole, spread = load(untrained, family), load(untrained, family, LITTLE)
    prompt = SelfEvaluationPrompt(template="{question} {answer}", right="yes", wrong="no")
    answers = ["yes"] * len(questions)
    assert self_evaluations(questions, answers, spread, prompt=prompt, **HOW) == self_evaluations(
        questions, answers, whole, prompt=prompt, **HOW
    )
    settings = SamplingSettings(samples=2, temperature=1.0, seed=0)
    drawn = [sample_answers(questions, one, settings=settings, max_new_tokens=4, **HOW) for one in (spread, whole)]
    assert drawn[0] == drawn[1]


def test_images_are_seen_as_by_a_whole_model(untrained, family, questions):
    def seen(checkpoint):
        loader = DataLoader(questions, batch_size=4, collate_fn=checkpoint.encoder)
        batches = predict(VisionEncoding(checkpoint), loader, accelerator="cpu", progress=False)
        return [image.tolist() for [batch] in batches for image in batch.seen]

    assert seen(load(untrained, family, LITTLE)) == seen(load(untrained, family))


def test_tensors_are_read_back_as_they_are(folder, family):
    whole, spread = load(folder, family), load(folder, family, LITTLE)
    found = {name: tensor.clone() for name, tensor in tensors_of(spread.model)}
    expected = dict(tensors_of(whole.model))
    assert found.keys() == expected.keys() > whole.model.state_dict().keys() - {"lm_head.weight"}
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    assert not any(tensor.is_meta for tensor in found.values())


def test_a_model_that_fits_is_whole(untrained, family, questions):
    checkpoint = load(untrained, family, Spread("auto"))
    assert not offloaded(checkpoint.model)
    assert answer_table(questions, checkpoint, max_new_tokens=3, **HOW) == answer_table(
        questions, load(untrained, family), max_new_tokens=3, **HOW
    )
    assert not is_spread(load(untrained, family).model)


def test_what_is_not_limited_leaves_room_for_what_is_computed(monkeypatch):
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: {0: 2_000_000, 1: 1_000_000, "cpu": 9_000_000})
    assert Spread("auto").options()["max_memory"] is None, "transformers keeps a reserve of its own"
    limited = Spread("auto", host_memory="1MB").options()["max_memory"]
    assert limited == {0: 1_800_000, 1: 900_000, "cpu": "1MB"}
    assert Spread("auto", accelerators=False).options()["max_memory"] == {"cpu": 8_100_000}
    assert Spread("auto", device_memory="1GiB").options()["max_memory"] == {0: "1GiB", 1: "1GiB", "cpu": 8_100_000}
