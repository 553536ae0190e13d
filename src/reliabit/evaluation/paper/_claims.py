"""The claims of the paper (arXiv 2602.13289) as contrasts of what was measured.

Each claim plans contrasts for one model; `findings` corrects for their number and judges them. The numbers in the
texts, 98 % of the accuracy and 0.4 points, are the paper's own.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

from reliabit.evaluation.cells import SELECTOR, Cell
from reliabit.evaluation.paper._contrasts import (
    ABOVE_ZERO,
    BELOW_ZERO,
    NOT_BELOW_ZERO,
    SHORT_OF_ZERO,
    Condition,
    Expectation,
    Planned,
    some,
    within,
)
from reliabit.evaluation.paper._measurement import MeasuredModel, mixture_of
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.evaluation.sets import IN_DOMAIN, mixture_name
from reliabit.metrics.definitions import ACCURACY, AURC, coverage_at
from reliabit.metrics.metric import Metric

COVERAGE = coverage_at(0.01)
LOW_BITS = (4, 3, 2)
DATA_FREE, DATA_AWARE = "hqq", "mbq"
_KEPT_ACCURACY, _KEPT = 0.98, "98 %"
_EQUIVALENCE_MARGIN = 0.004


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: Its letter.
        statement: What the paper says.
        test: What would have to hold here.
        needs: What must have been measured.
        conditions: Plans its contrasts for one model.
    """

    name: str
    statement: str
    test: str
    needs: str
    conditions: Callable[[MeasuredModel], list[Condition]]


def _lower_bits_lose_accuracy(model: MeasuredModel) -> list[Condition]:
    planned = against_unquantized(model, LOW_BITS, {ACCURACY: BELOW_ZERO})
    return [Condition("every width below 8 bits is less accurate", planned)]


def _lower_bits_lose_reliability(model: MeasuredModel) -> list[Condition]:
    planned = against_unquantized(model, LOW_BITS, {AURC: ABOVE_ZERO, COVERAGE: BELOW_ZERO})
    return [Condition("every width below 8 bits is less reliable", planned)]


def _eight_bits_are_as_good(model: MeasuredModel) -> list[Condition]:
    equivalent = within(_EQUIVALENCE_MARGIN)
    planned = against_unquantized(model, (8,), {ACCURACY: equivalent, AURC: equivalent, COVERAGE: equivalent})
    return [Condition("8 bits are equivalent", planned)]


def _data_aware_loses_less(model: MeasuredModel) -> list[Condition]:
    planned = []
    for bits in LOW_BITS:
        aware, free = model.find(DATA_AWARE, bits), model.find(DATA_FREE, bits)
        if aware and free:
            planned += [
                paired(model, (aware, MAXPROB), (free, MAXPROB), metric, expected=expected)
                for metric, expected in ((ACCURACY, ABOVE_ZERO), (AURC, BELOW_ZERO))
            ]
    return [Condition(f"{DATA_AWARE} beats {DATA_FREE} at every width", planned)]


def _selector_beats_maxprob(model: MeasuredModel) -> list[Condition]:
    planned = [
        paired(model, (cell, SELECTOR), (cell, MAXPROB), metric, expected=expected)
        for cell in _with_selector(model)
        for metric, expected in ((AURC, BELOW_ZERO), (COVERAGE, ABOVE_ZERO))
    ]
    return [Condition("the Selector is better at every width", planned)]


def _selector_softens_collapse(model: MeasuredModel) -> list[Condition]:
    softens, collapses = [], []
    for mixture in dict.fromkeys(mixture_of(part.name) for part in model.sets.values() if part.kind == "mixture"):
        plain, shifted = (mixture_name(mixture, Fraction(share)) for share in (0, 1))
        for cell in _with_selector(model):
            softens.append(
                paired(model, (cell, SELECTOR), (cell, MAXPROB), AURC, expected=BELOW_ZERO, set_name=shifted)
            )
            covered = [model.resampled(cell, SELECTOR, COVERAGE, set_name=name) for name in (shifted, plain)]
            what = f"{cell.quantization}, {SELECTOR}: all shifted - none shifted"
            difference = covered[0].minus_independent(covered[1])
            collapses.append(Planned(what, COVERAGE, f"{shifted} - {plain}", difference, BELOW_ZERO))
    return [
        Condition("where all questions are shifted, the Selector ranks better than MaxProb", softens),
        Condition("where all questions are shifted, the Selector covers less than where none is", collapses),
    ]


def _best_trade_off(model: MeasuredModel) -> list[Condition]:
    chosen, unquantized = model.find(DATA_AWARE, 4), model.unquantized
    if chosen not in _with_selector(model) or chosen is None or unquantized is None:
        return [Condition("4 bits, data-aware, with the Selector")]
    accuracy, coverage = _both_conditions(model, chosen, unquantized, expected=NOT_BELOW_ZERO)
    conditions = [
        Condition(f"{chosen.quantization} keeps {_KEPT} of the accuracy", [accuracy]),
        Condition(f"{chosen.quantization} with the Selector covers no less than none with MaxProb", [coverage]),
    ]
    narrower = [
        Condition(
            f"{cell.quantization} with the Selector misses one of the two",
            list(_both_conditions(model, cell, unquantized, expected=SHORT_OF_ZERO)),
            combine=some,
        )
        for cell in _with_selector(model)
        if cell.bits < chosen.bits
    ]
    return conditions + (narrower or [Condition("a narrower width with the Selector")])


def _both_conditions(
    model: MeasuredModel, cell: Cell, unquantized: Cell, *, expected: Expectation
) -> tuple[Planned, Planned]:
    accuracy, reference = (model.resampled(one, MAXPROB, ACCURACY, set_name=IN_DOMAIN) for one in (cell, unquantized))
    kept = accuracy.minus(reference.times(_KEPT_ACCURACY))
    return (
        Planned(f"{cell.quantization} - {_KEPT} of {unquantized.quantization}", ACCURACY, IN_DOMAIN, kept, expected),
        paired(model, (cell, SELECTOR), (unquantized, MAXPROB), COVERAGE, expected=expected),
    )


def against_unquantized(
    model: MeasuredModel, bits: Collection[int], expected: Mapping[Metric, Expectation]
) -> list[Planned]:
    """Every quantizer at some widths against the unquantized model, with MaxProb; nothing without the latter."""
    unquantized = model.unquantized
    if unquantized is None:
        return []
    return [
        paired(model, (cell, MAXPROB), (unquantized, MAXPROB), metric, expected=side)
        for cell in model.quantized
        if cell.bits in bits
        for metric, side in expected.items()
    ]


def paired(
    model: MeasuredModel,
    one: tuple[Cell, str],
    other: tuple[Cell, str],
    metric: Metric,
    *,
    expected: Expectation,
    set_name: str = IN_DOMAIN,
) -> Planned:
    """A metric of one cell with a confidence less that of another one, on the same questions."""
    sides = [model.resampled(cell, confidence, metric, set_name=set_name) for cell, confidence in (one, other)]
    # Accuracy is that of the answers, whatever confidence they are ranked by.
    names = [
        cell.quantization if metric == ACCURACY else f"{cell.quantization}, {confidence}"
        for cell, confidence in (one, other)
    ]
    return Planned(" - ".join(names), metric, set_name, sides[0].minus(sides[1]), expected)


def _with_selector(model: MeasuredModel) -> list[Cell]:
    return [cell for cell in model.cells if SELECTOR in cell.confidences]


CLAIMS = (
    Claim(
        "a",
        "Lower bits lose accuracy.",
        "The accuracy of every quantizer at 4, 3 and 2 bits is below that of the unquantized model.",
        "an unquantized cell and one at 4, 3 or 2 bits",
        _lower_bits_lose_accuracy,
    ),
    Claim(
        "b",
        "Lower bits lose reliability.",
        "With MaxProb, AURC at 4, 3 and 2 bits is above that of the unquantized model, and C@1% below it, for every "
        "quantizer.",
        "an unquantized cell and one at 4, 3 or 2 bits",
        _lower_bits_lose_reliability,
    ),
    Claim(
        "b, side remark",
        "8 bits are as good as none.",
        f"With MaxProb, accuracy, AURC and C@1% at 8 bits are within {100 * _EQUIVALENCE_MARGIN:g} points of those of "
        "the unquantized model, for every quantizer.",
        "an unquantized cell and one at 8 bits",
        _eight_bits_are_as_good,
    ),
    Claim(
        "c",
        "Data-aware quantization loses less than data-free quantization.",
        "With MaxProb, the accuracy of mbq is above that of hqq, and its AURC below, at each of 4, 3 and 2 bits.",
        "cells of mbq and hqq at the same width of 4, 3 or 2 bits",
        _data_aware_loses_less,
    ),
    Claim(
        "d",
        "The Selector beats MaxProb at every width.",
        "In the domain, AURC of the Selector is below that of MaxProb, and C@1% above it, in every cell.",
        "a cell with the Selector",
        _selector_beats_maxprob,
    ),
    Claim(
        "e",
        "Under strong shift the Selector softens the collapse, but does not prevent it.",
        "On mixtures in which every question is shifted, AURC of the Selector is below that of MaxProb, and C@1% of "
        "the Selector is below its C@1% on the same mixture without shifted questions. The two mixtures are resampled "
        "independently of each other.",
        "a cell with the Selector and shifted questions in mixtures",
        _selector_softens_collapse,
    ),
    Claim(
        "f",
        "4 bits, data-aware, with the Selector is the best trade-off.",
        f"The accuracy of mbq at 4 bits is at least {_KEPT} of that of the unquantized model; C@1% of mbq at 4 bits "
        "with the Selector is not below that of the unquantized model with MaxProb; and every narrower cell with the "
        "Selector, of any quantizer, misses one of the two. So `supported` means that this is the narrowest measured "
        "configuration that does both. It says nothing about other metrics, or about hqq at 4 bits.",
        "an unquantized cell, mbq at 4 bits with the Selector, and a narrower cell with the Selector",
        _best_trade_off,
    ),
)
"""The claims, in the order of the report."""
