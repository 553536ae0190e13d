"""The findings check: whether what was measured supports each claim of the paper, whichever way it falls."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from reliabit.evaluation.paper._claims import CLAIMS, Claim
from reliabit.evaluation.paper._contrasts import Condition, Contrast, Verdict, every
from reliabit.evaluation.paper._measurement import MeasuredModel
from reliabit.evaluation.tables import markdown_table, signed
from reliabit.metrics.intervals import corrected_level


@dataclass(frozen=True)
class JudgedCondition:
    """A part of a claim on one model; see `_contrasts.Condition`."""

    model: str
    name: str
    verdict: Verdict
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class Finding:
    """What was found about one claim.

    Attributes:
        claim: The claim.
        conditions: Its parts, model by model.
        level: The level of each interval, corrected for the number of contrasts of the claim over all models.
    """

    claim: Claim
    conditions: tuple[JudgedCondition, ...]
    level: float

    @property
    def contrasts(self) -> list[Contrast]:
        """All contrasts of the claim."""
        return [contrast for condition in self.conditions for contrast in condition.contrasts]

    @property
    def by_model(self) -> dict[str, Verdict]:
        """The verdict on each model: all conditions must hold, and one that fails refutes the claim."""
        models = dict.fromkeys(condition.model for condition in self.conditions)
        return {
            model: every(condition.verdict for condition in self.conditions if condition.model == model)
            for model in models
        }

    @property
    def verdict(self) -> Verdict:
        """The verdict over all models on which the claim was measured."""
        return every(verdict for verdict in self.by_model.values() if verdict != "not measured")

    def sentence(self) -> str:
        """The verdict in a plain sentence, with what it rests on."""
        if not self.contrasts:
            return f"Not measured: it takes {self.claim.needs}."
        count = {
            verdict: sum(contrast.verdict == verdict for contrast in self.contrasts)
            for verdict in ("supported", "not supported", "undecided")
        }
        models = "; ".join(f"{model}: {verdict}" for model, verdict in self.by_model.items())
        return (
            f"Over all models: {self.verdict} ({models}). Of {len(self.contrasts)} contrasts, each with an interval at "
            f"{100 * self.level:.4g} %, {count['supported']} lie wholly where the claim expects them, "
            f"{count['not supported']} wholly elsewhere, and {count['undecided']} on both sides."
        )


@dataclass(frozen=True)
class Findings:
    """The findings on all claims.

    Attributes:
        level: The level at which all intervals of a claim hold together.
        found: One for each claim, in their order.
    """

    level: float
    found: tuple[Finding, ...]

    def find(self, name: str) -> Finding:
        """The finding on the claim of that letter."""
        return next(finding for finding in self.found if finding.claim.name == name)

    def markdown(self) -> str:
        """The verdicts in one table; then each claim, how it was tested, and its contrasts in percentage points."""
        models = list(dict.fromkeys(model for finding in self.found for model in finding.by_model))
        summary = [
            [
                finding.claim.name,
                finding.claim.statement,
                *(finding.by_model[model] for model in models),
                f"**{finding.verdict}**",
            ]
            for finding in self.found
        ]
        introduction = (
            "# Findings\n\n"
            "The claims of arXiv 2602.13289, and those marked as ours, checked against what was measured here. "
            "*Supported*: every interval lies wholly where the claim expects it. *Not supported*: an interval lies "
            "wholly elsewhere. *Undecided*: neither. The intervals of a claim hold together at "
            f"{100 * self.level:g} % (Bonferroni over its contrasts on all models). Differences are paired: both sides "
            "are resampled by the same images, unless said otherwise.\n\n"
        )
        table = markdown_table(["", "claim", *models, "all models"], summary)
        return introduction + table + "".join(_section(finding) for finding in self.found)

    def to_json(self) -> str:
        """The same as JSON, values as fractions; `null` where an interval is undefined."""
        return json.dumps(
            {"level": self.level, "claims": [_as_json(finding) for finding in self.found]}, indent=2, ensure_ascii=False
        )


def check_findings(models: Sequence[MeasuredModel], *, level: float, claims: Sequence[Claim] = CLAIMS) -> Findings:
    """Judge the claims of the paper by what was measured.

    Args:
        models: All models with all their cells.
        level: The level at which all intervals of a claim are to hold together.
        claims: Which claims.
    """
    return Findings(level, tuple(_check(claim, models, level=level) for claim in claims))


def _check(claim: Claim, models: Sequence[MeasuredModel], *, level: float) -> Finding:
    planned = [(model.model, condition) for model in models for condition in claim.conditions(model)]
    comparisons = sum(len(condition.planned) for _, condition in planned)
    corrected = corrected_level(level, comparisons)
    return Finding(claim, tuple(_judge(model, condition, level=corrected) for model, condition in planned), corrected)


def _judge(model: str, condition: Condition, *, level: float) -> JudgedCondition:
    contrasts = tuple(planned.judge(level=level) for planned in condition.planned)
    return JudgedCondition(
        model, condition.name, condition.combine(contrast.verdict for contrast in contrasts), contrasts
    )


def _section(finding: Finding) -> str:
    text = f"\n## ({finding.claim.name}) {finding.claim.statement}\n\n{finding.claim.test}\n\n{finding.sentence()}\n"
    measured = [condition for condition in finding.conditions if condition.contrasts]
    if not measured:
        return text
    parts = [[condition.model, condition.name, condition.verdict] for condition in finding.conditions]
    lines = [
        [
            condition.model,
            contrast.what,
            contrast.metric.heading,
            contrast.set_name,
            signed(contrast.found),
            contrast.expected,
            contrast.verdict,
        ]
        for condition in measured
        for contrast in condition.contrasts
    ]
    # A single condition a model says no more than the sentence.
    several = len(finding.conditions) > len(finding.by_model)
    if several:
        text += "\n" + markdown_table(["model", "condition", "verdict"], parts)
    headings = ["model", "contrast", "metric", "questions", "difference, points", "expected", "verdict"]
    return text + "\n" + markdown_table(headings, lines)


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.claim.name,
        "statement": finding.claim.statement,
        "test": finding.claim.test,
        "verdict": finding.verdict,
        "by_model": finding.by_model,
        "level": finding.level,
        "comparisons": len(finding.contrasts),
        "conditions": [
            {
                "model": condition.model,
                "name": condition.name,
                "verdict": condition.verdict,
                "contrasts": [_contrast_as_json(contrast) for contrast in condition.contrasts],
            }
            for condition in finding.conditions
        ],
    }


def _contrast_as_json(contrast: Contrast) -> dict[str, object]:
    ends = {name: getattr(contrast.found, name) for name in ("estimate", "low", "high")}
    return {
        "what": contrast.what,
        "metric": contrast.metric.name,
        "set": contrast.set_name,
        **{name: value if math.isfinite(value) else None for name, value in ends.items()},
        "expected": contrast.expected,
        "verdict": contrast.verdict,
    }
