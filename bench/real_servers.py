"""Real servers of other engines, started and stopped: vLLM's and llama.cpp's, each from its own environment.

`make vllm-env` and `make llamacpp-env` make the environments; `RELIABIT_VLLM_ENV` and `RELIABIT_LLAMACPP_ENV` name
others. A server has a port of its own, one thread, and ends with the `with` that started it.
"""

import os
import resource
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PATIENCE = 900
"""Seconds until a server has to answer; vLLM takes a minute, and many on a machine that does other things as well."""

VLLM_SETTINGS = (
    "--dtype=float32",
    "--max-model-len=512",
    "--max-logprobs=20",
    # Compiling takes longer than all questions of a test.
    "--enforce-eager",
    '--limit-mm-per-prompt={"image":1,"video":0}',
)


class ServerError(RuntimeError):
    """A server that did not start; what it said last."""


class LateError(ServerError):
    """A server that did not answer in time."""


@dataclass
class Server:
    """A server that runs.

    Attributes:
        url: Its endpoint.
        process: Its first process.
        log: What it writes.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def cpu_seconds(self) -> float:
        """Processor seconds that the server's processes have taken so far."""
        first = psutil.Process(self.process.pid)
        times = []
        for one in (first, *first.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times.append(one.cpu_times())
        return sum(found.user + found.system for found in times)


def own_cpu_seconds() -> float:
    """Processor seconds that this process has taken so far, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def vllm_environment() -> Path:
    """Where vLLM's environment is, made or not."""
    return Path(os.environ.get("RELIABIT_VLLM_ENV", ROOT / ".venv-vllm"))


def llamacpp_environment() -> Path:
    """Where llama.cpp's environment is, made or not."""
    return Path(os.environ.get("RELIABIT_LLAMACPP_ENV", ROOT / ".venv-llamacpp"))


@contextmanager
def vllm_server(
    folder: Path, *, log: Path, name: str | None = None, settings: Sequence[str] = VLLM_SETTINGS
) -> Iterator[Server]:
    """Serve a checkpoint with `vllm serve`.

    Args:
        folder: The checkpoint.
        log: Where what it writes goes.
        name: What requests call it; the folder's name where nothing is said.
        settings: Further arguments.

    Raises:
        ServerError: It ended, or does not answer in time.
    """
    port = free_port()
    command = [
        str(vllm_environment() / "bin" / "vllm"),
        "serve",
        str(folder),
        f"--served-model-name={name or folder.name}",
        "--host=127.0.0.1",
        f"--port={port}",
        *settings,
    ]
    # Its threads are bound to cores of their own otherwise, whoever computes there.
    environment = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with _running(command, port, log, environment) as server:
        yield server


@contextmanager
def llamacpp_server(
    model: Path, mmproj: Path, *, log: Path, name: str, settings: Mapping[str, int] | None = None
) -> Iterator[Server]:
    """Serve a GGUF model with its vision part; see `vllm_server`."""
    port = free_port()
    command = [
        str(llamacpp_environment() / "bin" / "python"),
        str(ROOT / "bench" / "engines" / "llamacpp_server.py"),
        str(model),
        str(mmproj),
        f"--name={name}",
        f"--port={port}",
        *(f"--set={key}={value}" for key, value in (settings or {}).items()),
    ]
    with _running(command, port, log, {}) as server:
        yield server


@contextmanager
def _running(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    fixed = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as written:
        process = subprocess.Popen(  # noqa: S603
            command,
            env={**own, **fixed, **environment},
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await(process, port, log)
        yield Server(url=f"http://127.0.0.1:{port}/v1", process=process, log=log)
    finally:
        _end(process)


def _await(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ServerError(f"the server ended with status {process.returncode}; it said:\n{last_words(log)}")
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2):
            return
        time.sleep(0.5)
    raise LateError(f"the server does not answer within {PATIENCE} s; it said:\n{last_words(log)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server with all its processes, which are a group of their own."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def last_words(log: Path, *, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def versions() -> dict[str, str]:
    """The versions of the engines that are installed."""
    script = "import sys; from importlib.metadata import version; print(*(version(name) for name in sys.argv[1:]))"
    found = {}
    for folder, names in (
        (vllm_environment(), ("vllm-cpu", "torch", "transformers")),
        (llamacpp_environment(), ("xllamacpp",)),
    ):
        python = folder / "bin" / "python"
        if python.exists():
            done = subprocess.run([python, "-c", script, *names], check=True, capture_output=True, text=True)  # noqa: S603
            told = dict(zip(names, done.stdout.split(), strict=True))
            found |= {name if name == names[0] else f"{name} beside {names[0]}": one for name, one in told.items()}
    return found


def cpu_name() -> str:
    """The processor, with what of it kernels ask for."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(told.get("flags", "").split())
    return f"{told.get('model name', 'unknown')} ({', '.join(sorted(flags & {'avx2', 'avx512f', 'amx_int8'}))})"
