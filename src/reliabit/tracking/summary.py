"""The table of a sweep: one row a configuration, widest weights first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    Column("accuracy %", "accuracy/mean", ".1f", 100),
    Column("ECE %", "calibration/ece_15", ".1f", 100),
    Column("C@1% %", "selective/coverage_at_1pct_risk", ".1f", 100),
    Column("C@5% %", "selective/coverage_at_5pct_risk", ".1f", 100),
    Column("AURC %", "selective/aurc", ".2f", 100),
    Column("certified C@5% %", "certified/coverage_at_5pct_risk", ".1f", 100),
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
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    def csv(self) -> str:
        """The table as comma-separated values."""
        return "".join(",".join(line) + "\n" for line in [self.headings, *self.rows])


def summarize(runs: "Sequence[Run]") -> Summary:
    """Build the table of some runs; one that did not finish shows its state and no numbers."""
    ordered = sorted(runs, key=_order)
    return Summary(
        headings=["configuration", "state", *(column.heading for column in COLUMNS)],
        rows=[[run.info.run_name or run.info.run_id, state(run), *_cells(run)] for run in ordered],
    )


def state(run: "Run") -> str:
    """`ok`, or what became of a run instead."""
    return "ok" if run.info.status == "FINISHED" else str(run.info.status).lower()


def _cells(run: "Run") -> list[str]:
    metrics = run.data.metrics
    return [
        format(metrics[column.metric] * column.scale, column.form) if column.metric in metrics else "-"
        for column in COLUMNS
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
