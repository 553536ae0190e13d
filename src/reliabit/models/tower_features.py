"""What a frozen vision tower sees of the images that a connector is trained on: computed once, kept on disk.

An image is kept in several *poses*: as it is, and turned, zoomed and mirrored a little, so that a connector that sees
some thousand pictures many times does not learn them by heart. A training step then costs no pass through the tower.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reliabit.data.image_decoding import decode_image
from reliabit.files import replacing
from reliabit.progress import step

if TYPE_CHECKING:
    from datasets import Dataset as Table
    from PIL.Image import Image
    from transformers import PreTrainedModel

    from reliabit.models.encoding import Encoder

CHUNK = 256
"""Poses a file, after which a computation that was cut off goes on."""

BATCH = 16
"""Poses that the tower sees at once."""

SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
"""A question or an answer that says these means another side in a mirror."""

TURN, ZOOM = 12.0, (0.8, 1.15)
"""Degrees to either side, and the range of scales, of a pose."""


@dataclass(frozen=True)
class PicturedQuestions:
    """The questions about one image of a table.

    Attributes:
        row: A row that has the image.
        rows: The questions, without it.
        mirrored: Whether the image may be mirrored: no question tells left from right.
    """

    row: int
    rows: list[dict[str, Any]]
    mirrored: bool


def pictured_questions(table: "Table") -> list[PicturedQuestions]:
    """Gather the questions of each image of a VQA table, in table order, without opening an image."""
    groups: dict[str, PicturedQuestions] = {}
    for number, row in enumerate(table.remove_columns("image")):
        found = groups.setdefault(row["image_id"], PicturedQuestions(row=number, rows=[], mirrored=True))
        found.rows.append(row)
    return [
        PicturedQuestions(group.row, group.rows, mirrored=not any(_tells_sides(row) for row in group.rows))
        for group in groups.values()
    ]


def posed(image: "Image", *, rng: np.random.Generator, mirrored: bool) -> "Image":
    """Turn, zoom and shift an image a little, on white, and mirror every other one where that is allowed.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> posed(Image.new("RGB", (20, 10), "red"), rng=np.random.default_rng(0), mirrored=True).size
        (20, 10)
    """
    from PIL.Image import Resampling, Transform, Transpose

    if rng.random() < 0.5 and mirrored:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    angle, scale = np.deg2rad(rng.uniform(-TURN, TURN)), rng.uniform(*ZOOM)
    width, height = image.size
    shift = rng.uniform(-0.06, 0.06, size=2) * (width, height)
    # From each point of the result back to one of the image, about the centre.
    back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    centre = np.array([width, height]) / 2
    origin = centre - back @ (centre + shift)
    coefficients = (back[0, 0], back[0, 1], origin[0], back[1, 0], back[1, 1], origin[1])
    return image.transform(
        image.size, Transform.AFFINE, coefficients, resample=Resampling.BICUBIC, fillcolor=(255, 255, 255)
    )


@dataclass(frozen=True)
class TowerFeatures:
    """The tower's features of every pose of every image: `[images * poses, patches, width]`, float16, in files."""

    chunks: list[np.ndarray]
    poses: int

    def __getitem__(self, at: tuple[int, int]) -> torch.Tensor:
        """The features of an image in a pose, `[patches, width]`, float32."""
        image, pose = at
        chunk, row = divmod(image * self.poses + pose, CHUNK)
        return torch.from_numpy(self.chunks[chunk][row].astype(np.float32))

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean, and mean of the squares, of each channel over all patches, `[width]` each, float64."""
        count, total, squares = 0, 0.0, 0.0
        for chunk in self.chunks:
            values = chunk.astype(np.float64).reshape(-1, chunk.shape[-1])
            count, total, squares = count + len(values), total + values.sum(0), squares + np.square(values).sum(0)
        return torch.from_numpy(np.asarray(total / count)), torch.from_numpy(np.asarray(squares / count))


def see_poses(
    table: "Table",
    groups: Sequence[PicturedQuestions],
    *,
    model: "PreTrainedModel",
    encoder: "Encoder",
    poses: int,
    seed: int,
    folder: Path,
    shown: bool,
) -> TowerFeatures:
    """Run the tower over every pose of a table's images, unless the files are there already.

    Args:
        table: The table that has the images.
        groups: Its images.
        model: An Idefics3 model, whose `post_layernorm` leaves features as they are normalized.
        encoder: Encodes images for it.
        poses: Poses an image, of which the first is the image as it is.
        seed: Draws the others.
        folder: Where the files are kept; named after all that decides what is in them.
        shown: Whether to show how far it is.
    """
    total = len(groups) * poses
    files = [folder / f"{start}.npy" for start in range(0, total, CHUNK)]
    with step("seeing images", total=total, unit="poses", shown=shown) as done:
        for start, file in zip(range(0, total, CHUNK), files, strict=True):
            numbers = range(start, min(start + CHUNK, total))
            if not file.is_file():
                features = list(_seen(_drawn(numbers, table, groups, poses=poses, seed=seed), model, encoder))
                with replacing(file) as unfinished, unfinished.open("wb") as out:
                    np.save(out, np.concatenate(features), allow_pickle=False)
            done.advance(len(numbers))
    return TowerFeatures([np.load(file, mmap_mode="r", allow_pickle=False) for file in files], poses)


def _drawn(
    numbers: range, table: "Table", groups: Sequence[PicturedQuestions], *, poses: int, seed: int
) -> "Iterator[Image]":
    for number in numbers:
        position, pose = divmod(number, poses)
        group = groups[position]
        row = table[group.row]
        image = decode_image(row["image"], item=f"image {row['image_id']!r} of {row['source']}").convert("RGB")
        yield posed(image, rng=np.random.default_rng([seed, number]), mirrored=group.mirrored) if pose else image


@torch.no_grad()
def _seen(images: "Iterator[Image]", model: "PreTrainedModel", encoder: "Encoder") -> Iterator[np.ndarray]:
    waiting = list(images)
    tower: Any = model
    for start in range(0, len(waiting), BATCH):
        encoded = encoder.adapter.encode_images(encoder.processor, waiting[start : start + BATCH])
        pixels = encoded.tensors["pixel_values"].flatten(0, 1)
        yield tower.model.vision_model(pixel_values=pixels).last_hidden_state.numpy().astype(np.float16)


def _tells_sides(row: dict[str, Any]) -> bool:
    return any(SIDES.search(text) for text in (row["question"], *row["answers"]))
