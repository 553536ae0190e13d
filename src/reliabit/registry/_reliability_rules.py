"""Rules about how far a candidate can be trusted, against its unquantized model.

A loss has to be ruled out, not merely unproven: the lower end of the paired interval has to lie above minus the margin
(non-inferiority; Piaggio et al. 2012). The interval holds for few images and few changed answers
(`reliabit.metrics.cluster_mean`); where the images are too few to rule out anything, the reason says how many it takes.
All slices have to pass, so their number needs no correction (Berger 1982), but
a candidate is picked among several after a look at the data, so the level is corrected for how many were compared.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from reliabit.evaluation.cells import Cell
from reliabit.evaluation.paired_reliability import ACCURACY, Reliability, label
from reliabit.evaluation.prediction_columns import image_keys, reported_rows
from reliabit.evaluation.resampled import Resampled
from reliabit.evaluation.tables import shown, signed
from reliabit.metrics.cluster_mean import ClusterMean, cluster_mean
from reliabit.metrics.intervals import Interval
from reliabit.registry.decision import Reason
from reliabit.registry.policy import Policy

SMALL = "all small slices"


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


def slices_kept(candidate: Cell, baseline: Cell, policy: Policy, *, level: float) -> Iterator[Reason]:
    """Whether the same holds on every slice, one reason a column.

    Slices with too few questions to rule anything out are judged together; where even all of them are too few, they
    are named and left out.
    """
    split = policy.reported
    rows, others = (reported_rows(one.answers, split) for one in (candidate, baseline))
    gains = rows["accuracy"].to_numpy() - others["accuracy"].to_numpy()
    images = image_keys(rows)
    for column in policy.slices:
        values = np.array([str(value) for value in rows[column].to_pylist()])
        slices, left_out = _large_enough(values, smallest=policy.slice_questions)
        found = {}
        for name, members in slices.items():
            found[name] = cluster_mean(gains, images, rows=members, low=-1.0)
        yield _slices_reason(column, found, policy, level=level, left_out=left_out)


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


def _large_enough(values: npt.NDArray[np.str_], *, smallest: int) -> tuple[dict[str, npt.NDArray[np.bool_]], int]:
    """The slices to judge, as masks, and how many questions are in none of them."""
    names, counts = np.unique(values, return_counts=True)
    large = {str(name): values == name for name, count in zip(names, counts, strict=True) if count >= smallest}
    rest = ~np.isin(values, list(large))
    if rest.sum() >= smallest:
        return {**large, SMALL: rest}, 0
    return large, int(rest.sum())


def _slices_reason(
    column: str, changes: dict[str, ClusterMean], policy: Policy, *, level: float, left_out: int
) -> Reason:
    rule = f"slices by {column}"
    note = f" ({left_out} questions are in slices too small to judge)" if left_out else ""
    if not changes:
        return Reason(
            rule, False, f"no slice has {policy.slice_questions} questions{note}; ask more, or slice by less."
        )
    found = {name: change.interval(level=level) for name, change in changes.items()}
    worst = min(found, key=lambda name: found[name].low)
    failed = [name for name, loss in found.items() if loss.low < -policy.slice_loss]
    told = f"; also {', '.join(name for name in failed if name != worst)}" if len(failed) > 1 else ""
    return Reason(
        rule,
        not failed,
        f"the worst of {len(found)} is {worst}, which changes by {signed(found[worst])} points at {_percent(level)}; "
        f"{_ruled_out(found[worst], policy.slice_loss)}{too_few(changes[worst], policy.slice_loss, level=level)}{told}"
        f"{note}.",
    )


def _ruled_out(loss: Interval, margin: float) -> str:
    what = f"a loss of more than {100 * margin:g} points"
    if loss.low >= -margin:
        return f"{what} is ruled out"
    return f"it loses more than {100 * margin:g} points" if loss.high < -margin else f"{what} cannot be ruled out"


def _percent(level: float) -> str:
    return f"{100 * level:.4g} %"
