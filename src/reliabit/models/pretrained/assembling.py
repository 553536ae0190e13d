"""The assembled model: a checkpoint folder made of pretrained packages and the learned part, whole or not at all."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import MANIFEST, check_manifest, read_manifest, replacing, sha256, staged_folder, write_manifest
from reliabit.models.checkpoint_folder import GENERATION
from reliabit.models.pretrained.card import model_card
from reliabit.models.pretrained.decoder import Decoder
from reliabit.models.pretrained.design import DESIGN, Design
from reliabit.models.pretrained.learned import FILE, RESTORE, Learned, check_learned, load_learned, save_learned
from reliabit.models.pretrained.packages import INSTALL, check_installed, read_parts
from reliabit.models.pretrained.tower import Tower
from reliabit.paths import models_folder
from reliabit.quant.record import CONFIG

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

NAME = "idefics3_smollm2"
"""Of the model, and of its folder."""

WEIGHTS, CARD = "model.safetensors", "README.md"
TRAINING = "training.json"
"""What the training says of itself, beside the learned part."""

ASSEMBLED = "assembled_sha256"
"""The fact of the learned part's manifest that says what the assembled weights have to be."""

LEARNED = "learned_sha256"
"""The fact of an assembled folder's manifest that says of which learned part it was made."""

DISK, MEMORY = 400 * 10**6, 2.5e9
"""Bytes that the folder takes while it is written, and that the process takes at its peak."""


def publish(
    tensors: "Mapping[str, torch.Tensor]", folder: Path, *, decoder: Decoder, tower: Tower, design: Design = DESIGN
) -> Learned:
    """Write a learned part with the digest of the weights that are assembled of it; see `save_learned`."""
    learned = save_learned(tensors, folder)
    weights = _serialized(_joined(decoder, tower, learned, design))
    return save_learned(tensors, folder, **{ASSEMBLED: hashlib.sha256(weights).hexdigest()})


def check_assembling(folder: Path, *, parts: Path, design: Design = DESIGN) -> None:
    """Check what can be checked before anything heavy: the packages, the learned part, the folder, and the room.

    Raises:
        ReliabitError: Something is missing, or the folder holds something else.
    """
    check_learned(parts)
    if is_current(folder, parts=parts):
        return
    if folder.exists() and not (folder.is_dir() and (_of_learned(folder) or not any(folder.iterdir()))):
        raise ReliabitError(f"{folder} holds something else than an assembled model; move it away, or name another")
    check_installed(design)
    _check_room(folder)


def assemble(folder: Path, *, parts: Path, design: Design = DESIGN) -> bool:
    """Assemble a model, unless the folder holds it already.

    Args:
        folder: Where it goes.
        parts: The folder of the learned part.
        design: What it is assembled of.

    Returns:
        Whether it was assembled.

    Raises:
        ReliabitError: A package or the learned part is missing or altered, or what came out is not what was trained.
    """
    expected = check_learned(parts).get(ASSEMBLED)
    if is_current(folder, parts=parts) and _is_whole(folder):
        # What the training says of itself may have changed since.
        _write_card(folder, parts=parts, design=design)
        return False
    check_assembling(folder, parts=parts, design=design)
    learned = load_learned(parts)
    decoder, tower = read_parts(design)
    with staged_folder(folder) as staging:
        _write(staging, decoder=decoder, tower=tower, learned=learned, design=design)
        found = sha256(staging / WEIGHTS)
        if found != expected:
            raise ReliabitError(
                f"what was assembled has the SHA-256 {found}, and {parts / MANIFEST} says {expected}; the learned "
                f"part is of another version of Reliabit: {RESTORE}"
            )
        files = sorted(staging.iterdir())
        _write_card(staging, parts=parts, design=design)
        write_manifest(staging, files, **{LEARNED: sha256(parts / FILE)})
    return True


def is_current(folder: Path, *, parts: Path) -> bool:
    """Whether a folder says that it was assembled of the learned part that there is."""
    made_of = _of_learned(folder)
    try:
        return made_of is not None and made_of == read_manifest(parts, remedy=RESTORE)["files"].get(FILE)
    except DamagedError:
        return False


def check_assembled(folder: Path, *, parts: Path) -> None:
    """Check that a model that is asked for was assembled, of the learned part that there is.

    Raises:
        ReliabitError: It was not.
    """
    if not (folder / CONFIG).is_file():
        raise ReliabitError(f"{folder} is not assembled yet; {INSTALL}, or name another folder")
    if _of_learned(folder) is not None and parts.is_dir() and not is_current(folder, parts=parts):
        raise ReliabitError(f"{folder} was assembled of another learned part than {parts} holds; {INSTALL} again")


def describe_state(root: Path) -> str:
    """Whether the model of a project's folder is assembled, as a sentence; its weights are not looked into."""
    folder = root / "models" / NAME
    try:
        check_assembled(folder, parts=models_folder() / f"{NAME}_parts")
    except ReliabitError as missing:
        return str(missing)
    return f"{folder} is assembled"


def _of_learned(folder: Path) -> str | None:
    """The learned part that a folder was assembled of, if it was assembled."""
    try:
        return read_manifest(folder, remedy=INSTALL).get(LEARNED)
    except DamagedError:
        return None


def _is_whole(folder: Path) -> bool:
    try:
        check_manifest(folder, remedy=INSTALL)
    except DamagedError:
        return False
    return True


def _check_room(folder: Path) -> None:
    import psutil

    above = next(path for path in folder.absolute().parents if path.exists())
    free, available = shutil.disk_usage(above).free, psutil.virtual_memory().available
    if free < DISK:
        raise ReliabitError(
            f"assembling {folder} takes {DISK // 10**6} MB, and {above} has {free // 10**6} MB free; make room there"
        )
    if available < MEMORY:
        raise ReliabitError(
            f"assembling {folder} takes {MEMORY / 10**9:g} GB of memory, and {available / 10**9:.1f} GB are free; end "
            "other programs first"
        )


def _joined(decoder: Decoder, tower: Tower, learned: Learned, design: Design) -> "dict[str, NDArray[np.float16]]":
    from reliabit.models.pretrained.joining import join_weights

    return join_weights(decoder, tower, learned, design=design)


def _serialized(weights: "dict[str, NDArray[np.float16]]") -> bytes:
    """A file of weights as transformers writes and reads it."""
    from safetensors.numpy import save

    return save(weights, metadata={"format": "pt"})


def _write(folder: Path, *, decoder: Decoder, tower: Tower, learned: Learned, design: Design) -> None:
    from reliabit.models.families import find_adapter
    from reliabit.models.pretrained.joining import build_config, build_generation_config, build_processor

    config = build_config(decoder, tower, design=design)
    config.save_pretrained(folder)
    build_generation_config(config).save_pretrained(folder)
    for name in (CONFIG, GENERATION):
        _leave_out_version(folder / name)
    find_adapter(config.model_type).save_processor(build_processor(decoder, tower, design=design), folder)
    (folder / WEIGHTS).write_bytes(_serialized(_joined(decoder, tower, learned, design)))


def _leave_out_version(path: Path) -> None:
    """Leave out which transformers wrote a file, so that the next version writes the same."""
    written = json.loads(path.read_text(encoding="utf-8"))
    written.pop("transformers_version", None)
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_card(folder: Path, *, parts: Path, design: Design) -> None:
    text = model_card(_training(parts), design)
    if not (folder / CARD).is_file() or (folder / CARD).read_text(encoding="utf-8") != text:
        with replacing(folder / CARD) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def _training(parts: Path) -> dict[str, Any]:
    """What the training says of itself; nothing where it said nothing."""
    path = parts / TRAINING
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{path} is no JSON ({error})", remedy=RESTORE) from error
    return found if isinstance(found, dict) else {}
