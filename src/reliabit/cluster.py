"""What a sweep over several processes or machines needs, looked at before anything is recorded or queued.

Some of it shows where a sweep is launched: packages, the scheduler, its accounting, the address of the store, folders
and the clock. Whether a node sees the same folders and has the same time shows on that node, so its cells look
themselves.
"""

import json
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from tempfile import NamedTemporaryFile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.tracking.redaction import redact

if TYPE_CHECKING:
    from omegaconf import DictConfig

SLURM, RAY = "hydra_plugins.reliabit_launchers.SlurmCells", "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"

EXTRAS: Mapping[str, str] = MappingProxyType(
    {"local_pool": "slurm", "slurm_cpu": "slurm", "slurm_gpu": "slurm", "slurm_node": "slurm", "ray": "ray"}
)
"""What of ours must be installed, by the options of `hydra/launcher`."""

PLUGINS: Mapping[str, str] = MappingProxyType({"slurm": "hydra_submitit_launcher", "ray": "hydra_ray_launcher"})

COMMANDS = ("sbatch", "srun", "sinfo", "sacct", "squeue", "scontrol")
ANSWER_SECONDS = 20.0
CLOCK_SECONDS = 60.0
"""So far may a clock be off: a tenth of the silence by which a process of another machine counts as dead."""

SHARED = "shared.json"
"""Where a sweep's folder says which cache it was launched with."""

TOKEN = ".shared"  # noqa: S105 -- the name of a file
"""What a cache is recognized by, wherever it is mounted."""


def check_launcher(config: "DictConfig") -> None:
    """Check that the cells of a sweep can be launched where its configuration says, and that its end will be noticed.

    Args:
        config: The sweep's configuration, Hydra's own included.

    Raises:
        ReliabitError: They cannot.
    """
    launcher, choice = config.hydra.launcher, str(config.hydra.runtime.choices.get("hydra/launcher"))
    extra, target = EXTRAS.get(choice), str(launcher._target_)
    if extra is not None and not is_installed(extra):
        raise ReliabitError(
            f"hydra/launcher={choice} needs the package {PLUGINS[extra].replace('_', '-')}, which is not installed; "
            f"install it with pip install 'reliabit[{extra}]', or leave the launcher out"
        )
    if target == SLURM:
        machines = slurm_machines(launcher.get("partition"))
        check_accounting()
        largest_array()
        check_store_reach(str(config.tracking.uri), machines=machines, here=_here())
    elif _is_spread(launcher):
        check_store_reach(str(config.tracking.uri), machines={"head": "", "others": ""}, here=_here())


def is_installed(extra: str) -> bool:
    """Whether the plug-in is there that an extra of ours brings."""
    return find_spec(f"hydra_plugins.{PLUGINS[extra]}") is not None


def share_folders(config: "DictConfig") -> None:
    """Look at the folders that the cells of a sweep share over several machines, and leave word of them for the cells.

    Args:
        config: The sweep's configuration, Hydra's own included.

    Raises:
        ReliabitError: One cannot be written and read here, or has another time.
    """
    if not _is_spread(config.hydra.launcher):
        return
    sweep, cache = Path(str(config.hydra.sweep.dir)), Path(str(config.paths.cache))
    for key, folder in (("hydra.sweep.dir", sweep), ("paths.cache", cache), ("paths.data", Path(config.paths.data))):
        check_folder(folder, key=key)
    token = _token(cache) or uuid.uuid4().hex
    for path, text in ((cache / TOKEN, token), (sweep / SHARED, json.dumps({"cache": token, "host": _here()}))):
        with replacing(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def _is_spread(launcher: "DictConfig") -> bool:
    """Whether a launcher uses several machines."""
    target = str(launcher._target_)
    return target == SLURM or (target == RAY and launcher.ray.init.get("address") is not None)


def slurm_machines(partition: str | None) -> dict[str, str]:
    """The machines of a partition, or of all: the host name of each node.

    Raises:
        ReliabitError: There is no Slurm here, its controller does not answer, or there is no such partition.
    """
    missing = [name for name in COMMANDS if which(name) is None]
    if missing:
        raise ReliabitError(
            f"there is no {missing[0]} here, so nothing can be queued with Slurm; launch from a login node of the "
            "cluster, or choose hydra/launcher=local_pool"
        )
    told, refused = _ask("sinfo", "--noheader", "--Node", "--format=%N %n", *_of(partition))
    if refused:
        raise ReliabitError(f"the controller of Slurm does not answer ({told}); see scontrol ping, and launch again")
    nodes = dict(line.split() for line in told.splitlines())
    if not nodes:
        where = "Slurm has no nodes" if partition is None else f"the partition {partition} of Slurm has no nodes"
        raise ReliabitError(f"{where}; set hydra.launcher.partition to one that sinfo lists")
    return nodes


def largest_array() -> int:
    """How many jobs an array of this Slurm may have.

    Raises:
        ReliabitError: It does not say, or takes no arrays.
    """
    told, _ = _ask("scontrol", "show", "config")
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", told, re.MULTILINE)
    if found is None or found[1] == "0":
        raise ReliabitError(
            "Slurm takes no arrays of jobs (scontrol show config names no MaxArraySize above 0); choose "
            "hydra/launcher=local_pool, or ask whoever runs the cluster"
        )
    return int(found[1])


def check_accounting() -> None:
    """Check that Slurm tells what became of jobs; where it does not, a job that was killed is waited for for ever.

    Raises:
        ReliabitError: It keeps no accounts, or they cannot be read.
    """
    told, refused = _ask("sacct", "--noheader", "--allocations", "--jobs=1")
    if refused:
        raise ReliabitError(
            f"Slurm's accounting does not answer ({told}), and without it a sweep waits for ever for a cell that was "
            "killed; start slurmdbd (AccountingStorageType in slurm.conf), or choose hydra/launcher=local_pool"
        )


def check_store_reach(uri: str, *, machines: Mapping[str, str], here: str) -> None:
    """Check that all machines can record in a store.

    Args:
        uri: Its address.
        machines: The host name of each node.
        here: The name of this host.

    Raises:
        ReliabitError: It is a file that several nodes would write, or the address of each machine itself.

    >>> check_store_reach("http://head:5000", machines={"n1": "n1", "n2": "n2"}, here="head")
    >>> check_store_reach("http://127.0.0.1:5000", machines={"n1": "n1"}, here="head")
    Traceback (most recent call last):
    reliabit.errors.ReliabitError: tracking.uri=http://127.0.0.1:5000 is another machine on each node; give the name ...
    """
    elsewhere = any(host != here for host in machines.values())
    if uri.startswith("sqlite:") and (len(machines) > 1 or elsewhere):
        raise ReliabitError(
            redact(
                f"tracking.uri={uri} is a sqlite file, which is damaged where {len(machines)} nodes write it over a "
                "network; use tracking=server (docs/tracking.md says how to start one), or tracking=offline"
            )
        )
    if elsewhere and urlsplit(uri).hostname in ("localhost", "127.0.0.1", "::1"):
        raise ReliabitError(
            redact(
                f"tracking.uri={uri} is another machine on each node; give the name by which nodes know the server's: "
                "MLFLOW_TRACKING_URI=http://<host>:5000"
            )
        )


def check_folder(folder: Path, *, key: str, now: float | None = None) -> None:
    """Check that a folder can be written and read, and that its file system has the time of this machine.

    Args:
        folder: The folder; it is made where it is missing.
        key: What names it, for the message.
        now: The time, in seconds since 1970; that of this machine's clock by default.

    Raises:
        ReliabitError: It cannot, or the clocks differ.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".written.") as file:
            file.write(b"1")
            file.flush()
            found = Path(file.name).stat().st_mtime
            whole = Path(file.name).read_bytes() == b"1"
            moment = time.time() if now is None else now
    except OSError as error:
        raise ReliabitError(
            f"{key}={folder} cannot be written and read on {_here()} ({error.strerror}); all cells share "
            "it: make it a folder that every node mounts and this user may write"
        ) from error
    if not whole or abs(found - moment) > CLOCK_SECONDS:
        raise ReliabitError(
            f"the clocks of {_here()} and of the file system of {key}={folder} differ by "
            f"{abs(found - moment):.0f} s; runs of living processes would be taken for dead: set them right (NTP), and "
            "launch again"
        )


def check_cell(*, parent_file: str | None, cache: Path) -> None:
    """Check, on the node of a cell, that it sees what the sweep was launched with; other sweeps have nothing to see.

    Args:
        parent_file: The file that names the sweep's parent run.
        cache: `paths.cache`.

    Raises:
        ReliabitError: Its cache is another folder, cannot be written, or the clocks differ.
    """
    if parent_file is None or not (shared := Path(parent_file).with_name(SHARED)).is_file():
        return
    check_folder(cache, key="paths.cache")
    told: dict[str, Any] = json.loads(shared.read_text(encoding="utf-8"))
    if _token(cache) != told["cache"]:
        raise ReliabitError(
            f"paths.cache={cache} on {_here()} is not the folder that the sweep was launched with on "
            f"{told['host']}; name one that every node mounts, or what cells share is computed by each"
        )


def _token(cache: Path) -> str | None:
    try:
        return (cache / TOKEN).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _of(partition: str | None) -> list[str]:
    return [] if partition is None else [f"--partition={partition}"]


def _ask(*command: str) -> tuple[str, bool]:
    """What a command of Slurm's says, and whether it failed or took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"{command[0]}: no answer within {ANSWER_SECONDS:.0f} s", True
    if done.returncode == 0:
        return done.stdout, False
    return " ".join((done.stderr or done.stdout).split())[:200], True


def _here() -> str:
    return socket.gethostname()
