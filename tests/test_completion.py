"""What Tab offers, for `python src/run.py` as Hydra would, and for `reliabit`."""

import pytest

from launching import run_job, run_python
from reliabit.cli import parser
from reliabit.completion import answer_query, commands, complete, overrides


def asked_of_hydra(word):
    """What Hydra's own completion offers; it is asked of a script that is not ours."""
    code = (
        "import sys, hydra\n"
        "from reliabit.composition import register\nfrom reliabit.paths import conf_folder\n"
        "register()\nsys.argv = ['run.py', '-sc', 'query=bash']\n"
        "hydra.main(version_base='1.3', config_path=str(conf_folder()), config_name='config')(lambda _: None)()"
    )
    from launching import environment

    line = {"COMP_LINE": f"python src/run.py {word}", "COMP_POINT": "99"}
    done = run_python("-c", code, env={**environment(), **line})
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.medium
@pytest.mark.parametrize("word", ["q", "quant=h", "trainer.acc", "paths.o", "data=", "quant.c"])
def test_names_are_those_that_hydra_offers(word):
    assert overrides(word) == sorted(asked_of_hydra(word))


@pytest.mark.parametrize("word", ["", "hydra", "hydra/l", "data.splits.", "seed=", "+", "~quant", "nothing.at.all"])
def test_the_rest_is_asked_of_hydra(word):
    assert overrides(word) is None


def test_values_are_offered_where_there_are_few():
    assert overrides("quant.bits=") == [f"quant.bits={bits}" for bits in (2, 3, 4, 8, "null")]
    assert overrides("nothing=") is None


def test_a_shell_is_answered(capsys):
    line = {"COMP_LINE": "python src/run.py quant=rtn trainer.acc"}
    assert answer_query(["-sc", "query=bash"], environ=line)
    assert capsys.readouterr().out == "trainer.accelerator=\n"
    assert not answer_query(["-sc", "install=bash"], environ=line)
    assert not answer_query(["-sc", "query=bash"], environ={})
    assert not answer_query(["-sc", "query=bash"], environ={"COMP_LINE": "python src/run.py seed="})


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("hi", ["history"]),
        ("re", ["reap", "report"]),
        ("serve --po", ["--port"]),
        ("history tracking=s", ["tracking=server", "tracking=sqlite"]),
        ("history --k", []),
        ("doctor --k", ["--keep-gib"]),
        ("--v", ["--version"]),
    ],
)
def test_commands_options_and_overrides_are_offered(typed, offered):
    assert commands(parser(), typed.split(" ")) == offered


def test_every_command_is_offered_where_nothing_is_typed():
    offered = commands(parser(), [""])
    assert {"reap", "history", "serve", "metrics"} < set(offered)
    assert not any(one.startswith("-") for one in offered)


def test_bash_gets_what_follows_the_equals_sign(capsys):
    line = "reliabit history tracking=s"
    complete(parser(), ["reliabit", "s", "history"], environ={"COMP_LINE": line})
    assert capsys.readouterr().out == "server\nsqlite\n"


@pytest.mark.medium
def test_hydra_answers_what_is_left_to_it(tmp_path):
    from launching import environment

    line = {"COMP_LINE": "python src/run.py seed=", "COMP_POINT": "99"}
    assert run_job("-sc", "query=bash", env={**environment(), **line}).stdout.split() == ["seed=0"]
