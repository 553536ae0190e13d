"""What a task says at its end: what was made, where it lies, the numbers that matter, and what to do next."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reliabit.config import Config
from reliabit.evaluation.headline import HeadlineNumber, headline_numbers, judging
from reliabit.metrics.definitions import QUESTIONS
from reliabit.paths import run_command
from reliabit.terminal import Fact, show_result, shown_path
from reliabit.tracking.redaction import redact

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
    facts = [*number_facts(config, metrics), ("folder", shown_path(folder))]
    facts += [("run", link)] if link else []
    if note:
        sys.stdout.write(f"{name} {note}\n")
    show_result(f"{name}: {_asked(config, metrics)}", facts, then=widths_command())


def tell_cell_of_sweep(config: Config, *, name: str, metrics: Mapping[str, float], note: str = "") -> None:
    """Say what a cell of a sweep came to in a line; the sweep's table has the rest."""
    first = [f"{one.headline.label} {_plain(one)}" for one in numbers_of(config, metrics)[:3]]
    sys.stdout.write(f"{name}{f' {note}' if note else ''}: {', '.join(first)}\n")


def numbers_of(config: Config, metrics: Mapping[str, float]) -> list[HeadlineNumber]:
    """The headline numbers of the confidence and at the risk that the policy judges by."""
    policy = config.registry
    return headline_numbers(metrics, confidence=policy.confidence, required_risk=policy.required_risk)


def number_facts(config: Config, metrics: Mapping[str, float]) -> list[Fact]:
    """The headline numbers, with their intervals below each other."""
    numbers = numbers_of(config, metrics)
    wide = max((len(_plain(one)) for one in numbers), default=0)
    return [(one.headline.label, f"{_plain(one).rjust(wide)}  {one.interval}".rstrip()) for one in numbers]


def _plain(number: HeadlineNumber) -> str:
    return f"{number.headline.text(number.value)} {number.headline.unit}".rstrip()


def _asked(config: Config, metrics: Mapping[str, float]) -> str:
    """What the numbers are of."""
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
