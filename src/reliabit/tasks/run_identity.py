"""The fingerprint of the run that a configuration describes, from the files that it will read."""

from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.data.prepared_table import prepare
from reliabit.digests import DigestCache, checkpoint_inputs, table_inputs
from reliabit.identity import Fingerprint, identify
from reliabit.paths import project_root
from reliabit.tasks.answer_identity import calibration_digest
from reliabit.tasks.encoders import check_model

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


def run_identity(config: Config) -> Fingerprint:
    """Everything that decides the numbers of a run; its data is prepared first, where it is not yet.

    Raises:
        ReliabitError: A file that the run would read is missing or damaged, or data differs from its manifest.
    """
    cache = DigestCache(Path(config.paths.cache) / "digests")
    check_model(config.model)
    inputs = checkpoint_inputs(Path(config.model.path), cache=cache)
    for name, data in {"data": config.data, **config.other_data}.items():
        folder = prepare(data, root=Path(config.paths.data))
        inputs |= table_inputs(folder, cache=cache, name=name)
    calibration = calibration_digest(config)
    if calibration is not None:
        inputs["calibration"] = calibration
    return identify(to_mapping(config), inputs=inputs)


def recorded_inputs(config: Config) -> "list[DatasetInput]":
    """The prepared tables as MLflow shows them, each with its address and hash; those outside the project have none."""
    from reliabit.tracking.dataset_source import SCHEME, dataset_input, resolve

    found = []
    for name, data in {"data": config.data, **config.other_data}.items():
        folder = prepare(data, root=Path(config.paths.data)).resolve()
        if folder.is_relative_to(project_root()):
            source = resolve(f"{SCHEME}{folder.relative_to(project_root()).as_posix()}")
            context = "evaluation" if name == "data" else "shift"
            found.append(dataset_input(source, name=data.name, context=context))
    return found
