"""Whether what `bench/full_size.py` measured of the whole models meets its targets."""

from collections.abc import Mapping
from typing import Any

RESIDENT = 0.03
"""By how much resident memory may differ from the prediction, relative to it."""
FASTER = 2.0
"""How many times as fast as bfloat16 decoding at 4 bits is to be."""
SHARE = 0.6
"""Which share of the published bandwidth decoding at 4 bits is to reach."""
JUDGED = 4


def judgements(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each target and whole model: met, missed, or not measured.

    Args:
        found: Results by `size/model/bits/kernel`.
    """
    models = sorted({key.split("/")[1] for key in found if key.startswith("full/")})
    return [line for model in models for line in _judge(model, _of(found, model))] or ["no whole model was measured"]


def _of(found: Mapping[str, Mapping[str, Any]], model: str) -> dict[tuple[int, str], Mapping[str, Any]]:
    prefix = f"full/{model}/"
    keys = [key.removeprefix(prefix).split("/") for key in found if key.startswith(prefix)]
    return {(int(bits), kernel): found[f"{prefix}{bits}/{kernel}"] for bits, kernel in keys}


def _judge(model: str, found: Mapping[tuple[int, str], Mapping[str, Any]]) -> list[str]:
    apart = max(abs(result["resident_over_predicted"] - 1) for result in found.values())
    fast = {place: result for place, result in found.items() if result.get("decode_tokens_a_second_graph")}
    at_four = [result for (bits, _), result in fast.items() if bits == JUDGED]
    base = next((result for (bits, _), result in fast.items() if bits == 16), None)
    lines = [_line(f"{model}: resident memory is within {apart:.1%} of the prediction", apart <= RESIDENT)]
    if base is None or not at_four:
        return [*lines, f"{model}: decoding at {JUDGED} bits and in bfloat16: not measured"]
    best = max(at_four, key=lambda result: float(result["decode_tokens_a_second_graph"]))
    times = best["decode_tokens_a_second_graph"] / base["decode_tokens_a_second_graph"]
    share = best["share_of_published_bound"]
    return [
        *lines,
        _line(f"{model}: decoding at {JUDGED} bits is {times:.2f} times bfloat16", times >= FASTER),
        _line(f"{model}: decoding at {JUDGED} bits reaches {share:.0%} of the bound", share >= SHARE),
    ]


def _line(text: str, met: bool) -> str:
    return f"{text}: {'met' if met else 'missed'}"
