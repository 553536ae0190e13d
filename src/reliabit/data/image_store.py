"""An image store: the encoded images of a split, one after another, in a plain tar file.

A question refers to its image by position, length and digest, so five questions share one copy, an image is read
without reading anything else, and what was read is checked. Being a tar file, it can be looked into with any tool.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reliabit.data.question_records import KeptImage
from reliabit.errors import ReliabitError

_BLOCK = tarfile.BLOCKSIZE


def images_file(split: str) -> str:
    """The name of the image store of a split.

    >>> images_file("dev")
    'dev.images.tar'
    """
    return f"{split}.images.tar"


class ImageStore:
    """A tar file that is being written; `tarfile` itself would remember every member."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to a file; see `create`."""
        self._file = file
        self._count = 0

    @classmethod
    @contextmanager
    def create(cls, path: Path) -> Iterator["ImageStore"]:
        """Open a new store, and end it properly.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> with TemporaryDirectory() as folder:
            ...     path = Path(folder, "dev.images.tar")
            ...     with ImageStore.create(path) as store:
            ...         kept = store.add(b"one"), store.add(b"two")
            ...     [read_image(path, image) for image in kept]
            [b'one', b'two']
        """
        with path.open("wb") as file:
            yield cls(file)
            file.write(bytes(2 * _BLOCK))

    def add(self, encoded: bytes) -> KeptImage:
        """Append an image; where it lies."""
        member = tarfile.TarInfo(f"{self._count:08d}{_suffix(encoded)}")
        member.size, member.mode = len(encoded), 0o644
        self._file.write(member.tobuf(tarfile.USTAR_FORMAT))
        position = self._file.tell()
        self._file.write(encoded)
        self._file.write(bytes(-len(encoded) % _BLOCK))
        self._count += 1
        return KeptImage(position=position, length=len(encoded), sha256=hashlib.sha256(encoded).digest())


def read_image(store: Path, image: KeptImage) -> bytes:
    """Read one image of a store.

    Raises:
        ReliabitError: The store is missing, or holds something else there.
    """
    try:
        with store.open("rb") as file:
            file.seek(image.position)
            encoded = file.read(image.length)
    except OSError as error:
        raise ReliabitError(f"the image store {store} cannot be read ({error.strerror}); {_REMEDY}") from error
    if hashlib.sha256(encoded).digest() != image.sha256:
        raise ReliabitError(f"the image store {store} is not the one that was written; {_REMEDY}")
    return encoded


_REMEDY = "delete its folder and run task=prepare again"

_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}


def _suffix(encoded: bytes) -> str:
    return next((suffix for start, suffix in _SIGNATURES.items() if encoded.startswith(start)), "")
