"""The table of a sweep: one row a configuration, widest weights first."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from reliabit.evaluation.tables import markdown_table
from reliabit.identity import is_transport
from reliabit.metrics.definitions import ACCURACY, AURC, coverage_at, ece
from reliabit.tracking.tracker import PARENT_TAG, REUSED

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Column:
    """A column: its heading, the metric it shows, and how the number is written."""

    heading: str
    metric: str
    form: str
    scale: float = 1.0


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


def decides(key: str) -> bool:
    """Whether runs that differ in a parameter are different for a reader.

    Which model and which files are read is told by their place, though their contents identify a run.

    >>> decides("paths.output"), decides("model.path"), decides("quant.bits")
    (False, True, True)
    """
    return key in ("model.path", "data.root") or not is_transport(key)


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
    for run in sorted(runs, key=_order):
        name = names[run.info.run_id]
        shares = [f"{100 * values[name]:.1f}" if name in values else "-" for values in together.values()]
        rows.append([name, state(run, parent=parent), *_numbers(run, COLUMNS), *shares, *_numbers(run, COSTS)])
    return Summary(["configuration", "state", *headings, *(column.heading for column in COSTS)], rows)


def labels(runs: "Sequence[Run]") -> dict[str, str]:
    """A name for each run by its id: its own, with what tells it apart where others have the same.

    Runs share a name where they differ in something that names leave out, such as the group size; then their
    parameters that differ are added.
    """
    shared: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        shared[run.info.run_name or run.info.run_id].append(run)
    found = {}
    for name, members in shared.items():
        keys = [key for key in members[0].data.params if decides(key) and _differ(members, key)]
        for number, run in enumerate(members, 1):
            parts = [f"{key}={run.data.params.get(key)}" for key in keys]
            # Nothing but the place differs for a cell that was run twice.
            extra = parts or ([f"#{number}"] if len(members) > 1 else [])
            found[run.info.run_id] = " ".join([name, *extra])
    return found


def _differ(runs: "Sequence[Run]", key: str) -> bool:
    return len({run.data.params.get(key) for run in runs}) > 1


def state(run: "Run", *, parent: str | None = None) -> str:
    """`ok`, `reused` for a finished run of another sweep, or what became of a run instead."""
    if run.info.status != "FINISHED":
        return str(run.info.status).lower()
    return "ok" if parent is None or run.data.tags.get(PARENT_TAG) == parent else REUSED


def _numbers(run: "Run", columns: Sequence[Column]) -> list[str]:
    metrics = run.data.metrics
    return [
        format(metrics[column.metric] * column.scale, column.form) if column.metric in metrics else "-"
        for column in columns
    ]


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
