"""How often an interval of paired differences rules out a loss that is there, and how wide it is where there is none.

    PYTHONPATH=src python bench/gate_floor.py

Writes `bench/results/gate_floor.json`. Worlds are drawn here, with a true loss of exactly the margin, and know nothing
of how the interval is computed. One end of a 95 % interval promises 2.5 % false passes, and a ninth of that where nine
configurations were compared. A case breaks the promise if its count of false passes lies beyond what a coin of the
promised probability shows in one of a thousand such benches.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binom

from reliabit.metrics.cluster_mean import ClusterMean, cluster_mean
from reliabit.metrics.functional import augrc_parts
from reliabit.metrics.p_values import betting_p_value, upper_bound

RESULTS = Path(__file__).parent / "results" / "gate_floor.json"
Floats = npt.NDArray[np.float64]

LEVEL = 0.95
COMPARED = (1, 9)
QUESTIONS = (20, 96, 200, 500, 1000, 2000, 10_000)
DISCORDANCE = 0.05
VALUES = {
    "losses": ((-1.0,), (1.0,)),
    "soft losses": ((-1.0, -0.9, -0.6, -0.3), (0.25,) * 4),
}
"""Differences of accuracy that a loss brings, and how often each: answers of ten annotators are worth 0, 0.3, ... 1."""


@dataclass(frozen=True)
class World:
    """How differences come about.

    Attributes:
        questions: About how many there are.
        per_image: Questions an image: a number; `1-10`, all as common; `largest`, the same with losses in images of
            nine or ten questions alone; or `skewed`: one mostly, but ten in one image of twenty.
        correlation: Of two questions about one image.
        kind: `losses`: nothing is ever won. `balanced`: as many are won as lost beyond the true loss. `soft ...`: the
            same in steps of 0.3. `augrc`: new errors at any confidence. `augrc sure`: at the highest.
        loss: The true one.
    """

    questions: int
    per_image: str
    correlation: float
    kind: str
    loss: float

    def sizes(self, rng: np.random.Generator) -> Floats:
        """How many questions each image has."""
        if self.per_image.isdigit():
            each = int(self.per_image)
            return np.full(max(1, self.questions // each), float(each))
        if self.per_image == "skewed":
            return rng.choice([1.0, 10.0], p=[0.95, 0.05], size=round(self.questions / 1.45))
        return rng.integers(1, 11, size=round(self.questions / 5.5)).astype(float)

    def draw(self, rng: np.random.Generator) -> ClusterMean:
        """Differences of a sample, by image."""
        sizes = self.sizes(rng)
        images = np.repeat(np.arange(len(sizes)), sizes.astype(int))
        own, common = rng.random(len(images)), rng.random(len(sizes))[images]
        luck = np.where(rng.random(len(images)) < self.correlation**0.5, common, own)
        if self.kind.startswith("augrc"):
            gains = self._augrc(luck, rng)
        else:
            gains = self._gains(luck, likelier=self._likelier(sizes)[images])
        return ClusterMean(np.bincount(images, weights=gains), sizes, -1.0, 1.0)

    def _likelier(self, sizes: Floats) -> Floats:
        """By how much the loss of an image's questions is likelier than on average."""
        if self.per_image != "largest":
            return np.ones(len(sizes))
        # 19 of 55 questions are in images of nine and ten.
        return np.where(sizes >= 9, 55 / 19, 0.0)

    def _gains(self, luck: Floats, *, likelier: Floats) -> Floats:
        values, shares = VALUES["soft losses" if "soft" in self.kind else "losses"]
        won = DISCORDANCE if "balanced" in self.kind else 0.0
        mean = -float(np.dot(values, shares))
        lost = won + self.loss / mean * likelier
        ends = np.cumsum(shares)[:-1]

        def step(uniform: Floats) -> Floats:
            return np.asarray(values)[np.searchsorted(ends, uniform)]

        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(
                luck < lost, step(luck / lost), np.where(luck < lost + won, -step((luck - lost) / won), 0.0)
            )

    def _augrc(self, luck: Floats, rng: np.random.Generator) -> Floats:
        """Losses of AUGRC by question.

        Confidences are uniform and a wrong answer is the likelier the lower its confidence c: with 0.2 (1 - c), for an
        AUGRC of 1/30. With new errors at the rate p that becomes 1/30 + p (1/2 - 1/30) where they come at any
        confidence, and p (1 - p / 2) + (1 - p)^2 / 30 where all are tied at the top.
        """
        before = 1 / 30
        if self.kind == "augrc sure":
            rate = brentq(lambda p: p * (1 - p / 2) + (1 - p) ** 2 * before - before - self.loss, 0, 1)
        else:
            rate = self.loss / (0.5 - before)
        confidence = rng.random(len(luck))
        wrong = rng.random(len(luck)) < 0.2 * (1 - confidence)
        new = luck < rate
        after = np.where(new, 2.0, confidence) if self.kind == "augrc sure" else confidence
        return augrc_parts(confidence, 1.0 - wrong) - augrc_parts(after, 1.0 - (wrong | new))


def cases() -> Iterator[World]:
    """Every world of the bench."""
    kinds = ("losses", "balanced", "soft losses", "soft balanced")
    sizes = (("1", (0.0,)), *((size, (0.0, 0.5, 1.0)) for size in ("3", "10", "1-10", "largest", "skewed")))
    for questions, (size, correlations), kind, margin in itertools.product(QUESTIONS, sizes, kinds, (0.02, 0.05)):
        if size == "largest" and "balanced" in kind:
            continue
        yield from (World(questions, size, correlation, kind, margin) for correlation in correlations)
    for questions, (size, correlations), kind in itertools.product(QUESTIONS, sizes[:4], ("augrc", "augrc sure")):
        for margin in (0.005, 0.01, 0.05):
            yield from (World(questions, size, correlation, kind, margin) for correlation in correlations)


def false_passes(world: World, *, tries: int, compared: Sequence[int] = COMPARED, extra: float = 0.0) -> list[int]:
    """How often the loss is ruled out although it is there, for each number of compared configurations.

    Args:
        world: Where the loss is.
        tries: How many samples.
        compared: Numbers of configurations, ascending.
        extra: By how much the margin is smaller than the loss.
    """
    passes = [0] * len(compared)
    for seed in range(tries):
        found = world.draw(np.random.default_rng([seed, world.questions]))
        margin = world.loss - extra
        # The lower end never lies above the estimate.
        if found.estimate <= -margin:
            continue
        for index, number in enumerate(compared):
            level = 1 - (1 - LEVEL) / number
            if found.p_value(-margin, level=level) >= (1 - level) / 2:
                # What a level does not rule out, no higher one does.
                break
            passes[index] += 1
    return passes


def most_allowed(tries: int, *, compared: int, n_cases: int) -> int:
    """How many false passes a case may show, if it keeps the promise, in all but one of a thousand benches."""
    return int(binom.isf(0.001 / n_cases, tries, (1 - LEVEL) / 2 / compared))


def bootstrap_low(found: ClusterMean, *, level: float, n_resamples: int = 500, seed: int = 0) -> float:
    """The lower end of the percentile interval of a bootstrap by image, for comparison."""
    drawn = np.random.default_rng(seed).multinomial(
        len(found.sizes), np.full(len(found.sizes), 1 / len(found.sizes)), size=n_resamples
    )
    return float(np.quantile((drawn @ found.totals) / (drawn @ found.sizes), (1 - level) / 2))


def betting_low(found: ClusterMean, *, level: float, seed: int = 0) -> float:
    """The lower bound by betting on the means of images of one size (Waudby-Smith and Ramdas 2024), for comparison."""
    losses = np.random.default_rng(seed).permutation((1 - found.totals / found.sizes) / 2)
    tail = (1 - level) / 2
    return 1 - 2 * upper_bound(lambda risk: betting_p_value(losses, risk, delta=tail), tail)


def settings() -> Iterator[tuple[int, int, float, float, int]]:
    """Questions, questions an image, share of answers that differ, correlation, and configurations compared."""
    for questions, size, share in itertools.product((1000, 3000, 10_000), (1, 10), (0.01, 0.05, 0.1)):
        yield from itertools.product((questions,), (size,), (share,), (0.0,) if size == 1 else (0.0, 0.5), COMPARED)


def width(setting: tuple[int, int, float, float, int], *, tries: int) -> dict[str, Any]:
    """How far the lower end lies below a true difference of zero, on average, and how often it passes the margins."""
    questions, size, share, correlation, compared = setting
    level = 1 - (1 - LEVEL) / compared
    lows: dict[str, list[float]] = {"ours": [], "bootstrap": [], "betting": []}
    for seed in range(tries):
        found = _alike(questions, size, share, correlation, np.random.default_rng(seed))
        lows["ours"].append(found.interval(level=level).low)
        lows["bootstrap"].append(bootstrap_low(found, level=level))
        lows["betting"].append(betting_low(found, level=level))
    row: dict[str, Any] = dict(
        zip(("questions", "per_image", "discordance", "correlation", "compared"), setting, strict=True)
    )
    for name, low in lows.items():
        row[f"{name}_reach"] = round(-float(np.mean(low)), 5)
        for margin in (0.02, 0.05):
            row[f"{name}_passes_{margin}"] = float(np.mean(np.asarray(low) >= -margin))
    return row


def _alike(questions: int, size: int, share: float, correlation: float, rng: np.random.Generator) -> ClusterMean:
    images = np.repeat(np.arange(questions // size), size)
    common = rng.random(questions // size)[images]
    luck = np.where(rng.random(len(images)) < correlation**0.5, common, rng.random(len(images)))
    return cluster_mean(np.where(luck < share / 2, -1.0, np.where(luck < share, 1.0, 0.0)), images, low=-1.0)


def bootstrap_passes(world: World, *, tries: int, extra: float = 0.0) -> int:
    """How often the bootstrap rules the loss out."""
    samples = (world.draw(np.random.default_rng([seed, world.questions])) for seed in range(tries))
    return sum(bootstrap_low(found, level=LEVEL, n_resamples=400) >= extra - world.loss for found in samples)


def simulated(world: World, *, tries: int, n_cases: int) -> dict[str, Any]:
    """A world with how often its loss is ruled out, from fewer samples where they are large."""
    tries = tries * 2000 // max(2000, world.questions)
    passes = false_passes(world, tries=tries)
    allowed = [most_allowed(tries, compared=number, n_cases=n_cases) for number in COMPARED]
    kept = all(one <= most for one, most in zip(passes, allowed, strict=True))
    return asdict(world) | {"tries": tries, "passes": passes, "allowed": allowed, "kept": kept}


def main() -> None:
    """Simulate, print the worst and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=300)
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args()
    start, rows, worlds = time.perf_counter(), [], list(cases())
    simulate = partial(simulated, tries=chosen.tries, n_cases=len(worlds) * len(COMPARED))
    few = [one for one in worlds if one.loss == 0.02 and one.kind == "losses" and one.per_image in ("1", "10")]
    with Pool(chosen.processes) as pool:
        for row in pool.imap(simulate, worlds, chunksize=8):
            rows.append(row)
            if not row["kept"]:
                print(f"broken: {row}", flush=True)
        print(
            f"{sum(row['kept'] for row in rows)} of {len(rows)} keep the promise, {time.perf_counter() - start:.0f} s"
        )
        resampled = pool.map(partial(bootstrap_passes, tries=chosen.tries), few)
        reaches = pool.map(partial(width, tries=max(1, chosen.tries // 15)), settings())
    RESULTS.parent.mkdir(exist_ok=True)
    found = {
        "level": LEVEL,
        "compared": COMPARED,
        "cases": rows,
        "bootstrap": [
            asdict(one) | {"tries": chosen.tries, "passes": n} for one, n in zip(few, resampled, strict=True)
        ],
        "no_difference": reaches,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
