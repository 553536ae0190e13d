"""The model card of a bundle: what it is, what it was measured on, how well it does, and what it is not good for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reliabit.config import UNQUANTIZED
from reliabit.evaluation.markdown import markdown_table
from reliabit.evaluation.roles import MAXPROB
from reliabit.metrics import Certificate
from reliabit.registry.decision import Decision
from reliabit.registry.evidence import Configuration
from reliabit.serving.description import Description, certificate_id

MEASURED: Mapping[str, str] = {
    "accuracy/mean": "accuracy",
    "selective/aurc": "AURC",
    "selective/augrc": "AUGRC",
    "calibration/ece_15": "expected calibration error",
    "selective/coverage_at_1pct_risk": "coverage at 1 % risk",
    "selective/coverage_at_5pct_risk": "coverage at 5 % risk",
}
"""What the card shows of a run's metrics, in per cent, each with its interval where the run has one."""

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
        candidate: The configuration.
        decision: What the gate said of it.
        description: What the bundle says of itself.
        metrics: The run's metrics.
        commit: The commit of the code that measured it.
        stand_in: Whether the model is one of the reference models.
    """

    candidate: Configuration
    decision: Decision
    description: Description
    metrics: Mapping[str, float]
    commit: str
    stand_in: bool


def model_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    config, description = facts.candidate.config, facts.description
    parts = [
        f"# {description.name}",
        f"{_what(config)} It answers questions about images, says how sure it is ({description.confidence}), and "
        "withholds answers below a certified threshold.",
        "## Measured on",
        _data(config, description.inputs),
        "## How well it does",
        _numbers(facts.metrics, confidence=description.confidence),
        f"Sizes: {_sizes(facts.metrics)}.",
        "## What is certified",
        _certificates(description.certificates, default=description.default_risk),
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


def _numbers(metrics: Mapping[str, float], *, confidence: str) -> str:
    lines = []
    for name, heading in MEASURED.items():
        # MaxProb's metrics have no name of a confidence, and accuracy has none at all.
        own = name if name.startswith("accuracy/") or confidence == MAXPROB else f"{name}.{confidence}"
        if own in metrics:
            low, high = metrics.get(f"{own}.low"), metrics.get(f"{own}.high")
            ends = "" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}"
            lines.append([heading, f"{100 * metrics[own]:.2f}", ends])
    return markdown_table([f"on the test split, by {confidence}", "%", "95 % interval"], lines)


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
