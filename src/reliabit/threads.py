"""How many CPU threads suit a machine that others use too.

torch takes a thread for each core. Each of its operations waits for the slowest of them, and where others compute on
the same cores, that is one which the system has put aside for some milliseconds. Worse, those that wait keep their
cores busy with waiting: answering then takes many times as long as on a single thread, and many times the processor
seconds (`bench/threads.py`). So threads sleep while they wait, and there are as many as cores that this process may use
and that nobody else computes on while it starts.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LOAD = Path("/proc/loadavg")
CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
SAMPLES, PAUSE_SECONDS = 11, 0.01
NAMED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user, a scheduler or a test says the number itself, to torch and to all else."""


def threads_of(configured: int | None) -> int:
    """The number of CPU threads that a process is to compute with; to be called before torch is imported.

    Threads sleep while they wait for each other, unless the environment says otherwise (`OMP_WAIT_POLICY`).

    Args:
        configured: `trainer.threads`; `None` chooses.
    """
    # OpenMP's own way is to look again and again for some milliseconds, on the core that the other thread waits for.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return choose_threads() if configured is None else configured


def choose_threads(*, environ: Mapping[str, str] = os.environ, running: Callable[[], float] | None = None) -> int:
    """The number of CPU threads for a process that is about to compute.

    Args:
        environ: The environment; what `OMP_NUM_THREADS` or `MKL_NUM_THREADS` says is obeyed.
        running: Tells how many threads others have running on the whole machine; by default it is looked at.

    >>> choose_threads(environ={"OMP_NUM_THREADS": "3"})
    3
    >>> choose_threads(environ={}, running=lambda: 1000.0)
    1
    """
    for name in NAMED:
        # OpenMP takes a list, for levels of nesting.
        first = environ.get(name, "").partition(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
    cores = usable_cores()
    everywhere = os.cpu_count() or 1
    others = (running or running_elsewhere)()
    return free_cores(cores, everywhere=everywhere, others=others)


def free_cores(cores: float, *, everywhere: int, others: float) -> int:
    """Of the cores that a process may use, those that are left to it.

    Args:
        cores: Those that it may use.
        everywhere: Those of the machine.
        others: Threads that others have running on the machine, wherever that is.

    >>> [free_cores(2, everywhere=2, others=others) for others in (0, 1, 9)]
    [2, 1, 1]
    >>> free_cores(8, everywhere=64, others=16)
    6
    """
    return max(1, int(cores * max(0.0, 1 - others / everywhere)))


def usable_cores() -> float:
    """The cores that this process may use, by its affinity and by the quota of its control group."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(float(cores), quota())


def quota(*, of_process: Path = CGROUP, mounted: Path = CGROUPS) -> float:
    """The cores that control groups leave to this process, its own and all above it; infinite without a limit.

    Args:
        of_process: Where Linux names the group of a process.
        mounted: Where the groups lie.
    """
    try:
        groups = [line.split(":", 2) for line in of_process.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return float("inf")
    found = [float("inf")]
    for _, controllers, name in groups:
        if controllers in ("", "cpu", "cpu,cpuacct"):
            root = mounted / controllers if controllers else mounted
            # Within a container its own group may be mounted as the root.
            path = root / name.lstrip("/")
            found += [_limit(folder) for folder in (path, *path.parents) if folder.is_relative_to(root)]
    return min(found)


def _limit(folder: Path) -> float:
    """The cores of one control group, of version 2 or 1."""
    try:
        if (folder / "cpu.max").is_file():
            allowed, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            allowed, period = (
                (folder / name).read_text(encoding="utf-8").strip()
                for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
        return float("inf") if allowed in ("max", "-1") else int(allowed) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return float("inf")


def running_elsewhere(*, load: Path = LOAD) -> float:
    """How many threads beside this one run or wait for a core, in the median of a tenth of a second.

    The load average would count what this process, or the cell of the sweep before it, did itself a minute ago.

    Args:
        load: Where Linux tells; zero where there is no such file.
    """
    samples = []
    for number in range(SAMPLES):
        if number:
            time.sleep(PAUSE_SECONDS)
        try:
            running = load.read_text(encoding="utf-8").split()[3].partition("/")[0]
        except (OSError, IndexError):
            return 0.0
        # This thread runs while it looks.
        samples.append(max(0, int(running) - 1))
    return statistics.median(samples)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread within a `with` block.

    For preparations whose operations are short: beside other jobs, two threads took 40 times longer over packing a
    layer for the 4-bit kernel than one. And for training: sums over several threads differ in their last bits from
    those of one, so that a Selector would depend on how many cores were free.

    Example:
        >>> import torch
        >>> with one_thread():
        ...     torch.get_num_threads()
        1
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
