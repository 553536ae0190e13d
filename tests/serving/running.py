"""The service as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVE = """
import json
import sys
from pathlib import Path
import torch
from reliabit.serving.http.access import key_from_environment
from reliabit.serving.hosting import FolderSource
from reliabit.serving.http.limits import Limits
from reliabit.serving.service import run_service
torch.set_num_threads(1)
limits = Limits(**{"poll_seconds": 0.2, **json.loads(sys.argv[3])})
run_service(FolderSource(Path(sys.argv[1])), port=int(sys.argv[2]), limits=limits, key=key_from_environment())
"""


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        process: The process.
        url: Its address.
        log: What it wrote.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def stop(self) -> int:
        """Ask it to end, and wait; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def service(bundle: Path, folder: Path, *, key: str = "", **limits: Any) -> Iterator[Service]:
    """Serve a bundle until the block ends, with the key in the environment."""
    port, log = free_port(), folder / "service.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RELIABIT_API_KEY": key}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(bundle), str(port), json.dumps(limits)],
            stdout=output,
            stderr=output,
            env=environment,
        )
    running = Service(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait(running)
        yield running
    finally:
        if process.poll() is None:
            running.stop()


def _wait(running: Service) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{running.url}/healthz", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert running.process.poll() is None, running.log.read_text()
            assert time.monotonic() < end, running.log.read_text()
            time.sleep(0.1)
