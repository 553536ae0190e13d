"""What is composed without Hydra is what Hydra composes, and what is not plain is left to it."""

import pytest

from reliabit import quick_composition
from reliabit.cli import compose_config
from reliabit.errors import ReliabitError
from reliabit.quick_composition import GROUPS, compose_groups

PLAIN = (
    [],
    ["tracking=offline"],
    ["tracking=server"],
    ["tracking=sqlite", "tracking.experiment=other-one"],
    ["trainer=gpu"],
    ["registry.model=my_model", "trainer.accelerator=auto"],
    ["paths.root=/somewhere/else", "paths.cache=relative/cache"],
    ["tracking.uri=sqlite:////tmp/a-b_c.d/mlflow.db", "tracking.artifacts=/tmp/a"],
    ["tracking.uri=http://127.0.0.1:5000"],
    ["registry=smallest", "paths.data=/1.5/2"],
)


@pytest.mark.medium
@pytest.mark.parametrize("overrides", PLAIN, ids=" ".join)
@pytest.mark.parametrize("server", [None, "https://tracking.example/a,b"])
def test_both_compose_the_same(overrides, server, monkeypatch):
    if server is None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    found, whole = compose_groups(overrides), compose_config(overrides, whole=True)
    assert found is not None
    for group in GROUPS:
        assert getattr(found, group) == getattr(whole, group)


@pytest.mark.parametrize(
    "override",
    [
        "quant.bits=4",
        "seed=1",
        "registry=most_reliable",
        "+paths.more=a",
        "~paths.cache",
        "tracking.uri='a b'",
        "tracking.uri=${paths.root}",
        "tracking.experiment=1e3",
        "tracking.experiment=null",
        "tracking.experiment=True",
        "paths.cache_gib=5",
        "trainer.batch_size=8",
        "paths=other",
        "tracking.nothing=a",
        "experiment=paper",
        "data@other_data.x=scenes",
        "tracking.uri=a,b",
    ],
)
def test_what_is_not_plain_is_left_to_hydra(override):
    assert compose_groups([override]) is None


def test_options_that_may_lie_elsewhere_are_left_to_hydra(monkeypatch):
    monkeypatch.setattr(quick_composition, "options_are_added", lambda: True)
    assert compose_groups([]) is None


def test_values_are_checked():
    with pytest.raises(
        ReliabitError, match="accelerator=tpu is not a value of this key; choose one of: cpu, gpu, auto"
    ):
        compose_groups(["trainer.accelerator=tpu"])


@pytest.mark.parametrize(
    "text", ["# @package other\nuri: a\n", "defaults: [sqlite]\nuri: a\n", "level: 1e-3\n", "- a\n", ""]
)
def test_files_that_are_more_than_values_are_left_to_hydra(text, tmp_path, monkeypatch):
    (tmp_path / "one.yaml").write_text(text)
    monkeypatch.setattr(quick_composition, "conf_folder", lambda: tmp_path)
    with pytest.raises(quick_composition._NotPlainError):
        quick_composition._file("one.yaml")
