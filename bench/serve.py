"""The service under load: 32 clients at once on loopback, and whether they hear what offline evaluation says.

Run as `python bench/serve.py` from the repository's root after `dvc repro` (`make repro`), whose checkpoint, Selector,
predictions and certificates it bundles and serves in a process of its own. It writes `bench/results/serve.json`.
A bundle of one's own is served in its place, after `reliabit promote` and `reliabit pull`:

    python bench/serve.py --bundle bundle --predictions outputs/.../predictions.parquet --table data/prepared/... \
        --clients 1 --results serve_mine

Clients and service share the machine's cores, so that rates are lower than with clients elsewhere.
"""

import argparse
import http.client
import json
import os
import platform
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from serving_cell import ROOT, Expected, ServedCell, versioned_cell

from reliabit.metrics.certify import Certificate

CLOSE = {"float32": 1e-4, "bfloat16": 3e-2}
"""By what a model computes in: confidences that differ by less are the same; so near the threshold, either decision is
right. In bfloat16 a batch's company changes the second digit."""

SERVE = """
import sys
from pathlib import Path
from reliabit.serving.hosting import FolderSource
from reliabit.serving.service import run_service
run_service(FolderSource(Path(sys.argv[1])), port=int(sys.argv[2]))
"""


@dataclass
class Heard:
    """What one client heard."""

    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    largest_difference: float = 0.0


def machine() -> dict[str, Any]:
    """What the numbers were measured on, without anything that names the host."""
    cpu_info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "fastapi", "uvicorn")},
    }


@contextmanager
def service(folder: Path) -> Iterator[tuple[int, int]]:
    """Serve a bundle; the port and the process's number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder), str(port)])  # noqa: S603 - our own code
    try:
        while True:
            try:
                get(port, "/healthz")
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("the service did not start") from None
                time.sleep(0.2)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(60)


def get(port: int, path: str) -> str:
    """The body that a path answers with."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def ask(port: int, questions: Iterator[Expected], certificate: Certificate, *, close: float, end: float) -> Heard:
    """One client: ask until the time is over, each question when the last is answered."""
    heard = Heard()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.perf_counter() < end:
        expected = next(questions)
        start = time.perf_counter()
        try:
            connection.request("POST", "/answer", expected.body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except OSError as error:
            heard.outcomes[type(error).__name__] += 1
            connection.close()
            continue
        heard.seconds.append(time.perf_counter() - start)
        heard.outcomes[judge(response.status, body, expected, certificate, heard, close)] += 1
    connection.close()
    return heard


def judge(status: int, body: bytes, expected: Expected, certificate: Certificate, heard: Heard, close: float) -> str:
    """Whether an answer is the one that offline evaluation leads to expect."""
    if status != 200:
        return f"status {status}"
    found = json.loads(body)
    if found["abstained"] != (found["answer"] is None) or found["answer"] not in (None, expected.answer):
        return "another answer"
    difference = abs(found["confidence"] - expected.confidence)
    heard.largest_difference = max(heard.largest_difference, difference)
    if difference > close:
        return "another confidence"
    withheld = expected.confidence < certificate.threshold
    if found["abstained"] != withheld and abs(expected.confidence - certificate.threshold) > close:
        return "another decision"
    return "withheld as offline" if found["abstained"] else "answered as offline"


def load(port: int, cell: ServedCell, *, clients: int, seconds: float, seed: int) -> tuple[list[Heard], float]:
    """Ask from many clients at once; what they heard, and how long it took."""
    questions, description = cell.expectations(seed=seed), cell.description
    certificate, close = description.certificate(None), CLOSE[description.dtype]
    heard: list[Heard] = []
    start = time.perf_counter()
    # No two clients ask the same question, as long as there are enough.
    shares = [questions[client::clients] for client in range(clients)]

    def run(share: list[Expected]) -> None:
        heard.append(ask(port, cycled(share), certificate, close=close, end=start + seconds))

    threads = [threading.Thread(target=run, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard, time.perf_counter() - start


def cycled(share: list[Expected]) -> Iterator[Expected]:
    """The questions over and over."""
    while True:
        yield from share


def sample(metrics: str, name: str) -> float:
    """One sample of the service's metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"the service tells no {name}")
    return float(found[1])


def measure(cell: ServedCell, *, clients: int, seconds: float) -> dict[str, Any]:
    """Everything of one run."""
    description = cell.description
    with service(cell.bundle) as (port, process):
        heard, taken = load(port, cell, clients=clients, seconds=seconds, seed=0)
        metrics = get(port, "/metrics")
        drift = json.loads(get(port, "/drift"))
        status = Path(f"/proc/{process}/status").read_text()
    outcomes: Counter[str] = sum((one.outcomes for one in heard), Counter())
    times = np.concatenate([one.seconds for one in heard]) * 1e3
    as_offline = outcomes["answered as offline"] + outcomes["withheld as offline"]
    memory = {name: int(kib) / 1024 for name, kib in re.findall(r"^(VmHWM|VmRSS):\s+(\d+) kB$", status, re.MULTILINE)}
    return {
        "cell": description.name,
        "dtype": description.dtype,
        "confidence": description.confidence,
        "risk": description.default_risk,
        "threshold": description.certificate(None).threshold,
        "clients": clients,
        "seconds": taken,
        "batch_size": description.batch_size,
        "requests": outcomes.total(),
        "errors_or_differences": outcomes.total() - as_offline,
        "outcomes": dict(sorted(outcomes.items())),
        "largest_difference_of_confidence": max(one.largest_difference for one in heard),
        "requests_per_second": as_offline / taken,
        "latency_ms": {f"p{level:g}": float(np.percentile(times, level)) for level in (50, 90, 99, 99.9, 100)},
        "mean_batch": sample(metrics, "reliabit_batch_questions_sum")
        / sample(metrics, "reliabit_batch_questions_count"),
        "resident_mib": memory["VmRSS"],
        "peak_resident_mib": memory["VmHWM"],
        "drift": {"alarm": drift["alarm"], "answers": drift["answers"], "tests": drift["tests"]},
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--batch-size", type=int, default=32, help="of the bundle of the versioned pipeline")
    parser.add_argument("--bundle", type=Path, help="the folder of another bundle; then also:")
    parser.add_argument("--predictions", type=Path, help="the predictions table of its cell")
    parser.add_argument("--table", type=Path, help="the folder of the prepared table that was asked")
    parser.add_argument("--results", default="serve", help="the name of the file in bench/results")
    options = parser.parse_args()
    results = {"machine": machine()}
    with TemporaryDirectory() as place:
        cell = (
            versioned_cell(Path(place) / "bundle", batch_size=options.batch_size)
            if options.bundle is None
            else ServedCell(options.bundle, options.predictions, options.table)
        )
        results |= measure(cell, clients=options.clients, seconds=options.seconds)
    (ROOT / "bench" / "results").mkdir(parents=True, exist_ok=True)
    (ROOT / "bench" / "results" / f"{options.results}.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    if results["errors_or_differences"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
