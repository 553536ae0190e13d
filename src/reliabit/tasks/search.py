"""`task=search`: find a plan for a number of bytes, and write it with the costs behind it."""

from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.evaluation.figure_style import write_figures
from reliabit.evaluation.plan_figure import PLAN_FIGURE, plan_figure
from reliabit.files import write_manifest
from reliabit.models.loading import check_loadable
from reliabit.quant.searched.plan_file import PLAN
from reliabit.tasks._model import stored_type
from reliabit.tasks._results import next_command, shown_bytes
from reliabit.tasks._searched import searched_plan
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result

if TYPE_CHECKING:
    from reliabit.tasks._searched import SearchedPlan

BUDGET_KEYS = ("quant", "quant.budget_mib", "quant.budget_bits")


def search(config: Config) -> None:
    """Write the plan that the configured search finds, and a figure of it.

    Raises:
        ReliabitError: The budget is below the smallest plan, or there is nothing to measure on.
    """
    set_up(config)
    check_loadable(config.model)
    found, output = searched_plan(config, stored=stored_type(config)), config.paths.output_folder()
    written = write_plan(found, output)
    write_manifest(output, written)
    first, cost, second = found.found.first, found.found.cost, found.found.second
    facts = [
        ("bytes", f"{shown_bytes(found.found.size)}, of a budget of {shown_bytes(found.search.budget)}"),
        ("KL", f"{cost.kl:.4f} nats an answer token"),
        ("NLL", f"{cost.nll:.4f} nats an answer token"),
    ]
    if second is not None:
        facts.append(("refined", f"KL {second.kl:.4f} around a first plan of {first.kl:.4f}; the better one is taken"))
    then = next_command("task=pipeline", "quant=plan", f"quant.plan={written[0]}", without=BUDGET_KEYS)
    show_result(f"{written[0]}: {config.model.name}, {found.file.name}", facts, then=then)


def write_plan(searched: "SearchedPlan", folder: Path) -> list[Path]:
    """Write a searched plan and its figure into a folder; returns the two files."""
    plan = searched.file
    plan.write(folder / PLAN)
    assignment = searched.found.assignment
    widths = {(unit.component, unit.layer): assignment[unit.name] for unit in searched.search.units}
    offered = sorted({width for changes in searched.search.sizes.changes.values() for width in changes})
    size = f"{shown_bytes(searched.found.size)}"
    drawn = {PLAN_FIGURE: plan_figure(widths, offered=offered, title=f"{plan.model} · {plan.name} · {size}")}
    return [folder / PLAN, *write_figures(drawn, folder)]
