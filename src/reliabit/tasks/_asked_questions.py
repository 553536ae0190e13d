"""The questions that a configured model is asked: those that the configuration names and the model takes.

What a model or its processor does not take is a bad sample like any other: it ends the task before anything is
answered, or is listed and left out, as `data.on_bad_sample` says. What is left out depends on the questions and on how
the model is asked, never on how it is quantized, so that the cells of a family are asked the same.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.data.bad_samples import FAIL, SKIP, judged, summary, tell
from reliabit.data.image_decoding import image_size
from reliabit.data.prepared_table import load_split, prepare, read_manifest
from reliabit.data.shifts import apply_shift, parse_shift
from reliabit.data.sources import SOURCES, DataConfig
from reliabit.data.splits import image_key, images_of
from reliabit.data.table import first_images
from reliabit.errors import ReliabitError
from reliabit.inference.predictions import NO_SHIFT
from reliabit.metrics import one_per_image
from reliabit.models.admission import Admission, RefusedQuestion, Size
from reliabit.models.loading import load_admission
from reliabit.tasks._sliced_columns import check_sliced

if TYPE_CHECKING:
    from datasets import Dataset

TRAINING_SPLIT, CHOOSING_SPLIT = "dev", "val"
"""The split that trains confidence estimators (asked only where one is trained), and the one that chooses them."""

SHIFTED_SPLIT = "test"

BAD_SAMPLES = "bad_samples.jsonl"
"""The list of what a model was not asked, among what a run writes; there is none where it was asked everything."""


def asked_questions(config: Config, *, training: bool, listed_in: Path | None) -> "Dataset":
    """Everything that a configuration's model is asked, see `load_questions`, but for what the model does not take.

    Args:
        config: The data, and how the model is asked.
        training: Whether an estimator is trained, so that the training split is asked as well.
        listed_in: Where to list what is left out; `None` where that was done before.

    Raises:
        ReliabitError: There is something that the model does not take, and it is not to be skipped; or nothing is left
            of a split.
    """
    questions = load_questions(config, training=training)
    refused = _refused(config, questions)
    if not refused:
        if listed_in is not None:
            listed_in.unlink(missing_ok=True)
        return questions
    _tell(config, questions, refused, listed_in=listed_in)
    kept = questions.select([row for row in range(len(questions)) if row not in refused])
    _check_left(config, questions, kept)
    return kept


def load_questions(config: Config, *, training: bool) -> "Dataset":
    """Everything that is asked, in one table, prepared first where it is not yet.

    Returns:
        A VQA table with the columns `split` and `shift`, the splits as they are first.

    Raises:
        ReliabitError: The data cannot be prepared, there is nothing to ask, or nothing to train an estimator on.
    """
    from datasets import concatenate_datasets

    check_asked(config, training=training)
    check_sliced(config)
    return concatenate_datasets(list(_tables(config, training=training)))


def sample_questions(config: Config, *, images: int) -> "Dataset":
    """The questions about the first images of a split that is asked: enough to try a model with, and soon read."""
    there = _splits_of(config, config.data)
    split = next((name for name in _asked_splits(config.data) if name in there), SHIFTED_SPLIT)
    return first_images(prepared_split(config, config.data, split), images)


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
    """One split of a data source, prepared first where it is not yet.

    Raises:
        ReliabitError: The data cannot be prepared, or has no such split.
    """
    there = _splits_of(config, data)
    if split not in there and SOURCES[data.name].decides_splits:
        raise ReliabitError(
            f"{data.called()} has no questions in the split {split}, which is needed (it has {', '.join(there)}); "
            "bring splits (docs/own_data.md), or choose what needs none, such as quant=hqq and confidence=maxprob"
        )
    return load_split(prepare(data, root=Path(config.paths.data)), split)


def _splits_of(config: Config, data: DataConfig) -> list[str]:
    """The splits of a prepared table, which may lack some that the settings name; see `Source.decides_splits`."""
    return list(read_manifest(prepare(data, root=Path(config.paths.data))))


def _asked_splits(data: DataConfig) -> list[str]:
    return [split for split, images in data.ask.items() if images != 0 and data.splits.get(split)]


def _tables(config: Config, *, training: bool) -> "Iterator[Dataset]":
    """The splits as they are, then one of them under each shift, then the other data sets."""
    data = config.data
    there = _splits_of(config, data)
    for split in _asked_splits(data):
        if (split == TRAINING_SPLIT and not training) or split not in there:
            continue
        table = first_images(prepared_split(config, data, split), data.ask[split])
        if split in data.one_question_an_image:
            table = table.select(one_per_image(table["image_id"], seed=data.seed))
        yield _marked(table, split=split, shift=NO_SHIFT)
    if data.shifts:
        table = first_images(prepared_split(config, data, SHIFTED_SPLIT), data.shift_images)
        for label in data.shifts:
            changed = apply_shift(table, parse_shift(label), seed=data.seed)
            yield _marked(changed, split=SHIFTED_SPLIT, shift=label)
    for name, other in config.other_data.items():
        table = _without_seen_images(prepared_split(config, other, SHIFTED_SPLIT), config, name=name)
        yield _marked(first_images(table, data.shift_images), split=SHIFTED_SPLIT, shift=name)


def _without_seen_images(table: "Dataset", config: Config, *, name: str) -> "Dataset":
    """Leave out the questions about images that another split of `data` trains, chooses or certifies on.

    AdVQA asks about VQAv2's images: whatever learned from those may not be reported on them.
    """
    if images_of(config.other_data[name].name) != images_of(config.data.name):
        return table
    keys = _image_keys(table)
    others = [split for split in _splits_of(config, config.data) if split != SHIFTED_SPLIT]
    seen = {key for split in others for key in _image_keys(prepared_split(config, config.data, split))}
    kept = [row for row, key in enumerate(keys) if key not in seen]
    if len(kept) == len(keys):
        return table
    sys.stderr.write(
        f"other_data.{name}: {len(keys) - len(kept)} of {len(keys)} questions are left out, as their images are in "
        f"{', '.join(others)} of {config.data.called()}\n"
    )
    if not kept:
        raise ReliabitError(
            f"every image of other_data.{name} is in {', '.join(others)} of {config.data.called()}; leave that set out"
        )
    return table.select(kept)


def _image_keys(table: "Dataset") -> list[str]:
    return [image_key(source, image) for source, image in zip(table["source"], table["image_id"], strict=True)]


def _marked(table: "Dataset", *, split: str, shift: str) -> "Dataset":
    return table.add_column("split", [split] * len(table)).add_column("shift", [shift] * len(table))


def _refused(config: Config, questions: "Dataset") -> dict[int, RefusedQuestion]:
    """Why rows of a table are not taken, by their number; what an endpoint refuses shows when it is asked."""
    if not config.engine.loads_checkpoint:
        return {}
    admission = load_admission(config.model, answer_tokens=config.model.max_new_tokens)
    texts, sizes = questions["question"][:], _sizes(questions)
    found = {row: refusal for row, refusal in enumerate(admission.refusals(texts, sizes)) if refusal is not None}
    if "p_true" in config.confidence.needed_columns():
        found = {**_refused_with_answer(config, questions, admission, sizes), **found}
    return dict(sorted(found.items()))


def _refused_with_answer(
    config: Config, questions: "Dataset", admission: Admission, sizes: Sequence[Size]
) -> dict[int, RefusedQuestion]:
    """The same of the second prompt of P(True), which shows the question and an answer as long as there may be one."""
    from reliabit.inference.further_passes import find_verdict, plain_encoder, second_question

    prompt, encoder = config.confidence.p_true, plain_encoder(admission.encoder)
    own = Admission(encoder, longest=admission.longest - len(find_verdict(encoder, prompt).shared))
    asked = [row for row, split in enumerate(questions["split"]) if split != TRAINING_SPLIT]
    words = questions.select(asked)["question"][:]
    texts = [second_question(prompt.template, question=text, answer="", encoder=encoder) for text in words]
    refusals = own.refusals(texts, [sizes[row] for row in asked], words=words)
    return {row: refusal for row, refusal in zip(asked, refusals, strict=True) if refusal is not None}


def _sizes(questions: "Dataset") -> list[Size]:
    """The size of each row's image, read once an image; no shift changes it."""
    keys = list(zip(questions["source"], questions["image_id"], strict=True))
    first_rows: dict[tuple[str, str], int] = {}
    for row, key in enumerate(keys):
        first_rows.setdefault(key, row)
    images = questions.select(list(first_rows.values())).select_columns(["image"])
    known = {
        key: image_size(row["image"], item=f"image {key[1]!r} of {key[0]}")
        for key, row in zip(first_rows, images, strict=True)
    }
    return [known[key] for key in keys]


def _tell(config: Config, questions: "Dataset", refused: dict[int, RefusedQuestion], *, listed_in: Path | None) -> None:
    """List what is refused, and end the task where one of the sets that it comes from says so."""
    shifts, source = questions["shift"], f"{config.data.called()}, asked of {config.model.name}"
    behaviours = {config.other_data.get(shifts[row], config.data).on_bad_sample for row in refused}
    on_bad_sample = FAIL if FAIL in behaviours else SKIP
    if listed_in is None:
        if on_bad_sample == FAIL:
            counts = Counter(refusal.problem for refusal in refused.values())
            raise ReliabitError(f"{source}: {summary(counts)}; set data.on_bad_sample=skip to go on without them")
        return
    named = questions.select(list(refused)).select_columns(["question_id", "image_id"])
    with judged(listed_in, source=source, on_bad_sample=on_bad_sample) as bad:
        for refusal, ids in zip(refused.values(), named, strict=True):
            bad.add(refusal.problem, **ids, detail=refusal.detail)
    tell(f"{source}: {summary(bad.by_problem())}; they are left out and listed in {listed_in}")


def _check_left(config: Config, questions: "Dataset", kept: "Dataset") -> None:
    asked, left = (zip(table["split"], table["shift"], strict=True) for table in (questions, kept))
    for split, shift in sorted({*asked} - {*left}):
        under = "" if shift == NO_SHIFT else f" under {shift}"
        raise ReliabitError(
            f"{config.model.name} takes no question of the split {split}{under} of {config.data.called()}; repair the "
            "data, or leave that out of data.ask or data.shifts"
        )
