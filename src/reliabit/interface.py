"""What `import reliabit` gives: load a checkpoint, ask it, and say how far its answers, or anybody's, can be trusted.

Each takes plain arguments, and needs no configuration, no tracking store and no folder of this project.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.evaluation.answer_columns import Columns, read_columns
from reliabit.evaluation.answer_files import open_table
from reliabit.evaluation.answer_report import AnswerReport, Measuring, certify_answers, measure_answers
from reliabit.metrics.certify import Certificate
from reliabit.metrics.functional.inputs import VectorLike

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from reliabit.models.loading import Checkpoint

RISKS = (0.01, 0.05, 0.1)

_ASKED = {"question_id": "string", "image_id": "string", "question": "string", "answer": "string"}


def measure(
    confidence: VectorLike,
    correct: VectorLike,
    *,
    group: Sequence[Any] | None = None,
    split: Sequence[str] | None = None,
    second: "VectorLike | None" = None,
    risks: Sequence[float] = RISKS,
    delta: float = 0.05,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> AnswerReport:
    """Measure answers: every metric with its interval, certified thresholds, and the difference of two confidences.

    The same report as that of `reliabit metrics`, from lists, arrays or tensors of N values each.

    Args:
        confidence: How sure the model was of each answer, higher is surer; calibration needs probabilities.
        correct: How right each answer is: 0 or 1, booleans, or shares from 0 to 1.
        group: What each answer is about, such as its image: the unit of the bootstrap, and of what is certified. By
            default each answer is a group of its own.
        split: `val`, `cal` or `test` of each answer; rows of `test` report, those of `val` plan the tests of thresholds
            and those of `cal` decide them. By default groups are drawn for that, and all rows report.
        second: Another confidence, to be compared with the first on the same answers.
        risks: Risks to certify a threshold for.
        delta: The probability with which each certificate may fail.
        level: Confidence level of intervals.
        resamples: Resamples of the bootstrap.
        seed: Seeds everything that is drawn.

    Returns:
        The report; `print` it, or ask it for `to_dict()`, `markdown()` and `write_figures(folder)`.

    Raises:
        ReliabitError: A value is unusable.

    Example:
        >>> report = measure([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1], resamples=50)
        >>> report.measured["confidence"].values["accuracy/mean"].estimate
        0.75
    """
    given = {"confidence": confidence, "correct": correct, "group": group, "split": split, "second": second}
    columns = {name: values for name, values in given.items() if values is not None}
    _check_lengths(columns)
    settings = Measuring(tuple(risks), delta, level, resamples, seed)
    return measure_answers(read_columns(open_table(columns), Columns()), settings)


def evaluate(
    table: Any,
    *,
    confidence: str | None = None,
    correct: str | None = None,
    group: str | None = None,
    split: str | None = None,
    second: str | None = None,
    risks: Sequence[float] = RISKS,
    delta: float = 0.05,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> AnswerReport:
    """Measure the answers of a table, see `measure`; columns are found by what they are usually called, or named.

    Args:
        table: The path of a CSV, TSV, JSONL or Parquet file; or a pandas or polars data frame, an Arrow table, a data
            set of the library `datasets`, a mapping of columns, a list of rows, or what `answer` gave.
        confidence: The column of confidences.
        correct: The column that tells how right answers are.
        group: The column that tells what answers are about.
        split: The column that tells what rows are for.
        second: The column of another confidence.
        risks: See `measure`, as for what follows.
        delta: The probability with which each certificate may fail.
        level: Confidence level of intervals.
        resamples: Resamples of the bootstrap.
        seed: Seeds everything that is drawn.

    Raises:
        ReliabitError: The table, a column or a value is unusable; the message names the line or row.

    Example:
        >>> rows = [{"conf": 0.9, "correct": True}, {"conf": 0.4, "correct": False}]
        >>> evaluate(rows, resamples=50).measured["conf"].values["selective/auroc_half"].estimate
        1.0
    """
    settings = Measuring(tuple(risks), delta, level, resamples, seed)
    return measure_answers(
        read_columns(open_table(table), Columns(confidence, correct, group, split, second)), settings
    )


def certify(
    confidence: VectorLike,
    correct: VectorLike,
    *,
    risk: float = 0.05,
    delta: float = 0.05,
    group: Sequence[Any] | None = None,
    split: Sequence[str] | None = None,
    seed: int = 0,
) -> Certificate:
    """Find the lowest threshold from which answers are wrong at most so often, with a guarantee.

    The confidence must not have been trained or chosen on these answers.

    Args:
        confidence: How sure the model was of each answer, shape `(N,)`.
        correct: How right each answer is, in [0, 1], shape `(N,)`.
        risk: The share of wrong answers that is allowed among those that are accepted.
        delta: The probability with which the guarantee may fail.
        group: What each answer is about, such as its image; one answer of each is used.
        split: `val` or `cal` of each answer: those that plan the tests, and those that decide them. By default half of
            the groups, drawn by the seed, plan.
        seed: Seeds what is drawn.

    Returns:
        The certificate; accept `confidence >= certificate.threshold`, which is infinite where nothing can be promised.

    Raises:
        ReliabitError: A value is unusable, or a split has no rows.

    Example:
        >>> sure = np.linspace(1, 0, 4000)
        >>> certificate = certify(sure, sure > 0.3, risk=0.05)
        >>> bool(0.2 < certificate.threshold < 0.4), certificate.n_cal
        (True, 2000)
    """
    given = {"confidence": confidence, "correct": correct, "group": group, "split": split}
    columns = {name: values for name, values in given.items() if values is not None}
    _check_lengths(columns)
    settings = Measuring(risks=(risk,), delta=delta, seed=seed)
    return certify_answers(read_columns(open_table(columns), Columns()), settings)


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
            one reference or a list with one of each annotator; `image_id` and `question_id` where there are such.
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
    image = _encoded(question["image"], number)
    shown = question["image"] if isinstance(question["image"], str | Path) else number
    return {
        "image": image,
        "question": str(question["question"]),
        "answers": [references] if isinstance(references, str) else [str(one) for one in references],
        "question_id": str(question.get("question_id", number)),
        "image_id": str(question.get("image_id", shown)),
        "source": str(question.get("source", "own")),
    }


def _encoded(image: Any, number: int) -> bytes:
    """The bytes of an image file."""
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


def _check_lengths(columns: Mapping[str, Any]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    for name, length in lengths.items():
        if length != lengths["confidence"]:
            raise ReliabitError(f"confidence has {lengths['confidence']} values and {name} has {length}")
