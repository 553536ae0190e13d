"""One bundle of each reference model and confidence, for all tests of serving."""

import pytest
import torch
from datasets import Dataset
from starlette.testclient import TestClient

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.serving.bundle.served_model import ServedModel
from reliabit.serving.drift.watch import Watch
from reliabit.serving.hosting import FolderSource, LoadedVersion, ModelHost
from reliabit.serving.http.application import create_application
from reliabit.serving.http.limits import Limits
from serving.bundles import Evaluated, Offline, bundled, evaluate


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """The matrices are so small that threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def splits(tmp_path_factory) -> dict[str, Dataset]:
    spec = DataConfig(name="easy_vqa", splits={"dev": 20, "val": 15, "cal": 30, "test": 12})
    folder = prepare(spec, root=tmp_path_factory.mktemp("tables"))
    return {split: load_split(folder, split) for split in spec.splits}


@pytest.fixture(scope="session")
def evaluated(splits, tmp_path_factory) -> Evaluated:
    """The Qwen2-VL reference model."""
    return evaluate("qwen2_vl", splits, tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="session")
def offline(evaluated, tmp_path_factory) -> Offline:
    """Its bundle with a Selector."""
    return bundled(evaluated, tmp_path_factory.mktemp("bundles") / "selector", confidence="selector")


@pytest.fixture(scope="session")
def plain(evaluated, tmp_path_factory) -> Offline:
    """Its bundle with MaxProb."""
    return bundled(evaluated, tmp_path_factory.mktemp("bundles") / "maxprob", confidence="maxprob", name="plain")


@pytest.fixture(scope="session")
def served(offline) -> ServedModel:
    """The model of `offline`."""
    return ServedModel.load(offline.bundle)


@pytest.fixture
def host(offline, served) -> ModelHost:
    """A host that serves `offline`, loaded once for all tests."""
    source = FolderSource(offline.bundle)
    host = ModelHost(source)
    watch = Watch(served.calibration[0], threshold=served.description.certificate(None).threshold)
    host.loaded = LoadedVersion(source.current().version, served, watch)
    return host


@pytest.fixture
def client(host):
    """A client of the application on that host."""
    with TestClient(create_application(host, limits=Limits())) as client:
        yield client
