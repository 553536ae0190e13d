"""A cell to promote is named as tables name it, and whoever mistypes it is told which there are."""

import pytest

from registry.measured import configuration, table
from reliabit.commands.promoting import cell_named
from reliabit.errors import ReliabitError

NAMES = ("tiny·made·none·s0", "tiny·made·hqq·4b·s0", "tiny·made·hqq·2b·s0")


@pytest.fixture(scope="module")
def cells():
    answers = table(images={"test": 2, "val": 1, "cal": 1})
    return [configuration(name, answers, run_id=f"{number:032x}") for number, name in enumerate(NAMES)]


@pytest.mark.parametrize("wanted", ["hqq·4b", "tiny·made·hqq·4b·s0", f"{1:032x}"])
def test_a_name_in_full_or_short_or_a_run_will_do(cells, wanted):
    assert cell_named(cells, wanted, sweep="the sweep") is cells[1]


def test_what_is_not_there_is_told_with_what_is(cells):
    told = "sweep abc has no cell hqq4; it has none, hqq·4b, hqq·2b .or a run's id.; name another sweep with --sweep"
    with pytest.raises(ReliabitError, match=told):
        cell_named(cells, "hqq4", sweep="abc")


def test_what_two_are_called_names_neither(cells):
    twice = [*cells, configuration(NAMES[1], cells[1].answers, run_id="other")]
    with pytest.raises(ReliabitError, match="has several cells tiny·made·hqq·4b·s0"):
        cell_named(twice, NAMES[1], sweep="abc")
