#!/usr/bin/env bash
# MLflow's digest of a pandas data set does not see every column: two tables that differ in the values of a boolean
# column, of a column of lists (several reference answers a question), or of a text column with one missing value get
# one digest. Who reads "same digest, same data" in the UI compares runs on different labels.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check mlflow-skinny==3.17.2 pandas==3.1.1 numpy==2.4.6

cd "$WORK"
MLFLOW_DISABLE_TELEMETRY=true "$WORK/venv/bin/python" - <<'PYTHON'
import sys

import mlflow
import pandas as pd

questions = ["what color is it?", "is it a cat?", "how many?"]
TABLES = {
    "numbers": ([1, 0, 1], [0, 1, 0]),
    "text": (["yes", "no", "two"], ["no", "yes", "one"]),
    "text, one missing": (["yes", "no", None], ["no", "yes", None]),
    "booleans": ([True, False, True], [False, True, False]),
    "lists": ([["yes"], ["no"], ["two"]], [["no"], ["yes"], ["one"]]),
}


def digest(labels):
    return mlflow.data.from_pandas(pd.DataFrame({"question": questions, "label": labels})).digest


print("mlflow", mlflow.__version__, "pandas", pd.__version__)
equal = {}
for kind, (one, other) in TABLES.items():
    first, second = digest(one), digest(other)
    equal[kind] = first == second
    print(f"{kind:>18}: {first} {second} {'EQUAL' if equal[kind] else 'differ'}")
expected = {"numbers": False, "text": False, "text, one missing": True, "booleans": True, "lists": True}
if equal != expected:
    sys.exit(f"the behaviour has changed: expected {expected}, found {equal}")
PYTHON
