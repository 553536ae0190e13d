"""What the cells of a sweep come to side by side: its table, what quantization costs, and its Pareto fronts."""

import csv
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.data.image_statistics import image_columns, statistics_of_split
from reliabit.errors import ReliabitError
from reliabit.evaluation.cells import Cell, common_confidence, families_of, is_costed, numbered
from reliabit.evaluation.certification import carried_table
from reliabit.evaluation.comparison import Comparison, compare, compare_slices
from reliabit.evaluation.paired_reliability import Measurements
from reliabit.evaluation.pareto import Pareto, pareto_front
from reliabit.evaluation.prediction_columns import image_keys, reported_rows, scored_answers
from reliabit.evaluation.settings import EvaluationConfig, ParetoSettings
from reliabit.evaluation.short_names import short_names
from reliabit.evaluation.slice_comparison import SliceComparison, compare_slice_rates
from reliabit.evaluation.slice_figure import slice_figure
from reliabit.evaluation.tables import markdown_table
from reliabit.evaluation.trust_figures import overlay_figure
from reliabit.metrics.definitions import ACCURACY, AURC, coverage_at, ece
from reliabit.tracking.recorded_cells import labels
from reliabit.tracking.tags import PARENT_TAG, REUSED

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure
    from mlflow.entities import Run


@dataclass(frozen=True)
class Column:
    """A column: its heading, the metric it shows, and how the number is written."""

    heading: str
    metric: str
    form: str
    scale: float = 1.0

    def text(self, metrics: Mapping[str, float]) -> str:
        """The number of a run as it is written."""
        return format(metrics[self.metric] * self.scale, self.form) if self.metric in metrics else "-"


COLUMNS = (
    Column("accuracy %", ACCURACY.name, ".1f", 100),
    Column("ECE maxprob %", ece(15).name, ".1f", 100),
    Column("C@1% maxprob %", coverage_at(0.01).name, ".1f", 100),
    Column("C@5% maxprob %", coverage_at(0.05).name, ".1f", 100),
    Column("AURC maxprob %", AURC.name, ".2f", 100),
    Column("C@1% selector %", f"{coverage_at(0.01).name}.selector", ".1f", 100),
    Column("C@5% selector %", f"{coverage_at(0.05).name}.selector", ".1f", 100),
    Column("AURC selector %", f"{AURC.name}.selector", ".2f", 100),
)

COSTS = (
    Column("bits/weight", "efficiency/effective_bits", ".2f"),
    Column("stored MiB", "efficiency/stored_bytes", ".2f", 2**-20),
    Column("resident MiB", "efficiency/resident_bytes", ".2f", 2**-20),
    Column("questions/s", "efficiency/samples_per_second", ".0f"),
    Column("peak MiB", "efficiency/peak_memory_bytes", ".0f", 2**-20),
)


@dataclass(frozen=True)
class Summary:
    """A sweep at a glance."""

    headings: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """The table in Markdown."""
        return markdown_table(self.headings, self.rows)

    def csv(self) -> str:
        """The table as comma-separated values."""
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.headings, *self.rows])
        return text.getvalue()


def summarize(
    runs: "Sequence[Run]",
    *,
    parent: str | None = None,
    certified: "Mapping[str, Mapping[str, float]] | None" = None,
) -> Summary:
    """Build the table of some runs; one that did not finish shows its state and no numbers.

    Args:
        runs: The runs.
        parent: The sweep that they are shown for; runs of another one were reused by it.
        certified: Columns of certified coverage by their label, each by the name of the run. A run alone cannot say
            it, as a certificate depends on how many cells it is chosen among.
    """
    names = labels(runs)
    together = certified or {}
    headings = [*(column.heading for column in COLUMNS), *(f"{label} %" for label in together)]
    rows = []
    for run in in_order(runs):
        name = names[run.info.run_id]
        shares = [f"{100 * values[name]:.1f}" if name in values else "-" for values in together.values()]
        rows.append([name, state(run, parent=parent), *_numbers(run, COLUMNS), *shares, *_numbers(run, COSTS)])
    return Summary(["configuration", "state", *headings, *(column.heading for column in COSTS)], rows)


def state(run: "Run", *, parent: str | None = None) -> str:
    """`ok`, `reused` for a finished run of another sweep, or what became of a run instead."""
    if run.info.status != "FINISHED":
        return str(run.info.status).lower()
    return "ok" if parent is None or run.data.tags.get(PARENT_TAG) == parent else REUSED


def _numbers(run: "Run", columns: Sequence[Column]) -> list[str]:
    return [column.text(run.data.metrics) for column in columns]


def in_order(runs: "Sequence[Run]") -> "list[Run]":
    """Runs as every table lists them: by model and data, the unquantized first, then the widest first."""
    return sorted(runs, key=_order)


def _order(run: "Run") -> tuple[str, str, str, int]:
    tags = run.data.tags
    bits = tags.get("bits", "")
    quantized = tags.get("quant", "none") != "none"
    return (
        tags.get("model", ""),
        tags.get("data", ""),
        tags["quant"] if quantized else "",
        -int(bits) if bits.isdigit() else -100,
    )


@dataclass(frozen=True, eq=False)
class BaselineComparisons:
    """Cells beside the unquantized ones, a set for each that differ in their quantization alone.

    Attributes:
        differences: By how much each cell differs.
        slices: What each does to every slice.
        tables: By file name, in Markdown and as CSV.
        figures: By file name, what draws each.
    """

    differences: "list[Comparison]" = field(default_factory=list)
    slices: list[SliceComparison] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)
    figures: "dict[str, Callable[[], Figure]]" = field(default_factory=dict)


def compare_with_baselines(
    cells: Sequence[Cell],
    *,
    settings: EvaluationConfig,
    policy: ParetoSettings,
    compared: int,
    prepared: Path | None = None,
) -> BaselineComparisons:
    """Compare finished cells with the baseline of their model and data set.

    Sets without a baseline are left out; several of one model and data set are numbered.

    Args:
        cells: The finished cells.
        settings: How they are compared.
        policy: What may choose among them.
        compared: How many cells the sweep has, finished or not: what certificates are corrected for.
        prepared: The folder of prepared tables, whose pictures are sliced by what they are like; not where it is None.
    """
    found = BaselineComparisons()
    places: list[str] = []
    for members in families_of(cells):
        baselines = [cell for cell in members if cell.unquantized]
        if not baselines or len(members) < 2:
            continue
        answered = {cell.name: cell.answers for cell in sorted(members, key=lambda cell: not cell.unquantized)}
        baseline = baselines[0]
        where = numbered(baseline.place.replace(" · ", "."), places, between=".")
        places.append(where)
        own = _decided_by(members, policy)
        found.differences.append(compare(answered, settings, baseline=baseline.name))
        found.tables[f"differences.{where}.md"] = found.differences[-1].markdown()
        if settings.slices:
            found.tables[f"slices.{where}.md"] = compare_slices(answered, settings, baseline=baseline.name)
        images = _image_columns(baseline, settings.reported, prepared)
        if settings.slices or images:
            changes = compare_slice_rates(
                answered, settings, own, baseline=baseline.name, comparisons=compared, further=images
            )
            found.slices.append(changes)
            found.tables[f"slice_changes.{where}.md"] = changes.markdown()
            found.tables[f"slice_changes.{where}.csv"] = changes.csv()
            found.figures[f"slice_changes.{where}.png"] = partial(slice_figure, changes, title=where)
        carried = carried_table([cell for cell in members if not cell.mixed], settings)
        if carried:
            found.tables[f"carried.{where}.md"] = carried
        found.figures[f"risk_coverage.{where}.png"] = partial(_curves, answered, where, own)
    return found


def _image_columns(cell: Cell, split: str, prepared: Path | None) -> dict[str, list[str]]:
    """What the pictures of the reported questions are like; nothing where their table is not here."""
    asked = cell.inputs.get(f"data/{split}")
    if prepared is None or asked is None:
        return {}
    # The sweep is told of all the same.
    with suppress(ReliabitError):
        known = statistics_of_split(prepared, split=split, sha256=asked)
        if known is not None:
            return image_columns(image_keys(reported_rows(cell.answers, split)), known)
    return {}


def _curves(answered: "Mapping[str, pa.Table]", where: str, policy: ParetoSettings) -> "Figure":
    curves = [scored_answers(reported_rows(table, policy.reported), policy.confidence) for table in answered.values()]
    named = dict(zip(short_names(list(answered)), curves, strict=True))
    return overlay_figure(named, title=f"{where} · {policy.confidence}", risks=policy.certified_risks)


def _decided_by(cells: Sequence[Cell], policy: ParetoSettings) -> ParetoSettings:
    """The policy, with MaxProb for its confidence where a cell lacks that."""
    return replace(policy, confidence=common_confidence(cells, wanted=policy.confidence))


def pareto_of_sweep(cells: Sequence[Cell], *, policy: ParetoSettings, compared: int) -> dict[str, Pareto]:
    """Place the finished cells of a sweep that have costs, by model and data set; several sets of both are numbered.

    What a served model takes is not always told; such cells have no place.

    Args:
        cells: The finished cells.
        policy: What will choose among them; where a cell lacks its confidence, MaxProb stands for it.
        compared: How many cells the sweep has, finished or not: what the gate corrects for.

    Raises:
        ReliabitError: A cell has no predictions, or lacks the split that reports.
    """
    fronts: dict[str, Pareto] = {}
    for members in families_of([cell for cell in cells if is_costed(cell.metrics)]):
        where = numbered(members[0].place, fronts, between=" · ")
        fronts[where] = pareto_front(members, Measurements(_decided_by(members, policy), comparisons=compared))
    return fronts
