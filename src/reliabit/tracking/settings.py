"""Where runs are recorded, and how sweeps behave."""

from dataclasses import dataclass

from reliabit.settings import MISSING, choice

JOURNAL = "journal://"
"""How the address of an offline journal begins; its folder follows."""


@dataclass
class TrackingConfig:
    """`tracking`: where runs are recorded.

    Attributes:
        uri: The tracking database, `sqlite:///...`, or a server's address.
        artifacts: The artifact folder of a sqlite store.
        experiment: The experiment's name.
        parent_file: Where a cell of a sweep finds its parent run; set by the entry point.
    """

    uri: str = MISSING
    artifacts: str = MISSING
    experiment: str = MISSING
    parent_file: str | None = None


@dataclass
class SweepConfig:
    """`sweep`: how sweeps behave.

    Attributes:
        baseline: Add the unquantized cells.
        force: Repeat what is finished already.
        resume: Go on with an earlier sweep: `last`, or the id of its parent run.
        on_failure: Whether the cells after a failed one still run.
        paper: Close the sweep with the tables, figures and findings of `reliabit.evaluation.paper`.
        pareto_axis: The cost that `pareto.png` shows: stored or resident MiB, milliseconds a question, bits a weight.
        image_slices: Slice questions also by what their pictures are like, where their prepared table is at hand.
        then: The arguments of the run to go on with, which its end names, where it is too early to choose a cell.
        report: Whether its end makes the report (`reliabit.evaluation.sweep_report`), and with the pictures that were
            asked about or without them.
    """

    baseline: bool = MISSING
    force: bool = MISSING
    resume: str | None = MISSING
    on_failure: str = choice("continue", "stop")
    paper: bool = MISSING
    pareto_axis: str = choice("stored", "resident", "latency", "bits")
    image_slices: bool = True
    then: str | None = None
    report: str = choice("full", "without_pictures", "none")
