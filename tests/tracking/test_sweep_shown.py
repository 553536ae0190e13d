"""The table that a sweep ends with: what a choice takes at 80 columns, more where there is room, nothing cut."""

from dataclasses import replace

import pytest
from mlflow.entities import Metric, Run, RunData, RunInfo, RunTag

from registry.measured import POLICY
from reliabit.evaluation.comparison import Comparison
from reliabit.metrics.intervals import Difference
from reliabit.tracking.sweep._shown import SweepTable, show_differences

NEEDED = ["configuration", "accuracy %", "AURC %", "C@1%", "certified C@5% (best of 4)", "stored MiB"]
EVERY = [*NEEDED[:3], "ECE %", "C@1%", "C@5%", *NEEDED[4:], "resident MiB", "questions/s", "bits/weight", "peak MiB"]


def run(bits, *, status="FINISHED", shift=0.0):
    name = "qwen2_vl_tiny·none·s0" if bits == 16 else f"qwen2_vl_tiny·hqq·{bits}b·s0"
    recorded = {
        "accuracy/questions": 961.0,
        "accuracy/mean": 0.853 + shift,
        "selective/aurc": 0.05 + shift,
        "selective/aurc.selector": 0.032 + shift,
        "calibration/ece_15.selector": 0.011,
        "selective/coverage_at_1pct_risk.selector": 0.77,
        "selective/coverage_at_5pct_risk.selector": 0.97,
        "certified/coverage_at_5pct_risk.selector": 0.61,
    }
    for key in ("accuracy/mean", "selective/aurc.selector", "selective/coverage_at_1pct_risk.selector"):
        recorded |= {f"{key}.low": recorded[key] - 0.02, f"{key}.high": recorded[key] + 0.02}
    recorded |= {
        "efficiency/stored_bytes": bits * 2**18,
        "efficiency/resident_bytes": bits * 2**19,
        "efficiency/samples_per_second": 301.0,
        "efficiency/effective_bits": bits + 0.25,
        "efficiency/peak_memory_bytes": 700 * 2**20,
    }
    tags = {"quant": "none" if bits == 16 else "hqq", "bits": str(bits), "model": "qwen2_vl_tiny", "data": "easy_vqa"}
    info = RunInfo(f"id{bits}", "1", "me", status, 0, 1, "active", run_name=name)
    metrics = [Metric(key, value, 0, 0) for key, value in recorded.items()] if status == "FINISHED" else []
    return Run(info, RunData(metrics, [], [RunTag(*tag) for tag in {**tags, "mlflow.parentRunId": "p"}.items()]))


def table_of(runs):
    certified = {"certified C@5% selector (best of 4)": {one.info.run_name: 0.57 for one in runs}}
    policy = replace(POLICY, confidence="selector", required_risk=0.05)
    return SweepTable(runs, parent="p", policy=policy, level=0.95, certified=certified)


def lines_at(width, table, monkeypatch, capsys):
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    table.show(whole="outputs/a/summary.csv")
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def cells():
    return [run(bits, shift=-0.01 * (bits < 4)) for bits in (2, 16, 8, 4)]


def headings_of(table, width, monkeypatch, capsys):
    """What is shown, by what is said to be left out."""
    text = " ".join(lines_at(width, table, monkeypatch, capsys))
    left_out = text.partition("No room here for ")[2]
    return [column.heading for column in table.columns(intervals=False) if column.heading not in left_out], text


@pytest.mark.parametrize(
    ("width", "shown"),
    [(60, NEEDED), (80, NEEDED), (120, EVERY[:-2])],
)
def test_columns_are_chosen_by_width(width, shown, cells, monkeypatch, capsys):
    found, text = headings_of(table_of(cells), width, monkeypatch, capsys)
    assert found == shown
    assert "All columns: outputs/a/summary.csv" in text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_nothing_is_cut(width, cells, monkeypatch, capsys):
    lines = lines_at(width, table_of(cells), monkeypatch, capsys)
    assert max(map(len, lines)) <= width
    assert not any("\u2026" in line for line in lines)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("none", "hqq"))}
    assert list(rows) == ["none", "hqq·8b", "hqq·4b", "hqq·2b"]
    assert rows["hqq·4b"][:2] == ["85.3", "3.20"]
    assert {"77.0", "57.0", "1.00"} < set(rows["hqq·4b"])


def test_intervals_stand_below_their_numbers_where_what_a_choice_takes_has_room(cells, monkeypatch, capsys):
    wide = lines_at(80, table_of(cells), monkeypatch, capsys)
    below = wide[next(number for number, line in enumerate(wide) if line.startswith("hqq·4b")) + 1]
    assert below.split() == ["[83.3,", "87.3]", "[1.20,", "5.20]", "[75.0,", "79.0]"]
    assert "95 % intervals" in " ".join(" ".join(wide).split())
    narrow = " ".join(lines_at(60, table_of(cells), monkeypatch, capsys))
    assert "[83.3" not in narrow
    assert "intervals" not in narrow


def test_what_all_rows_share_is_said_once(cells, monkeypatch, capsys):
    title, *others = lines_at(80, table_of(cells), monkeypatch, capsys)
    assert title.startswith("qwen2_vl_tiny · s0 · easy_vqa: 961 questions, confidence selector")
    assert not any("qwen2_vl_tiny" in line for line in others)


def test_a_pipe_gets_all_columns_without_escape_codes(cells, monkeypatch, capsys):
    found, text = headings_of(table_of(cells), None, monkeypatch, capsys)
    assert found == EVERY
    assert "\x1b" not in text
    assert "301" in text


def test_a_cell_that_failed_says_so_and_has_no_numbers(cells, monkeypatch, capsys):
    lines = lines_at(80, table_of([*cells[:3], run(4, status="FAILED")]), monkeypatch, capsys)
    [failed] = [line.split() for line in lines if line.startswith("hqq·4b")]
    assert failed[:4] == ["hqq·4b", "failed", "-", "-"]


def test_cells_of_which_some_lack_the_confidence_of_the_policy_are_shown_by_maxprob(cells, monkeypatch, capsys):
    del cells[0].data.metrics["selective/aurc.selector"]
    text = " ".join(lines_at(80, table_of(cells), monkeypatch, capsys))
    assert "confidence maxprob" in text


def test_what_a_width_costs_is_told_with_intervals(monkeypatch, capsys):
    """A first look: whether accuracy falls and AURC grows, beyond chance."""
    lost = {"accuracy/mean": (-0.02, -0.03, -0.01), "selective/aurc": (0.01, -0.001, 0.021)}
    lost |= {"calibration/confidently_wrong_90pct": (-0.004, -0.01, 0.0)}
    changes = {name: Difference(*values, 0.95, 0.01, 2) for name, values in lost.items()}
    names = [f"qwen2_vl_tiny·easy_vqa·hqq·{bits}b·s0" for bits in (4, 2)]
    found = Comparison("qwen2_vl_tiny·easy_vqa·none·s0", dict.fromkeys(names, changes))
    monkeypatch.setenv("COLUMNS", "80")
    show_differences(found, level=0.95)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Paired differences, maxprob, 95 % intervals")
    assert lines[1].split("  ")[0] == "less none"
    assert lines[3].split() == ["hqq·4b", "-2.00*", "+1.00", "-0.40"]
    assert lines[4].split() == ["[-3.00,", "-1.00]", "[-0.10,", "+2.10]", "[-1.00,", "+0.00]"]
