"""What the tests of the registry begin with: one store a module, and a registered model of each test's own in it."""

import re

import pytest

from reliabit.registry import history
from tracking.stores import tracker_at


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def tracker(folder):
    return tracker_at(folder)


@pytest.fixture
def name(request):
    """A registered model of each test's own, in the one store."""
    history._warn.cache_clear()
    return re.sub(r"\W+", "-", request.node.name).strip("-")[:100]
