"""What a task says at its end: the numbers that were recorded, where all lies, and a command that can be copied."""

import shlex
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from registry.test_policy import composed
from reliabit.tasks._results import (
    command_line,
    next_command,
    shown_bytes,
    tell_cell,
    tell_cell_of_sweep,
    tell_report,
    widths_command,
)

RECORDED = {
    "accuracy/questions": 1234.0,
    "accuracy/mean": 0.853,
    "accuracy/mean.low": 0.83,
    "accuracy/mean.high": 0.871,
    "selective/aurc": 0.05,
    "selective/aurc.selector": 0.032,
    "selective/aurc.selector.low": 0.021,
    "selective/aurc.selector.high": 0.044,
    "certified/coverage_at_5pct_risk.selector": 0.61,
    "efficiency/stored_bytes": 3 * 2**20,
    "efficiency/samples_per_second": 301.7,
}


@pytest.fixture(scope="module")
def config():
    return composed()


@pytest.fixture
def job(monkeypatch):
    """A job with some overrides, as Hydra has it."""

    def given(*overrides):
        task = type("Overrides", (), {"overrides": type("Task", (), {"task": list(overrides)})})
        monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: True))
        monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: task))

    given()
    return given


def test_a_single_run_says_its_numbers_its_folder_its_run_and_the_next_command(config, job, capsys):
    job("quant.bits=4", "data.ask.test=40")
    tell_cell(config, name="tiny·hqq·4b·s0", metrics=RECORDED, link="http://here/#/runs/7", folder=Path("outputs/a"))
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said == [
        [
            "tiny·hqq·4b·s0",
            "·",
            "easy_vqa:",
            "1,234",
            "questions",
            "of",
            "test,",
            "confidence",
            "selector,",
            "intervals",
            "95",
            "%",
        ],
        ["accuracy", "85.3", "%", "[83.0,", "87.1]"],
        ["AURC", "3.20", "%", "[2.10,", "4.40]"],
        ["certified", "C@5%", "61.0", "%"],
        ["stored", "3.00", "MiB"],
        ["questions/s", "302"],
        ["folder", "outputs/a"],
        ["run", "http://here/#/runs/7"],
        ["next", "python", "src/run.py", "-m", "quant.bits=2,3,4,8", "data.ask.test=40"],
    ]


def test_a_run_that_was_finished_already_says_so_before_its_numbers(config, job, capsys):
    note = "is finished already: run 7 has the same identity (sweep.force=true repeats it)"
    tell_cell(config, name="tiny·none·s0", metrics=RECORDED, link="", folder=Path("outputs/a"), note=note)
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"tiny·none·s0 {note}"
    assert others[1].split()[:2] == ["accuracy", "85.3"]
    assert not any(line.strip().startswith("run ") for line in others)


def test_a_cell_of_a_sweep_says_one_line(config, capsys):
    tell_cell_of_sweep(config, name="tiny·hqq·4b·s0", metrics=RECORDED)
    assert capsys.readouterr().out == "tiny·hqq·4b·s0: accuracy 85.3 %, AURC 3.20 %, certified C@5% 61.0 %\n"


def test_a_report_names_the_file_that_has_every_metric(job, capsys):
    config = composed("paths.output=outputs/b", "task=evaluate")
    tell_report(config, RECORDED, place="a.parquet")
    text = capsys.readouterr().out
    assert text.startswith("a.parquet: 1,234 questions of test, confidence selector")
    assert ["every", "metric", "outputs/b/report.json"] in [line.split() for line in text.splitlines()]


def test_the_next_command_keeps_what_the_job_was_told_and_sets_each_key_once(job):
    job("task=answer", "data.ask.test=40", "model.path=/a", "+data@other_data.scenes=scenes", "paths.output=/o")
    words = shlex.split(next_command("task=evaluate", "model.path=/b c", without=["data.ask.test"]))
    assert words[2:] == ["task=evaluate", "model.path=/b c", "+data@other_data.scenes=scenes"]


def test_widths_are_compared_of_a_quantized_model(job):
    job("quant=none", "seed=3")
    assert shlex.split(widths_command())[2:] == ["-m", "quant.bits=2,3,4,8", "seed=3"]


def test_a_command_shows_no_password():
    assert "secret" not in command_line(["tracking.uri=https://me:secret@mlflow.example"])


def test_bytes_are_shown_in_the_largest_unit_that_they_fill():
    assert [shown_bytes(count) for count in (1023, 1024, 3 * 2**20)] == ["1023 bytes", "1.00 KiB", "3.00 MiB"]
