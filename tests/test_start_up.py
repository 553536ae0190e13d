"""What each small thing imports: time is told by what is not imported, whatever the machine is doing."""

import pytest

from launching import environment, run_python

COMPOSING = {"hydra", "omegaconf"}
COMPUTING = {"torch", "transformers", "lightning", "datasets", "scipy", "sklearn"}
HEAVY = {*COMPUTING, "mlflow", "sqlalchemy", "numpy", "pandas", "pyarrow", "matplotlib", "rich"}

PROBE = """
import runpy, sys
program, *sys.argv[1:] = sys.argv[1:]
try:
    if program == "run.py":
        from reliabit.main import main
        sys.argv[0] = "src/run.py"
        main()
    else:
        from reliabit.cli import main
        main(sys.argv[1:])
except SystemExit:
    pass
finally:
    sys.stderr.write("\\nimported " + " ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported(program, *arguments, **variables):
    done = run_python("-c", PROBE, program, *arguments, env={**environment(), **variables})
    return {*done.stderr.rpartition("\nimported ")[2].split()}


@pytest.mark.parametrize(
    "arguments",
    [
        ("run.py", "--version"),
        ("run.py", "quant.bits=7"),
        ("run.py", "quant=nope"),
        ("run.py", "quant.bitz=7"),
        ("run.py", "task=evaluate", "task.predictions=nope.parquet"),
        ("reliabit", "--version"),
        ("reliabit", "--help"),
        ("reliabit", "nope"),
        ("reliabit", "doctor"),
        ("reliabit", "doctor", "tracking=nope"),
        ("reliabit", "serve", "--port", "http"),
        ("reliabit", "serve", "--port", "1", "--host", "nowhere.invalid"),
    ],
    ids=" ".join,
)
def test_what_composes_nothing_imports_nothing_heavy(arguments):
    assert imported(*arguments) & {*COMPOSING, *HEAVY} == set()


def test_tab_imports_nothing_heavy():
    found = imported("run.py", "-sc", "query=bash", COMP_LINE="python src/run.py quant=h")
    assert found & {*COMPOSING, *HEAVY} == set()


@pytest.mark.medium
@pytest.mark.parametrize("arguments", [("run.py", "--help"), ("run.py", "+quant.nope=1")], ids=" ".join)
def test_what_hydra_composes_imports_no_more_than_hydra(arguments):
    assert imported(*arguments) & (HEAVY - {"numpy"}) == set()


@pytest.mark.medium
@pytest.mark.parametrize("command", [("history",), ("reap",), ("pull", "models:/reliabit/1", "bundle"), ("rollback",)])
def test_what_reads_the_store_imports_the_store_alone(command, tmp_path):
    places = (f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"tracking.artifacts={tmp_path}/artifacts")
    found = imported("reliabit", *command, *places)
    assert "mlflow" in found
    # MLflow itself imports scipy.
    assert found & ((COMPUTING - {"scipy"}) | {"hydra"}) == set()
