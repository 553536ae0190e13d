"""Checkpoints that are pinned: where a revision of the hub lies on this machine, or whether a folder holds it."""

import re
from pathlib import Path

from reliabit.errors import ReliabitError

SCHEME = "hub:"

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

    Args:
        folder: A checkpoint folder.

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
