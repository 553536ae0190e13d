"""What a sweep measures in memory is what its checkpoint and its bundle serve: kernels, answers, confidences, bytes."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from inference.answers import answer_table
from reliabit.metrics import certify_threshold
from reliabit.models.families import find_adapter
from reliabit.models.loading import Checkpoint, load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.quant import kernels_of, model_size, plan_from_config, quantize_model, save_checkpoint
from reliabit.quant.checkpoint_files import stored_types
from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint
from reliabit.serving.bundle.description import Description
from reliabit.serving.bundle.folder import write_bundle
from reliabit.serving.bundle.image_questions import ImageQuestion
from reliabit.serving.bundle.served_model import ServedModel
from reliabit.tasks._model import kept_type
from serving.bundles import MODELS

BATCH, MAX_NEW_TOKENS = 8, 4
HYBRID = [
    {"components": ["language_attention"], "bits": 4, "group_size": 32},
    {"components": ["language_mlp"], "bits": 3, "group_size": 64},
    {"components": ["lm_head"], "bits": 8, "group_size": None, "zero": "symmetric"},
    {"components": ["vision"], "bits": 8, "group_size": 32},
]


@dataclass(frozen=True)
class Seen:
    """What is known of a model that answered: all of it must be the same on every way to the service."""

    kernels: dict[str, str]
    answers: list[str]
    confidences: list[float]
    resident_bytes: int


@pytest.fixture(scope="module")
def questions(tables):
    return tables["easy_vqa"]["test"].select(range(2 * BATCH))


def load(folder, family, dtype) -> Checkpoint:
    return load_checkpoint(ModelConfig(path=str(folder), family=family, dtype=dtype, template="{question}"))


def asked(checkpoint: Checkpoint, questions) -> Seen:
    how = {"batch_size": BATCH, "max_new_tokens": MAX_NEW_TOKENS, "accelerator": "cpu", "progress": False}
    answers = answer_table(questions, checkpoint, **how)
    confidences = [float(np.exp(answer["log_prob"])) for answer in answers]
    return seen(checkpoint.model, [answer["answer"] for answer in answers], confidences)


def served(bundle, questions) -> Seen:
    model = ServedModel.load(bundle)
    found = model.answer([ImageQuestion(image=row["image"], question=row["question"]) for row in questions])
    return seen(model.answering.model, [one.answer for one in found], [one.confidence for one in found])


def seen(model, answers: list[str], confidences: list[float]) -> Seen:
    size = model_size(model)
    return Seen(kernels_of(model, dtype=model.dtype), answers, confidences, size.resident_bytes)


def write(folder, checkpoint, *, family: str, dtype: str) -> None:
    generator = np.random.default_rng(0)
    confidence, accuracy = generator.uniform(size=200), generator.uniform(size=200).round()
    write_bundle(
        folder,
        description=Description(
            name="tiny·hybrid·s0",
            family=family,
            dtype=dtype,
            template="{question}",
            max_new_tokens=MAX_NEW_TOKENS,
            batch_size=BATCH,
            confidence="maxprob",
            certificates=(certify_threshold(confidence, accuracy, confidence, accuracy, 0.5, 0.1),),
            default_risk=0.5,
            run_id="0123456789abcdef",
            fingerprint="f" * 64,
            inputs={},
        ),
        checkpoint=checkpoint,
        selector=None,
        calibration=(confidence, accuracy),
        card="",
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cell_its_checkpoint_and_its_bundle_are_one_model(family, dtype, questions, tmp_path):
    source, plan = MODELS / f"{family}_tiny", plan_from_config(HYBRID, defaults={"method": "hqq"})
    cell = load(source, family, dtype)
    quantize_model(cell.model, plan)
    measured = asked(cell, questions)
    # Saved after it answered: what its kernels hold is no part of a checkpoint.
    save_checkpoint(cell.model, tmp_path / "saved", processor_from=source)
    quantize_checkpoint(source, tmp_path / "streamed", plan, decoder_layers=find_adapter(family).decoder_layers)
    write(tmp_path / "bundle", tmp_path / "streamed", family=family, dtype=dtype)

    assert asked(load(tmp_path / "saved", family, dtype), questions) == measured
    assert served(tmp_path / "bundle", questions) == measured
    if dtype == "float32":
        assert set(measured.kernels.values()) == {"eager"}
    elif torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert {"int4pack", "int8pack"} <= set(measured.kernels.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_weights_are_quantized_from_the_numbers_that_were_measured(stored, dtype, questions, tmp_path):
    """Whatever type a checkpoint is stored in, its quantized bundle is of what a sweep quantizes in memory."""
    source, plan = tmp_path / "source", plan_from_config(HYBRID, defaults={"method": "rtn"})
    shutil.copytree(MODELS / "qwen2_vl_tiny", source)
    model = load(source, "qwen2_vl", "float32").model
    with torch.no_grad():
        # Numbers that a shorter type has not.
        for parameter in model.parameters():
            parameter.mul_(1.001)
    model.to(getattr(torch, stored)).save_pretrained(source)
    cell = load(source, "qwen2_vl", dtype)
    quantize_model(cell.model, plan)
    kept = getattr(torch, kept_type(stored_types(source), dtype))
    layers = find_adapter("qwen2_vl").decoder_layers
    quantize_checkpoint(source, tmp_path / "streamed", plan, decoder_layers=layers, dtype=kept)
    assert asked(load(tmp_path / "streamed", "qwen2_vl", dtype), questions) == asked(cell, questions)


def test_writing_a_checkpoint_pays_for_no_kernel(family, tmp_path, monkeypatch):
    monkeypatch.setattr("reliabit.quant.layers.choose_kernel", lambda weight, dtype: pytest.fail("a kernel was chosen"))
    source, plan = MODELS / f"{family}_tiny", plan_from_config(HYBRID, defaults={"method": "rtn"})
    quantize_checkpoint(source, tmp_path / "streamed", plan, decoder_layers=find_adapter(family).decoder_layers)
    model = load(tmp_path / "streamed", family, "bfloat16").model
    save_checkpoint(model, tmp_path / "saved")
    assert model_size(model).resident_bytes == sum(
        tensor.untyped_storage().nbytes()
        for tensor in {t.data_ptr(): t for t in (*model.parameters(), *model.buffers()) if t.numel()}.values()
    )
