"""Rules about how far a candidate can be trusted, against its unquantized model.

A loss has to be ruled out, not merely unproven: the lower end of the paired interval has to lie above minus the margin
(non-inferiority; Piaggio et al. 2012). The interval holds for few images and few changed answers
(`reliabit.metrics.cluster_mean`); where the images are too few to rule out anything, the reason says how many it takes.
All slices have to pass, so their number needs no correction (Berger 1982), but
a candidate is picked among several after a look at the data, so the level is corrected for how many were compared.
Each reason names the slice that fares worst, with its rate before and after.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from reliabit.evaluation.cells import Cell
from reliabit.evaluation.paired_reliability import ACCURACY, Reliability, label
from reliabit.evaluation.prediction_columns import image_keys, reported_rows, scored_answers
from reliabit.evaluation.resampled import Resampled
from reliabit.evaluation.slice_rates import rate_name, slice_rates
from reliabit.evaluation.tables import shown, signed
from reliabit.metrics.cluster_mean import ClusterMean, cluster_mean
from reliabit.metrics.functional.inputs import FloatArray
from reliabit.metrics.intervals import Interval
from reliabit.metrics.metric import higher_is_better
from reliabit.metrics.slice_changes import large_slices
from reliabit.registry.decision import Reason
from reliabit.registry.policy import Policy


def certified_coverage(candidate: Reliability, policy: Policy, *, level: float) -> Reason:
    """Whether the certified threshold surely accepts as much as the policy asks for."""
    rule, settings = "certified coverage", policy
    certificate = candidate.certificate(settings.required_risk)
    asked = f"{100 * policy.minimum_coverage:g} % are required"
    if certificate is None:
        return Reason(rule, False, f"nothing is certified, as the splits val and cal were not asked; {asked}.")
    name = label(settings.certified_coverage, settings.confidence, comparisons=certificate.comparisons)
    claim = f"at {100 * settings.required_risk:g} % risk (delta {settings.delta:g}, best of {certificate.comparisons})"
    if np.isinf(certificate.threshold):
        return Reason(rule, False, f"no threshold is certified {claim}; {asked}.")
    coverage = candidate.qualities[settings.certified_coverage].interval(level=level)
    enough = coverage.low >= policy.minimum_coverage
    return Reason(
        rule,
        enough,
        f"{name} is {shown(coverage)} % at {_percent(level)} (delta {settings.delta:g}), by the threshold "
        f"{certificate.threshold:.4f}; {asked}{'' if enough else ', surely'}.",
    )


def accuracy_kept(candidate: Reliability, baseline: Reliability, policy: Policy, *, level: float) -> Reason:
    """Whether a loss of accuracy beyond the margin is ruled out."""
    change = candidate.qualities[ACCURACY].minus(baseline.qualities[ACCURACY])
    loss = change.interval(level=level)
    return Reason(
        "accuracy",
        loss.low >= -policy.accuracy_loss,
        f"accuracy changes by {signed(loss)} points against the baseline at {_percent(level)}; "
        f"{_ruled_out(loss, policy.accuracy_loss)}{too_few(change.mean, policy.accuracy_loss, level=level)}.",
    )


def slices_kept(
    candidate: Cell, baseline: Cell, policy: Policy, *, found: Mapping[str, Reliability], level: float
) -> Iterator[Reason]:
    """Whether accuracy is kept on every slice, one reason a column, and what becomes of the other rates on slices.

    Slices with too few questions to rule anything out are judged together; where even all of them are too few, they
    are named and left out.

    Args:
        candidate: The configuration in question.
        baseline: The same model, unquantized.
        policy: The columns, and how much may be lost.
        found: What was measured of the `candidate` and the `baseline`, their certificates among it.
        level: Of the intervals.
    """
    pairs = _paired_rates(candidate, baseline, policy, found=found)
    rows = reported_rows(candidate.answers, policy.reported)
    images, notes = image_keys(rows), {}
    changes: dict[str, dict[tuple[str, str], _SliceChange]] = {metric: {} for metric in pairs}
    for column in policy.slices:
        slices, left_out = large_slices(rows[column].to_pylist(), smallest=policy.slice_questions)
        notes[column] = f" ({left_out} questions are in slices too small to judge)" if left_out else ""
        for (metric, (before, after)), (value, members) in product(pairs.items(), slices.items()):
            changes[metric][column, value] = _SliceChange(
                name=value,
                before=float(before[members].mean()),
                after=float(after[members].mean()),
                mean=cluster_mean(after - before, images, rows=members, low=-1.0),
            )
    accuracy = changes.pop(ACCURACY)
    for column, note in notes.items():
        own = [change for (sliced, _), change in accuracy.items() if sliced == column]
        rule = f"slices by {column}"
        if own:
            yield _slices_reason(rule, ACCURACY, own, margin=policy.slice_loss, level=level, note=note)
        else:
            few = f"no slice has {policy.slice_questions} questions{note}; ask more, or slice by less."
            yield Reason(rule, False, few)
    for metric, of_slices in changes.items():
        named = [replace(change, name=f"{column} {value}") for (column, value), change in of_slices.items()]
        if named:
            margin = policy.slice_coverage_loss if higher_is_better(metric) else policy.slice_confidently_wrong
            yield _slices_reason(f"{rate_name(metric)} by slice", metric, named, margin=margin, level=level)


def gain(metric: str, one: Reliability, other: Reliability, *, larger_is_better: bool) -> Resampled:
    """By how much one is better than another."""
    difference = one.qualities[metric].minus(other.qualities[metric])
    return difference if larger_is_better else difference.times(-1.0)


def too_few(change: ClusterMean | None, margin: float, *, level: float) -> str:
    """What to say where images are too few to rule out a loss, however few answers change.

    >>> alike = cluster_mean(np.zeros(20), range(20), low=-1.0)
    >>> too_few(alike, 0.02, level=0.95)
    ', for which it takes 183 images like these even if no answer changes, and there are 20'
    >>> too_few(alike, 0.2, level=0.95)
    ''
    """
    if change is None or not margin > 0:
        return ""
    needed, images = change.images_needed(margin, level=level), len(change.sizes)
    if needed <= images:
        return ""
    return f", for which it takes {needed} images like these even if no answer changes, and there are {images}"


@dataclass(frozen=True, eq=False)
class _SliceChange:
    """A rate of one slice, and its change as a mean by image."""

    name: str
    before: float
    after: float
    mean: ClusterMean


def _paired_rates(
    candidate: Cell, baseline: Cell, policy: Policy, *, found: Mapping[str, Reliability]
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """By metric what each question adds to it before and after; no coverage where neither threshold is certified."""
    thresholds = {}
    for role in ("candidate", "baseline"):
        certificate = found[role].certificate(policy.required_risk)
        thresholds[role] = np.inf if certificate is None else certificate.threshold
    certified = any(np.isfinite(list(thresholds.values())))
    before, after = (
        slice_rates(
            scored_answers(reported_rows(cell.answers, policy.reported), policy.confidence),
            thresholds[role] if certified else None,
            risk=policy.required_risk,
        )
        for role, cell in (("baseline", baseline), ("candidate", candidate))
    )
    return {metric: (before[metric], after[metric]) for metric in before}


def _slices_reason(
    rule: str, metric: str, changes: Sequence[_SliceChange], *, margin: float | None, level: float, note: str = ""
) -> Reason:
    """What the policy says of a rate on some slices; without a margin the worst is named and nothing is refused."""
    sign = 1.0 if higher_is_better(metric) else -1.0
    gains = [change.mean.times(sign) for change in changes]
    intervals = [one.interval(level=level) for one in gains]
    place = min(range(len(changes)), key=lambda number: intervals[number].low)
    worst = changes[place]
    change = worst.mean.interval(level=level)
    said = (
        f"the worst of {len(changes)} is {worst.name}, which changes by {signed(change)} points at {_percent(level)} "
        f"({100 * worst.before:.2f} to {100 * worst.after:.2f} %)"
    )
    if margin is None:
        return Reason(rule, True, f"{said}; the policy sets no limit{note}.")
    failed = [one.name for one, loss in zip(changes, intervals, strict=True) if loss.low < -margin]
    told = f"; also {', '.join(name for name in failed if name != worst.name)}" if len(failed) > 1 else ""
    what = "loss" if sign > 0 else "rise"
    return Reason(
        rule,
        not failed,
        f"{said}; {_ruled_out(intervals[place], margin, what=what)}{too_few(gains[place], margin, level=level)}{told}"
        f"{note}.",
    )


def _ruled_out(loss: Interval, margin: float, *, what: str = "loss") -> str:
    more = f"a {what} of more than {100 * margin:g} points"
    if loss.low >= -margin:
        return f"{more} is ruled out"
    verb = "loses" if what == "loss" else "rises by"
    return f"it {verb} more than {100 * margin:g} points" if loss.high < -margin else f"{more} cannot be ruled out"


def _percent(level: float) -> str:
    return f"{100 * level:.4g} %"
