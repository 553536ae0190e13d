"""A real sweep that is given a secret in every place that takes one: no byte of what it leaves or says holds it."""

import os
import subprocess
import sys

from functional.place import Place
from launching import PROJECT

SECRET = "hunter2-Zq9xW7"
TOKEN = "ghp_" + "a1B2c3D4" * 4
ASKED = ["data.splits.train=0", "data.splits.val=5", "data.splits.cal=5", "data.splits.test=5", "data.shifts=[]"]
SMALL = ["quant=none", "confidence=maxprob", *ASKED, "evaluation.resamples=20", "registry.resamples=20"]


def test_no_secret_that_a_sweep_is_given_is_in_anything_it_writes(tmp_path):
    place = Place(tmp_path, report="full")
    given = [
        f"tracking.uri=journal://{tmp_path}/mlruns/journal",
        f"tracking.artifacts='s3://me:{SECRET}-artifacts@bucket/runs?token={SECRET}-query'",
        f"+hydra.job.env_set.API_KEY={SECRET}-set",
        f"tracking.experiment={TOKEN}",
    ]
    environment = {
        "SERVICE_PASSWORD": f"{SECRET}-variable",
        "DEPLOY_PAT": f"{SECRET}-access",
        "RUNS_DATABASE": f"postgresql://me:{SECRET}-database@db/runs",
    }
    placed = [override for override in place.placed() if not override.startswith("tracking.")]
    done = subprocess.run(
        [sys.executable, "src/run.py", "-m", *SMALL, *given, *placed],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**{name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}, **environment},
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cells finished" in done.stdout
    for said in (done.stdout, done.stderr):
        assert SECRET not in said
        assert TOKEN not in said
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "hydra.yaml", "overrides.yaml", "multirun.yaml"} <= {path.name for path in written}
    leaking = [path for path in written if SECRET.encode() in path.read_bytes() or TOKEN.encode() in path.read_bytes()]
    assert leaking == []
    (overrides,) = tmp_path.rglob("overrides.yaml")
    assert "tracking.artifacts='s3://[redacted]@bucket/runs?token=[redacted]" in overrides.read_text()


def test_a_cell_that_fails_is_named_without_its_secrets(tmp_path):
    """Hydra itself would print the overrides as they are."""
    named = f"tracking.experiment={TOKEN}"
    done = Place(tmp_path).run("-m", "task=report", "task.sweep=unknown", "sweep.baseline=false", "seed=1", named)
    assert done.returncode == 2
    assert "the cell task=report task.sweep=unknown " in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: the run unknown has no finished cells in sqlite:///")
    assert TOKEN not in done.stdout + done.stderr
