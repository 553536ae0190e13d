"""`trainer`: where and how it runs."""

from dataclasses import dataclass

from omegaconf import MISSING

from reliabit.settings import choice, positive


@dataclass
class TrainerConfig:
    """Where and how it runs.

    Attributes:
        accelerator: Lightning's name of the device.
        batch_size: Questions a batch.
        threads: CPU threads; torch's own choice where it is null.
        devices: Answer on so many devices at once, a process and a whole model each.
        device_map: How one model is spread over the devices, and over the host's memory and the disk where they are too
            small; null for models that fit on one.
        device_memory: For `device_map`, what each device may take, such as `70GiB`; what is free where it is null.
        host_memory: For `device_map`, what the host's memory may take, likewise; the rest stays on disk.
        progress_bar: Show progress and time left.
    """

    accelerator: str = choice("cpu", "gpu", "auto")
    batch_size: int = positive()
    threads: int | None = positive()
    devices: int = positive(default=1)
    device_map: str | None = choice(None, "auto", "balanced", "balanced_low_0", "sequential", default=None)
    device_memory: str | None = None
    host_memory: str | None = None
    progress_bar: bool = MISSING
