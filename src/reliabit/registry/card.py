"""The model card of a bundle: what it is, what it was measured on, how well it does, and what it is not good for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reliabit.evaluation.cells import Cell
from reliabit.evaluation.paired_reliability import label
from reliabit.evaluation.prediction_columns import MAXPROB
from reliabit.evaluation.tables import markdown_table, shown
from reliabit.metrics import Certificate
from reliabit.metrics.definitions import AURC, ece
from reliabit.quant.settings import UNQUANTIZED
from reliabit.registry.decision import Decision
from reliabit.serving.bundle.description import Description, certificate_id

RECORDED = (ece(15).name, AURC.name)
"""What the card shows of a run's own metrics; the others are those that the gate measured."""

SIZES: Mapping[str, str] = {
    "efficiency/stored_bytes": "stored",
    "efficiency/resident_bytes": "in memory",
    "efficiency/peak_memory_bytes": "peak while it was evaluated",
}

LIMITS = """\
- The certificates hold for questions and images like those of the data named above, drawn independently. Under a
  shift they promise nothing; watch `/metrics` and `reliabit doctor` for drift.
- A certificate bounds the share of wrong answers among those that are given, on average; it says nothing of one answer,
  and nothing of any group of users or images.
- Confidence is a number that the model's own states give. An answer above the threshold can be wrong."""

STAND_IN = """\
- **This is a stand-in**: a model of some two million parameters, trained from scratch on the data named above. It
  shows that the machinery works, and answers nothing else."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is made of.

    Attributes:
        candidate: The cell.
        decision: What the gate said of it.
        description: What the bundle says of itself.
        commit: The commit of the code that measured it.
        stand_in: Whether the model is one of the reference models.
    """

    candidate: Cell
    decision: Decision
    description: Description
    commit: str
    stand_in: bool


def model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    config, description = facts.candidate.config, facts.description
    parts = [
        f"# {description.name}",
        f"{_what(config)} It answers questions about images, says how sure it is ({description.confidence}), and "
        "withholds answers below a certified threshold.",
        "## How well it does",
        _numbers(facts),
        f"Sizes: {_sizes(facts.candidate.metrics)}.",
        "## What is certified",
        _certificates(description.certificates, default=description.default_risk),
        "## Measured on",
        _data(config, description.inputs),
        "## Limits",
        "\n".join([LIMITS, *([STAND_IN] if facts.stand_in else [])]),
        "## Why it was promoted",
        facts.decision.markdown(),
        "## Where it is from",
        f"Run `{description.run_id}`, fingerprint `{description.fingerprint}`, commit `{facts.commit}`, written by "
        f"reliabit {description.reliabit} at {description.created}.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _what(config: Mapping[str, Any]) -> str:
    model, quant = config["model"], config["quant"]
    if quant["name"] == UNQUANTIZED:
        return f"The model {model['name']} (family {model['family']}), not quantized."
    groups = "whole rows" if quant["group_size"] is None else f"groups of {quant['group_size']}"
    width = "several widths" if quant["bits"] is None else f"{quant['bits']} bits"
    return f"The model {model['name']} (family {model['family']}), quantized by {quant['name']} to {width} in {groups}."


def _data(config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    data = config["data"]
    lines = [[name, f"`{digest}`"] for name, digest in sorted(inputs.items())]
    return f"The data set {data['name']}, seed {data['seed']}:\n\n{markdown_table(['table', 'SHA-256'], lines)}"


def _numbers(facts: CardFacts) -> str:
    """The figures that the decision was made by, and what the run says of itself beside them."""
    settings, measured = facts.decision.policy, facts.decision.measured
    lines = [[name, shown(found), f"{100 * found.level:.4g} %"] for name, found in measured.items()]
    table = markdown_table([f"on the split {settings.reported}", "%, with its interval", "level"], lines)
    recorded, metrics = facts.candidate.config["evaluation"], facts.candidate.metrics
    # MaxProb's metrics have no name of a confidence.
    suffix = "" if settings.confidence == MAXPROB else f".{settings.confidence}"
    own = [
        f"{label(name, settings.confidence)} {100 * metrics[name + suffix]:.2f} %"
        for name in RECORDED
        if name + suffix in metrics
    ]
    return f"{table}\nIts run recorded on the split {recorded['reported']}: {', '.join(own)}." if own else table


def _sizes(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{metrics[name] / 2**20:.2f} MiB {what}" for name, what in SIZES.items() if name in metrics)


def _certificates(certificates: Sequence[Certificate], *, default: float) -> str:
    lines = [
        [
            f"{100 * one.risk:g} %{' (default)' if one.risk == default else ''}",
            f"{100 * (1 - one.delta):g} %",
            f"{one.threshold:.6f}",
            f"{100 * one.coverage:.1f} % of {one.n_cal}",
            f"`{certificate_id(one)}`",
        ]
        for one in certificates
    ]
    headings = ["risk at most", "with probability", "threshold", "answered of the calibration sample", "certificate"]
    return markdown_table(headings, lines)
