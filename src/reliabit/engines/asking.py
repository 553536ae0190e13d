"""A chunk of questions put to an engine, and the one question that tells whether it still is the same model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from reliabit.data.corruptions import blank_canvas
from reliabit.data.image_decoding import decode_image, image_size
from reliabit.engines.chat import chat_request, read_answer
from reliabit.engines.engine import Completion, Engine, ServedModel
from reliabit.engines.probing import Probes, UnseenImageError, check_unchanged, probe
from reliabit.engines.settings import EngineConfig
from reliabit.errors import ReliabitError
from reliabit.inference.answer_store import Answers
from reliabit.inference.chunks import Chunk
from reliabit.models.settings import ModelConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from reliabit.inference.features import FeatureWriter

_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}
"""The formats that every engine reads."""


@dataclass(frozen=True)
class Asking:
    """How questions are put.

    Attributes:
        template: The text around a question, `{question}`.
        max_tokens: Where an answer is cut off.
        alternatives: Tokens whose log-probability is told at each place.
        warm_up: Seconds that the first answer may take.
    """

    template: str
    max_tokens: int
    alternatives: int
    warm_up: float


@dataclass(frozen=True)
class ProbedEngine:
    """An engine that was probed.

    Attributes:
        engine: It.
        model: What it says of its model.
        asking: How it is asked.
        probed: The question and the encoded image that it was probed with.
        probes: What was seen.
    """

    engine: Engine
    model: ServedModel
    asking: Asking
    probed: tuple[str, bytes]
    probes: Probes

    def answer_chunk(self, chunk: Chunk, writer: "FeatureWriter | None") -> Answers:
        """Answer a chunk of questions; the model is looked at again before the answers are given away.

        Args:
            chunk: The questions.
            writer: Of states, which no engine tells.

        Raises:
            ReliabitError: An answer is unusable, or the model is not the one that was probed.
        """
        if writer is not None:
            raise ReliabitError("an engine tells no hidden states, which an estimator reads; choose confidence=maxprob")
        order = in_image_order(chunk.questions["image_id"])
        start = time.perf_counter()
        responses = self.engine.complete_all(self._bodies(chunk, order))
        found: list[dict[str, Any]] = [{} for _ in order]
        ids = chunk.questions["question_id"]
        for row, completion in zip(order, responses, strict=True):
            answer = read_answer(completion.response)
            found[row] = {"question_id": ids[row], **answer.fields(), "seconds": completion.seconds}
        seconds = time.perf_counter() - start
        question, image = self.probed
        check_unchanged(self.probes, _ask(self.engine, self.model, self.asking, question, image))
        return Answers(answers=found, seconds=seconds)

    def _bodies(self, chunk: Chunk, order: Sequence[int]) -> Iterator[dict[str, Any]]:
        for row in order:
            question = chunk.questions[row]
            yield _body(self.model, self.asking, question["question"], question["image"])


def opened(settings: EngineConfig, model: ModelConfig) -> AbstractContextManager[Engine]:
    """The configured engine, for as long as a block runs."""
    if settings.name == "vllm":
        from reliabit.engines.vllm_process import vllm_process

        return vllm_process(settings, model)
    from reliabit.engines.endpoint import Endpoint

    return nullcontext(Endpoint(settings))


def probed(engine: Engine, asking: Asking, questions: Sequence[tuple[str, bytes]]) -> ProbedEngine:
    """Ask an engine what it serves, warm it up, and see what its answers are worth.

    Args:
        engine: The engine.
        asking: How it is asked.
        questions: Of the data set, each with the encoded image that it is about. The first is the one that the engine
            is known by, unless its image makes no difference, as where a guess is right; then the next.

    Raises:
        ReliabitError: It serves no such model, or its confidences would be worth nothing; see `probe`.
    """
    model, unseen = engine.served_model(), None
    for question, image in questions:
        canvas = _png(blank_canvas(image_size(image, item="the probe's question")))
        try:
            probes = probe(partial(_ask, engine, model, asking, question), image=image, blank=canvas)
        except UnseenImageError as error:
            unseen = error
            continue
        return ProbedEngine(engine=engine, model=model, asking=asking, probed=(question, image), probes=probes)
    raise unseen or ReliabitError("there is no question to probe the engine with; ask some")


def _ask(
    engine: Engine, model: ServedModel, asking: Asking, question: str, image: bytes, temperature: float = 0.0
) -> Completion:
    body = _body(model, asking, question, image, temperature=temperature)
    # The first answer of an engine takes what compiling takes, and so does that of one that was restarted meanwhile.
    return next(engine.complete_all([body], timeout=asking.warm_up))


def _body(
    model: ServedModel, asking: Asking, question: str, image: bytes, *, temperature: float = 0.0
) -> dict[str, Any]:
    encoded, media_type = _as_read_everywhere(image)
    return chat_request(
        asking.template.format(question=question),
        encoded,
        media_type=media_type,
        model=model.name,
        max_tokens=asking.max_tokens,
        alternatives=asking.alternatives,
        temperature=temperature,
    )


def _as_read_everywhere(encoded: bytes) -> tuple[bytes, str]:
    """A file that every engine reads as it is read here, and its media type.

    Engines do not turn images as EXIF says, cut what has more than 8 bits, and lay what is transparent on colours of
    their own: what is not plain is sent as plain pixels.
    """
    from PIL import Image

    with Image.open(BytesIO(encoded)) as image:
        media_type = _MEDIA_TYPES.get(image.format or "")
        if media_type is not None and image.mode == "RGB" and "exif" not in image.info:
            return encoded, media_type
    return _png(decode_image(encoded, item="a question")), _MEDIA_TYPES["PNG"]


def _png(image: "Image") -> bytes:
    file = BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def in_image_order(images: Sequence[str]) -> list[int]:
    """The order in which questions are put, those about an image in a row: an engine's prefix cache then serves them.

    Example:
        >>> in_image_order(["cat", "dog", "cat"])
        [0, 2, 1]
    """
    first: dict[str, int] = {}
    for number, image in enumerate(images):
        first.setdefault(image, number)
    return sorted(range(len(images)), key=lambda number: (first[images[number]], number))
