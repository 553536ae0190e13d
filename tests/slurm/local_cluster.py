"""A Slurm of two nodes and a tracking server on this machine, whose parts can be killed and started again."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

SCRIPT = Path(__file__).with_name("slurm_local.sh")
NEEDED = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")


def lacking() -> str | None:
    """Why no Slurm can be started here; `None` where one can."""
    missing = [name for name in NEEDED if which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: make test-slurm installs them"
    if os.geteuid() != 0:
        return "a local Slurm is started as root"
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        return "submitit is not installed: make test-slurm installs it"
    return None


class LocalCluster:
    """The daemons of Slurm; the nodes are called n1 and n2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        self._script("start")

    def mend(self) -> None:
        """Start the daemons that are gone."""
        for name in ("slurmdbd", "slurmctld", "slurmd.n1", "slurmd.n2"):
            if not self._is_alive(name):
                self.start_daemon(name)

    def stop(self) -> None:
        self.kill_cells()
        self._script("stop")

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60, check=False)
        return done.stdout

    def jobs(self, *, state: str = "RUNNING", node: str | None = None) -> list[int]:
        """The ids of jobs; each cell of an array has its own."""
        where = [] if node is None else [f"--nodelist={node}"]
        return [int(line) for line in self.ask("squeue", "-h", f"--states={state}", *where, "-o", "%A").split()]

    def signal_cell(self, job: int, number: int) -> bool:
        """Send a signal to what a cell runs."""
        found = [pid for pid in processes() if variable(pid, "SLURM_JOB_ID") == str(job) and is_cell(pid)]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return bool(found)

    def kill_node(self, node: str) -> list[int]:
        """Kill a node with all that runs on it; it stays away until `start_node`. Gives the jobs that it ran."""
        jobs = self.jobs(node=node)
        self.kill_daemon(f"slurmd.{node}")
        for job in jobs:
            for pid in processes():
                if variable(pid, "SLURM_JOB_ID") == str(job) or re.match(rf"slurmstepd: \[{job}\.", title(pid)):
                    kill(pid)
        return jobs

    def kill_cells(self) -> None:
        self.ask("scancel", "--user=root", "--full")

    def kill_daemon(self, name: str) -> None:
        """Kill `slurmctld`, `slurmdbd`, `slurmd.n1` or `slurmd.n2`, hard."""
        kill(int((self.folder / "run" / f"{name}.pid").read_text()))

    def start_daemon(self, name: str) -> None:
        """Start one that is gone, and wait until it answers; a controller without its accounts would end at once."""
        program, _, node = name.partition(".")
        subprocess.run([program, *(["-N", node] if node else [])], env=self.environment, check=True, timeout=60)
        answers = {
            "slurmdbd": lambda: "local" in self.ask("sacctmgr", "-n", "list", "cluster"),
            "slurmctld": lambda: "UP" in self.ask("scontrol", "ping"),
        }.get(program, lambda: True)
        until = time.monotonic() + 60
        while not (self._is_alive(name) and answers()):
            assert time.monotonic() < until, (self.folder / "log" / f"{name}.log").read_text()[-2000:]
            time.sleep(0.2)

    def _is_alive(self, name: str) -> bool:
        file = self.folder / "run" / f"{name}.pid"
        return file.is_file() and bool(text := file.read_text().strip()) and is_alive(int(text))

    def _script(self, command: str) -> None:
        done = subprocess.run(
            [str(SCRIPT), command, str(self.folder)],
            # Daemons would keep a pipe open.
            stdout=(log := self.folder.with_suffix(".log").open("w+")),
            stderr=log,
            timeout=120,
            check=False,
        )
        with log:
            log.seek(0)
            assert done.returncode == 0, log.read()


class TrackingServer:
    """An MLflow server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--serve-artifacts"]
        place = ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1", "--workers", "1"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, *place, "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.3)

    def mend(self) -> None:
        """Start it where it is gone."""
        if not self._answers():
            self.kill()
            self.start()

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def title(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def variable(pid: int, name: str) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        for line in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            if line.startswith(f"{name}="):
                return line.partition("=")[2]
    return None


def is_cell(pid: int) -> bool:
    return "submitit.core._submit" in title(pid) and "srun" not in title(pid) and "/bin/bash" not in title(pid)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended may be listed for long, where whoever inherits it is busy."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@contextmanager
def cluster_and_server(prefix: str) -> Iterator[tuple[Path, LocalCluster, TrackingServer]]:
    """A cluster and a tracking server that run in a temporary folder, which others may read, and end with it."""
    with tempfile.TemporaryDirectory(prefix=prefix) as temporary:
        folder = Path(temporary)
        # The database has a user of its own.
        folder.chmod(0o755)
        cluster, server = LocalCluster(folder / "slurm"), TrackingServer(folder / "server")
        try:
            cluster.start()
            server.start()
            yield folder, cluster, server
        finally:
            server.kill()
            cluster.stop()


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
