"""Numbers that are not finite: told apart from answers at the first batch, with the place where they begin."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reliabit.errors import NotFiniteError

HALF_REMEDY = "set model.dtype=bfloat16 or model.dtype=float32"
REMEDY = "its weights are damaged or not what its config.json says, or too few bits are left of them (quant.bits)"


class _FoundError(Exception):
    """Ends a pass at the module that was looked for."""


def is_finite(found: object) -> bool:
    """Whether all floating-point numbers in what a model gave are finite.

    >>> is_finite([{"answer": "two", "log_prob": -0.5}]), is_finite({"scores": (1.0, float("nan"))})
    (True, False)
    """
    if isinstance(found, Tensor):
        return not found.is_floating_point() or bool(torch.isfinite(found).all())
    if isinstance(found, float):
        # NaN is not even itself.
        return found - found == 0
    if isinstance(found, Mapping):
        return all(is_finite(value) for value in found.values())
    return not isinstance(found, list | tuple) or all(is_finite(value) for value in found)


def overflow(model: Any, compute: Callable[[], object], *, questions: Iterable[str]) -> NotFiniteError:
    """What to say of a batch whose numbers are not finite.

    Args:
        model: The model of transformers that gave them.
        compute: Computes the batch again; it is stopped where the numbers begin.
        questions: The questions of the batch that it concerns.
    """
    names, dtype, place = list(questions), str(model.dtype).removeprefix("torch."), first_overflow(model, compute)
    where = "" if place is None else f", from {place} on"
    return NotFiniteError(
        f"the model's numbers are not finite in {dtype}{where}, for {len(names)} questions of a batch, "
        f"{', '.join(names[:1])} among them; {HALF_REMEDY if model.dtype == torch.float16 else REMEDY}"
    )


def first_overflow(model: nn.Module, compute: Callable[[], object]) -> str | None:
    """The first module whose output is not finite, in the order of computing, or None where there is none.

    Args:
        model: The model; what is inside a module comes before the module.
        compute: Runs it.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> _ = nn.init.constant_(model[1].bias, float("inf"))
        >>> first_overflow(model, lambda: model(torch.ones(1, 2)))
        '1'
    """
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if not is_finite(output):
                found.append(name)
                raise _FoundError

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules()]
    try:
        compute()
    except (_FoundError, NotFiniteError):
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
