"""Embeddings and head that are one matrix: what is quantized of them, and what is stored then."""

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText

from quant.calibration_samples import LAYERS
from quant.samples import FAMILIES, logits_of
from reliabit.models.reference import BUILDERS
from reliabit.quant import footprint, load_checkpoint, packed_modules, plan_from_config, quantize_model, save_checkpoint
from reliabit.quant.checkpoint_io import checkpoint_bytes
from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint

PARTS = (["lm_head"], ["embeddings"], ["embeddings", "lm_head"])


@pytest.fixture(scope="module", params=FAMILIES)
def tied(request, tmp_path_factory):
    """A checkpoint of a family whose head is its embeddings, and the family."""
    torch.manual_seed(0)
    model = BUILDERS[request.param](["What shape is it? circle", "Is it red? yes no"] * 20).model
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = True
    model.tie_weights()
    folder = tmp_path_factory.mktemp("tied") / request.param
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder, request.param


def plan_for(components):
    return plan_from_config([{"components": components, "bits": 4}])


@pytest.mark.parametrize("components", PARTS, ids="+".join)
def test_each_is_its_own_matrix_once_one_is_quantized(tied, tmp_path, components):
    folder, family = tied
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16)
    original = model.lm_head.weight.detach().clone()
    assert model.lm_head.weight is model.get_input_embeddings().weight
    report = quantize_model(model, plan_for(components))
    assert len(report.names) == len(packed_modules(model)) == len(components)
    for module in (model.lm_head, model.get_input_embeddings()):
        kept = module.weight if isinstance(module, torch.nn.Linear | torch.nn.Embedding) else None
        assert kept is None or torch.equal(kept, original)
    save_checkpoint(model, tmp_path / "saved")
    quantize_checkpoint(folder, tmp_path / "streamed", plan_for(components), decoder_layers=LAYERS[family])
    saved, streamed = (load_checkpoint(tmp_path / name, dtype=torch.float32) for name in ("saved", "streamed"))
    assert not json.loads((tmp_path / "streamed" / "config.json").read_text())["tie_word_embeddings"]
    assert torch.equal(logits_of(saved), logits_of(streamed))
    assert torch.allclose(logits_of(saved), logits_of(model.float()), atol=1e-3)
    predicted = footprint(folder, plan_for(components))
    assert checkpoint_bytes(tmp_path / "saved") == pytest.approx(predicted.file_bytes, rel=1e-2)


def test_what_is_one_matrix_counts_once(tied):
    folder, _ = tied
    as_it_is, head = footprint(folder), footprint(folder, plan_for(["lm_head"]))
    assert "lm_head" not in as_it_is.components
    assert sum(part.stored_bytes for part in as_it_is.components.values()) == as_it_is.size.stored_bytes
    assert as_it_is.file_bytes == pytest.approx(checkpoint_bytes(folder), rel=1e-3)
    # The head's codes come on top of the embeddings, which stay.
    assert head.components["embeddings"] == as_it_is.components["embeddings"]
    assert head.size.stored_bytes - as_it_is.size.stored_bytes == head.components["lm_head"].stored_bytes


def test_the_decoder_alone_leaves_them_one(tied, tmp_path):
    folder, _ = tied
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16)
    quantize_model(model, bits=4)
    save_checkpoint(model, tmp_path / "saved")
    loaded = load_checkpoint(tmp_path / "saved", dtype=torch.bfloat16)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
