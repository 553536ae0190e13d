"""Measuring somebody's own answers: which rows do what, what is resampled, and which thresholds are certified."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reliabit.data.splits import split_by_image
from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.columns import OwnAnswers, check_apart
from reliabit.evaluation.own_answers.report import AnswerReport, CertifiedThreshold, MeasuredConfidence, Measuring, Rows
from reliabit.metrics.bootstrap import Bootstrap, cluster_bootstrap
from reliabit.metrics.certify import Certificate, certify_threshold
from reliabit.metrics.cluster_mean import cluster_mean
from reliabit.metrics.definitions import ACCURACY, AUPR_ERROR, AUROC, COSTS, RISKS
from reliabit.metrics.functional import operating_point
from reliabit.metrics.intervals import Difference
from reliabit.metrics.metric import metric_named
from reliabit.metrics.p_values import fewest_accepted
from reliabit.metrics.suite import Predictions, Suite, full_suite, headline

DRAWN = {"val": 0.25, "cal": 0.5, "test": 0.25}
"""Shares of the groups that plan, certify and try a threshold where no column says which rows do."""

HALVES = {"val": 0.5, "cal": 0.5}
"""Shares of `cal` that plan and certify where there is no `val`."""


_ALIKE = {found["any"].name: found["half"].name for found in (AUROC, AUPR_ERROR)}
"""Metrics that are one where every answer is right or wrong; each takes as long as ten others."""


@dataclass(frozen=True)
class _Roles:
    """Which rows do what.

    Attributes:
        reported: Those that the metrics are of.
        planning: Those that plan the tests of thresholds.
        certifying: Those that decide these tests.
        tried: Those that a certified threshold is tried on.
        chooses: Whether those that plan may choose the thresholds of effective reliability: they do not report.
        notes: How that came to be.
    """

    reported: Rows
    planning: Rows
    certifying: Rows
    tried: Rows
    chooses: bool
    notes: tuple[str, ...]


def measure_answers(answers: OwnAnswers, settings: Measuring | None = None) -> AnswerReport:
    """Measure answers.

    Args:
        answers: The answers.
        settings: What is measured; everything as usual by default.

    Raises:
        ReliabitError: No row reports, or a group is in two splits.
    """
    chosen = settings or Measuring()
    roles = _roles(answers, seed=chosen.seed)
    groups = answers.groups[roles.reported]
    measured, notes = {}, [*answers.notes, *roles.notes]
    estimates, replicates = {}, {}
    for name, confidence in answers.confidences.items():
        suite = full_suite(risks=sorted({*RISKS, *chosen.risks}), costs=COSTS, calibration=name not in answers.outside)
        drawn = _resample(confidence, answers, roles, suite=suite, settings=chosen)
        found = {metric: drawn.interval("", metric, level=chosen.level) for metric in drawn.estimates[""]}
        # Of a few answers that are all right, no resample has a wrong one.
        found[ACCURACY.name] = cluster_mean(answers.correct[roles.reported], groups).interval(level=chosen.level)
        measured[name] = MeasuredConfidence(found, _certified(confidence, answers, roles, settings=chosen))
        estimates[name], replicates[name] = drawn.estimates[""], drawn.replicates[""]
        if name in answers.outside:
            notes.append(
                f"{'; '.join(one.heading for one in full_suite().metrics if one.probability)} are left out: "
                f"{answers.outside[name]}, and calibration is of probabilities from 0 to 1"
            )
    notes += [*_too_few(measured.values()), *_remarks(answers, roles, len(np.unique(groups))), *_biased(measured)]
    differences = _differences(Bootstrap(estimates, replicates), level=chosen.level)
    return AnswerReport(answers, chosen, roles.reported, measured, differences, notes)


def certify_answers(answers: OwnAnswers, settings: Measuring) -> Certificate:
    """Certify a threshold for the first of the risks; without a column that says which rows do what, halves are drawn.

    Raises:
        ReliabitError: A split has no rows, or a group is in two of them.
    """
    (confidence,) = answers.confidences.values()
    everything = np.arange(len(answers.correct))
    if answers.split is None:
        parts = _drawn(answers, everything, HALVES, seed=settings.seed)
    else:
        check_apart(answers)
        parts = {name: np.flatnonzero(answers.split == name) for name in HALVES}
    for name, rows in parts.items():
        if not len(rows):
            raise ReliabitError(f"no row is of the split {name}; give rows of val and of cal, or no split at all")
    roles = _Roles(everything, parts["val"], parts["cal"], everything[:0], chooses=False, notes=())
    return _certified(confidence, answers, roles, settings=settings)[0].certificate


def _resample(
    confidence: npt.NDArray[np.float64], answers: OwnAnswers, roles: _Roles, *, suite: Suite, settings: Measuring
) -> Bootstrap:
    """Every metric on the data and on its resamples; what is the same for answers that are right or wrong, once."""
    correct, planned = answers.correct[roles.reported], answers.correct[roles.planning]
    thresholds = suite.fit_thresholds(confidence[roles.planning], planned) if roles.chooses else {}
    same = _ALIKE if np.isin(correct, (0.0, 1.0)).all() else {}
    drawn = cluster_bootstrap(
        {"": Predictions(confidence[roles.reported], correct, thresholds)},
        answers.groups[roles.reported],
        suite=Suite(tuple(one for one in suite.metrics if one.name not in same)),
        n_resamples=settings.resamples,
        seed=settings.seed,
    )
    estimates, replicates = drawn.estimates[""], drawn.replicates[""]
    names = [one.name for one in suite.metrics if one.cost is None or one.cost in thresholds]
    return Bootstrap(
        {"": {name: estimates[same.get(name, name)] for name in names}},
        {"": {name: replicates[same.get(name, name)] for name in names}},
    )


def _certified(
    confidence: npt.NDArray[np.float64], answers: OwnAnswers, roles: _Roles, *, settings: Measuring
) -> list[CertifiedThreshold]:
    if not (len(roles.planning) and len(roles.certifying)):
        return []
    certified = []
    for risk in settings.risks:
        certificate = certify_threshold(
            confidence[roles.planning],
            answers.correct[roles.planning],
            confidence[roles.certifying],
            answers.correct[roles.certifying],
            risk,
            settings.delta,
            cal_image_ids=answers.groups[roles.certifying] if answers.grouped else None,
            # Whoever compares confidences takes the better one.
            comparisons=len(answers.confidences),
            seed=settings.seed,
        )
        tried = None
        if math.isfinite(certificate.threshold) and len(roles.tried):
            tried = operating_point(confidence[roles.tried], answers.correct[roles.tried], certificate.threshold)
        certified.append(CertifiedThreshold(certificate, tried))
    return certified


def _differences(drawn: Bootstrap, *, level: float) -> dict[str, Difference]:
    """The second confidence less the first, for what every report shows; accuracy does not depend on either."""
    if len(drawn.estimates) == 1:
        return {}
    first, second = drawn.estimates
    shared = [
        one.name
        for one in headline()
        if one is not ACCURACY and one.name in drawn.estimates[first] and one.name in drawn.estimates[second]
    ]
    return {name: drawn.compare(first, name, level=level)[second] for name in shared}


def _roles(answers: OwnAnswers, *, seed: int) -> _Roles:
    everything = np.arange(len(answers.correct))
    if answers.split is None:
        parts = _drawn(answers, everything, DRAWN, seed=seed)
        note = (
            f"no column says which rows certify: a quarter of the groups, drawn with seed {seed}, plan, a half certify "
            "and a quarter try the thresholds; the metrics are of all rows"
        )
        return _Roles(everything, parts["val"], parts["cal"], parts["test"], chooses=False, notes=(note,))
    check_apart(answers)
    of = {name: np.flatnonzero(answers.split == name) for name in ("val", "cal", "test")}
    if not len(of["test"]):
        there = ", ".join(np.unique(answers.split).tolist())
        raise ReliabitError(
            f"{answers.what} has no row of the split test, which reports: {answers.columns['split']} has only {there}"
        )
    notes = [f"metrics are of the rows of test, {len(of['test'])} of {len(everything)}"]
    if not len(of["val"]) and len(of["cal"]):
        of |= _drawn(answers, of["cal"], HALVES, seed=seed)
        notes.append(f"there are no rows of val: half of the groups of cal, drawn with seed {seed}, plan instead")
    if not len(of["cal"]):
        notes.append(
            f"no threshold is certified: {answers.columns['split']} has no rows of cal, which must have had no part in "
            "training or choosing the confidence"
        )
    return _Roles(of["test"], of["val"], of["cal"], of["test"], chooses=bool(len(of["val"])), notes=tuple(notes))


def _drawn(answers: OwnAnswers, rows: Rows, shares: Mapping[str, float], *, seed: int) -> dict[str, Rows]:
    """Rows drawn by group."""
    keys = answers.groups[rows].astype(str)
    parts = split_by_image(keys.tolist(), sizes=shares, seed=seed)
    return {name: rows[np.isin(keys, drawn)] for name, drawn in parts.items()}


def _too_few(measured: Iterable[MeasuredConfidence]) -> list[str]:
    """Risks that so few answers could not certify, had they all been right."""
    found = {}
    for one in (certified.certificate for confidence in measured for certified in confidence.certified):
        needed = fewest_accepted(one.risk, one.delta / one.comparisons)
        if one.n_cal < needed:
            found[one.risk] = (
                f"a risk of {100 * one.risk:g} % takes {needed} answers that certify, all right, "
                f"and there are {one.n_cal}"
            )
    return list(found.values())


def _biased(measured: Mapping[str, MeasuredConfidence]) -> list[str]:
    """Metrics whose interval does not hold their value, as resamples are noisier than the answers."""
    above = {
        metric_named(name).heading
        for one in measured.values()
        for name, found in one.values.items()
        if found.low > found.estimate
    }
    if not above:
        return []
    return [
        f"the interval of {', '.join(sorted(above))} lies above its value: bins of resamples are noisier than those of "
        "the answers; more answers bring both together"
    ]


def _remarks(answers: OwnAnswers, roles: _Roles, groups: int) -> list[str]:
    found = []
    if not answers.grouped:
        found.append("no column tells groups: every answer counts as independent of all others")
    if not roles.chooses:
        found.append("effective reliability (Φ) is left out: its thresholds are chosen on rows of val")
    correct = answers.correct[roles.reported]
    if len(np.unique(correct)) == 1:
        found.append(
            f"all {len(correct)} answers are {correct[0]:g} correct, so that AUROC and what else compares right with "
            "wrong ones is undefined"
        )
    if groups < 30:
        found.append(f"{groups} groups are few: intervals that are resampled from them are too narrow")
    return found
