"""The report of a sweep as text: the paper's table in Markdown beside the published values, and everything as CSV."""

from collections.abc import Iterator, Sequence

from reliabit.evaluation.confidences import ConfidenceMeasurement
from reliabit.evaluation.paper._measurement import DIFFERENCES, TABLE, PaperRow, PaperRows, mixture_of
from reliabit.evaluation.paper._published import FAMILIES, SOURCE, Published, family_of, published
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.evaluation.tables import csv_table, ends, markdown_table, signed
from reliabit.metrics.definitions import ACCURACY, AURC, coverage_at
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import Metric

_ACROSS_SETS = (ACCURACY, coverage_at(0.01), AURC)
"""The metrics shown for shifts and mixtures; the CSV has all."""

UNKNOWN = "-"


def paper_markdown(rows: PaperRows, *, level: float) -> str:
    """The paper's table for each model, in per cent, then its intervals, differences to MaxProb, shifts and mixtures.

    Args:
        rows: What was measured.
        level: Level of the intervals.
    """
    return (
        "# Reliability under quantization\n\n"
        "All values in per cent; AURC and ECE are better when lower. Columns headed *published, full size* are not "
        f"ours ({SOURCE}): another model of the same family, asked other questions. The models measured here stand in "
        "for those and are compared with them in their trends, not digit by digit.\n"
        + "".join(_model(rows, model, level=level) for model in rows.models)
    )


def paper_csv(rows: PaperRows) -> str:
    """Every metric and every difference to MaxProb with its interval, one row each, as fractions."""
    cell = ["model", "quantizer", "bits", "run", "stored_bytes", "effective_bits"]
    about = ["set", "kind", "shifted_share", "questions", "confidence", "metric", "value", "low", "high"]
    return csv_table([*cell, *about], (line for row in rows.rows for line in _csv_lines(row)))


def _csv_lines(row: PaperRow) -> Iterator[list[object]]:
    cell, measured = row.cell, row.measured
    about = [cell.model_name, cell.quantizer, cell.bits, cell.name, cell.stored_bytes, f"{cell.effective_bits:.6g}"]
    about += [measured.set_name, measured.kind, f"{measured.shifted_share:.6g}", measured.questions]
    named = [*measured.values.items()]
    named += [(f"{metric} minus {MAXPROB}", found) for metric, found in measured.against_maxprob.items()]
    for metric, found in named:
        yield [*about, measured.confidence, metric, *ends(found)]


def _model(rows: PaperRows, model: str, *, level: float) -> str:
    plain = rows.of(model)
    family = family_of(model)
    origin = f"a stand-in for {FAMILIES[family]}" if family else "of a family that the paper does not have"
    text = (
        f"\n## {model}\n\n{model} is {origin}. Questions as they are: {plain[0].measured.questions}.\n\n"
        + _values(plain, family=family)
        + f"\nIntervals at {100 * level:g} %, by bootstrap of images, each by itself.\n\n"
        + _intervals(plain)
    )
    compared = [set_name for kind in ("in_domain", "mixture") for set_name in rows.sets(model, kind=kind)]
    differences = [row for set_name in compared for row in rows.of(model, set_name=set_name)]
    differences = [row for row in differences if row.measured.against_maxprob]
    if differences:
        text += f"\nDifferences to {MAXPROB} on the same answers, in percentage points (* excludes zero).\n\n"
        text += _differences(differences)
    shifts, mixtures = rows.sets(model, kind="shift"), rows.sets(model, kind="mixture")
    if shifts:
        text += _across(rows, model, shifts, title="shifts", headings=shifts)
    for mixture in dict.fromkeys(mixture_of(name) for name in mixtures):
        members = [name for name in mixtures if mixture_of(name) == mixture]
        shares = [f"{name.removeprefix(f'{mixture}_mix_')} % shifted" for name in members]
        text += _across(rows, model, members, title=f"{mixture} mixtures", headings=shares)
    return text


def _values(plain: Sequence[PaperRow], *, family: str | None) -> str:
    headings = ["quantizer", "bits", "bits stored", "size, MB", "confidence", *(metric.heading for metric in TABLE)]
    full = [f"published, full size: {name}" for name in ("Acc", "ECE", "C@1%")] if family else []
    lines = []
    for row in plain:
        cell, measured = row.cell, row.measured
        about = [cell.quantizer, str(cell.bits), f"{cell.effective_bits:.2f}", f"{cell.stored_bytes / 1e6:.1f}"]
        values = [_value(measured, metric) for metric in TABLE]
        known = published(family, quantizer=cell.quantizer, bits=cell.bits, confidence=measured.confidence)
        lines.append([*about, measured.confidence, *values, *(_published(known) if family else ())])
    return markdown_table([*headings, *full], lines)


def _intervals(plain: Sequence[PaperRow]) -> str:
    lines = [
        [
            row.cell.quantization,
            row.measured.confidence,
            *(_ends(row.measured.values.get(metric.name)) for metric in TABLE),
        ]
        for row in plain
    ]
    return markdown_table(["configuration", "confidence", *(metric.heading for metric in TABLE)], lines)


def _differences(rows: Sequence[PaperRow]) -> str:
    lines = [
        [row.measured.set_name, row.cell.quantization, row.measured.confidence]
        + [signed(row.measured.against_maxprob[metric.name]) for metric in DIFFERENCES]
        for row in rows
    ]
    return markdown_table(
        ["questions", "configuration", "confidence", *(f"Δ {metric.heading}" for metric in DIFFERENCES)], lines
    )


def _across(rows: PaperRows, model: str, set_names: Sequence[str], *, title: str, headings: Sequence[str]) -> str:
    found = [rows.of(model, set_name=name) for name in set_names]
    questions = ", ".join(str(part[0].measured.questions) for part in found)
    text = f"\n### {model}: {title}\n\nQuestions: {questions}. Intervals are in the CSV.\n"
    for metric in _ACROSS_SETS:
        # Rows of all sets come in the same order of cells and confidences.
        lines = [
            [
                same[0].cell.quantization,
                same[0].measured.confidence,
                *(_value(row.measured, metric) for row in same),
            ]
            for same in zip(*found, strict=True)
            if metric is not ACCURACY or same[0].measured.confidence == MAXPROB
        ]
        text += f"\n{metric.heading}\n\n" + markdown_table(["configuration", "confidence", *headings], lines)
    return text


def _value(measured: ConfidenceMeasurement, metric: Metric) -> str:
    found = measured.values.get(metric.name)
    return metric.text(found.estimate) if found else UNKNOWN


def _ends(found: Interval | None) -> str:
    return f"{100 * found.low:.2f} to {100 * found.high:.2f}" if found else UNKNOWN


def _published(known: Published | None) -> list[str]:
    values = (known.accuracy, known.ece, known.coverage_at_1pct_risk) if known else (None, None, None)
    return [UNKNOWN if value is None else f"{value:.1f}" for value in values]
