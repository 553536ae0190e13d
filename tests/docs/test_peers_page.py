"""docs/peers.md says of others what was measured: every figure of its tables is that of a result."""

import json
import re

import pytest

from launching import PROJECT

PAGE = (PROJECT / "docs" / "peers.md").read_text(encoding="utf-8")

RECIPES = {
    "Reliabit gptq": "gptq_integer",
    "Reliabit awq": "awq",
    "llm-compressor GPTQ": "llm_compressor_gptq",
    "llm-compressor AWQ": "llm_compressor_awq",
    "GPTQModel GPTQ": "gptqmodel",
}
ROW = re.compile(rf"^\| ({'|'.join(RECIPES)}) \| (\d) \|(.*)\|$", re.MULTILINE)


def results(name):
    return json.loads((PROJECT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("quantizer", "bits", "figures"), ROW.findall(PAGE))
def test_a_row_is_what_was_measured(quantizer, bits, figures):
    cell = results("peers")["cells"][f"{bits} bits, groups of 64, {RECIPES[quantizer]}"]
    expected = (cell["kl"], 100 * cell["accuracy"], cell["processor_seconds"], cell["peak_mib"])
    shown = (f"{value:.{digits}f}" for value, digits in zip(expected, (3, 1, 0, 0), strict=True))
    assert [cell.strip() for cell in figures.split("|")] == [*shown]


def test_every_recipe_that_was_measured_at_these_bytes_is_told():
    """Those of peers all, so that none is left out for being better."""
    cells = [one for one in results("peers")["cells"].values() if one["group"] == 64]
    others = {(one["recipe"], one["bits"]) for one in cells if one["recipe"].startswith(("llm_", "gptqmodel"))}
    assert {(RECIPES[quantizer], int(bits)) for quantizer, bits, _ in ROW.findall(PAGE)} >= others
    floats = {one["bits"]: one["kl"] for one in cells if one["recipe"] == "hqq_library"}
    assert f"has a KL of {floats[3]:.3f}" in PAGE


def test_times_in_the_text_are_those_of_results():
    lmms = results("answer")["cpu, lmms-eval"]["models"]["qwen2_vl_tiny"]
    few, many = lmms[0]["times_as_fast_as_lmms_eval"], lmms[-1]["times_as_fast_as_lmms_eval"]
    assert f"Reliabit is {few:.1f} times as fast as lmms-eval, with 1 176 it is {many:.1f} times as fast" in PAGE
    rows = results("metrics")["rows"]
    seconds = {name: f"{row['median_s']:.2f} s" for name, row in rows.items() if "median_s" in row}
    assert f"take {seconds['all metrics, 1M, no ties']} here" in PAGE
    alone, theirs = seconds["ours: AURC alone, 1M, no ties"], seconds["torch-uncertainty: AURC, 1M, no ties"]
    assert f"AURC alone {alone}, and {theirs}" in PAGE
