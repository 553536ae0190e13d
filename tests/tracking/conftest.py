"""What the tests of tracking begin with: one store a module, an experiment of each test's own in it, and a journal."""

import pytest

from reliabit.tracking.tracker import Journal
from tracking.stores import tracker_at


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def tracker(folder, request):
    return tracker_at(folder, experiment=request.node.name)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")
