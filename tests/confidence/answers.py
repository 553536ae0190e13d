"""Judged answers drawn at random, whose states tell more of their accuracy than their probability does."""

import numpy as np

from reliabit.confidence.examples import Examples
from reliabit.metrics.functional import vqa_accuracy


def scalars_of(log_prob, n_tokens):
    """The columns of answers whose tokens are equally probable."""
    first = np.exp(log_prob / n_tokens)
    return {
        "log_prob": log_prob,
        "n_tokens": n_tokens,
        "first_token_prob": first,
        "min_token_prob": first,
        "first_token_entropy": -(first * np.log(first) + (1 - first) * np.log1p(-first)),
        "first_token_margin": np.abs(2 * first - 1),
    }


def draw_answers(n, *, seed, width=6, images="a"):
    """The probability sees one of two causes of error; the states see both, among noise."""
    random = np.random.default_rng(seed)
    visible, hidden = random.normal(size=(2, n))
    right = random.binomial(10, 1 / (1 + np.exp(-1 - visible - 2 * hidden)))
    accuracy = np.array([vqa_accuracy("yes", ["yes"] * k + ["no"] * (10 - k)) for k in right])
    log_prob = -np.log1p(np.exp(-4 - visible))
    features = {}
    for name, cause in (("image", visible), ("question", hidden), ("first", visible + hidden)):
        states = random.normal(size=(n, width))
        states[:, 0] = cause
        features[name] = (states * np.geomspace(0.01, 100, width)).astype(np.float16)
    return Examples(
        columns=scalars_of(log_prob, random.integers(1, 4, n).astype(float)),
        accuracy=accuracy,
        image_keys=[f"{images}/{index // 3}" for index in range(n)],
        features=features,
    )
