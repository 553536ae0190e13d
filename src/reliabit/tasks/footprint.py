"""`task=footprint`: what a model takes under a plan, from its config alone."""

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.models.checkpoint_folder import check_folder
from reliabit.quant.plan import plan_of
from reliabit.tasks._results import next_command, shown_bytes
from reliabit.terminal import show_result


def footprint(config: Config) -> None:
    """Print the bytes and effective bits of a model under a plan, whole and by component."""
    from reliabit.quant import footprint as measure

    check_folder(config.model.folder, family=config.model.known_family)
    if config.quant.is_searched:
        raise ReliabitError(
            f"task=footprint takes a plan, and quant={config.quant.name} finds one; run task=search, and ask with "
            "quant=plan quant.plan=<its file>"
        )
    plan = plan_of(config.quant)
    found = measure(config.model.folder, plan)
    size = found.size
    show_result(
        f"{config.model.path} with quant={config.quant.name}: {size.weights} weights, "
        f"{shown_bytes(size.stored_bytes)} stored, {shown_bytes(size.resident_bytes)} resident, "
        f"{size.effective_bits:.2f} bits a weight, {found.file_bytes} bytes as one file",
        [
            (name, f"{part.weights} weights, {shown_bytes(part.stored_bytes)}")
            for name, part in found.components.items()
        ],
        then=next_command("task=quantize") if plan else next_command("quant=hqq", "quant.bits=4", "task=footprint"),
    )
