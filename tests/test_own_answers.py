"""`reliabit metrics`, as a user calls it: a file of answers, and nothing else."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from reliabit.cli import main
from reliabit.evaluation.own_answers.columns import Columns, read_columns
from reliabit.evaluation.own_answers.files import open_table
from reliabit.evaluation.own_answers.measuring import measure_answers

HEAVY = {"torch", "transformers", "mlflow", "lightning", "datasets", "hydra", "sklearn", "pandas"}

SECONDS = 4.0
"""How much processor time ten thousand answers may take, figures included, on a machine that others use too; 2 s is
the aim where it is free."""


def write(path, *, rows=300, **columns):
    random = np.random.default_rng(0)
    confidence = random.random(rows).round(5)
    given = {
        "confidence": confidence,
        "correct": (random.random(rows) < confidence).astype(int),
        "image": np.arange(rows) // 2,
        **columns,
    }
    with path.open("w", newline="") as file:
        written = csv.writer(file)
        written.writerow(given)
        written.writerows(zip(*given.values(), strict=True))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("answers") / "answers.csv", selector=np.linspace(0, 1, 300).round(5))


def run(*arguments):
    main(["metrics", *map(str, arguments), "--resamples", "40"])


def test_the_report_is_printed_within_eighty_columns(file, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    run(file)
    shown = capsys.readouterr().out
    assert shown.startswith("answers.csv: 300 answers in 150 groups\n")
    assert max(map(len, shown.splitlines())) <= 80
    for part in ("accuracy", "AURC", "NLL, nats", "selector less confidence", "Certified thresholds", "none certified"):
        assert part in shown
    assert "No room here" not in shown
    # What matters most is what stays on the screen.
    assert shown.index("All other metrics") < shown.index("Headline") < shown.index("Certified thresholds")


def test_json_is_the_report_in_full(file, capsys):
    run(file, "--format", "json", "--risk", "0.2", "--delta", "0.1")
    told = json.loads(capsys.readouterr().out)
    assert told["columns"] == {"confidence": "confidence", "correct": "correct", "group": "image", "second": "selector"}
    assert told["settings"] == {"risks": [0.2], "delta": 0.1, "level": 0.95, "resamples": 40, "seed": 0}
    assert {one["risk"] for one in told["certified"]["selector"]} == {0.2}
    assert "selective/coverage_at_20pct_risk" in told["metrics"]["confidence"]
    answers = read_columns(open_table(file), Columns())
    assert told["metrics"]["selector"]["selective/aurc"]["estimate"] == pytest.approx(
        measure_answers(answers).measured["selector"].values["selective/aurc"].estimate
    )


@pytest.mark.parametrize(
    ("name", "begins"), [("a.json", "{"), ("a.md", "# answers.csv"), ("a.txt", "answers.csv: 300")]
)
def test_a_file_is_written_in_the_format_of_its_name(name, begins, file, tmp_path, capsys):
    run(file, "--output", tmp_path / name)
    assert (tmp_path / name).read_text().startswith(begins)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"written: {tmp_path / name}\n")


def test_columns_are_named_where_they_are_called_otherwise(tmp_path, capsys):
    path = write(tmp_path / "answers.csv", rows=60, p_true=np.linspace(0.1, 0.9, 60).round(3))
    run(path, "--confidence", "p_true", "--correct", "correct", "--second", "confidence", "--format", "markdown")
    assert "| metric | p_true | confidence |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("confidence,correct\n", [], "answers.csv has no row; at least one answer is needed"),
        ("", [], "answers.csv has no column of the confidence, such as confidence, conf, conf_maxprob: it is empty"),
        ("confidence,correct\n0.5,1\nnan,1\n", [], "confidence is 'nan' in line 3 of"),
        ("confidence,correct\n0.5,1\n,1\n", [], "confidence is missing in line 3 of"),
        ("confidence,correct\n0.5,2\n", [], "correct is '2' in line 2 of"),
        ("confidence,correct,split\n0.5,1,holdout\n", [], "split is 'holdout' in line 2 of"),
        ("confidence,correct\n0.5,1\n", ["--group", "picture"], "has no column picture, which is named as group"),
        ("confidence,correct\n0.5,1\n", ["--risk", "5"], "risk is 5; it must lie between 0 and 1"),
        ("confidence,correct\n0.5,1\n", ["--output", "{folder}"], "is a folder; name a file in it"),
        ("confidence,correct\n0.5,1\n", ["--output", "{file}"], "is the file that is read; name another"),
        ("confidence,correct\n0.5,1\n", ["--figures", "{file}"], "is no folder; name one"),
    ],
)
def test_mistakes_end_in_one_sentence(content, arguments, message, tmp_path, capsys):
    path = tmp_path / "answers.csv"
    path.write_text(content)
    with pytest.raises(SystemExit) as ended:
        main(["metrics", str(path), *(one.format(folder=tmp_path, file=path) for one in arguments)])
    told = capsys.readouterr()
    assert (ended.value.code, told.out, told.err.count("\n")) == (2, "", 1), told.err
    assert message in told.err
    assert path.read_text() == content


PROBE = """
import resource, sys
from reliabit.cli import main
main(sys.argv[1:])
spent = resource.getrusage(resource.RUSAGE_SELF)
print(spent.ru_utime + spent.ru_stime, *{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.medium
def test_ten_thousand_answers_take_seconds_and_nothing_heavy(tmp_path):
    path = write(tmp_path / "answers.csv", rows=10_000)
    arguments = [
        "metrics",
        str(path),
        "--figures",
        str(tmp_path / "figures"),
        "--output",
        str(tmp_path / "report.json"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    seconds, *loaded = done.stdout.split()
    assert HEAVY.isdisjoint(loaded)
    assert float(seconds) < SECONDS
    assert sorted(one.name for one in (tmp_path / "figures").iterdir()) == [
        "reliability_diagram.png",
        "risk_coverage.png",
    ]
    assert json.loads((tmp_path / "report.json").read_text())["answers"] == 10_000
    # Nothing else is left behind where it ran.
    assert sorted(one.name for one in tmp_path.iterdir()) == ["answers.csv", "figures", "report.json"]
