"""The questions that a configuration names."""

from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import DataConfig
from reliabit.data.prepare import load_split, prepare
from reliabit.data.sources import SourceSpec
from reliabit.data.table import first_images
from reliabit.errors import ReliabitError
from reliabit.metrics import one_per_image

if TYPE_CHECKING:
    from datasets import Dataset


def source_spec(data: DataConfig) -> SourceSpec:
    """What decides the content of the prepared table."""
    return SourceSpec(
        name=data.name,
        splits=dict(data.splits),
        seed=data.seed,
        root=data.root,
        questions_per_image=data.questions_per_image,
    )


def load_questions(data: DataConfig, *, root: Path) -> "dict[str, Dataset]":
    """The questions to ask, by split, prepared first where they are not yet.

    Raises:
        ReliabitError: The data cannot be prepared, or there is nothing to ask.
    """
    folder = prepare(source_spec(data), root=root)
    asked = {
        split: first_images(load_split(folder, split), images) for split, images in data.ask.items() if images != 0
    }
    for split in data.one_question_an_image:
        if split in asked:
            asked[split] = asked[split].select(one_per_image(asked[split]["image_id"], seed=data.seed))
    if not asked:
        raise ReliabitError(f"data.ask={data.ask} asks nothing; name at least one split with a number of images")
    return asked
