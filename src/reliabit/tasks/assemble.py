"""`task=assemble`: make a model of pretrained parts that public packages ship, and of what was learned to join them."""

from reliabit.config import Config
from reliabit.files import sha256
from reliabit.models.pretrained.assembling import WEIGHTS
from reliabit.models.pretrained.assembling import assemble as assemble_folder
from reliabit.tasks._results import next_command, shown_bytes
from reliabit.terminal import show_result, shown_path


def assemble(config: Config) -> None:
    """Write the model to `model.path`, unless it is there, and say what it is.

    Raises:
        ReliabitError: It cannot be assembled; see `reliabit.models.pretrained.assembling.assemble`.
    """
    folder = config.model.folder
    made = assemble_folder(folder, parts=config.model.learned_part())
    weights = folder / WEIGHTS
    show_result(
        f"{config.model.name} {'is assembled' if made else 'was assembled already'}: {shown_path(folder)}",
        [("weights", f"{shown_bytes(weights.stat().st_size)}, sha256 {sha256(weights)}")],
        then=next_command("quant.bits=4"),
    )
