"""Configurations from where they are recorded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import yaml

from reliabit.errors import ReliabitError
from reliabit.identity import FINGERPRINT, Fingerprint
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.registry.evidence import FINISHED, Configuration, Live
from reliabit.registry.pulling import fetch_description
from reliabit.registry.terms import TAG, Terms, terms_of_bundle
from reliabit.registry.versions import Version
from reliabit.tracking.context import COMMIT, DIRTY
from reliabit.tracking.summary import labels
from reliabit.tracking.tracker import CONFIG, FINGERPRINT_TAG, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

Found = TypeVar("Found")

MODEL = "model/"
CALIBRATION = "calibration"
"""Names of inputs that are no questions: the model's files, and what a data-aware quantizer learned from."""


def configuration_of(tracker: Tracker, run_id: str) -> Configuration:
    """Read a configuration from its run.

    Args:
        tracker: Where it is recorded.
        run_id: The run of one configuration; not that of a sweep.

    Raises:
        ReliabitError: There is no such run, or it finished without what a configuration consists of.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = tracker.client.get_run(run_id)
    except MlflowException as error:
        raise ReliabitError(f"there is no run {run_id} to read; `make ui` shows those that are recorded") from error
    return _read(run, tracker=tracker, name=run.info.run_name or run_id)


def configurations_of_sweep(tracker: Tracker, parent: str) -> list[Configuration]:
    """Read the configurations of a sweep, those that it reused and those that did not finish among them.

    Args:
        tracker: Where it is recorded.
        parent: The sweep's run.

    Raises:
        ReliabitError: The run has no cells, or a finished one lacks what a configuration consists of.
    """
    runs = [run for run in tracker.children(parent) if run.data.tags.get("kind") == "cell"]
    if not runs:
        raise ReliabitError(f"the run {parent} has no cells to choose among; name the parent run of a sweep")
    names = labels(runs)
    return [_read(run, tracker=tracker, name=names[run.info.run_id]) for run in runs]


def live_version(tracker: Tracker, version: Version) -> Live:
    """Read what is live: the run that it was made of, and the terms that the version itself names.

    Args:
        tracker: Where both are recorded.
        version: The champion.

    Raises:
        ReliabitError: It has no run, or its run or its terms cannot be read.
    """
    if version.run_id is None:
        raise ReliabitError(f"{version.uri} has no run to compare with; promote by hand, or delete it")
    configuration = configuration_of(tracker, version.run_id)
    tag = version.tags.get(TAG)
    # Versions from before there was the tag say it in their bundle alone.
    terms = Terms.from_tag(tag) if tag is not None else terms_of_bundle(fetch_description(tracker, version))
    return Live(configuration.name, configuration.fingerprint, terms, configuration)


def dirt(tags: Mapping[str, str]) -> tuple[str, ...]:
    """What of a run's code and data no commit tells, by its tags.

    >>> dirt({"mlflow.source.git.commit": "fc88228", "git.dirty": "false"})
    ()
    >>> dirt({"mlflow.source.git.commit": "fc88228", "git.dirty": "true", "dvc.dirty": "true"})
    ('git.dirty is true', 'dvc.dirty is true')
    >>> dirt({})
    ('no commit is recorded', 'git.dirty is not recorded')
    """
    commit = () if tags.get(COMMIT) else ("no commit is recorded",)
    found = {DIRTY: tags.get(DIRTY, "not recorded"), **{tag: tags[tag] for tag in tags if tag.endswith(".dirty")}}
    return (*commit, *(f"{tag} is {value}" for tag, value in found.items() if value != "false"))


def _read(run: "Run", *, tracker: Tracker, name: str) -> Configuration:
    status, tags = str(run.info.status), dict(run.data.tags)
    with TemporaryDirectory() as folder:

        def read(file: str, reader: Callable[[Path], Found]) -> Found | None:
            try:
                return reader(tracker.fetch(run.info.run_id, file, Path(folder)))
            except ReliabitError as error:
                if status == FINISHED:
                    raise ReliabitError(f"{name} cannot be judged: {error}") from error
                # Whatever it got to, it is refused for not having finished.
                return None

        identity = read(FINGERPRINT, lambda path: Fingerprint.from_json(path.read_text(encoding="utf-8")))
        config = read(CONFIG, lambda path: yaml.safe_load(path.read_text(encoding="utf-8")))
        predictions = read(PREDICTIONS, read_predictions)
    inputs = identity.inputs if identity else {}
    return Configuration(
        name=name,
        run_id=run.info.run_id,
        fingerprint=identity.hex if identity else tags.get(FINGERPRINT_TAG, ""),
        status=status,
        dirty=dirt(tags),
        inputs={key: value for key, value in inputs.items() if key != CALIBRATION and not key.startswith(MODEL)},
        model={key: value for key, value in inputs.items() if key.startswith(MODEL)},
        efficiency={key: value for key, value in run.data.metrics.items() if key.startswith("efficiency/")},
        predictions=predictions,
        config=config or {},
    )
