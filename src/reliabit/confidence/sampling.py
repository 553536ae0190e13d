"""Agreement among sampled answers; two answers mean the same where they are equal once normalized.

Where normalization leaves nothing, as of "The", they must be the same text, as they must to score.

The answers of VQA are a word or two, so that equality of normalized strings replaces the entailment model that
semantic entropy needs for sentences.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from reliabit.errors import ReliabitError
from reliabit.metrics.functional import comparable_answer

Weighting = Literal["probability", "count"]


def self_consistency(answer: str, samples: Sequence[str]) -> float:
    """The share of sampled answers that say what the greedy answer says (Wang et al. 2023).

    Args:
        answer: The greedy answer.
        samples: M >= 1 answers sampled to the same question.

    Returns:
        The share in [0, 1]; it is a confidence as it is.

    Raises:
        ReliabitError: There are no samples.

    >>> self_consistency("Two", ["2", "two.", "three", "2"])
    0.75
    """
    _check_samples(samples)
    said = comparable_answer(answer)
    return sum(comparable_answer(sample) == said for sample in samples) / len(samples)


def semantic_entropy(samples: Sequence[str], log_probs: Sequence[float], *, weighting: Weighting) -> float:
    """The entropy of the distribution over meanings, estimated from samples (Kuhn et al. 2023, eq. 2).

    H = -sum_c p_c log p_c over the meanings c among the samples. By "count", p_c is the share of the samples that
    mean c. By "probability", p_c is proportional to the summed probability of the distinct texts that mean c: a text
    that was drawn twice is one sequence, and counting it twice would square its weight.

    As a confidence it is read as exp(-H) in (0, 1], the inverse of the effective number of meanings; unlike
    1 - H / log M that does not depend on how many samples were drawn, and M = 1 needs no exception.

    Args:
        samples: M >= 1 answers sampled to one question.
        log_probs: The log-probability of each whole answer; "count" leaves them unread.
        weighting: Where the probability of a meaning comes from.

    Returns:
        The entropy in nats, from 0 to log M.

    Raises:
        ReliabitError: There are no samples, they have other probabilities than one each, or the weighting is unknown.

    >>> round(semantic_entropy(["2", "two", "three"], [-1.0, -1.0, -1.0], weighting="count"), 6)
    0.636514
    """
    _check_samples(samples)
    if weighting == "count":
        log_weights = _counted(samples)
    elif weighting == "probability":
        log_weights = _summed(samples, log_probs)
    else:
        raise ReliabitError(f"semantic entropy cannot weight by {weighting!r}; choose probability or count")
    log_shares = log_weights - np.logaddexp.reduce(log_weights)
    return max(0.0, -float(np.exp(log_shares) @ log_shares))


def _counted(samples: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.log(list(Counter(comparable_answer(sample) for sample in samples).values()))


def _summed(samples: Sequence[str], log_probs: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if len(samples) != len(log_probs):
        raise ReliabitError(f"{len(samples)} sampled answers have {len(log_probs)} log-probabilities; give one each")
    if not np.isfinite(log_probs).all():
        raise ReliabitError("a sampled answer has a log-probability that is not finite; sample it again")
    # Equal texts may differ by rounding; the larger one does not depend on the order of the samples.
    of_text: dict[str, float] = {}
    for text, log_prob in zip(samples, log_probs, strict=True):
        of_text[text] = max(log_prob, of_text.get(text, -np.inf))
    of_meaning: dict[tuple[str, str], list[float]] = defaultdict(list)
    for text, log_prob in of_text.items():
        of_meaning[comparable_answer(text)].append(log_prob)
    return np.array([np.logaddexp.reduce(values) for values in of_meaning.values()])


def _check_samples(samples: Sequence[str]) -> None:
    if not samples:
        raise ReliabitError("there are no sampled answers; sample at least one a question")
