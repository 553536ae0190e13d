"""Descriptions, which MLflow shows at the top of a run's page: what was found, its figures, and what to do next.

They are Markdown, of which MLflow shows tables, links and pictures, and the first lines without a click. A picture is
an artifact of the run, by the address at which the UI's own server hands it out.

No description comes from elsewhere: a journal holds none, so what is imported has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reliabit.evaluation.headline import HeadlineNumber, headline_numbers, judging
from reliabit.evaluation.tables import markdown_table
from reliabit.metrics.definitions import QUESTIONS
from reliabit.quant.settings import UNQUANTIZED
from reliabit.tracking.redaction import redact
from reliabit.tracking.tags import NOTE
from reliabit.tracking.tracker import Journal, TrackedRun, Tracker
from reliabit.tracking.ui.links import run_page

if TYPE_CHECKING:
    from reliabit.evaluation.settings import ParetoSettings

FIGURES = ("risk_coverage.png", "reliability_diagram.png")
"""The figures of a cell that its description shows."""

PICTURES, WIDTH = "description", 560
"""The folder of a description's pictures among a run's artifacts, and how wide they are, in pixels."""

FIRST = ("accuracy", "AURC", "certified", "stored")
"""How the labels begin of the numbers that stand in a description's first line."""

LONGEST = 7900
"""Characters of a description, so that MLflow cuts none off."""


def describe(tracker: Tracker, run_id: str, text: str) -> None:
    """Give a run its description; a run of a journal gets none."""
    if not isinstance(tracker, Journal):
        tracker.client.set_tag(run_id, NOTE, shortened(redact(text), LONGEST))


def shortened(text: str, length: int) -> str:
    r"""A text without its last lines, where it is too long, and a word about that.

    >>> shortened("one\ntwo\nthree", 9)
    'one\n\n...'
    """
    if len(text) <= length:
        return text
    return text[: text.rfind("\n", 0, length - len("\n\n...") + 1)] + "\n\n..."


def plain(text: str) -> str:
    r"""A text of somebody's own, such as a name, with the signs taken out of force that Markdown or HTML would obey.

    >>> plain("[here](http://evil)|<b>")
    '\\[here\\]\\(http://evil\\)\\|&lt;b&gt;'
    """
    for sign in "\\`*_[]()#!|~":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def picture(run_id: str, artifact: str, *, about: str) -> str:
    """A picture that is an artifact of a run."""
    return f"![{about}](get-artifact?path={quote(artifact)}&run_uuid={run_id})"


def log_pictures(run: TrackedRun, paths: Sequence[Path]) -> list[str]:
    """Record small copies of figures; MLflow shows a picture of a description at its own size, beyond the page's edge.

    Returns:
        Their names as artifacts, in their order; those that are not there are left out.
    """
    from PIL import Image

    found = []
    with TemporaryDirectory() as folder:
        for path in (path for path in paths if path.is_file()):
            small = Path(folder, path.name)
            with Image.open(path) as picture:
                picture.thumbnail((WIDTH, 10 * WIDTH))
                picture.save(small, optimize=True)
            run.log_file(small, folder=PICTURES)
            found.append(f"{PICTURES}/{path.name}")
    return found


def page_link(name: str, *, experiment_id: str, run_id: str) -> str:
    """A run by its name, as a link to its page."""
    return f"[{plain(name)}]({run_page(experiment_id, run_id).removeprefix('/')})"


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What of a policy the headline numbers depend on.

    Attributes:
        confidence: What abstains.
        required_risk: The risk whose certified coverage is shown.
    """

    confidence: str
    required_risk: float


@dataclass(frozen=True, kw_only=True)
class CellNote:
    """What the description of a cell is made of.

    Attributes:
        run_id: Its run.
        config: Its configuration.
        data: What the data set is called.
        metrics: What it measured.
        policy: What may choose it.
        then: The next command.
        figures: Its pictures, see `log_pictures`.
    """

    run_id: str
    config: Mapping[str, Any]
    data: str
    metrics: Mapping[str, float]
    policy: "ParetoSettings | Judging"
    then: str
    figures: Sequence[str] = ()

    def markdown(self) -> str:
        """The description."""
        numbers = headline_numbers(
            self.metrics, confidence=self.policy.confidence, required_risk=self.policy.required_risk
        )
        parts = [
            _in_a_line(numbers),
            self._what(),
            markdown_table(["", "value", "interval"], [_row(one) for one in numbers]),
            "\n\n".join(picture(self.run_id, name, about=Path(name).stem) for name in self.figures),
            f"Next: `{self.then}`",
        ]
        return "\n\n".join(part for part in parts if part)

    def _what(self) -> str:
        """What the numbers are of."""
        config, metrics = self.config, self.metrics
        quant, level = config["quant"], 100 * config["evaluation"]["level"]
        width = "" if quant["bits"] is None else f" to {quant['bits']} bits"
        group = "" if quant["group_size"] is None else f" in groups of {quant['group_size']}"
        how = "not quantized" if quant["name"] == UNQUANTIZED else f"quantized by {plain(quant['name'])}{width}{group}"
        questions = f"{metrics[QUESTIONS.name]:,.0f} questions" if QUESTIONS.name in metrics else "questions"
        confidence = judging(metrics, wanted=self.policy.confidence)
        return (
            f"{plain(config['model']['name'])}, {how}; {questions} of {plain(self.data)} "
            f"({config['evaluation']['reported']}); it abstains by {confidence}; intervals {level:g} %."
        )


def describe_cell(tracker: Tracker, run: TrackedRun, note: CellNote, *, folder: Path) -> None:
    """Give the run of a cell its description, with the figures from a folder; see `describe`."""
    if not isinstance(tracker, Journal):
        pictures = log_pictures(run, [folder / name for name in FIGURES])
        describe(tracker, run.run_id, replace(note, figures=pictures).markdown())


def _in_a_line(numbers: Sequence[HeadlineNumber]) -> str:
    found = [one for one in numbers if one.headline.label.startswith(FIRST)]
    return "**" + ", ".join(f"{one.headline.label} {_value(one)}" for one in found) + "**" if found else ""


def _value(one: HeadlineNumber) -> str:
    return f"{one.headline.text(one.value)} {one.headline.unit}".rstrip()


def _row(one: HeadlineNumber) -> list[str]:
    return [one.headline.label, _value(one), one.interval.replace("[", "").replace("]", "").replace(", ", " to ")]
