"""`reliabit metrics`: what somebody's own answers are worth, from a file of confidences and of what was right.

Importing this costs nothing, and running it needs neither a configuration nor a store nor torch.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from reliabit.evaluation.own_answers.report import AnswerReport

FORMATS = {"terminal": (), "json": (".json",), "markdown": (".md", ".markdown")}
"""How the report is given, and the ends of the names of files that are written so unless told otherwise."""

_EPILOG = """\
Columns are found by what they are usually called (confidence, correct, group or image, split, second), or named.
`correct` is 0 or 1, true or false, or a share from 0 to 1. Answers of one group are resampled together. Rows of the
split test report, those of val plan, those of cal certify; without a split they are drawn by group.

examples:
  reliabit metrics answers.csv
  reliabit metrics answers.csv --confidence maxprob --second selector --correct accuracy --group image_id
  reliabit metrics answers.parquet --risk 0.02 --figures figures --output report.json
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    text = "measure your own answers: every metric with intervals, certified thresholds, two figures; needs no model"
    parser = commands.add_parser(
        "metrics", help=text, description=text, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command="own_answers.measure", needs_config=False, overrides=[])
    parser.add_argument("file", type=Path, help="a CSV, TSV, JSONL or Parquet file, one answer a row")
    for name, what in (
        ("confidence", "how sure the model was, higher is surer"),
        ("correct", "how right the answer was"),
        ("group", "what it was about, such as an image: the unit of the bootstrap"),
        ("split", "val, cal or test, of which none shares a group with another"),
        ("second", "another confidence, to be compared with the first"),
    ):
        parser.add_argument(f"--{name}", metavar="COLUMN", help=f"the column that tells {what}")
    parser.add_argument(
        "--risk", type=float, action="append", help="a risk to certify a threshold for; 0.01, 0.05 and 0.1 by default"
    )
    parser.add_argument("--delta", type=float, default=0.05, help="the probability that a certificate fails; 0.05")
    parser.add_argument("--level", type=float, default=0.95, help="the confidence level of intervals; 0.95")
    parser.add_argument("--resamples", type=int, default=400, help="resamples of the bootstrap; 400")
    parser.add_argument("--seed", type=int, default=0, help="seeds all that is drawn; 0")
    parser.add_argument("--format", choices=list(FORMATS), help="by default that of --output's name, or the terminal's")
    parser.add_argument("--output", type=Path, help="the file to write the report to, instead of printing it")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="the folder to draw the two figures into")


def measure(_: None, options: argparse.Namespace) -> None:
    """Measure a file, and give the report as asked; it takes no configuration.

    Raises:
        ReliabitError: The file, a column, a value or an option is unusable.
    """
    from reliabit.process import rare_collections

    _check_outputs(options)
    # Everything is imported on the way, the library of figures last.
    with rare_collections():
        report = _measured(options)
        if options.output is None:
            _give(report, options.format or "terminal", sys.stdout)
        else:
            from reliabit.files import replacing

            with replacing(options.output) as unfinished, unfinished.open("w", encoding="utf-8") as file:
                _give(report, options.format or _format_of(options.output), file)
            sys.stderr.write(f"written: {options.output}\n")
        if options.figures is not None:
            for path in report.write_figures(options.figures):
                sys.stderr.write(f"drawn: {path}\n")


def _measured(options: argparse.Namespace) -> "AnswerReport":
    from reliabit.evaluation.own_answers.columns import Columns, read_columns
    from reliabit.evaluation.own_answers.files import open_table
    from reliabit.evaluation.own_answers.measuring import measure_answers
    from reliabit.evaluation.own_answers.report import Measuring

    settings = Measuring(
        **({"risks": tuple(dict.fromkeys(options.risk))} if options.risk else {}),
        delta=options.delta,
        level=options.level,
        resamples=options.resamples,
        seed=options.seed,
    )
    columns = Columns(options.confidence, options.correct, options.group, options.split, options.second)
    return measure_answers(read_columns(open_table(options.file), columns), settings)


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse what could not be written before anything is computed."""
    if options.output is not None:
        from reliabit.files import check_no_folder

        check_no_folder(options.output, option="--output")
    if options.output is not None and options.output.resolve() == options.file.resolve():
        raise ReliabitError(f"--output={options.output} is the file that is read; name another")
    if options.figures is not None and options.figures.exists() and not options.figures.is_dir():
        raise ReliabitError(f"--figures={options.figures} is no folder; name one")


def _format_of(path: Path) -> str:
    return next((name for name, ends in FORMATS.items() if path.suffix.lower() in ends), "terminal")


def _give(report: "AnswerReport", style: str, file: Any) -> None:
    if style == "json":
        file.write(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    elif style == "markdown":
        file.write(report.markdown())
    else:
        report.show(file)
