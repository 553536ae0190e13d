"""The judging of `bench/peers.py`: what libraries pack is read as written by hand, figures are the textbook's."""

import json
from types import SimpleNamespace

import numpy as np
import peers
import pytest
import torch
from peers_formats import CODES, Grid, compressed_tensors_grid, gptq_grid, read_checkpoint
from peers_inputs import decoder_inputs, write_decoder
from peers_judging import Judge, divergences, likelihood
from peers_ours import padded_batches
from peers_page import write_page
from safetensors.torch import save_file
from scipy.special import log_softmax
from scipy.stats import entropy
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaForCausalLM

from reliabit.quant import CalibrationBatch


def words(codes, bits):
    """A row of codes as 32-bit words, the first in the lowest bits: by Python's own integers."""
    number = sum(int(code) << bits * place for place, code in enumerate(codes))
    count = -(-len(codes) * bits // 32)
    return torch.from_numpy(np.frombuffer(number.to_bytes(4 * count, "little"), dtype=np.int32).copy())


def packed(codes, bits):
    return torch.stack([words(row, bits) for row in codes])


@pytest.fixture(params=[2, 3, 4])
def grid(request):
    rng = np.random.default_rng(request.param)
    codes = torch.from_numpy(rng.integers(0, 2**request.param, (32, 64)).astype(np.uint8))
    zero = torch.from_numpy(rng.integers(0, 2**request.param, (32, 2)).astype(np.float32))
    scale = torch.from_numpy(rng.uniform(0.5, 2, (32, 2)).astype(np.float16)).float()
    weight = (codes.float() - zero.repeat_interleave(32, 1)) * scale.repeat_interleave(32, 1)
    return SimpleNamespace(bits=request.param, codes=codes, zero=zero, scale=scale, weight=weight)


def test_compressed_tensors_are_read(grid):
    tensors = {
        "packed": packed(grid.codes, grid.bits),
        "scale": grid.scale,
        "zero_point": packed(grid.zero.T, grid.bits).T,
    }
    found = compressed_tensors_grid(tensors, bits=grid.bits, columns=64)
    assert torch.equal(found.weight, grid.weight)
    del tensors["zero_point"]
    middle = compressed_tensors_grid(tensors, bits=grid.bits, columns=64).weight
    wide = grid.scale.repeat_interleave(32, 1)
    assert torch.equal(middle, (grid.codes.float() - 2 ** (grid.bits - 1)) * wide)


@pytest.mark.parametrize("first_version", [True, False])
def test_the_gptq_format_is_read(grid, first_version):
    stored = (grid.zero - int(first_version)) % 2**grid.bits
    tensors = {
        "qweight": packed(grid.codes, grid.bits).T,
        "qzeros": packed(stored.T, grid.bits),
        "scales": grid.scale.T.half(),
        "g_idx": torch.arange(64, dtype=torch.int32) // 32,
    }
    found = gptq_grid(tensors, bits=grid.bits, columns=64, first_version=first_version)
    assert torch.equal(found.weight, grid.weight)
    assert found.group_of is None


def test_groups_that_are_no_neighbours_are_read(grid):
    order = torch.arange(64, dtype=torch.int32) % 2
    tensors = {
        "qweight": packed(grid.codes, grid.bits).T,
        "qzeros": packed((grid.zero - 1).T % 2**grid.bits, grid.bits),
        "scales": grid.scale.T,
        "g_idx": order,
    }
    found = gptq_grid(tensors, bits=grid.bits, columns=64)
    expected = (grid.codes.float() - grid.zero[:, order.long()]) * grid.scale[:, order.long()]
    assert torch.equal(found.weight, expected)
    # A group for each input is stored, and counts.
    assert found.stored_bytes(grid.bits) == Grid(grid.codes, grid.scale, grid.zero).stored_bytes(grid.bits) + 256


def test_bytes_are_those_of_codes_scales_and_zeros(grid):
    integers = Grid(grid.codes, grid.scale, grid.zero).stored_bytes(grid.bits)
    assert integers == (32 * 64 * grid.bits + 64 * (16 + grid.bits)) // 8
    floats = Grid(grid.codes, grid.scale, grid.zero + 0.5).stored_bytes(grid.bits)
    assert floats == (32 * 64 * grid.bits + 64 * 32) // 8


def test_a_checkpoint_is_read_with_what_else_it_has(grid, tmp_path):
    tensors = {"a.codes": grid.codes, "a.scale": grid.scale, "a.zero": grid.zero, "norm.weight": torch.ones(3)}
    save_file(tensors, tmp_path / CODES)
    grids, rest = read_checkpoint(tmp_path, bits=grid.bits)
    assert torch.equal(grids["a"].weight, grid.weight)
    assert list(rest) == ["norm.weight"]


def test_a_checkpoint_of_plain_weights_is_refused(tmp_path):
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="no weights in a format that is read here"):
        read_checkpoint(tmp_path, bits=4)


def test_divergence_and_likelihood_are_the_textbooks():
    rng = np.random.default_rng(0)
    exact, said = rng.normal(size=(2, 6, 11)) * 3
    targets = rng.integers(0, 11, 6)
    expected = entropy(np.exp(log_softmax(exact, 1)), np.exp(log_softmax(said, 1)), axis=1)
    found = divergences(torch.from_numpy(exact), torch.from_numpy(said))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    found = likelihood(torch.from_numpy(said), torch.from_numpy(targets))
    np.testing.assert_allclose(found.numpy(), -log_softmax(said, 1)[np.arange(6), targets], rtol=1e-5)


def tiny():
    torch.manual_seed(0)
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"num_key_value_heads": 2, "vocab_size": 40, "model_type": "llama", "pad_token_id": 0, "rms_norm_eps": 1e-5}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    config = Idefics3Config(text_config=text, vision_config=vision, image_token_id=39, scale_factor=2)
    return Idefics3ForConditionalGeneration(config).eval()


def batch_of(model):
    ids = torch.tensor([[0, 0, 39, 39, 39, 39, 5, 6], [7, 39, 39, 39, 39, 8, 9, 10]])
    attended = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1] * 8])
    targets = torch.full_like(ids, -100)
    targets[:, -2] = torch.tensor([6, 10])
    inputs = {"input_ids": ids, "attention_mask": attended, "pixel_values": torch.randn(2, 1, 3, 16, 16)}
    return CalibrationBatch(inputs, ids == 39, targets, attended.bool())


def test_the_decoder_alone_is_given_what_the_whole_model_gives_it(tmp_path):
    model = tiny()
    batch = batch_of(model)
    sequences, added = decoder_inputs(model, "model.text_model.layers", [batch])
    write_decoder(model, added, tmp_path)
    alone = LlamaForCausalLM.from_pretrained(tmp_path)
    assert [len(ids) for ids in sequences] == [6, 8]
    with torch.no_grad():
        whole = model(**batch.inputs).logits
        for number, ids in enumerate(sequences):
            found = alone(ids[None]).logits[0, :, :40]
            torch.testing.assert_close(found, whole[number][batch.attended[number]], rtol=1e-4, atol=1e-5)
    # So does the batch that this project's methods are given, padded on the other side.
    [padded] = padded_batches(sequences, [batch.targets[0][batch.attended[0]], batch.targets[1]], words=40)
    with torch.no_grad():
        found = alone(**padded.inputs).logits[padded.answer][:, :40]
    torch.testing.assert_close(found, whole[batch.answer], rtol=1e-4, atol=1e-5)
    assert padded.vision.sum() == batch.vision.sum()


@pytest.fixture
def judge():
    model = tiny()
    batch = batch_of(model)
    one = Judge.__new__(Judge)
    one.model, one.path, one.held_out = model, "model.text_model.layers", [batch]
    one.prepare()
    return one


def grids_of(model, change=0.0):
    """The linear layers on grids of one input each, which hold any weight."""
    found = {}
    for name, layer in model.model.text_model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            scale = layer.weight.detach().half().float() + change
            found[f"model.{name}"] = Grid(torch.ones(scale.shape, dtype=torch.uint8), scale, torch.zeros_like(scale))
    return found


def test_a_decoder_is_judged_and_the_next_one_by_itself(judge):
    assert judge.fidelity()["kl"] == pytest.approx(0, abs=1e-6)
    whole = judge.model(**judge.held_out[0].inputs).logits[judge.held_out[0].answer]
    torch.testing.assert_close(torch.cat(judge.exact_logits), whole, rtol=1e-4, atol=1e-5)
    norm = {"model.norm.weight": torch.full((32,), 2.0), "lm_head.weight": torch.ones(2, 2)}
    judge.put(grids_of(judge.model, 0.05), norm)
    assert judge.fidelity()["kl"] > 1e-3
    judge.put(grids_of(tiny()), {})
    assert judge.fidelity()["kl"] < 1e-5


def test_a_decoder_with_a_layer_missing_is_refused(judge):
    grids = grids_of(judge.model)
    del grids["model.layers.1.mlp.up_proj"]
    with pytest.raises(ValueError, match=r"quantized are 13 layers.*layers\.1\.mlp\.up_proj"):
        judge.put(grids, {})


RESULT = {"kl": 0.5, "kl_error": 0.01, "nll": 1.0, "accuracy": 0.5, "aurc": 0.2, "coverage_at_1pct_risk": 0.1}
TOOK = {"bytes": 2**20, "bits_a_weight": 3.3, "processor_seconds": 10.0, "peak_mib": 900, "versions": {"torch": "2"}}


def test_cells_that_are_missing_are_measured_in_order():
    wanted = SimpleNamespace(groups=[64], bits=[3, 2], only=["rtn", "mbq"])
    done = {"cells": {peers.key_of("mbq", 3, 64): {}}}
    assert list(peers.missing_cells(done, wanted)) == [("rtn", 3, 64), ("rtn", 2, 64), ("mbq", 2, 64)]


def test_a_quantization_that_fails_leaves_its_last_line(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho Traceback >&2; echo 'ValueError: no' >&2; echo >&2; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(peers, "python_of", lambda *_: str(python))
    assert peers.quantize("rtn", 3, 64, work=tmp_path, environments=None) == "ValueError: no"


def test_a_library_needs_its_environment(tmp_path):
    with pytest.raises(SystemExit, match="gptqmodel needs --environments"):
        peers.quantize("gptqmodel", 3, 64, work=tmp_path, environments=None)


def test_the_page_tells_who_is_better_at_equal_bytes_and_what_failed(tmp_path):
    common = {"bits": 3, "group": 64}
    cells = {
        "a": {"recipe": "llm_compressor_gptq", **common, **TOOK, **RESULT},
        "b": {"recipe": "rtn", **common, **TOOK, **RESULT, "kl": 1.0, "processor_seconds": 2.0},
        "c": {"recipe": "hqq_plus", **common, **TOOK, **RESULT, "kl": 0.25, "bytes": 2**21},
        "d": {"recipe": "auto_round", **common, "failed": "ValueError: no"},
    }
    results = {"settings": peers.SETTINGS, "cells": cells, "unquantized": RESULT, "questions": 7}
    write_page(json.loads(json.dumps(results)), tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "of this project's at no more bytes, **rtn** has 1.000, 2.00 of it, in 0.20 of its processor seconds" in page
    assert "of this project's at any, **hqq_plus**, float zero has 0.250, 0.50 of it, in 1.00 of its" in page
    assert "- AutoRound, 200 steps failed: `ValueError: no`" in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| unquantized",
        "| **hqq_plus**, float zero",
        "| llm-compressor GPTQ",
        "| **rtn**",
    ]
