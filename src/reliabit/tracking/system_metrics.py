"""How busy the machine was during a run: processors, memory, disk, network and accelerator, as MLflow measures them.

MLflow's own monitor writes through a client of its own making; here its gauges alone are read, and the run writes, so
that a journal, a server and a guarded store all take what they say.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reliabit.tracking.heartbeat import alongside
from reliabit.tracking.tracker import TrackedRun

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

SAMPLE_SECONDS = 10.0

PREFIX = "usage/"
"""Not MLflow's own `system/`, which its pages put above all that a run measured."""

_log = logging.getLogger(__name__)


@contextmanager
def system_metrics(run: TrackedRun, *, every: float = SAMPLE_SECONDS) -> Iterator[None]:
    """Record how busy the machine is for as long as a block runs, at least once.

    A sample that cannot be taken or written is reported once, and ends the record; it never disturbs the run.

    Args:
        run: An open run.
        every: Seconds between samples.
    """
    with alongside(lambda ended: _sample(run, every, ended), name="system-metrics"):
        yield


def _sample(run: TrackedRun, every: float, ended: threading.Event) -> None:
    try:
        gauges = _gauges()
        step, more = 0, True
        while more:
            more = not ended.wait(every)
            for gauge in gauges:
                gauge.collect_metrics()
            found = {key: value for gauge in gauges for key, value in gauge.aggregate_metrics().items()}
            run.log_metrics({f"{PREFIX}{key}": float(value) for key, value in found.items()}, step=step)
            for gauge in gauges:
                gauge.clear_metrics()
            step += 1
    except Exception as error:
        _log.warning("how busy the machine is cannot be recorded: %s", error)


def _gauges() -> "Sequence[BaseMetricsMonitor]":
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    gauges = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        gauges.append(GPUMonitor())
    except Exception as error:
        _log.debug("no accelerator is measured: %s", error)
    for gauge in gauges:
        # Processors are measured since the last reading, and there was none.
        gauge.collect_metrics()
        gauge.clear_metrics()
    return gauges
