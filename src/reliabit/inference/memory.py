"""Peak memory while answering: of the accelerators where there are any, else of this process."""

import resource
from pathlib import Path

PROCESS = Path("/proc/self")


def reset_peak_memory() -> None:
    """Start measuring anew; without Linux's means to do so, the peak of the whole process will be reported."""
    import torch

    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        # Linux: 5 resets the high-water mark of the resident set.
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """The largest memory since `reset_peak_memory`, in bytes."""
    import torch

    if torch.cuda.is_available():
        # A model may be spread over several.
        return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    try:
        status = (PROCESS / "status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
