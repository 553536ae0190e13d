"""A question as a chat request, and the answer of the response with its probabilities: OpenAI's protocol, as data.

Engines differ in details that decide whether confidences mean anything: where the end token is in the lists, whether an
image stands before its text, what is sampled when nothing is said. What is asked for here was seen to give the same on
vLLM and on llama.cpp's server (docs/engines.md).
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reliabit.engines.settings import MOST_ALTERNATIVES
from reliabit.errors import ReliabitError


@dataclass(frozen=True)
class ChatAnswer:
    """An answer over the wire: the fields of `reliabit.inference.answering.Answer` that it tells.

    Attributes:
        answer: The text.
        log_prob: The log-probability of the whole answer, its end token included.
        n_tokens: Generated tokens, the end token included.
        truncated: Whether the answer was cut off before it ended.
        first_token_prob: The probability of the first token.
        min_token_prob: The smallest probability of a token.
        top_entropy: The entropy of the first token's distribution in nats, over its most probable tokens and, as one
            more, all others together; never more than the entropy over the whole vocabulary.
        first_token_margin: By how much the first token's probability exceeds the runner-up's.
    """

    answer: str
    log_prob: float
    n_tokens: int
    truncated: bool
    first_token_prob: float
    min_token_prob: float
    top_entropy: float
    first_token_margin: float

    def fields(self) -> dict[str, Any]:
        """As a mapping."""
        return asdict(self)


class UnusableAnswerError(ReliabitError):
    """A response from which no confidence can be told."""


def chat_request(
    question: str,
    image: bytes,
    *,
    media_type: str,
    model: str,
    max_tokens: int,
    alternatives: int = MOST_ALTERNATIVES,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """The body of a request about one image.

    The image stands before the text, as chat templates of these models put it: the other order moves
    log-probabilities. `temperature` is always said, as servers sample where it is not, whatever the checkpoint says.

    Args:
        question: The text, as the model's template makes it.
        image: The encoded file.
        media_type: Of the file, such as `image/png`.
        model: What the endpoint calls the model.
        max_tokens: Where an answer is cut off.
        alternatives: Tokens whose log-probability is told for each one that is generated, 2 to 20.
        temperature: 0 is greedy.

    Example:
        >>> body = chat_request("what color?", b"GIF89a", media_type="image/gif", model="tiny", max_tokens=8)
        >>> [part["type"] for part in body["messages"][0]["content"]], body["temperature"], body["top_logprobs"]
        (['image_url', 'text'], 0.0, 20)
    """
    url = f"data:{media_type};base64,{base64.b64encode(image).decode()}"
    return {
        "model": model,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": url}},
                    {"type": "text", "text": question},
                ],
            }
        ],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "logprobs": True,
        "top_logprobs": alternatives,
    }


def read_answer(completion: Mapping[str, Any]) -> ChatAnswer:
    """The answer of a chat completion.

    Args:
        completion: The response, as JSON gives it.

    Raises:
        UnusableAnswerError: It has no answer, no log-probabilities, or none of the end token.

    Example:
        >>> def token(text, log_prob):
        ...     other = {"token": "?", "bytes": [63], "logprob": math.log(0.1)}
        ...     one = {"token": text, "bytes": list(text.encode()), "logprob": log_prob}
        ...     return {**one, "top_logprobs": [one, other]}
        >>> read = read_answer({"choices": [{
        ...     "message": {"content": "red"},
        ...     "finish_reason": "stop",
        ...     "logprobs": {"content": [token("red", math.log(0.5)), token("<|im_end|>", math.log(0.8))]},
        ... }]})
        >>> read.answer, round(math.exp(read.log_prob), 2), read.n_tokens, round(read.first_token_margin, 2)
        ('red', 0.4, 2, 0.4)
    """
    try:
        choice = completion["choices"][0]
        text, finish = choice["message"]["content"] or "", choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        raise UnusableAnswerError(f"the endpoint's response is no chat completion (it lacks {error})") from error
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if not tokens:
        raise UnusableAnswerError(
            "the endpoint tells no log-probabilities, so nothing says how sure an answer is; serve the model with them "
            "(vLLM: --max-logprobs 20; transformers serve has none)"
        )
    truncated = finish == "length"
    if not truncated and finish != "stop":
        raise UnusableAnswerError(f"an answer ended for the reason {finish!r}, which is no answer to a question")
    if not truncated and not _has_end(tokens, text):
        raise UnusableAnswerError(
            "the end token is missing from the log-probabilities, so that every answer would look surer than it is; "
            "ask without stop strings, and serve a template whose answers end with a token"
        )
    return _answer(text, tokens, truncated=truncated)


def _answer(text: str, tokens: Sequence[Mapping[str, Any]], *, truncated: bool) -> ChatAnswer:
    log_probs = [float(token["logprob"]) for token in tokens]
    if not all(value <= 0 for value in log_probs):
        raise UnusableAnswerError(f"the endpoint gave a log-probability of {max(log_probs)}, which is none")
    first = sorted((math.exp(one["logprob"]) for one in tokens[0].get("top_logprobs") or ()), reverse=True)
    if len(first) < 2:
        raise UnusableAnswerError(
            f"the endpoint tells {len(first)} alternatives of a token (top_logprobs) where more were asked for, so that"
            " margin and entropy cannot be told, nor whether it answers greedily; raise the server's limit (vLLM: "
            "--max-logprobs 20)"
        )
    return ChatAnswer(
        answer=text.strip(),
        log_prob=math.fsum(log_probs),
        n_tokens=len(tokens),
        truncated=truncated,
        first_token_prob=math.exp(log_probs[0]),
        min_token_prob=math.exp(min(log_probs)),
        top_entropy=top_entropy(first),
        first_token_margin=first[0] - first[1],
    )


def _has_end(tokens: Sequence[Mapping[str, Any]], text: str) -> bool:
    """Whether the last token is the end: one that adds nothing to the text.

    vLLM gives the special token's name, llama.cpp an empty string without bytes; a client that leaves out empty tokens
    loses the latter.
    """
    if not tokens[-1]["token"]:
        return True
    return _joined(tokens).strip() != text.strip() and _joined(tokens[:-1]).strip() == text.strip()


def _joined(tokens: Sequence[Mapping[str, Any]]) -> str:
    # A token may be part of a character, which only bytes tell.
    pieces = [bytes(token["bytes"]) if token.get("bytes") is not None else token["token"].encode() for token in tokens]
    return b"".join(pieces).decode(errors="replace")


def top_entropy(probabilities: Sequence[float]) -> float:
    """The entropy, in nats, of a distribution of which only the largest probabilities are known.

    All others count as one event, so that it is a lower bound, exact where they hold nothing.

    Example:
        >>> round(top_entropy([0.5, 0.5]) / math.log(2), 6), round(top_entropy([0.5, 0.25]), 4)
        (1.0, 1.0397)
    """
    rest = max(0.0, 1.0 - math.fsum(probabilities))
    return -math.fsum(p * math.log(p) for p in (*probabilities, rest) if p > 0) + 0.0
