"""A model from code that answers with what its bundle holds."""

import json
from pathlib import Path

import mlflow
from mlflow.pyfunc import PythonModel

from reliabit.serving.bundle.manifest import verify_manifest


class Tiny(PythonModel):
    def load_context(self, context):
        folder = Path(context.artifacts["bundle"])
        verify_manifest(folder)
        self.name = json.loads((folder / "bundle.json").read_text())["name"]

    def predict(self, model_input: list[str]) -> list[str]:
        return [f"{self.name}: {question}" for question in model_input]


mlflow.models.set_model(Tiny())
