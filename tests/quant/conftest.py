"""Models that the tests of quantization share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, PreTrainedModel

from reliabit.models.reference import BUILDERS


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
