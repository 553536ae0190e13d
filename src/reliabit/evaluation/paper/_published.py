"""The values that the paper publishes for full-size models, to stand beside ours and never among them.

Source: J. Kurz et al., "Evaluating the Impact of Post-Training Quantization on Reliable VQA with Multimodal LLMs",
arXiv 2602.13289, on VQAv2. The paper's own text was not at hand: the numbers are second-hand, from public reading notes
whose author states to have checked them against the paper's two main tables. The accuracies agree with a second,
independent set of notes; nothing else could be checked twice. Coverage at 0.5 % and 5 % risk, areas, effective
reliability and everything out of distribution were not available to us.
"""

from dataclasses import dataclass

SOURCE = "arXiv 2602.13289 on VQAv2, as cited by reading notes; the paper's own text was not at hand"

FAMILIES = {"idefics3": "Idefics3-8B", "qwen2_vl": "Qwen2-VL-7B"}
"""The models of the paper, by family."""


@dataclass(frozen=True)
class Published:
    """What the paper says of one configuration, in per cent as printed; `None` where we do not know it.

    Attributes:
        model: The full-size model.
        quantizer: `none`, `hqq` or `mbq`.
        bits: Bits a weight; 16 for the unquantized model.
        confidence: `maxprob` or `selector`.
        accuracy: Soft VQA accuracy. It does not depend on the confidence; only the table of MaxProb gives it.
        ece: Expected calibration error; the number of bins is not known.
        coverage_at_1pct_risk: C@1%.
    """

    model: str
    quantizer: str
    bits: int
    confidence: str
    accuracy: float | None
    ece: float
    coverage_at_1pct_risk: float


# Accuracy, ECE and C@1% of Idefics3-8B, then of Qwen2-VL-7B.
_MAXPROB = {
    ("none", 16): ((79.3, 5.1, 23.6), (83.0, 3.5, 42.6)),
    ("hqq", 8): ((79.3, 5.1, 24.0), (82.9, 3.5, 42.7)),
    ("mbq", 8): ((79.3, 5.1, 23.9), (83.0, 3.5, 42.6)),
    ("hqq", 4): ((77.2, 6.1, 16.3), (82.2, 4.0, 39.5)),
    ("mbq", 4): ((78.1, 5.2, 18.0), (82.5, 3.7, 41.1)),
    ("hqq", 3): ((64.0, 7.9, 0.1), (80.1, 9.1, 21.2)),
    ("mbq", 3): ((71.2, 3.9, 7.2), (81.2, 4.6, 37.7)),
}

# ECE and C@1%, in the same order; the row of HQQ at 8 bits is not given.
_SELECTOR = {
    ("none", 16): ((1.4, 36.3), (3.0, 46.4)),
    ("mbq", 8): ((1.9, 36.4), (3.2, 45.9)),
    ("hqq", 4): ((3.2, 30.3), (2.2, 43.7)),
    ("mbq", 4): ((2.6, 32.9), (2.2, 45.4)),
    ("hqq", 3): ((7.0, 7.0), (4.3, 37.1)),
    ("mbq", 3): ((1.4, 19.7), (1.7, 40.8)),
}

PUBLISHED = tuple(
    [
        Published(model, quantizer, bits, "maxprob", *values)
        for (quantizer, bits), columns in _MAXPROB.items()
        for model, values in zip(FAMILIES.values(), columns, strict=True)
    ]
    + [
        Published(model, quantizer, bits, "selector", None, *calibration)
        for (quantizer, bits), pairs in _SELECTOR.items()
        for model, calibration in zip(FAMILIES.values(), pairs, strict=True)
    ]
)
"""Every row of the paper's tables that we know."""


def family_of(model: str) -> str | None:
    """The family of the paper's models that a model's name starts with, however it is spelled.

    >>> family_of("qwen2_vl_tiny"), family_of("Idefics3-8B-Llama3"), family_of("smolvlm")
    ('qwen2_vl', 'idefics3', None)
    """
    spelled = model.lower().replace("-", "_")
    return next((family for family in FAMILIES if spelled.startswith(family)), None)


def published(family: str | None, *, quantizer: str, bits: int, confidence: str) -> Published | None:
    """What the paper says of the full-size model of a family; `None` where we do not know of it.

    Args:
        family: A key of `FAMILIES`, or `None`.
        quantizer: `none`, `hqq`, `mbq`, or one that the paper does not have.
        bits: Bits a weight; 16 for the unquantized model.
        confidence: `maxprob`, `selector`, or one that the paper does not have.

    >>> published("qwen2_vl", quantizer="mbq", bits=4, confidence="maxprob").accuracy
    82.5
    >>> published("qwen2_vl", quantizer="hqq", bits=2, confidence="maxprob")
    """
    wanted = (FAMILIES.get(family or ""), quantizer, bits, confidence)
    return next((row for row in PUBLISHED if (row.model, row.quantizer, row.bits, row.confidence) == wanted), None)
