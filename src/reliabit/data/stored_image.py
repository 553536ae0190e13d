"""The column type of images: encoded bytes within the table, or a reference to an image store, read when asked for.

Either way a row of the table has the bytes of the image file under `image`, so nothing that reads rows knows which of
the two it is, and tables of both kinds can be joined.
"""

import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from datasets import Features, List, Value
from datasets.features.features import register_feature

from reliabit.data.image_store import read_image
from reliabit.data.question_records import KeptImage

TEXTS = ("question_id", "image_id", "question_type", "answer_type", "source")


@dataclass
class StoredImage:
    """A feature of `datasets`: an encoded image file.

    In Arrow it is a struct; rows show it as bytes.
    """

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
    return Features({"image": StoredImage(), "question": text, "answers": List(text), **dict.fromkeys(TEXTS, text)})


def embedded_schema() -> pa.Schema:
    """The schema of a Parquet file that holds its images, one a row."""
    text = Value("string")
    features = {"image": Value("binary"), "question": text, "answers": List(text), **dict.fromkeys(TEXTS, text)}
    return Features(features).arrow_schema


def referenced_schema() -> pa.Schema:
    """The schema of a Parquet file whose images lie in an image store."""
    image = {"image_position": pa.int64(), "image_length": pa.int64(), "image_sha256": pa.binary()}
    texts = dict.fromkeys(TEXTS, pa.string())
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
