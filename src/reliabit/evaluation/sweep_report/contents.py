"""What a page shows of a sweep, as one value that JSON can hold; `page.js` draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from reliabit.evaluation.cells import EFFECTIVE_BITS, RESIDENT, SPEED, STORED, Cell, families_of
from reliabit.evaluation.comparison import Comparison
from reliabit.evaluation.headline import headline_numbers, headlines, judging
from reliabit.evaluation.pareto import Pareto
from reliabit.evaluation.prediction_columns import MAXPROB, reported_rows, scored_answers
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.evaluation.short_names import short_names
from reliabit.evaluation.slice_comparison import SliceComparison, slice_name
from reliabit.evaluation.slice_rates import rate_name
from reliabit.evaluation.sweep_report.curves import (
    Json,
    operating_points,
    reliability_bins,
    risk_coverage,
    risk_targets,
    shifted_sets,
)
from reliabit.evaluation.sweep_report.pictures import Illustrate, without_pictures
from reliabit.evaluation.sweep_report.questions import SPREAD, shown_questions
from reliabit.metrics.definitions import ACCURACY, AURC, SURE, certified_coverage_at, confidently_wrong
from reliabit.metrics.slice_changes import ALL

QUESTIONS = 60
"""Questions that are shown at most of one model and data set."""

PAIRED = (ACCURACY, AURC, confidently_wrong(SURE))
"""What the page shows of paired differences to the unquantized model."""


@dataclass(frozen=True)
class Provenance:
    """Where a page's numbers come from.

    Attributes:
        title: The sweep's name.
        facts: What a reader needs to find or repeat it, by heading.
        runs: Of each configuration, by its name: its run and fingerprint.
        config: The composed configuration of one of them, as YAML.
        next: The next command.
    """

    title: str
    facts: Mapping[str, str]
    runs: Mapping[str, Mapping[str, str]]
    config: str = ""
    next: str = ""


@dataclass(frozen=True, eq=False)
class ReportedSweep:
    """A sweep and what was found of it.

    Attributes:
        cells: Those that finished.
        compared: How many cells it has, finished or not: among so many a reader chooses.
        settings: How they were measured.
        policy: What would choose among them.
        fronts: Their Pareto fronts.
        comparisons: Their paired differences to unquantized models.
        verdicts: What the policy says of each set of cells that differ in quantization alone, with the run that it
            chooses (None where none), in the order of `families_of`.
        slices: What each does to every slice of the data, of such sets.
        illustrate: Finds pictures.
    """

    cells: Sequence[Cell]
    compared: int
    settings: EvaluationConfig
    policy: ParetoSettings
    fronts: Sequence[Pareto] = ()
    comparisons: Sequence[Comparison] = ()
    verdicts: Sequence[tuple[str, str | None]] = ()
    slices: Sequence[SliceComparison] = ()
    illustrate: Illustrate = without_pictures


def report_contents(sweep: ReportedSweep, provenance: Provenance) -> Json:
    """Everything that a page shows; shares in per cent, sizes in MiB, times in milliseconds.

    Args:
        sweep: The sweep.
        provenance: Where it comes from.

    Raises:
        ReliabitError: A cell has no predictions, or lacks the split that reports.
    """
    families = families_of(sweep.cells)
    verdicts = [*sweep.verdicts, *[("", None)] * (len(families) - len(sweep.verdicts))]
    return {
        "provenance": asdict(provenance),
        "level": 100 * sweep.settings.level,
        "delta": 100 * sweep.policy.delta,
        "compared": sweep.compared,
        "risks": [round(100 * risk, 4) for risk in risk_targets(sweep.policy)],
        "required": 100 * sweep.policy.required_risk,
        "wanted": sweep.policy.confidence,
        "sure": 100 * SURE,
        "families": [
            _family(cells, sweep, verdict=verdict, chosen=chosen)
            for cells, (verdict, chosen) in zip(families, verdicts, strict=True)
        ],
    }


def _family(cells: Sequence[Cell], sweep: ReportedSweep, *, verdict: str, chosen: str | None) -> Json:
    """One set of cells that differ in their quantization alone, the unquantized first."""
    ordered = sorted(cells, key=lambda cell: not cell.unquantized)
    confidences = [name for name in ordered[0].confidences if all(name in cell.confidences for cell in ordered)]
    front = next((one for one in sweep.fronts if any(point.name == ordered[0].name for point in one.points)), None)
    paired = next((one for one in sweep.comparisons if one.baseline == ordered[0].name), None)
    shown, flips, pictures = shown_questions(
        ordered,
        reported=sweep.settings.reported,
        confidences=confidences,
        illustrate=sweep.illustrate,
        most=QUESTIONS,
    )
    return {
        "where": ordered[0].place,
        "verdict": verdict,
        "asked": reported_rows(ordered[0].answers, sweep.settings.reported).num_rows,
        "confidences": confidences,
        "cells": [
            _cell(cell, name, sweep=sweep, confidences=confidences, front=front, paired=paired, chosen=chosen)
            for cell, name in zip(ordered, short_names([cell.name for cell in ordered]), strict=True)
        ],
        "questions": shown,
        "spread": min(SPREAD, len(shown)),
        "flips": flips,
        "pictures": pictures,
        "slices": next((_slices(one) for one in sweep.slices if one.baseline == ordered[0].name), None),
    }


def _slices(found: SliceComparison) -> Json:
    """What is told of the slices, and each of them before and after, in per cent and points."""
    return {
        "verdict": found.verdict,
        "rows": [
            {
                "configuration": found.short[one.configuration],
                "slice": slice_name(one),
                "rate": rate_name(one.metric),
                "questions": one.n_questions,
                "before": round(100 * one.before, 2),
                "after": round(100 * one.after, 2),
                "change": round(100 * one.change.estimate, 2),
                "low": round(100 * one.change.low, 2),
                "high": round(100 * one.change.high, 2),
                "told": "worse" if one.worse else "better" if one.better else "",
            }
            for one in found.changes
            if one.column != ALL
        ],
    }


def _cell(
    cell: Cell,
    name: str,
    *,
    sweep: ReportedSweep,
    confidences: Sequence[str],
    front: Pareto | None,
    paired: Comparison | None,
    chosen: str | None,
) -> Json:
    place = front.places.get(cell.name) if front else None
    return {
        "name": name,
        "whole": cell.name,
        "method": cell.quantizer,
        "bits": None if cell.mixed else cell.bits,
        "unquantized": cell.unquantized,
        "chosen": cell.run_id == chosen,
        "standing": place.standing if place else None,
        "by": list(place.by) if place else [],
        "costs": _costs(cell.metrics),
        "paired": _paired(cell, paired),
        "shifts": shifted_sets(cell.answers, confidences, settings=sweep.settings),
        "by_confidence": {confidence: _by_confidence(cell, confidence, sweep=sweep) for confidence in confidences},
    }


def _by_confidence(cell: Cell, confidence: str, *, sweep: ReportedSweep) -> Json:
    answers = scored_answers(reported_rows(cell.answers, sweep.settings.reported), confidence)
    points = operating_points(cell.answers, confidence, policy=sweep.policy, comparisons=sweep.compared)
    return {
        "numbers": _numbers(cell.metrics, confidence, policy=sweep.policy),
        "curve": risk_coverage(answers),
        "bins": reliability_bins(answers, level=sweep.settings.level),
        "points": points,
    }


def _numbers(metrics: Mapping[str, float], confidence: str, *, policy: ParetoSettings) -> Json:
    """The headline numbers of the answers, with their intervals; certified coverage is among the operating points."""
    if judging(metrics, wanted=confidence) != confidence:
        return {}
    certified = certified_coverage_at(policy.required_risk)
    costs = {one.label for one in headlines() if one.metric in (STORED, RESIDENT, SPEED)}
    found = headline_numbers(metrics, confidence=confidence, required_risk=policy.required_risk)
    return {
        one.headline.heading: {
            "value": round(one.headline.scale * one.value, 3),
            "low": None if one.low is None else round(one.headline.scale * one.low, 3),
            "high": None if one.high is None else round(one.headline.scale * one.high, 3),
            "digits": one.headline.digits,
            "higher": one.headline.higher_is_better,
        }
        for one in found
        if one.headline.label not in costs and not one.headline.metric.startswith(certified.name)
    }


def _costs(metrics: Mapping[str, float]) -> Json:
    """What a configuration takes, as far as it was measured."""
    speed = metrics.get(SPEED)
    found = {
        "stored MiB": metrics.get(STORED, 0) / 2**20,
        "resident MiB": metrics.get(RESIDENT, 0) / 2**20,
        "ms/question": 1000 / speed if speed else 0,
        "bits/weight": metrics.get(EFFECTIVE_BITS, 0),
    }
    return {name: float(f"{value:.4g}") for name, value in found.items() if value}


def _paired(cell: Cell, paired: Comparison | None) -> Json:
    """Differences to the unquantized model on the same questions, by MaxProb, in points."""
    found = paired.differences.get(cell.name) if paired else None
    if found is None:
        return {}
    return {
        (one.phrase if one is ACCURACY else f"{one.phrase} ({MAXPROB})"): {
            "value": round(one.scale * found[one.name].estimate, 3),
            "low": round(one.scale * found[one.name].low, 3),
            "high": round(one.scale * found[one.name].high, 3),
            "higher": one.higher_is_better,
        }
        for one in PAIRED
    }
