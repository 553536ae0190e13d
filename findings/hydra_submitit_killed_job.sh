#!/usr/bin/env bash
# hydra-submitit-launcher ends a sweep with its first killed job: the command raises while the other jobs run on, and
# Hydra's sweeper (Optuna, Ax) is never told what they found, though all of it lies on disk later. The job is killed
# here as the kernel kills what takes too much memory. One that raises an exception by itself is another matter: all
# others are waited for.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    hydra-core==1.3.8 hydra-submitit-launcher==1.2.0 submitit==1.5.4

cd "$WORK"
cat >job.py <<'PYTHON'
import os
import signal
import time
from pathlib import Path

import hydra

DONE = Path(os.environ["DONE"])


@hydra.main(version_base="1.3", config_path=None)
def job(config):
    if config.number == 0 and config.how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.number == 0:
        raise ValueError("this one fails by itself")
    time.sleep(15)
    (DONE / str(config.number)).touch()


if __name__ == "__main__":
    job()
PYTHON
cat >sweep.py <<'PYTHON'
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path


def sweep(how):
    done = Path(how).absolute()
    done.mkdir()
    options = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", f"hydra.sweep.dir={done}/sweep"]
    command = [sys.executable, "job.py", "-m", "+number=0,1,2", f"+how={how}", *options]
    with Path(f"{how}.log").open("w") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, env={**os.environ, "DONE": str(done)})
    at_once = sorted(path.name for path in done.iterdir() if path.name != "sweep")
    time.sleep(25)
    later = sorted(path.name for path in done.iterdir() if path.name != "sweep")
    print(f"{how}: status {ended.returncode}, done when the sweep ended: {at_once}, 25 s later: {later}")
    return ended.returncode != 0, at_once, later


print("hydra-core", version("hydra-core"), "hydra-submitit-launcher", version("hydra-submitit-launcher"))
found = {how: sweep(how) for how in ("killed", "failing")}
others = ["1", "2"]
expected = {"killed": (True, [], others), "failing": (True, others, others)}
if found != expected:
    sys.exit(f"the behaviour has changed: expected {expected}, found {found}")
PYTHON
"$WORK/venv/bin/python" sweep.py
