"""The questions that a configuration names."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.shifts import apply_shift, parse_shift
from reliabit.data.sources import DataConfig
from reliabit.data.splits import image_key, images_of
from reliabit.data.table import first_images
from reliabit.errors import ReliabitError
from reliabit.inference.predictions import NO_SHIFT
from reliabit.metrics import one_per_image

if TYPE_CHECKING:
    from datasets import Dataset


TRAINING_SPLIT, CHOOSING_SPLIT = "dev", "val"
"""The split that trains confidence estimators (asked only where one is trained), and the one that chooses them."""

SHIFTED_SPLIT = "test"


def load_questions(config: Config, *, training: bool) -> "Dataset":
    """Everything that is asked, in one table, prepared first where it is not yet.

    Args:
        config: Which splits, shifts and other data sets.
        training: Whether an estimator is trained, so that the training split is asked as well.

    Returns:
        A VQA table with the columns `split` and `shift`, the splits as they are first.

    Raises:
        ReliabitError: The data cannot be prepared, there is nothing to ask, or nothing to train an estimator on.
    """
    from datasets import concatenate_datasets

    check_asked(config, training=training)
    splits = [split for split in _asked_splits(config.data) if training or split != TRAINING_SPLIT]
    return concatenate_datasets([*_splits(config, splits), *_shifted(config), *_other_data(config)])


def check_asked(config: Config, *, training: bool) -> None:
    """Check that something is asked, and what estimators are trained on where one is trained.

    Raises:
        ReliabitError: It is not.
    """
    asked = _asked_splits(config.data)
    missing = [split for split in (TRAINING_SPLIT, CHOOSING_SPLIT) if training and split not in asked]
    if missing:
        raise ReliabitError(
            f"confidence={config.confidence.name} is trained on the split {TRAINING_SPLIT} and chosen on "
            f"{CHOOSING_SPLIT}, and data.ask leaves out {' and '.join(missing)}; ask them, or set confidence=maxprob"
        )
    if not ({*asked} - {TRAINING_SPLIT} or training or config.data.shifts or config.other_data):
        raise ReliabitError(f"data.ask={config.data.ask} asks nothing; name at least one split with a number of images")
    shifted = {f"other_data.{name}": data for name, data in config.other_data.items()}
    for name, data in (shifted | ({"data": config.data} if config.data.shifts else {})).items():
        if not data.splits.get(SHIFTED_SPLIT):
            raise ReliabitError(
                f"{name}.splits has no images in {SHIFTED_SPLIT}, which is asked as a shift; give it some, or ask none "
                "(data.shifts=[], no other_data)"
            )


def prepared_split(config: Config, data: DataConfig, split: str) -> "Dataset":
    """One split of a data source, prepared first where it is not yet."""
    return load_split(prepare(data, root=Path(config.paths.data)), split)


def _asked_splits(data: DataConfig) -> list[str]:
    return [split for split, images in data.ask.items() if images != 0 and data.splits.get(split)]


def _splits(config: Config, splits: Sequence[str]) -> "Iterator[Dataset]":
    data = config.data
    for split in splits:
        table = first_images(prepared_split(config, data, split), data.ask[split])
        if split in data.one_question_an_image:
            table = table.select(one_per_image(table["image_id"], seed=data.seed))
        yield _marked(table, split=split, shift=NO_SHIFT)


def _shifted(config: Config) -> "Iterator[Dataset]":
    if not config.data.shifts:
        return
    table = first_images(prepared_split(config, config.data, SHIFTED_SPLIT), config.data.shift_images)
    for label in config.data.shifts:
        changed = apply_shift(table, parse_shift(label), seed=config.data.seed)
        yield _marked(changed, split=SHIFTED_SPLIT, shift=label)


def _other_data(config: Config) -> "Iterator[Dataset]":
    for name, data in config.other_data.items():
        table = _without_seen_images(prepared_split(config, data, SHIFTED_SPLIT), config, name=name)
        yield _marked(first_images(table, config.data.shift_images), split=SHIFTED_SPLIT, shift=name)


def _without_seen_images(table: "Dataset", config: Config, *, name: str) -> "Dataset":
    """Leave out the questions about images that another split of `data` trains, chooses or certifies on.

    AdVQA asks about VQAv2's images: whatever learned from those may not be reported on them.
    """
    if images_of(config.other_data[name].name) != images_of(config.data.name):
        return table
    keys = _image_keys(table)
    others = [split for split, images in config.data.splits.items() if images and split != SHIFTED_SPLIT]
    seen = {key for split in others for key in _image_keys(prepared_split(config, config.data, split))}
    kept = [row for row, key in enumerate(keys) if key not in seen]
    if len(kept) == len(keys):
        return table
    sys.stderr.write(
        f"other_data.{name}: {len(keys) - len(kept)} of {len(keys)} questions are left out, as their images are in "
        f"{', '.join(others)} of {config.data.name}\n"
    )
    if not kept:
        raise ReliabitError(
            f"every image of other_data.{name} is in {', '.join(others)} of {config.data.name}; leave that set out"
        )
    return table.select(kept)


def _image_keys(table: "Dataset") -> list[str]:
    return [image_key(source, image) for source, image in zip(table["source"], table["image_id"], strict=True)]


def _marked(table: "Dataset", *, split: str, shift: str) -> "Dataset":
    return table.add_column("split", [split] * len(table)).add_column("shift", [shift] * len(table))
