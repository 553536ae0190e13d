"""What the full-size models need, computed from their published sizes: bytes, and the least time on an H100."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from full_size_models import WHOLE, full_size_config

from reliabit.quant import Footprint, Plan, Rule, Scheme, footprint, plan_from_config

SAME = {"awq": "mbq"}
"""Options that begin with another one and change nothing of what is stored."""
WIDTHS = (8, 4, 3, 2)
READ_EVERY_TOKEN = ("language_attention", "language_mlp", "lm_head")
H100_BYTES_A_SECOND, H100_OPERATIONS_A_SECOND = 3.35e12, 989e12
"""Published figures: memory bandwidth, and dense bfloat16 arithmetic."""
CALIBRATION_IMAGES = 256
OPTIONS = Path(__file__).parents[1] / "conf" / "quant"


@dataclass(frozen=True)
class Picture:
    """What an image of 640x480 becomes, with the question around it.

    Attributes:
        patches: Of the vision tower.
        image_tokens: Of the decoder.
        question_tokens: Prompt and question, about.
        answer_tokens: About.
    """

    patches: int
    image_tokens: int
    question_tokens: int = 30
    answer_tokens: int = 4


# Qwen2-VL merges 2x2 patches of 14 pixels: 46x34 patches, 23x17 tokens. Idefics3 makes the longer side 1456 pixels and
# cuts 4x3 tiles of 364, to which it adds the whole image as one more; a tile is 26x26 patches and 169 tokens.
PICTURES = {"qwen2_vl_7b": Picture(46 * 34, 23 * 17), "idefics3_8b": Picture(13 * 26 * 26, 13 * 169)}


@dataclass(frozen=True)
class DataSet:
    """How much is asked.

    Attributes:
        name: Of the data set.
        questions: Of its validation set.
        images: Of its validation set.
    """

    name: str
    questions: int
    images: int


VQAV2 = DataSet("VQAv2 validation", questions=214_354, images=40_504)


@dataclass(frozen=True)
class Row:
    """A configuration, and the others that take the same room.

    Attributes:
        methods: Options of `quant`.
        bits: Bits of a code, or None where a configuration has no single one.
        size: What it takes.
    """

    methods: tuple[str, ...]
    bits: int | None
    size: Footprint


def plan_of(method: str, bits: int | None) -> Plan | None:
    """The plan of an option of `quant`, at a width."""
    options = yaml.safe_load((OPTIONS / f"{SAME.get(method, method)}.yaml").read_text(encoding="utf-8"))
    defaults = {key: options[key] for key in ("method", "group_size", "zero", "solver", "p_norm") if key in options}
    if options.get("method", options["name"]) == "none":
        return None
    return plan_from_config(options["rules"], defaults={**defaults, "bits": bits})


@functools.cache
def rows(name: str) -> tuple[Row, ...]:
    """The configurations of a model; those that store the same modules in the same layout share a row."""
    config, found = full_size_config(name), dict[tuple[Rule, ...], Row]()
    for method, bits in configurations():
        plan = plan_of(method, bits)
        stored = () if plan is None else tuple(_stored_as(rule) for rule in plan.rules)
        if stored in found:
            found[stored] = replace(found[stored], methods=(*found[stored].methods, method))
        else:
            found[stored] = Row((method,), bits, footprint(config, plan))
    return tuple(found.values())


def _stored_as(rule: Rule) -> Rule:
    """A rule without what only says how its codes are found."""
    scheme = rule.scheme
    return replace(rule, scheme=Scheme(bits=scheme.bits, group_size=scheme.group_size, zero=scheme.zero))


def configurations() -> Iterator[tuple[str, int | None]]:
    """The options of `quant` with their widths."""
    yield "none", None
    for bits in WIDTHS:
        for method in ("rtn", "hqq", "hqq_plus", "awq", "mbq"):
            yield method, bits
    yield "hybrid", None


def read_bytes(size: Footprint) -> int:
    """Bytes of weights that decoding a token reads: the decoder layers' matrices and the output embeddings."""
    return sum(size.components[part].stored_bytes for part in READ_EVERY_TOKEN)


def question_seconds(name: str, size: Footprint, *, shared: bool, data: DataSet = VQAV2) -> float:
    """The least that answering a question takes on an H100: arithmetic for the prompt, reading for the answer.

    Attention's own arithmetic, reading the key-value cache and everything beside the model are left out.

    Args:
        name: The model.
        size: What it takes.
        shared: Whether the questions of an image are answered in one batch that shares its vision features and its
            key-value prefix; otherwise each is answered alone.
        data: How many questions an image has.
    """
    picture, parts = PICTURES[name], size.components
    language = parts["language_attention"].weights + parts["language_mlp"].weights
    image = 2 * (parts["vision"].weights * picture.patches + language * picture.image_tokens)
    reading = picture.answer_tokens * read_bytes(size) / H100_BYTES_A_SECOND
    times = data.images / data.questions if shared else 1.0
    arithmetic = times * image + 2 * language * picture.question_tokens
    return arithmetic / H100_OPERATIONS_A_SECOND + times * reading


def calibration_bytes(name: str, dtype: torch.dtype = torch.bfloat16) -> dict[str, int]:
    """What a calibration holds at least: one decoder layer, and the hidden states of the whole set."""
    config, picture = full_size_config(name), PICTURES[name]
    parts = footprint(config).components
    language = parts["language_attention"].weights + parts["language_mlp"].weights
    tokens = CALIBRATION_IMAGES * (picture.image_tokens + picture.question_tokens)
    return {
        "layer": language // WHOLE[name].decoder * dtype.itemsize,
        "states": tokens * config.text_config.hidden_size * dtype.itemsize,
    }
