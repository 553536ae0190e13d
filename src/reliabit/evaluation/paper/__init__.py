"""The report of a sweep over models, quantizers, widths and confidences: the paper's table, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reliabit.evaluation.cells import Cell
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.paper._claims import CLAIMS
from reliabit.evaluation.paper._figures import paper_figures
from reliabit.evaluation.paper._findings import Findings, check_findings
from reliabit.evaluation.paper._measurement import PaperRows, measure_models, paper_rows
from reliabit.evaluation.paper._own_claims import OWN_CLAIMS
from reliabit.evaluation.paper._tables import paper_csv, paper_markdown
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.files import replacing


@dataclass(frozen=True, eq=False)
class PaperReport:
    """The report of a sweep.

    Attributes:
        rows: Every cell with every confidence on every set.
        findings: What that says of the paper's claims, and of ours.
        level: Level of the intervals.
    """

    rows: PaperRows
    findings: Findings
    level: float

    def markdown(self) -> str:
        """The paper's table for each model beside the published values."""
        return paper_markdown(self.rows, level=self.level)

    def csv(self) -> str:
        """Everything in long form, with intervals, as fractions."""
        return paper_csv(self.rows)

    def write(self, folder: Path) -> list[Path]:
        """Write `paper.md`, `paper.csv`, `findings.md`, `findings.json` and the figures, each whole or not at all."""
        texts = {
            "paper.md": self.markdown(),
            "paper.csv": self.csv(),
            "findings.md": self.findings.markdown(),
            "findings.json": self.findings.to_json() + "\n",
        }
        for name, text in texts.items():
            with replacing(folder / name) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
        return [*(folder / name for name in texts), *write_figures(paper_figures(self.rows), folder)]


def paper_report(cells: Sequence[Cell], settings: EvaluationConfig) -> PaperReport:
    """Report on a sweep; a pure function of its predictions tables.

    Args:
        cells: Its finished cells, of one model or several, in any order.
        settings: The split that reports, mixtures, resamples, level and seed. Risks, costs and the number of bins are
            those of the paper's table (15 bins, as the paper's number is not known).

    Raises:
        ReliabitError: The cells cannot be compared; see `_measurement.measure_models`.
    """
    # A plan with a width for each component has no place on an axis of widths.
    models = measure_models([cell for cell in cells if not cell.mixed], settings)
    return PaperReport(
        rows=paper_rows(models, level=settings.level),
        findings=check_findings(models, level=settings.level, claims=(*CLAIMS, *OWN_CLAIMS)),
        level=settings.level,
    )
