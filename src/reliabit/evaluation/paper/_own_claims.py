"""What the paper leaves open and a sweep can answer: claims of ours, tested and judged like the paper's.

Each says what one would like to rely on; none is assumed.
"""

from collections.abc import Iterator

from reliabit.evaluation.cells import SELECTOR, Cell
from reliabit.evaluation.certification import carried_between
from reliabit.evaluation.paper._claims import DATA_AWARE, LOW_BITS, Claim, against_unquantized, paired
from reliabit.evaluation.paper._contrasts import (
    ABOVE_ZERO,
    BELOW_ZERO,
    NOT_ABOVE_ZERO,
    Condition,
    Planned,
    within,
)
from reliabit.evaluation.paper._measurement import MeasuredModel
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.evaluation.resampled import Resampled
from reliabit.evaluation.sets import IN_DOMAIN
from reliabit.metrics.definitions import ACCURACY, AURC, SURE, carried_risk, confidently_wrong

_TRANSFERRED = "selector_transfer"
_AS_GOOD = 0.01
_CERTIFIED_AT, _CARRIED_TO = 4, 3


def _lower_bits_are_confidently_wrong(model: MeasuredModel) -> list[Condition]:
    planned = against_unquantized(model, LOW_BITS, {confidently_wrong(SURE): ABOVE_ZERO})
    return [Condition("every width below 8 bits is more often confidently wrong", planned)]


def _data_aware_is_best(model: MeasuredModel) -> list[Condition]:
    others = dict.fromkeys(cell.quantizer for cell in model.quantized if cell.quantizer != DATA_AWARE)
    conditions = []
    for quantizer in others:
        planned = [
            paired(model, (aware, MAXPROB), (other, MAXPROB), metric, expected=expected)
            for aware, other in _of_both(model, quantizer)
            for metric, expected in ((ACCURACY, ABOVE_ZERO), (AURC, BELOW_ZERO))
        ]
        conditions.append(Condition(f"{DATA_AWARE} beats {quantizer} at every width", planned))
    return [condition for condition in conditions if condition.planned]


def _of_both(model: MeasuredModel, quantizer: str) -> Iterator[tuple[Cell, Cell]]:
    """The data-aware cell and that of another quantizer at each width at which both take as many bytes."""
    for bits in LOW_BITS:
        aware, other = model.find(DATA_AWARE, bits), model.find(quantizer, bits)
        if aware and other and aware.stored_bytes == other.stored_bytes:
            yield aware, other


def _transferred_selector_ranks(model: MeasuredModel) -> list[Condition]:
    cells = [cell for cell in model.quantized if cell.bits in LOW_BITS and _TRANSFERRED in cell.confidences]
    better = [paired(model, (cell, _TRANSFERRED), (cell, MAXPROB), AURC, expected=BELOW_ZERO) for cell in cells]
    alike = [
        paired(model, (cell, _TRANSFERRED), (cell, SELECTOR), AURC, expected=within(_AS_GOOD))
        for cell in cells
        if SELECTOR in cell.confidences
    ]
    return [
        Condition("it ranks better than MaxProb", better),
        Condition("it ranks as well as one trained on the quantized model", alike),
    ]


def _certificate_holds_narrower(model: MeasuredModel) -> list[Condition]:
    planned = [
        _kept_promise(source, other, found.risk, risk=found.certificate.risk)
        for source, other, found in carried_between(model.quantized, model.settings)
        if (source.bits, other.bits) == (_CERTIFIED_AT, _CARRIED_TO)
    ]
    return [Condition("the risk stays within what was certified", planned)]


def _kept_promise(source: Cell, other: Cell, found: Resampled, *, risk: float) -> Planned:
    excess = Resampled(found.estimate - risk, found.replicates - risk)
    what = f"{other.quantization} at the threshold of {source.quantization} - certified risk"
    return Planned(what, carried_risk(risk), IN_DOMAIN, excess, NOT_ABOVE_ZERO)


OWN_CLAIMS = (
    Claim(
        "g, ours",
        f"Lower bits make more answers confidently wrong (above {SURE:g}).",
        "With MaxProb, the share of questions that are answered wrongly with a confidence above "
        f"{SURE:g} is larger at 4, 3 and 2 bits than in the unquantized model, for every quantizer.",
        "an unquantized cell and one at 4, 3 or 2 bits",
        _lower_bits_are_confidently_wrong,
    ),
    Claim(
        "h, ours",
        f"{DATA_AWARE} is the best quantizer at equal bytes.",
        f"With MaxProb, the accuracy of {DATA_AWARE} is above that of every other quantizer that takes as many bytes, "
        "and its AURC below, at each of 4, 3 and 2 bits.",
        f"a cell of {DATA_AWARE} and one of another quantizer of the same bytes at 4, 3 or 2 bits",
        _data_aware_is_best,
    ),
    Claim(
        "i, ours",
        "A Selector trained on the unquantized model serves a quantized one.",
        "At 4, 3 and 2 bits, AURC of the transferred Selector is below that of MaxProb, and within "
        f"{100 * _AS_GOOD:g} point of that of a Selector trained on the answers of the quantized model itself.",
        f"a cell with {_TRANSFERRED} at 4, 3 or 2 bits",
        _transferred_selector_ranks,
    ),
    Claim(
        "j, ours",
        f"A threshold certified at {_CERTIFIED_AT} bits holds at {_CARRIED_TO}.",
        f"The threshold of MaxProb that was certified on the answers at {_CERTIFIED_AT} bits keeps the risk of the "
        f"answers at {_CARRIED_TO} bits within what was certified, for every quantizer and risk that has one.",
        f"a quantizer at {_CERTIFIED_AT} and {_CARRIED_TO} bits, and a threshold certified at {_CERTIFIED_AT}",
        _certificate_holds_narrower,
    ),
)
"""The claims, in the order of the report; they follow those of the paper."""
