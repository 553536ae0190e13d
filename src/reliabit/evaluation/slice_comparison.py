"""Which questions a quantization harms: every slice before and after, paired, with what can be told named.

Three rates are compared: accuracy, the share of questions that the certified threshold answers, and the share that is
confidently wrong. Each side abstains by its own certificate, as each would be served.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliabit.errors import ReliabitError
from reliabit.evaluation.certification import certificates_of
from reliabit.evaluation.prediction_columns import (
    check_not_fitted_on,
    check_same_questions,
    image_keys,
    reported_rows,
    scored_answers,
)
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.evaluation.short_names import short_names
from reliabit.evaluation.slice_rates import binned, is_coverage, rate_name, slice_rates
from reliabit.evaluation.tables import csv_table, ends, markdown_table, signed
from reliabit.metrics.definitions import SURE
from reliabit.metrics.slice_changes import ALL, SliceChange, slice_changes

if TYPE_CHECKING:
    import pyarrow as pa


HEADINGS = (
    "configuration",
    "baseline",
    "column",
    "value",
    "metric",
    "questions",
    "images",
    "before",
    "after",
    "change",
    "low",
    "high",
    "level",
    "p_value",
    "comparisons",
    "excess",
    "excess_low",
    "excess_high",
    "told",
)
"""Of the CSV: fractions; `told` is `worse`, `better` or nothing."""


@dataclass(frozen=True)
class SliceComparison:
    """Every slice of some configurations, compared with the unquantized one.

    Attributes:
        baseline: What they are compared with.
        confidence: What abstains.
        risk: The risk that thresholds are certified for.
        uncertified: Configurations for which no threshold could be certified, so that they answer nothing.
        changes: All that was compared.
    """

    baseline: str
    confidence: str
    risk: float
    uncertified: tuple[str, ...]
    changes: tuple[SliceChange, ...]

    @property
    def configurations(self) -> list[str]:
        """All but the baseline."""
        return list(dict.fromkeys(one.configuration for one in self.changes))

    @property
    def metrics(self) -> list[str]:
        """The rates."""
        return list(dict.fromkeys(one.metric for one in self.changes))

    def worst(self, configuration: str, metric: str) -> SliceChange | None:
        """The slice that a configuration harms most by one rate: of those whose harm can be told, where there are any.

        Slices that surely fare worse than all other questions go first. None where no slice has a worse rate than
        before.
        """
        own = [one for one in self._slices(configuration) if one.metric == metric and one.harm > 0]
        return max(own, key=lambda one: (one.worse, one.worse and one.hit_harder, one.harm), default=None)

    def sentence(self, configuration: str) -> str:
        """What can be told of one configuration: the worst-hit slice by each rate, or that there is none to name."""
        name = self.short[configuration]
        found = [self.worst(configuration, metric) for metric in self.metrics]
        told = [one for one in found if one is not None and one.worse]
        slices = {(one.column, one.value) for one in self._slices(configuration)}
        if not told:
            return f"{name}: none of {len(slices)} slices is told to be worse than under {self.short[self.baseline]}."
        parts = [f"{rate_name(one.metric)} of {slice_name(one)} {_before_after(one)}" for one in told]
        harder = [slice_name(one) for one in told if one.hit_harder]
        rest = (
            f"{', '.join(dict.fromkeys(harder))} surely more than all other questions"
            if harder
            else ("that any is hit harder than all other questions cannot be told")
        )
        return f"{name}: worst hit of {len(slices)} slices: {'; '.join(parts)}; {rest}."

    @property
    def verdict(self) -> str:
        """The sentence of the configuration with the largest harm that can be told, or that none can be told."""
        told = [one for one in self.changes if one.column != ALL and one.worse]
        if told:
            return self.sentence(max(told, key=lambda one: one.harm).configuration)
        slices = {(one.column, one.value) for one in self.changes if one.column != ALL}
        return (
            f"No harm to any of {len(slices)} slices can be told, under any of {len(self.configurations)} "
            f"configurations, against {self.short[self.baseline]}."
        )

    def markdown(self) -> str:
        """The worst-hit slices of each configuration, then all of them."""
        headings = ["configuration", "rate", "slice", "n", "before", "after", "change", "less all others'"]
        worst = [
            one
            for configuration in self.configurations
            for metric in self.metrics
            if (one := self.worst(configuration, metric)) is not None
        ]
        parts = [
            f"Every slice against {self.short[self.baseline]}, on the same questions; per cent and points. All "
            f"{self._comparisons} intervals of changes hold together at {100 * self._level:.4g} %, and so do those of "
            "what a slice changes by less what all other questions do; a star marks those that exclude zero. "
            f"{self._told_of_coverage} Confidently wrong is the share of questions that are answered wrongly with a "
            f"confidence above {100 * SURE:g} %.\n",
            "## Worst hit\n\n" + markdown_table(headings, map(self._line, worst)),
            "## Every slice\n\n" + markdown_table(headings, map(self._line, self.changes)),
        ]
        return "\n".join(parts)

    def csv(self) -> str:
        """Everything, as fractions."""
        return csv_table(HEADINGS, map(self._record, self.changes))

    @property
    def _told_of_coverage(self) -> str:
        by = f"Answered is what the threshold that is certified for {100 * self.risk:g} % risk ({self.confidence}) "
        if not any(is_coverage(metric) for metric in self.metrics):
            return f"No threshold is certified for {100 * self.risk:g} % risk, so coverage is not compared."
        names = ", ".join(self.short[name] for name in self.uncertified)
        without = f"; none is for {names}" if names else ""
        return f"{by}accepts, each configuration by its own{without}."

    @property
    def short(self) -> dict[str, str]:
        """Each configuration without what all of them share."""
        names = [self.baseline, *self.configurations]
        return dict(zip(names, (name.strip() for name in short_names(names)), strict=True))

    @property
    def _comparisons(self) -> int:
        return self.changes[0].change.comparisons if self.changes else 0

    @property
    def _level(self) -> float:
        """The level at which all intervals hold together."""
        return 1 - self._comparisons * (1 - self.changes[0].change.level) if self.changes else math.nan

    def _slices(self, configuration: str) -> list[SliceChange]:
        return [one for one in self.changes if one.configuration == configuration and one.column != ALL]

    def _line(self, one: SliceChange) -> list[str]:
        return [
            self.short[one.configuration],
            rate_name(one.metric),
            slice_name(one),
            str(one.n_questions),
            f"{100 * one.before:.1f}",
            f"{100 * one.after:.1f}",
            signed(one.change),
            "" if one.excess is None else signed(one.excess),
        ]

    def _record(self, one: SliceChange) -> list[object]:
        found = one.change
        return [
            one.configuration,
            self.baseline,
            one.column,
            one.value,
            one.metric,
            one.n_questions,
            one.n_images,
            f"{one.before:.6g}",
            f"{one.after:.6g}",
            *ends(found),
            f"{found.level:.8g}",
            f"{found.p_value:.4g}",
            found.comparisons,
            *(["", "", ""] if one.excess is None else ends(one.excess)),
            "worse" if one.worse else "better" if one.better else "",
        ]


def compare_slice_rates(
    tables: "Mapping[str, pa.Table]",
    settings: EvaluationConfig,
    policy: ParetoSettings,
    *,
    baseline: str,
    comparisons: int,
    further: Mapping[str, Sequence[Hashable]] | None = None,
) -> SliceComparison:
    """Compare every slice of some predictions tables with the same slice of a baseline.

    Args:
        tables: Predictions by configuration, all about the same questions.
        settings: The columns to slice by, and the level.
        policy: What abstains, and the risk that its threshold is certified for.
        baseline: One of the configurations.
        comparisons: Among how many cells the best will be picked; certificates are corrected for it.
        further: More columns, a value for each reported row.

    Raises:
        ReliabitError: The tables are not about the same questions, or lack a column to slice by.
    """
    check_same_questions(tables, splits=(settings.reported,))
    rows = reported_rows(tables[baseline], settings.reported)
    missing = [column for column in settings.slices if column not in rows.column_names]
    if missing:
        raise ReliabitError(
            f"evaluation.slices names {', '.join(missing)}; the predictions table has {', '.join(rows.column_names)}"
        )
    thresholds = {
        name: _threshold(table, policy, comparisons=comparisons, split=settings.reported)
        for name, table in tables.items()
    }
    certified = any(found is not None and math.isfinite(found) for found in thresholds.values())
    rates = {
        name: slice_rates(
            scored_answers(reported_rows(table, settings.reported), policy.confidence),
            thresholds[name] if certified else None,
            risk=policy.required_risk,
        )
        for name, table in tables.items()
    }
    changes = slice_changes(
        rates,
        image_keys(rows),
        {column: binned(rows[column].to_pylist()) for column in settings.slices} | dict(further or {}),
        baseline=baseline,
        level=settings.level,
    )
    without = tuple(name for name, found in thresholds.items() if found is None or math.isinf(found))
    return SliceComparison(
        baseline=baseline,
        confidence=policy.confidence,
        risk=policy.required_risk,
        uncertified=without,
        changes=changes,
    )


def _threshold(table: "pa.Table", policy: ParetoSettings, *, comparisons: int, split: str) -> float | None:
    """The certified threshold; None where the splits that it takes were not asked, infinite where none is certified."""
    check_not_fitted_on(table, policy.confidence, split=split)
    found = certificates_of(
        table,
        confidence=policy.confidence,
        risks=[policy.required_risk],
        delta=policy.delta,
        seed=policy.seed,
        comparisons=comparisons,
    )
    return found[0].threshold if found else None


def slice_name(one: SliceChange) -> str:
    """What a slice is called, such as `question_type count`."""
    return one.value if one.column == ALL else f"{one.column} {one.value}"


def _before_after(one: SliceChange) -> str:
    return f"{100 * one.before:.1f} to {100 * one.after:.1f} % ({signed(one.change)} points)"
