#!/usr/bin/env bash
# MLflow 3.17.2, versions found by a search have no aliases: `search_model_versions` gives `aliases == []` for a version
# that `get_model_version` and `get_model_version_by_alias` both give with its aliases. Whoever lists versions to see which
# one is the champion sees none; the registered model's own `aliases` (name to version) has them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet mlflow==3.17.2
cd "$folder"
MLFLOW_DISABLE_TELEMETRY=true MLFLOW_LOGGING_LEVEL=ERROR "$folder/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

from mlflow import MlflowClient

client = MlflowClient(tracking_uri="sqlite:///store.db", registry_uri="sqlite:///store.db")
client.create_registered_model("model")
client.create_model_version("model", source="file:///tmp/model")
client.set_registered_model_alias("model", "champion", "1")

[found] = client.search_model_versions("name = 'model'")
got = client.get_model_version("model", "1")
by_alias = client.get_model_version_by_alias("model", "champion")
listed = client.get_registered_model("model").aliases
print("mlflow", version("mlflow"))
print("search_model_versions      ", found.version, list(found.aliases))
print("get_model_version          ", got.version, list(got.aliases))
print("get_model_version_by_alias ", by_alias.version, list(by_alias.aliases))
print("get_registered_model       ", dict(listed))
assert list(found.aliases) == []
assert list(got.aliases) == list(by_alias.aliases) == ["champion"]
assert {name: str(number) for name, number in dict(listed).items()} == {"champion": "1"}
PYTHON
