"""Checkpoint folders: where a revision of the hub lies on this machine, and whether a folder is what it should be.

Nothing here takes torch or transformers.
"""

import re
from pathlib import Path

from reliabit.errors import ReliabitError
from reliabit.models.llama_cpp.found import check_no_gguf
from reliabit.quant.record import CONFIG, check_format, read_config, read_json

SCHEME = "hub:"

GENERATION = "generation_config.json"

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
"""The files of a checkpoint; weights that are pickled are never fetched."""


def is_pinned(path: str, *, revision: str | None) -> bool:
    """Whether there is something to find or to check.

    >>> is_pinned("models/qwen2_vl_tiny", revision=None), is_pinned("hub:Qwen/Qwen2-VL-7B-Instruct", revision=None)
    (False, True)
    """
    return path.startswith(SCHEME) or revision is not None


def check_pin(path: str, *, revision: str | None) -> None:
    """Check that a checkpoint of the hub is pinned to one commit.

    Raises:
        ReliabitError: It is not.
    """
    if path.startswith(SCHEME) and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ReliabitError(f"model.path={path} needs model.revision, a whole commit of the hub, and it is {revision}")


def find_checkpoint(path: str, *, revision: str | None, download: bool) -> Path:
    """The folder of a pinned checkpoint.

    Args:
        path: `hub:<organization>/<name>`, or a folder.
        revision: The commit that it must be; for a folder `None` accepts any.
        download: Whether it may be fetched from the hub; otherwise it must be in the local cache.

    Raises:
        ReliabitError: It is not there, is another revision, or does not say which one it is.
    """
    if path.startswith(SCHEME):
        check_pin(path, revision=revision)
        return _snapshot(path.removeprefix(SCHEME), revision=revision, download=download)
    folder = Path(path)
    if revision is not None and folder.is_dir():
        _check_revision(folder, revision=revision)
    return folder


def revision_of(folder: Path) -> str | None:
    """The commit that a folder says it is, or `None` where it does not say.

    The hub's client leaves it in one of two places: in the folder's own name, in its cache, or in the notes that it
    keeps below a folder that it downloaded to.

    >>> revision_of(Path("hub/models--a--b/snapshots/0123456789abcdef0123456789abcdef01234567"))
    '0123456789abcdef0123456789abcdef01234567'
    """
    if folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return folder.name
    note = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    if not note.is_file():
        return None
    first = note.read_text(encoding="utf-8").partition("\n")[0].strip()
    return first or None


def _check_revision(folder: Path, *, revision: str) -> None:
    found = revision_of(folder)
    if found is None:
        raise ReliabitError(
            f"model.path={folder} does not say which revision it is, and model.revision={revision}; set "
            "model.revision=null to take it as it is"
        )
    if found != revision:
        raise ReliabitError(
            f"model.path={folder} is the revision {found}, and model.revision={revision}; fetch that one, or pin the "
            "other"
        )


def _snapshot(repository: str, *, revision: str | None, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository, revision=revision, local_files_only=not download, allow_patterns=list(PATTERNS)
            )
        )
    except LocalEntryNotFoundError as error:
        remedy = "see that the hub can be reached" if download else "set model.download=true to fetch it"
        raise ReliabitError(
            f"{repository} at the revision {revision} is not in the local cache of the hub; {remedy}, or set "
            "model.path to its folder"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ReliabitError(f"{repository} at the revision {revision} cannot be fetched: {reason}") from error


def check_checkpoint(folder: Path, *, family: str) -> None:
    """Check that a folder is a checkpoint of a family with all its shards whole, before anything of it is loaded.

    Raises:
        ReliabitError: It is not.
    """
    from reliabit.quant.checkpoint_files import check_shards, weight_files

    check_folder(folder, family=family)
    _check_generation(folder)
    check_shards(weight_files(folder))


def _check_generation(folder: Path) -> None:
    """Check what ends an answer: transformers passes over a damaged file, and answers would end elsewhere."""
    path = folder / GENERATION
    if not path.is_file():
        return
    found = read_json(path)
    ends = found.get("eos_token_id") if isinstance(found, dict) else path
    listed = ends if isinstance(ends, list) else [ends]
    if not all(end is None or type(end) is int for end in listed):
        raise ReliabitError(f"{path} does not say which tokens end an answer; fetch it again, or delete it")


def check_folder(folder: Path, *, family: str) -> None:
    """Check that a folder describes a model of a family that can be read here, whatever weights it holds.

    Raises:
        ReliabitError: It is not.
    """
    check_no_gguf(folder)
    if not (folder / CONFIG).is_file():
        raise ReliabitError(f"model.path={folder} is not a checkpoint folder (it has no {CONFIG}); correct the path")
    config = read_config(folder)
    if config.get("model_type") != family:
        raise ReliabitError(
            f"the checkpoint {folder} is of the family {config.get('model_type')!r}, and model.family={family}"
        )
    if "auto_map" in config:
        raise ReliabitError(f"the checkpoint {folder} wants to run code of its own (auto_map), which is never done")
    if "transformers_weights" in config:
        raise ReliabitError(
            f"the config.json of the checkpoint {folder} names a file of weights (transformers_weights), which is "
            "never followed; name that file model.safetensors"
        )
    check_format(config, folder=folder)
