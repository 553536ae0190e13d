"""Where a model lies: on one device, or spread over several, the memory of the host and the disk.

Placing them is accelerate's work. What lies off the devices is brought to one for each pass and let go again, so large
batches are worth their memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import torch
    from torch import nn


FOR_WEIGHTS = 0.9
"""The share of what is free that weights may take where no limit is given; the rest is for what the model computes."""


@dataclass(frozen=True)
class Spread:
    """How a model is spread.

    Attributes:
        device_map: accelerate's name of the way: `auto`, `balanced`, `balanced_low_0` or `sequential`.
        accelerators: Whether accelerators are used, or the memory of the host and the disk alone.
        device_memory: What each accelerator may take, such as `70GiB`; what is free where it is `None`.
        host_memory: What the memory of the host may take of it, likewise; the rest stays on disk.
    """

    device_map: str
    accelerators: bool = True
    device_memory: str | None = None
    host_memory: str | None = None

    def options(self) -> dict[str, Any]:
        """The arguments of `from_pretrained`.

        >>> Spread("auto", host_memory="100GiB").options()["max_memory"]["cpu"]
        '100GiB'
        """
        # Packed weights are buffers, which accelerate otherwise leaves on the devices.
        return {"device_map": self.device_map, "max_memory": self._limits(), "offload_buffers": True}

    def _limits(self) -> dict[int | str, int | str] | None:
        from accelerate.utils import get_max_memory

        if self.accelerators and self.device_memory is None and self.host_memory is None:
            # transformers measures what is free, and leaves some of it to what the model computes.
            return None
        limits: dict[int | str, int | str] = {}
        for name, free in get_max_memory().items():
            if name != "cpu" and not self.accelerators:
                continue
            limit = self.host_memory if name == "cpu" else self.device_memory
            limits[name] = int(FOR_WEIGHTS * free) if limit is None else limit
        return limits


def is_spread(model: "nn.Module") -> bool:
    """Whether the parts of a model have places of their own, from which nothing but accelerate may move them."""
    return hasattr(model, "hf_device_map")


def offloaded(model: "nn.Module") -> list[str]:
    """The tensors of a model that lie off the devices, by name.

    >>> from torch import nn
    >>> offloaded(nn.ModuleDict({"here": nn.Linear(2, 2), "away": nn.Linear(2, 2, bias=False, device="meta")}))
    ['away.weight']
    """
    return [name for name, tensor in model.state_dict().items() if tensor.is_meta]


def tensors_of(model: "nn.Module") -> "Iterator[tuple[str, torch.Tensor]]":
    """The parameters and buffers of a model by name; what lies off the devices is brought there, a module at a time.

    >>> from torch import nn
    >>> [name for name, _ in tensors_of(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    from accelerate.utils import align_module_device

    for name, module in model.named_modules(remove_duplicate=False):
        with align_module_device(module):
            for part, tensor in chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
                yield f"{name}.{part}", tensor


def device_of(accelerator: str) -> "torch.device":
    """The device that Lightning's name of an accelerator stands for.

    Raises:
        ReliabitError: There is none.

    >>> device_of("cpu")
    device(type='cpu')
    """
    import torch

    gpu = torch.cuda.is_available()
    if accelerator not in ("cpu", "gpu", "auto"):
        raise ReliabitError(f"there is no accelerator {accelerator!r}; choose cpu, gpu or auto")
    if accelerator == "gpu" and not gpu:
        raise ReliabitError("this machine has no GPU that torch can use; set trainer.accelerator=cpu")
    return torch.device("cuda" if gpu and accelerator != "cpu" else "cpu")
