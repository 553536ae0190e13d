"""From Python: load a checkpoint, quantized or not, and ask it questions about images.

Each takes plain arguments, and needs no configuration and no tracking store.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from reliabit.data.own_files.rows import counted_answers
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from reliabit.models.loading import Checkpoint

_ASKED = ("question_id", "image_id", "question", "answer")


def load(
    folder: str | Path,
    *,
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
    template: str = "{question}",
    max_pixels: int | None = None,
) -> "Checkpoint":
    """Load a checkpoint folder, quantized or not: `.model` and `.processor`, as transformers knows them.

    Args:
        folder: The checkpoint; its family is told from its config.json.
        dtype: The precision of the weights that are not quantized, and of the arithmetic.
        template: The prompt around a question, `{question}`.
        max_pixels: Larger images are shrunk to so many pixels, where the family takes images of any size.

    Returns:
        The checkpoint, in evaluation mode.

    Raises:
        ReliabitError: The folder is no checkpoint, is damaged, is of no known family, or wants to run code of its own.
    """
    from reliabit.models.families import FAMILIES, find_adapter
    from reliabit.models.loading import load_checkpoint
    from reliabit.models.settings import ModelConfig
    from reliabit.quant.record import read_config

    path = Path(folder)
    kind = read_config(path).get("model_type")
    family = next((name for name in FAMILIES if find_adapter(name).model_type == kind), None)
    if family is None:
        raise ReliabitError(
            f"{path} is of the model type {kind}, which no family is for; choose a checkpoint of "
            f"{', '.join(FAMILIES)}, or add a family (docs/families.md)"
        )
    return load_checkpoint(
        ModelConfig(
            name=path.name,
            family=family,
            path=str(path),
            dtype=dtype,
            template=template,
            max_new_tokens=1,
            max_pixels=max_pixels,
        )
    )


def answer(
    checkpoint: "Checkpoint",
    questions: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = 32,
    max_new_tokens: int = 16,
    accelerator: str = "auto",
) -> "pa.Table":
    """Ask a model questions about images, and judge its answers.

    Args:
        checkpoint: What `load` gave; quantize its `model` first to see what that does to the answers.
        questions: Rows with `image` (a path, the bytes of a file, or an image of Pillow), `question`, and `answers`,
            one reference or a list with one of each annotator; `image_id` and `question_id` where there are such. Fewer
            than ten annotators count as ten that agree as they do.
        batch_size: Questions a batch.
        max_new_tokens: Where an answer is cut off.
        accelerator: Lightning's name of the device.

    Returns:
        A row a question: `question_id`, `image_id`, `question`, `answer`, `confidence` (the probability of the whole
        answer) and `correct` (the soft VQA accuracy); `evaluate` takes it as it is.

    Raises:
        ReliabitError: A question has no image, text or references, or is none that the model takes.
    """
    import pyarrow as pa

    from reliabit.inference.answering import answer_batches
    from reliabit.inference.prediction_loop import batches_of
    from reliabit.metrics.functional import vqa_accuracy

    rows = [_row(question, number) for number, question in enumerate(questions)]
    if not rows:
        raise ReliabitError("there is no question; give at least one")
    with _quiet_lightning():
        answers = answer_batches(
            batches_of(cast("Dataset", rows), checkpoint.encoder, batch_size=batch_size),
            checkpoint,
            max_new_tokens=max_new_tokens,
            accelerator=accelerator,
            progress=False,
        )
    named = {name: [{**row, **found}[name] for row, found in zip(rows, answers, strict=True)] for name in _ASKED}
    return pa.table(
        {
            **named,
            "confidence": np.exp([found["log_prob"] for found in answers]),
            "correct": [
                vqa_accuracy(found["answer"], row["answers"]) for row, found in zip(rows, answers, strict=True)
            ],
        }
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without what Lightning says of devices, and its advice to load with more processes."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.. is deprecated.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _row(question: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A question as a row of a VQA table."""
    missing = [name for name in ("image", "question", "answers") if question.get(name) is None]
    if missing:
        raise ReliabitError(f"question {number + 1} has no {' and no '.join(missing)}; give each of them")
    references = question["answers"]
    told = [references] if isinstance(references, str) else [str(one) for one in references]
    if not told:
        raise ReliabitError(f"question {number + 1} has no answers; give at least one reference")
    image = _encoded(question["image"], number)
    shown = question["image"] if isinstance(question["image"], str | Path) else number
    return {
        "image": image,
        "question": str(question["question"]),
        "answers": counted_answers(told, agreement="annotators"),
        "question_id": str(question.get("question_id", number)),
        "image_id": str(question.get("image_id", shown)),
        "source": str(question.get("source", "own")),
    }


def _encoded(image: Any, number: int) -> bytes:
    """The bytes of an image file, however `datasets` or anybody holds it."""
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise ReliabitError(
                f"the image {image} of question {number + 1} cannot be read ({error.strerror})"
            ) from error
    if not hasattr(image, "save"):
        raise ReliabitError(
            f"the image of question {number + 1} is a {type(image).__name__}; give a path, bytes or an image"
        )
    held = BytesIO()
    image.save(held, format="PNG")
    return held.getvalue()
