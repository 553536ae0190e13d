"""Models that the tests of quantization share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.metrics import one_per_image
from reliabit.models.batches import calibration_batches
from reliabit.models.loading import load_checkpoint
from reliabit.models.reference import BUILDERS
from reliabit.models.settings import ModelConfig
from reliabit.quant import ResidentDecoder

BENCH = str(Path(__file__).parents[2] / "bench")
if BENCH not in sys.path:
    sys.path.append(BENCH)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The matrices here are so small that threads only wait for each other, on a shared machine for long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint folder of an untrained reference model in bfloat16, by family."""
    folders: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in folders:
            torch.manual_seed(0)
            folders[family] = tmp_path_factory.mktemp(family)
            built = BUILDERS[family](["What shape is it? circle", "Is it red? yes no"] * 20)
            with torch.no_grad():
                for parameter in built.model.parameters():
                    # Spread-out logits, so that the untrained model answers variously.
                    parameter.mul_(3 if parameter.dim() > 1 else 1)
            built.model.to(torch.bfloat16).save_pretrained(folders[family])
            built.processor.tokenizer.save_pretrained(folders[family])
        return folders[family]

    return folder_of


@pytest.fixture(scope="session")
def reference_model(reference_folder: Callable[[str], Path]) -> Callable[..., PreTrainedModel]:
    """A fresh unquantized reference model, by family and type."""

    def load(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        return AutoModelForImageTextToText.from_pretrained(reference_folder(family), dtype=dtype)

    return load


@pytest.fixture(scope="module", params=["qwen2_vl", "idefics3"])
def trained(request, tmp_path_factory):
    """The decoder of a committed reference model, and a calibration set of 80 easy-VQA images."""
    folder = Path(__file__).parents[2] / "models" / f"{request.param}_tiny"
    checkpoint = load_checkpoint(
        ModelConfig(path=str(folder), family=request.param, dtype="float32", template="{question}")
    )
    spec = DataConfig(name="easy_vqa", splits={"dev": 80})
    table = load_split(prepare(spec, root=tmp_path_factory.mktemp("tables")), "dev")
    rows = list(table.select(one_per_image(table["image_id"], seed=0)))
    batches = calibration_batches(rows, encoder=checkpoint.encoder, batch_size=16)
    return ResidentDecoder(checkpoint.model, checkpoint.encoder.adapter.decoder_layers), batches
