"""What pictures are like, in numbers that cost next to nothing, to slice questions by: size, brightness, and so on.

They are computed once an image and kept beside the prepared table, so that they need no column of it, and results of
any age can be sliced by them: a result tells the digest of the split that was asked.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reliabit.data.image_decoding import decode_image, image_size
from reliabit.data.prepared_table import find_table, load_split
from reliabit.data.splits import image_key
from reliabit.files import write_text

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1
"""To be counted up when the same image would get other statistics."""

_SIDE = 256
"""Larger images are brought to this side first: what they look like does not hang on more pixels."""

_BITS = 4
"""Of a channel, by which colors are told apart."""

_EDGE = 0.1
"""From so large a step of luma on, of a range of 1, there is an edge."""

NAMES: Mapping[str, tuple[str, str, str]] = {
    "size": ("small", "medium", "large"),
    "brightness": ("dark", "medium", "bright"),
    "contrast": ("low", "medium", "high"),
    "colors": ("few", "medium", "many"),
    "edges": ("few", "medium", "many"),
}
"""What the lower, middle and upper third of images are called, by statistic."""

PREFIX = "image_"
"""Columns are called `image_size`, `image_brightness`, ..."""


@dataclass(frozen=True)
class ImageStatistics:
    """What one image is like.

    Attributes:
        size: Pixels of the file.
        brightness: Mean luma (ITU-R BT.601), from 0 to 1.
        contrast: Standard deviation of luma ("RMS contrast"), from 0 to 0.5.
        colors: Different colors, told apart by 4 bits a channel.
        edges: Share of pixels from which luma steps by a tenth of its range or more to the next one right or below.
    """

    size: float
    brightness: float
    contrast: float
    colors: float
    edges: float


def statistics_of(encoded: bytes, *, item: str) -> ImageStatistics:
    """The statistics of an image file.

    Args:
        encoded: The bytes of the file.
        item: What the image belongs to, for the error message.

    Raises:
        ReliabitError: It does not decode.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> picture, file = Image.new("RGB", (8, 4), (255, 255, 255)), BytesIO()
        >>> picture.paste((0, 0, 0), (0, 0, 4, 4))
        >>> picture.save(file, format="PNG")
        >>> statistics_of(file.getvalue(), item="the example")
        ImageStatistics(size=32.0, brightness=0.5, contrast=0.5, colors=2.0, edges=0.125)
    """
    width, height = image_size(encoded, item=item)
    image = decode_image(encoded, item=item)
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), reducing_gap=2.0)
    return ImageStatistics(size=float(width * height), **_seen(image))


def _seen(image: "Image") -> dict[str, float]:
    pixels = np.asarray(image, dtype=np.uint8)
    luma = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    across = np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    down = np.abs(np.diff(luma, axis=0, append=luma[-1:]))
    coarse = (pixels >> (8 - _BITS)).astype(np.int64) @ np.array([1, 2**_BITS, 4**_BITS])
    return {
        "brightness": round(float(luma.mean()), 6),
        "contrast": round(float(luma.std()), 6),
        "colors": float(len(np.unique(coarse))),
        "edges": round(float((np.maximum(across, down) >= _EDGE).mean()), 6),
    }


def statistics_of_split(root: Path, *, split: str, sha256: str) -> dict[str, ImageStatistics] | None:
    """The statistics of every image of a split, by `image_key`.

    Args:
        root: The folder of prepared tables.
        split: Which split.
        sha256: The digest of the file that it was asked from; a run has it among its inputs.

    Returns:
        None where no table there holds this split.

    Raises:
        ReliabitError: An image does not decode, or the split is not the one that was written.
    """
    folder = find_table(root, split=split, sha256=sha256)
    if folder is None:
        return None
    kept = folder.with_name(f"{folder.name}.{split}.image_statistics.json")
    identity = {"version": VERSION, "sha256": sha256}
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["of"] == identity:
            return {key: ImageStatistics(*values) for key, values in found["images"].items()}
    table = load_split(folder, split)
    known: dict[str, ImageStatistics] = {}
    first_rows: dict[str, int] = {}
    for row, key in enumerate(map(image_key, table["source"], table["image_id"])):
        first_rows.setdefault(key, row)
    images = table.select(list(first_rows.values())).select_columns(["image"])
    for key, row in zip(first_rows, images, strict=True):
        known[key] = statistics_of(row["image"], item=f"image {key}")
    # Whoever may not write there computes them anew.
    with suppress(OSError):
        write_text(kept, json.dumps({"of": identity, "images": {key: astuple(one) for key, one in known.items()}}))
    return known


def image_columns(images: Sequence[str], statistics: Mapping[str, ImageStatistics]) -> dict[str, list[str]]:
    """A column for each statistic that varies, with the third of images that each question's image is in.

    Args:
        images: The image of each question, as `image_key` has it.
        statistics: Those of every image, and of others.

    Returns:
        By column a name a question; none where an image is unknown.

    >>> grey = [ImageStatistics(64.0, shade, 0.0, 1.0, 0.0) for shade in (0.1, 0.5, 0.9)]
    >>> image_columns(["a", "c", "b"], dict(zip("abc", grey)))
    {'image_brightness': ['dark', 'bright', 'medium']}
    """
    unique = list(dict.fromkeys(images))
    if not unique or any(key not in statistics for key in unique):
        return {}
    columns = {}
    for entry in fields(ImageStatistics):
        values = [float(getattr(statistics[key], entry.name)) for key in unique]
        names = dict(zip(unique, thirds(values, NAMES[entry.name]), strict=True))
        if len(set(names.values())) > 1:
            columns[f"{PREFIX}{entry.name}"] = [names[key] for key in images]
    return columns


def thirds(values: Sequence[float], names: tuple[str, str, str]) -> list[str]:
    """Which third each value is in; equal values are in one.

    >>> thirds([1, 2, 3, 4, 5, 6], ("low", "medium", "high"))
    ['low', 'low', 'medium', 'medium', 'high', 'high']
    >>> thirds([7, 7, 7, 9], ("low", "medium", "high"))
    ['low', 'low', 'low', 'high']
    """
    cuts = np.quantile(values, [1 / 3, 2 / 3])
    return [names[int(np.searchsorted(cuts, value))] for value in values]
