"""What `make quick-test` runs (`pytest --quick`): the tests that need neither a model, a store, a service nor long.

That is every test of the packages below and every doctest, but those that are marked `medium` or `slow` and those that
have a model built. Whoever writes a test there that takes longer is told so by such a run: it fails until it is marked.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("confidence", "data", "evaluation", "metrics", "models", "quant")
"""Those whose tests are quick as a rule, beside the tests right below `tests`."""

MODELS = {"reference_folder", "untrained"}
"""Fixtures that build a model."""

SECONDS = 3.0
"""How much processor time a quick test may take in such a run; what takes more than one is better marked."""

TESTS = Path(__file__).parent


def _is_elsewhere(path: Path) -> bool:
    """Whether a file or folder is of a package of tests that are not quick."""
    parts = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    return bool(parts) and parts[0] not in PACKAGES and (TESTS / parts[0]).is_dir()


def is_quick(item: pytest.Item) -> bool:
    """Whether a test is among those that `--quick` runs."""
    marked = any(item.get_closest_marker(name) for name in ("medium", "slow"))
    return not (marked or MODELS & {*getattr(item, "fixturenames", ())} or _is_elsewhere(item.path))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="run the tests that need neither models, stores nor long")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what is not quick; `None` leaves the decision to others."""
    return True if config.getoption("--quick") and _is_elsewhere(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if not is_quick(item)])
        items[:] = [item for item in items if is_quick(item)]


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Fail a quick test that takes long; a busy machine does not change how much processor time it takes."""
    before = _processor_seconds()
    outcome = yield
    taken = _processor_seconds() - before
    if pyfuncitem.config.getoption("--quick") and taken > SECONDS:
        pytest.fail(f"this took {taken:.1f} s of processor time; make it quick, or mark it `medium`")
    return outcome
