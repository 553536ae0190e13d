"""The bundle as an MLflow model, written as code: MLflow copies this file beside the bundle, and pickles nothing.

`mlflow.pyfunc.log_model(python_model=<this file>, artifacts={"bundle": <folder>})` records it; `mlflow models serve`
answers `{"inputs": [{"image": "<base64>", "question": "..."}]}` at `/invocations`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from reliabit.serving.bundle.folder import verified_snapshot
from reliabit.serving.bundle.image_questions import QuestionsRefusedError
from reliabit.serving.bundle.manifest import manifest_digest
from reliabit.serving.bundle.served_model import ServedModel
from reliabit.serving.http.intake import check_image, check_total, look_at, measure_image
from reliabit.serving.http.limits import Limits
from reliabit.serving.http.messages import RefusalError, Request, Response

BUNDLE_ARTIFACT = "bundle"
"""The name of the artifact that holds the bundle."""

DIGEST_VARIABLE = "RELIABIT_BUNDLE_DIGEST"
"""What holds the SHA-256 of the manifest of the only bundle that may be loaded."""

LIMITS = Limits()
"""Those of images hold here, too; those of whole requests are for MLflow's server and what stands before it."""


class AbstainingModel(PythonModel):  # type: ignore[misc]
    """Answers questions about images, and abstains where the confidence is below the certified threshold."""

    def load_context(self, context: Any) -> None:
        """Load the bundle from one verified snapshot of it.

        Raises:
            ReliabitError: The bundle is damaged or cannot be loaded.
        """
        # Whoever can change a file of it here can change its manifest, too; this is kept elsewhere.
        digest = os.environ.get(DIGEST_VARIABLE) or None
        with verified_snapshot(Path(context.artifacts[BUNDLE_ARTIFACT]), digest=digest) as snapshot:
            # MLflow does not tell a model which version it is; the digest of its files does.
            self.version = manifest_digest(snapshot)[:12]
            self.model = ServedModel(snapshot, accelerator="auto")

    def predict(self, model_input: list[Request]) -> list[Response]:
        """Answer questions, or abstain.

        Raises:
            MlflowException: One cannot be answered; the message says which and why, and MLflow's server answers 400.
        """
        try:
            check_images([request.image for request in model_input])
            answered = self.model.answer([request.asked() for request in model_input])
        except (RefusalError, QuestionsRefusedError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return [Response.of(replace(one, model_version=self.version)) for one in answered]


def check_images(images: Sequence[bytes]) -> None:
    """Refuse images that cannot be answered about; none is decoded before all of them were measured."""
    names: dict[bytes, str] = {}
    for number, image in enumerate(images):
        names.setdefault(image, f"question {number}: ")
    check_total(
        [look_at(image, measure_image, name=name, limits=LIMITS) for image, name in names.items()], limits=LIMITS
    )
    for image, name in names.items():
        look_at(image, check_image, name=name, limits=LIMITS)


mlflow.models.set_model(AbstainingModel())
