"""Putting a bundle into the registry: a model that MLflow can serve, made from code and plain files.

Nothing is pickled: the model is the source file `serving/mlflow_model.py` beside the bundle. Reliabit itself is not
among its requirements, as a name that is on no package index must not be installed from one.
"""

import importlib.metadata
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.registry.versions import (
    DIGEST_TAG,
    NAME,
    Version,
    check_name,
    find_version,
    make_registered_model,
    registry_client,
)
from reliabit.serving.bundle.manifest import manifest_digest, verify_manifest
from reliabit.tracking.redaction import redact, redact_values
from reliabit.tracking.store.calls import log_all, store_errors
from reliabit.tracking.tracker import Tracker
from reliabit.tracking.ui.notes import page_link, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

MODEL_CODE = Path(__file__).parents[1] / "serving" / "mlflow_model.py"
BUNDLE = "bundle"
BUNDLE_PATH = f"artifacts/{BUNDLE}"
"""Where the bundle lies in a logged model."""

REQUIREMENTS = (
    *("hqq", "lightning", "mlflow", "numpy", "pillow", "pyarrow", "pydantic", "safetensors"),
    *("scipy", "torch", "torchmetrics", "transformers"),
)
"""What the served model imports besides Reliabit; the installed versions are recorded."""

DESCRIPTION_LENGTH = 5000
"""MLflow keeps no longer description."""


def register_bundle(
    tracker: Tracker,
    folder: Path,
    *,
    run_id: str,
    name: str = NAME,
    tags: Mapping[str, str] | None = None,
    code: Path = MODEL_CODE,
) -> Version:
    """Log a bundle as a model of the run that measured it, and register that as a version.

    Args:
        tracker: The store.
        folder: The bundle, with its manifest.
        run_id: The run that measured what is in it; its figures show on the model.
        name: The registered model, which is made where it is missing.
        tags: Tags of the version, such as the configuration's name and fingerprint.
        code: The file of the model, which calls `mlflow.models.set_model`.

    Returns:
        The version.

    Raises:
        ReliabitError: The bundle does not agree with its manifest, the run does not exist, or the name is none.
    """
    client = registry_client(tracker)
    check_name(name)
    verify_manifest(folder)
    every = {**redact_values(tags or {}), DIGEST_TAG: manifest_digest(folder)}
    model = _log_model(client, folder, run_id=run_id, name=name, tags=every, code=code)
    make_registered_model(client, name)
    # By where it lies and not by models:/<id>, which MLflow looks up in the process's default store, not in this one.
    about = _about(client, run_id, card=_card(folder))
    made = client.create_model_version(
        name, model.artifact_location, run_id=run_id, tags=every, description=about, model_id=model.model_id
    )
    return find_version(tracker, name, str(made.version))


def _log_model(
    client: "MlflowClient", folder: Path, *, run_id: str, name: str, tags: Mapping[str, str], code: Path
) -> "LoggedModel":
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    try:
        run = client.get_run(run_id)
    except store_errors() as error:
        raise ReliabitError(f"there is no run {run_id} to register a model of; name a run of this store") from error
    # MLflow takes no points in the name of a logged model.
    model = client.create_logged_model(
        run.info.experiment_id, name=name.replace(".", "_"), source_run_id=run_id, tags=dict(tags)
    )
    try:
        with tempfile.TemporaryDirectory() as parent:
            described = Path(parent, "model")
            _describe_model(described, model=model, run_id=run_id, code=code)
            client.log_model_artifacts(model.model_id, str(described))
        client.log_model_artifacts(model.model_id, str(folder), BUNDLE_PATH)
    except BaseException:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, step=0)])
    _attach_metrics(client, run_id, model_id=model.model_id)
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _describe_model(folder: Path, *, model: "LoggedModel", run_id: str, code: Path) -> None:
    """Write everything of a logged model but its bundle, which is uploaded from where it is rather than copied."""
    import mlflow.pyfunc
    from mlflow.models import Model
    from mlflow.models.model import MLMODEL_FILE_NAME

    described = Model(
        artifact_path=model.artifact_location, model_uuid=model.model_id, model_id=model.model_id, run_id=run_id
    )
    mlflow.pyfunc.save_model(
        str(folder), python_model=str(code), mlflow_model=described, pip_requirements=_requirements()
    )
    flavor = described.flavors["python_function"]
    flavor["artifacts"] = {BUNDLE: {"path": BUNDLE_PATH, "uri": BUNDLE_PATH}}
    # MLflow writes where the file was on this machine, and reads only its name.
    flavor["model_code_path"] = code.name
    described.save(str(folder / MLMODEL_FILE_NAME))


def _requirements() -> list[str]:
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def _attach_metrics(client: "MlflowClient", run_id: str, *, model_id: str) -> None:
    """Show a run's figures on the model as well, as MLflow does itself when a model is logged within a run."""
    from mlflow.entities import Metric

    latest = [client.get_metric_history(run_id, key)[-1] for key in client.get_run(run_id).data.metrics]
    own = [
        Metric(metric.key, metric.value, metric.timestamp, metric.step, model_id=model_id, run_id=run_id)
        for metric in latest
    ]
    log_all(client, run_id, metrics=own)


def _about(client: "MlflowClient", run_id: str, *, card: str) -> str:
    """What the registry's page says of a version: where it was measured, and the model card as far as it fits."""
    run = client.get_run(run_id)
    measured = page_link(str(run.info.run_name), experiment_id=run.info.experiment_id, run_id=run_id)
    return shortened(f"Measured by the run {measured}.\n\n{card}", DESCRIPTION_LENGTH)


def _card(folder: Path) -> str:
    """The model card, which a bundle has beside its files."""
    card = folder / "README.md"
    return redact(card.read_text(encoding="utf-8")) if card.is_file() else ""
