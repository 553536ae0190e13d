"""What several tests share: a small table of each source, and the architectures at a size that builds in a second."""

import os
import sys

import pytest
import torch

from leftovers import nothing_outlives_a_test, nothing_outlives_pytest, pytest_runtest_call  # noqa: F401 - for pytest
from quick import (  # noqa: F401 - for pytest
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_ignore_collect,
    pytest_pyfunc_call,
)
from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.models.families import Adapter, find_adapter
from reliabit.models.loading import load_checkpoint
from reliabit.models.reference import BUILDERS
from reliabit.models.settings import ModelConfig

# Tests type commands as in a shell where the environment was activated, however they were started.
os.environ.setdefault("VIRTUAL_ENV", sys.prefix)

SOURCES = {
    "easy_vqa": DataConfig(name="easy_vqa", splits={"train": 6, "val": 3, "test": 4}),
    "scenes": DataConfig(name="scenes", splits={"train": 6, "val": 3, "test": 4}, questions_per_image=10),
}


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """Splits of both sources, by source and split."""
    root = tmp_path_factory.mktemp("tables")
    folders = {name: prepare(spec, root=root) for name, spec in SOURCES.items()}
    return {
        name: {split: load_split(folder, split) for split in ("train", "val", "test")}
        for name, folder in folders.items()
    }


def save_untrained(family: str, tables, folder) -> Adapter:
    """Write an untrained reference model; its logits are spread out, so that it answers variously."""
    adapter = find_adapter(family)
    texts = [text for splits in tables.values() for text in splits["train"]["question"]]
    torch.manual_seed(0)
    built = BUILDERS[family](texts)
    with torch.no_grad():
        for parameter in built.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    built.model.to(torch.bfloat16).save_pretrained(folder)
    adapter.save_processor(built.processor, folder)
    return adapter


@pytest.fixture(scope="session", params=sorted(BUILDERS))
def family(request):
    return request.param


@pytest.fixture(scope="session")
def untrained(family, tables, tmp_path_factory):
    """The folder of an untrained reference model of each family."""
    folder = tmp_path_factory.mktemp("models") / family
    save_untrained(family, tables, folder)
    return folder


@pytest.fixture
def checkpoint(family, untrained):
    """An untrained reference model of each family, freshly loaded."""
    return load_checkpoint(ModelConfig(path=str(untrained), family=family, dtype="float32", template="{question}"))
