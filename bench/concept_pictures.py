"""Draws the pictures of docs/concepts.md and of the first page, for light and for dark, from what was measured here.

    python bench/concept_pictures.py

Pictures of metrics show `docs/examples/answers.csv`, 1 000 answers of the tiny Qwen2-VL, by the functions that
`reliabit metrics` calls; those of widths the tables of `docs/paper/paper.md` and `docs/results.md`.
"""

import csv
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reliabit.files import replacing
from reliabit.measuring import certify
from reliabit.metrics import functional

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "docs" / "images" / "concepts"
ANSWERS = PROJECT / "docs" / "examples" / "answers.csv"
PAPER, RESULTS = PROJECT / "docs" / "paper" / "paper.md", PROJECT / "docs" / "results.md"

METHODS = {"rtn": "o", "hqq": "s", "hqq_plus": "D", "awq": "^", "mbq": "v", "gptq": "P"}


@dataclass(frozen=True)
class Theme:
    """The colors of a picture, which people with any color vision tell apart on its background."""

    name: str
    ink: str
    grid: str
    series: tuple[str, ...]


LIGHT = Theme("light", "#222222", "#dddddd", ("#0072B2", "#D55E00", "#009E73", "#A86E00", "#A5497E", "#444444"))
DARK = Theme("dark", "#e2e4e9", "#4a4e58", ("#56B4E9", "#FF8C42", "#2BC79A", "#E6B93C", "#E59CC4", "#c8c8c8"))


@dataclass(frozen=True)
class Answers:
    """Answers with their confidences; arrays of N, and the picture that each is about."""

    confidence: np.ndarray
    correct: np.ndarray
    image: list[str]


@dataclass(frozen=True)
class Cell:
    """A configuration of the pretrained reference; sizes in MiB, shares in per cent."""

    method: str
    bits: int
    mib: float
    accuracy: float
    aurc: float
    coverage: float


@cache
def answers() -> Answers:
    """The example of the repository."""
    with ANSWERS.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    confidence, correct = (np.array([float(row[name]) for row in rows]) for name in ("confidence", "correct"))
    return Answers(confidence, correct, [row["image"] for row in rows])


@cache
def cells() -> tuple[Cell, ...]:
    """What docs/results.md says of the pretrained reference, GPTQ's own table included."""
    found = []
    for line in RESULTS.read_text(encoding="utf-8").partition("## The tiny models")[0].splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        named = re.fullmatch(r"(none|\w+) ?(?:(\d) bits)?", row[0])
        if named and len(row) > 5 and re.fullmatch(r"[\d.]+", row[1]):
            mib, accuracy, aurc, coverage = (float(value) for value in row[1:5])
            found.append(Cell(named[1], int(named[2] or 16), mib, accuracy, aurc, coverage))
    return tuple(found)


def by_size(ax: Axes, theme: Theme, *, quantity: str, title: str) -> None:
    """What each configuration keeps, by its size, and the best of each size."""
    for (method, marker), color in zip(METHODS.items(), theme.series, strict=True):
        shown = [cell for cell in cells() if cell.method == method]
        values = [getattr(cell, quantity) for cell in shown]
        ax.plot([cell.mib for cell in shown], values, marker, color=color, label=method, markersize=6)
    whole = next(cell for cell in cells() if cell.method == "none")
    ax.plot([whole.mib], [getattr(whole, quantity)], "*", color=theme.ink, label="unquantized", markersize=11)
    best, front = -1.0, []
    for cell in sorted(cells(), key=lambda one: (one.mib, -getattr(one, quantity))):
        if getattr(cell, quantity) > best:
            best = getattr(cell, quantity)
            front.append((cell.mib, best))
    ax.plot(*zip(*front, strict=True), color=theme.ink, linewidth=1, zorder=0)
    ax.set(xlabel="stored, MiB", title=title)
    ax.legend(loc="lower right", fontsize=9)


def by_width(ax: Axes, theme: Theme, *, quantity: str, title: str) -> None:
    """What each quantizer keeps, by its number of bits."""
    whole = next(cell for cell in cells() if cell.method == "none")
    ax.axhline(getattr(whole, quantity), color=theme.ink, linewidth=1, linestyle=":")
    for (method, marker), color in zip(METHODS.items(), theme.series, strict=True):
        shown = sorted((cell for cell in cells() if cell.method == method), key=lambda one: -one.bits)
        place = [("8", "4", "3", "2").index(str(cell.bits)) for cell in shown]
        ax.plot(place, [getattr(cell, quantity) for cell in shown], marker + "-", color=color, label=method)
    ax.set(xticks=range(4), xticklabels=["8", "4", "3", "2"], xlabel="bits a weight", title=title)
    ax.legend(loc="lower left" if quantity == "accuracy" else "upper left", fontsize=9)


def accuracy(ax: Axes, theme: Theme) -> None:
    """What the accuracy would be on other pictures: resamples of the pictures."""
    given = answers()
    _, which = np.unique(given.image, return_inverse=True)
    right, asked = (np.bincount(which, weights=values) for values in (given.correct, np.ones_like(given.correct)))
    drawn = np.random.default_rng(0).integers(len(right), size=(4000, len(right)))
    found = 100 * right[drawn].sum(1) / asked[drawn].sum(1)
    low, high = np.quantile(found, [0.025, 0.975])
    ax.hist(found, bins=40, color=theme.series[0], alpha=0.55)
    ax.axvline(100 * given.correct.mean(), color=theme.ink)
    ax.axvspan(low, high, color=theme.series[1], alpha=0.18, linewidth=0)
    ax.set(xlabel="accuracy on resampled pictures, %", yticks=[])
    ax.set_title(f"{100 * given.correct.mean():.1f} %, 95 % interval {low:.1f} to {high:.1f}")


def ece(ax: Axes, theme: Theme) -> None:
    """The reliability diagram: what is claimed against what is right, bin by bin."""
    given = answers()
    diagram = functional.reliability_diagram(given.confidence, given.correct, n_bins=10)
    error = functional.calibration_error(given.confidence, given.correct, n_bins=10)
    claimed, right, count = (np.asarray(values) for values in (diagram.confidence, diagram.accuracy, diagram.size))
    ax.plot([0, 1], [0, 1], color=theme.ink, linewidth=1, linestyle=":")
    ax.vlines(claimed, claimed, right, color=theme.series[1], linewidth=2.5)
    ax.scatter(claimed, right, s=10 + count / 3, color=theme.series[0], zorder=3)
    ax.set(xlabel="mean confidence of a bin", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set_title(f"ECE {100 * error:.1f} %: the gaps (orange), weighted by answers")


def aurc(ax: Axes, theme: Theme) -> None:
    """Risk against coverage: the area below it, and the point at a risk."""
    given = answers()
    curve = functional.risk_coverage_curve(given.confidence, given.correct)
    coverage, risk = 100 * np.asarray(curve.coverage), 100 * np.asarray(curve.risk)
    area = 100 * functional.aurc(given.confidence, given.correct)
    answered = 100 * functional.coverage_at_risk(given.confidence, given.correct, risk=0.05)[0]
    ax.plot(coverage, risk, color=theme.series[0])
    ax.fill_between(coverage, risk, color=theme.series[0], alpha=0.2, linewidth=0)
    ax.axhline(5, color=theme.ink, linewidth=1, linestyle=":")
    ax.plot([answered], [5], "o", color=theme.series[1])
    ax.annotate(f"C@5% = {answered:.1f} %", (answered, 5), (-8, 8), textcoords="offset points", ha="right")
    ax.set(xlabel="answered, % (surest first)", ylabel="wrong among these, %", ylim=(0, None), xlim=(0, 100))
    ax.set_title(f"AURC {area:.2f} %: the mean height of the curve")


def augrc(ax: Axes, theme: Theme) -> None:
    """Wrong answers given, of all questions, against coverage."""
    given = answers()
    curve = functional.risk_coverage_curve(given.confidence, given.correct)
    coverage = 100 * np.asarray(curve.coverage)
    joint = np.asarray(curve.risk) * coverage
    area = 100 * functional.augrc(given.confidence, given.correct)
    wrong = 100 * (1 - given.correct.mean())
    ax.plot(coverage, joint, color=theme.series[0])
    ax.fill_between(coverage, joint, color=theme.series[0], alpha=0.2, linewidth=0)
    ax.plot([0, 100], [0, wrong], color=theme.ink, linewidth=1, linestyle=":", label="confidence that says nothing")
    ax.plot(
        [0, 100 - wrong, 100],
        [0, 0, wrong],
        color=theme.series[2],
        linewidth=1.2,
        linestyle="--",
        label="perfect order",
    )
    ax.set(xlabel="answered, % (surest first)", ylabel="wrong, % of all questions", ylim=(0, None), xlim=(0, 100))
    ax.set_title(f"AUGRC {area:.2f} %: the area below the solid line")
    ax.legend(loc="upper left", fontsize=9)


def certified(ax: Axes, theme: Theme) -> None:
    """The threshold that looks good, and the one that can be promised."""
    given = answers()
    certificate = certify(given.confidence, given.correct, risk=0.1, group=given.image)
    curve = functional.risk_coverage_curve(given.confidence, given.correct)
    coverage, risk = 100 * np.asarray(curve.coverage), 100 * np.asarray(curve.risk)
    looks = 100 * functional.coverage_at_risk(given.confidence, given.correct, risk=0.1)[0]
    promised = 100 * float((given.confidence >= certificate.threshold).mean())
    ax.plot(coverage, risk, color=theme.series[0])
    ax.axhline(10, color=theme.ink, linewidth=1, linestyle=":")
    ax.axvspan(promised, looks, color=theme.series[1], alpha=0.15, linewidth=0)
    ax.axvline(promised, color=theme.series[2])
    ax.axvline(looks, color=theme.series[1], linestyle="--")
    ax.annotate(
        f"promised\n{promised:.0f} %",
        (promised, 14.5),
        (-5, 0),
        textcoords="offset points",
        ha="right",
        color=theme.series[2],
    )
    ax.annotate(
        f"looks\nlike\n{looks:.0f} %", (looks, 14.5), (4, -12), textcoords="offset points", color=theme.series[1]
    )
    ax.set(xlabel="answered, % (surest first)", ylabel="wrong among these, %", ylim=(0, 18), xlim=(0, 100))
    ax.set_title("At most 10 % wrong: seen, and certified")


def phi(ax: Axes, theme: Theme) -> None:
    """Effective reliability by threshold, at three costs of a wrong answer."""
    given = answers()
    thresholds = np.linspace(0, 1, 201)
    labels = ((0.57, 76, "center"), (0.9, 45, "right"), (0.89, -30, "right"))
    for cost, color, dash, (x, y, side) in zip((1, 10, 100), theme.series, ("-", "--", "-."), labels, strict=False):
        found = (functional.effective_reliability(given.confidence, given.correct, cost, one) for one in thresholds)
        value = 100 * np.fromiter(found, dtype=float)
        best = int(np.argmax(value))
        ax.plot(thresholds, value, color=color, linestyle=dash)
        ax.plot(thresholds[best], value[best], "o", color=color)
        ax.text(x, y, f"cost {cost}: {value[best]:.0f} % from {thresholds[best]:.2f} on", ha=side, color=color)
    ax.axhline(0, color=theme.ink, linewidth=1, linestyle=":")
    ax.set(
        xlabel="answered from this confidence on", ylabel="effective reliability, %", ylim=(-60, 100), xlim=(0.2, 1.02)
    )
    ax.set_title("A wrong answer costs 1, 10 or 100 right ones")


def auroc(ax: Axes, theme: Theme) -> None:
    """Confidences of right and of wrong answers."""
    given = answers()
    right, wrong = given.confidence[given.correct >= 0.5], given.confidence[given.correct < 0.5]
    bins = np.linspace(0, 1, 26)
    ax.hist(right, bins=bins, color=theme.series[0], alpha=0.5, label=f"{len(right)} right answers", density=True)
    ax.hist(
        wrong,
        bins=bins,
        color=theme.series[1],
        histtype="step",
        linewidth=2,
        label=f"{len(wrong)} wrong answers",
        density=True,
    )
    ax.axvspan(0.9, 1, color=theme.series[1], alpha=0.13, linewidth=0)
    surely = 100 * functional.confidently_wrong(given.confidence, given.correct, sure=0.9)
    ax.annotate(
        f"wrong and above .9:\n{surely:.1f} % of all answers", (0.9, 8), (-6, 0), textcoords="offset points", ha="right"
    )
    area = 100 * functional.auroc(given.confidence, given.correct)
    ax.set(xlabel="confidence", yticks=[], xlim=(0.2, 1.0))
    ax.set_title(f"AUROC {area:.1f} %: how often a right answer is surer")
    ax.legend(loc="upper left", fontsize=9)


PICTURES: dict[str, Callable[[Axes, Theme], None]] = {
    "size_accuracy": partial(by_size, quantity="accuracy", title="right answers, %"),
    "size_coverage": partial(by_size, quantity="coverage", title="answered at 5 % risk, %"),
    "width_accuracy": partial(by_width, quantity="accuracy", title="right answers, %"),
    "width_aurc": partial(by_width, quantity="aurc", title="AURC, % (lower is better)"),
    "accuracy": accuracy,
    "ece": ece,
    "aurc": aurc,
    "augrc": augrc,
    "certified": certified,
    "phi": phi,
    "auroc": auroc,
}
"""What draws each picture."""


def draw(folder: Path) -> list[Path]:
    """Write every picture in both themes.

    Args:
        folder: Where; made where it is missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, drawn in PICTURES.items():
        for theme in (LIGHT, DARK):
            with styled(theme):
                figure = Figure(figsize=(3.9 if "_" in name else 5.2, 3.1), layout="constrained")
                drawn(figure.subplots(), theme)
                path = folder / f"{name}.{theme.name}.svg"
                with replacing(path) as place:
                    figure.savefig(place, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
                written.append(path)
    return written


@contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """How all pictures look; letters stay letters, so that files are small and can be searched."""
    style: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "reliabit",
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.grid,
        "legend.framealpha": 0,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), theme.ink),
    }
    with mpl.rc_context(style):
        yield


if __name__ == "__main__":
    for one in draw(FOLDER):
        sys.stdout.write(f"{one.relative_to(PROJECT)}: {one.stat().st_size / 1000:.0f} kB\n")
