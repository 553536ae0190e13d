"""Whether what an endpoint tells is worth anything: asked before a run, with one question.

Each probe is for a setting that was met in earnest and that no error betrays: the numbers would be recorded, and wrong.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reliabit.engines.chat import ChatAnswer, UnusableAnswerError, read_answer
from reliabit.engines.engine import Completion
from reliabit.errors import ReliabitError

SAME = 1e-3
"""Log-probabilities of the same answer that differ by less are the same; batches and kernels round differently."""

DRIFT = 0.2
"""By so much the log-probability of an answer may differ from batch to batch; 0.03 was seen in bfloat16."""

WARM = 2.0
"""The other temperature."""

Ask = Callable[[bytes, float], Completion]
"""Asks the probe's question of an image at a temperature."""


class UnseenImageError(ReliabitError):
    """A question is answered alike whether its image is there or not."""


@dataclass(frozen=True)
class Probes:
    """What was seen of an endpoint.

    Attributes:
        answer: To the probe's question.
        log_prob: Of that answer.
        n_tokens: Its tokens.
        blank_log_prob: Of what was answered to the same question about a blank image.
        other_temperature_log_prob: Of the first token of the first answer, where it was asked at another temperature
            and came again; null where others were drawn each time.
        first_seconds: How long the first answer took, warming up included.
    """

    answer: str
    log_prob: float
    n_tokens: int
    blank_log_prob: float
    other_temperature_log_prob: float | None
    first_seconds: float

    def fields(self) -> dict[str, Any]:
        """As a mapping, for the record of a run."""
        return asdict(self)


def probe(ask: Ask, *, image: bytes, blank: bytes) -> Probes:
    """Ask one question thrice, and conclude.

    Args:
        ask: Puts the question about an image to the endpoint at a temperature.
        image: An image of the data set.
        blank: A blank one of the same size.

    Raises:
        UnseenImageError: The image made no difference; another question may tell.
        ReliabitError: The endpoint's confidences would be worth nothing; says why, and what to do.
    """
    first = ask(image, 0.0)
    answer = read_answer(first.response)
    _check_greedy(first.response)
    other = first_token_log_prob(ask(image, WARM).response, token=_first_token(first.response))
    _check_raw(_first_log_prob(first.response), other)
    blank_answer = _read_blank(ask(blank, 0.0).response)
    _check_sees(answer, blank_answer)
    return Probes(
        answer=answer.answer,
        log_prob=answer.log_prob,
        n_tokens=answer.n_tokens,
        blank_log_prob=blank_answer.log_prob,
        other_temperature_log_prob=other,
        first_seconds=first.seconds,
    )


def check_unchanged(seen: Probes, completion: Completion) -> None:
    """Check that the probe's question is answered as before.

    Args:
        seen: What was seen before.
        completion: The response to the same question about the same image.

    Raises:
        ReliabitError: It is not, so that another model answers now, and answers of both would stand in one table.
    """
    now = read_answer(completion.response)
    if now.answer != seen.answer or abs(now.log_prob - seen.log_prob) > DRIFT:
        raise ReliabitError(
            f"the probe's question is answered {now.answer!r} (log-probability {now.log_prob:.3f}) now, and was "
            f"answered {seen.answer!r} ({seen.log_prob:.3f}) at the start: the model was replaced during the run; run "
            "again, and only what one model answered is taken"
        )


def _read_blank(response: Mapping[str, Any]) -> ChatAnswer:
    try:
        return read_answer(response)
    except UnusableAnswerError as error:
        raise UnusableAnswerError(f"of a blank image: {error}") from error


def _tokens(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = response["choices"][0]["logprobs"]["content"]
    return found


def _first_token(response: Mapping[str, Any]) -> str:
    return str(_tokens(response)[0]["token"])


def _first_log_prob(response: Mapping[str, Any]) -> float:
    return float(_tokens(response)[0]["logprob"])


def first_token_log_prob(response: Mapping[str, Any], *, token: str) -> float | None:
    """The log-probability that a response gives a token in the first place; `None` where it does not list it."""
    first = _tokens(response)[0]
    told = {str(one["token"]): float(one["logprob"]) for one in (*first.get("top_logprobs", ()), first)}
    return told.get(token)


def _check_greedy(response: Mapping[str, Any]) -> None:
    """Refuse an answer whose tokens are not the likeliest at each place."""
    for place, token in enumerate(_tokens(response), start=1):
        best = max((float(one["logprob"]) for one in token.get("top_logprobs") or ()), default=-math.inf)
        if float(token["logprob"]) < best - SAME:
            raise ReliabitError(
                f"token {place} of the probe's answer is not the likeliest one although greedy decoding was asked for: "
                "the endpoint samples, and its answers would change from run to run; turn its sampling off"
            )


def _check_raw(greedy: float, other: float | None) -> None:
    """Refuse log-probabilities that a temperature changes: they are those of the sampler and not of the model."""
    if other is not None and abs(other - greedy) > SAME * max(1.0, abs(greedy)):
        raise ReliabitError(
            f"the log-probability of the same token is {greedy:.4f}, and {other:.4f} at another temperature: the "
            "endpoint tells those after sampling, at temperature 0 all of them certain; serve raw ones (vLLM: "
            "--logprobs-mode raw_logprobs)"
        )


def _check_sees(answer: ChatAnswer, blank: ChatAnswer) -> None:
    """Refuse an endpoint to which the image is nothing."""
    if answer.answer == blank.answer and math.isclose(answer.log_prob, blank.log_prob, abs_tol=1e-6):
        raise UnseenImageError(
            "a blank image in place of the picture changes neither the answer nor its log-probability: the endpoint "
            "does not see images, and every number would be of guesses; serve a model with vision (llama.cpp: --mmproj)"
        )
