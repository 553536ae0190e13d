"""What a task says at its end: what was made, where it lies, the numbers that matter, and what to do next."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.paths import run_command
from reliabit.terminal import Fact, show_result, shown_path
from reliabit.tracking.redaction import redact

if TYPE_CHECKING:
    from reliabit.evaluation.headline import HeadlineNumber

UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))

COMPARED = "quant.bits=2,3,4,8"
"""The widths of the next command's sweep."""


def tell_cell(
    config: Config, *, name: str, metrics: Mapping[str, float], link: str, folder: Path, note: str = ""
) -> None:
    """Say what a single run came to: its headline numbers, its folder, and its run.

    Args:
        config: The run's configuration.
        name: The run's name.
        metrics: What it recorded.
        link: Where its run is seen; empty where it has no page.
        folder: Where its files are.
        note: What else is to be known, such as that an earlier run had its numbers.
    """
    facts = [*number_facts(config, metrics), *_answering_rule(config, folder), ("folder", shown_path(folder))]
    facts += [("run", link)] if link else []
    if note:
        sys.stdout.write(f"{name} {note}\n")
    where = "" if config.data.called() in name.split("·") else f" · {config.data.called()}"
    # What a server quantizes is its own affair.
    then = "" if config.engine.is_remote else widths_command()
    show_result(f"{name}{where}: {_asked(config, metrics)}", facts, then=then)


def _answering_rule(config: Config, folder: Path) -> list[Fact]:
    """When a served model's answers may be taken: whoever asks it applies that by themselves."""
    if not config.engine.is_remote:
        return []
    policy = config.registry
    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))["certificates"]
    found = [one for one in written.get(policy.confidence, ()) if one["risk"] == policy.required_risk]
    if not found or found[0]["threshold"] is None:
        return [("answer where", f"no threshold holds {100 * policy.required_risk:g} % risk on these questions")]
    claim = f"at most {100 * policy.required_risk:g} % wrong, held with {100 * (1 - found[0]['delta']):g} % probability"
    return [("answer where", f"{policy.confidence} >= {found[0]['threshold']:.6f}: {claim}")]


def tell_report(config: Config, metrics: Mapping[str, float], *, place: str) -> None:
    """Say what the report of a predictions table came to.

    Args:
        config: The configuration.
        metrics: What it recorded.
        place: The predictions table.
    """
    facts = [*number_facts(config, metrics), ("every metric", shown_path(config.paths.output_folder() / "report.json"))]
    compared = next_command("task=evaluate", "task.baseline=<another table, or runs:/<id>>")
    show_result(f"{place}: {_asked(config, metrics)}", facts, then="" if config.task.baseline else compared)


def tell_cell_of_sweep(config: Config, *, name: str, metrics: Mapping[str, float], note: str = "") -> None:
    """Say what a cell of a sweep came to in a line; the sweep's table has the rest."""
    first = [f"{one.headline.label} {_plain(one)}" for one in numbers_of(config, metrics)[:3]]
    sys.stdout.write(f"{name}{f' {note}' if note else ''}: {', '.join(first)}\n")


def numbers_of(config: Config, metrics: Mapping[str, float]) -> "list[HeadlineNumber]":
    """The headline numbers of the confidence and at the risk that the policy judges by."""
    # What is told at the end is no part of what is measured, and is loaded after it.
    from reliabit.evaluation.headline import headline_numbers

    policy = config.registry
    return headline_numbers(metrics, confidence=policy.confidence, required_risk=policy.required_risk)


def number_facts(config: Config, metrics: Mapping[str, float]) -> list[Fact]:
    """The headline numbers, with their intervals below each other."""
    numbers = numbers_of(config, metrics)
    wide = max((len(_plain(one)) for one in numbers), default=0)
    return [(one.headline.label, f"{_plain(one).rjust(wide)}  {one.interval}".rstrip()) for one in numbers]


def _plain(number: "HeadlineNumber") -> str:
    return f"{number.headline.text(number.value)} {number.headline.unit}".rstrip()


def _asked(config: Config, metrics: Mapping[str, float]) -> str:
    """What the numbers are of."""
    from reliabit.evaluation.headline import judging
    from reliabit.metrics.definitions import QUESTIONS

    confidence = judging(metrics, wanted=config.registry.confidence)
    questions = f"{metrics[QUESTIONS.name]:,.0f} questions of {config.evaluation.reported}, " * (
        QUESTIONS.name in metrics
    )
    return f"{questions}confidence {confidence}, intervals {100 * config.evaluation.level:g} %"


def command_line(overrides: Sequence[str]) -> str:
    """A command that runs a task, without secrets, to be copied.

    >>> command_line(["-m", "quant.bits=2,4", "data.ask={dev: 1}"])
    "python src/run.py -m quant.bits=2,4 'data.ask={dev: 1}'"
    """
    return redact(f"{run_command()} {shlex.join(overrides)}")


def own_overrides(*left_out: str) -> list[str]:
    """The overrides of this process's job, but for some keys."""
    from hydra.core.hydra_config import HydraConfig

    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [one for one in given if one.lstrip("+~").split("=", 1)[0] not in left_out]


def widths_command() -> str:
    """The command that compares widths of the very model and data of this job."""
    kept = own_overrides("quant.bits", "paths.output", "sweep.force")
    # There are no widths of the unquantized model.
    return command_line(["-m", COMPARED, *(one for one in kept if one != "quant=none")])


def next_command(*overrides: str, without: Sequence[str] = ()) -> str:
    """The command that goes on with the very configuration of this job.

    Args:
        *overrides: What it sets; keys that are set by them are not repeated.
        without: Other keys of this job that it leaves out.
    """
    own = [one.split("=", 1)[0] for one in overrides]
    return command_line([*overrides, *own_overrides("task", "paths.output", *own, *without)])


def shown_bytes(count: int) -> str:
    """Bytes in the largest unit that they fill.

    >>> shown_bytes(5 * 2**30), shown_bytes(1536), shown_bytes(12)
    ('5.00 GiB', '1.50 KiB', '12 bytes')
    """
    for name, size in UNITS:
        if count >= size:
            return f"{count / size:.2f} {name}"
    return f"{count} bytes"
