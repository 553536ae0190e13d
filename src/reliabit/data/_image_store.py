"""How a table holds its images: as encoded bytes within it, or in an image store beside it, read when asked for.

An image store is a plain tar file: the encoded images of a split, one after another. A question refers to its image by
position, length and digest, so five questions share one copy, an image is read without reading anything else, and what
was read is checked. Either way a row of the table has the bytes of the image file under `image`, so nothing that reads
rows knows which of the two it is, and tables of both kinds can be joined.
"""

import hashlib
import tarfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
from datasets import Features, List, Value
from datasets.features.features import register_feature

from reliabit.data.question_index import KeptImage
from reliabit.errors import ReliabitError

_BLOCK = tarfile.BLOCKSIZE
_REMEDY = "delete its folder and run task=prepare again"
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}

_TEXTS = ("question_id", "image_id", "question_type", "answer_type", "source")


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


def _suffix(encoded: bytes) -> str:
    return next((suffix for start, suffix in _SIGNATURES.items() if encoded.startswith(start)), "")


@dataclass
class StoredImage:
    """A feature of `datasets`: an encoded image file, which is a struct in Arrow and bytes in rows."""

    dtype: ClassVar[str] = "bytes"
    pa_type: ClassVar[pa.StructType] = pa.struct(
        {
            "bytes": pa.binary(),
            "store": pa.string(),
            "position": pa.int64(),
            "length": pa.int64(),
            "sha256": pa.binary(),
        }
    )
    _type: str = field(default="StoredImage", init=False, repr=False)

    def __call__(self) -> pa.StructType:
        """The type in Arrow."""
        return self.pa_type

    def encode_example(self, value: bytes | dict[str, Any]) -> dict[str, Any]:
        """What is stored for an image that is given as bytes."""
        return value if isinstance(value, dict) else {**dict.fromkeys(f.name for f in self.pa_type), "bytes": value}

    def decode_example(self, value: dict[str, Any], token_per_repo_id: object = None) -> bytes:
        """The bytes of an image, read from its store if that is where it lies.

        Raises:
            ReliabitError: The store is missing or was changed.
        """
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        kept = KeptImage(position=value["position"], length=value["length"], sha256=value["sha256"])
        return read_image(Path(value["store"]), kept)


@cache
def table_features() -> Features:
    """The schema of the VQA table; see `reliabit.data.table.vqa_features`."""
    with warnings.catch_warnings():
        # It says that it is experimental.
        warnings.simplefilter("ignore", UserWarning)
        register_feature(StoredImage, "StoredImage")
    text = Value("string")
    return Features({"image": StoredImage(), "question": text, "answers": List(text), **dict.fromkeys(_TEXTS, text)})


def embedded_schema() -> pa.Schema:
    """The schema of a Parquet file that holds its images, one a row."""
    text = Value("string")
    features = {"image": Value("binary"), "question": text, "answers": List(text), **dict.fromkeys(_TEXTS, text)}
    return Features(features).arrow_schema


def referenced_schema() -> pa.Schema:
    """The schema of a Parquet file whose images lie in an image store."""
    image = {"image_position": pa.int64(), "image_length": pa.int64(), "image_sha256": pa.binary()}
    texts = dict.fromkeys(_TEXTS, pa.string())
    return pa.schema({**image, "question": pa.string(), "answers": pa.list_(pa.string()), **texts})


def with_embedded_images(table: pa.Table) -> pa.Table:
    """The VQA table of a Parquet file of `embedded_schema`."""
    return _with_images(table.cast(embedded_schema()), children={"bytes": "image"}, store=None)


def with_stored_images(table: pa.Table, *, store: Path) -> pa.Table:
    """The VQA table of a Parquet file of `referenced_schema`."""
    children = {"position": "image_position", "length": "image_length", "sha256": "image_sha256"}
    return _with_images(table, children=children, store=str(store))


def _with_images(table: pa.Table, *, children: dict[str, str], store: str | None) -> pa.Table:
    """Make the column `image` of the columns that are its children, batch by batch, so that nothing is copied."""
    schema = table_features().arrow_schema

    def images(batch: pa.RecordBatch) -> pa.StructArray:
        parts = {name: batch.column(column) for name, column in children.items()}
        parts["store"] = pa.repeat(pa.scalar(store, pa.string()), len(batch))
        every = [parts.get(child.name, pa.nulls(len(batch), child.type)) for child in StoredImage.pa_type]
        return pa.StructArray.from_arrays(every, fields=list(StoredImage.pa_type))

    batches = [
        pa.RecordBatch.from_arrays(
            [images(batch) if name == "image" else batch.column(name) for name in schema.names], names=schema.names
        )
        for batch in table.to_batches()
    ]
    return (
        pa.Table.from_batches(batches, schema=schema.remove_metadata()).cast(schema)
        if batches
        else schema.empty_table()
    )
