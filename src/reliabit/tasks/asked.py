"""The questions that a configured model is asked: those of its data that it takes.

What a model or its processor does not take is a bad sample like any other: it ends the task before anything is
answered, or is listed and left out, as `data.on_bad_sample` says. What is left out depends on the questions and on how
the model is asked, never on how it is quantized, so that the cells of a family are asked the same.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.confidence.estimator import needed_columns
from reliabit.config import Config
from reliabit.data.bad_samples import FAIL, SKIP, judged, summary, tell
from reliabit.data.image_decoding import image_size
from reliabit.errors import ReliabitError
from reliabit.inference.predictions import NO_SHIFT
from reliabit.models.admission import Admission, RefusedQuestion, Size
from reliabit.tasks.encoders import admission_of
from reliabit.tasks.questions import TRAINING_SPLIT, load_questions

if TYPE_CHECKING:
    from datasets import Dataset

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
    _judge(config, questions, refused, listed_in=listed_in)
    kept = questions.select([row for row in range(len(questions)) if row not in refused])
    _check_left(config, questions, kept)
    return kept


def _refused(config: Config, questions: "Dataset") -> dict[int, RefusedQuestion]:
    """Why rows of a table are not taken, by their number."""
    admission = admission_of(config.model, answer_tokens=config.model.max_new_tokens)
    texts, sizes = questions["question"][:], _sizes(questions)
    found = {row: refusal for row, refusal in enumerate(admission.refusals(texts, sizes)) if refusal is not None}
    if "p_true" in needed_columns(config.confidence):
        found = {**_refused_with_answer(config, questions, admission, sizes), **found}
    return dict(sorted(found.items()))


def _refused_with_answer(
    config: Config, questions: "Dataset", admission: Admission, sizes: Sequence[Size]
) -> dict[int, RefusedQuestion]:
    """The same of the second prompt of P(True), which shows the question and an answer as long as there may be one."""
    from reliabit.inference.self_evaluation import find_verdict, plain_encoder, second_question

    prompt, encoder = config.confidence.p_true, plain_encoder(admission.encoder)
    own = Admission(encoder, longest=admission.longest - len(find_verdict(encoder, prompt).shared))
    asked = [row for row, split in enumerate(questions["split"]) if split != TRAINING_SPLIT]
    words = questions.select(asked)["question"][:]
    texts = [second_question(prompt.template, question=text, answer="", encoder=encoder) for text in words]
    refusals = own.refusals(texts, [sizes[row] for row in asked], words=words)
    return {row: refusal for row, refusal in zip(asked, refusals, strict=True) if refusal is not None}


def _sizes(questions: "Dataset") -> list[Size]:
    """The size of each row's image, read once an image; no shift changes it."""
    known: dict[tuple[str, str], Size] = {}
    keys = list(zip(questions["source"], questions["image_id"], strict=True))
    for row, key in enumerate(keys):
        if key not in known:
            source, image_id = key
            known[key] = image_size(questions[row]["image"], item=f"image {image_id!r} of {source}")
    return [known[key] for key in keys]


def _judge(
    config: Config, questions: "Dataset", refused: dict[int, RefusedQuestion], *, listed_in: Path | None
) -> None:
    """List what is refused, and end the task where one of the sets that it comes from says so."""
    shifts, source = questions["shift"], source_for(config)
    behaviours = {config.other_data.get(shifts[row], config.data).on_bad_sample for row in refused}
    on_bad_sample = FAIL if FAIL in behaviours else SKIP
    if listed_in is None:
        if on_bad_sample == FAIL:
            counts = Counter(refusal.problem for refusal in refused.values())
            raise ReliabitError(f"{source}: {summary(counts)}; set data.on_bad_sample=skip to go on without them")
        return
    with judged(listed_in, source=source, on_bad_sample=on_bad_sample) as bad:
        for row, ids in zip(refused, _ids(questions, list(refused)), strict=True):
            bad.add(refused[row].problem, **ids, detail=refused[row].detail)
    tell(f"{source}: {summary(bad.by_problem())}; they are left out and listed in {listed_in}")


def source_for(config: Config) -> str:
    """How messages call questions that are put to a model."""
    return f"{config.data.name}, asked of {config.model.name}"


def _ids(questions: "Dataset", rows: Sequence[int]) -> Iterator[dict[str, str]]:
    part = questions.select(rows)
    for question_id, image_id in zip(part["question_id"], part["image_id"], strict=True):
        yield {"question_id": question_id, "image_id": image_id}


def _check_left(config: Config, questions: "Dataset", kept: "Dataset") -> None:
    lost = dict.fromkeys(_parts(questions)).keys() - set(_parts(kept))
    for split, shift in sorted(lost):
        under = "" if shift == NO_SHIFT else f" under {shift}"
        raise ReliabitError(
            f"{config.model.name} takes no question of the split {split}{under} of {config.data.name}; repair the "
            "data, or leave that out of data.ask or data.shifts"
        )


def _parts(questions: "Dataset") -> Iterator[tuple[str, str]]:
    return zip(questions["split"], questions["shift"], strict=True)
