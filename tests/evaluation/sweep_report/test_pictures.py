"""Pictures are found by the digest of what was asked, whatever the settings of the run were called."""

from types import SimpleNamespace

import pytest

from reliabit.data.prepared_table import find_table, load_split, prepare, read_manifest
from reliabit.data.sources import DataConfig
from reliabit.evaluation.sweep_report import pictures_of
from reliabit.evaluation.sweep_report.pictures import question_key


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    prepare(DataConfig(name="scenes", splits={"test": 3}, questions_per_image=1), root=root)
    return prepare(DataConfig(name="scenes", splits={"test": 6}, questions_per_image=2), root=root)


def cell_that_asked(sha256):
    # No settings of the data: a run of another version may have called them otherwise.
    config = {"evaluation": {"reported": "test"}}
    return SimpleNamespace(config=config, inputs={"data/test": sha256}, place="tiny · scenes")


def test_questions_come_from_the_table_that_was_asked(prepared):
    sha256 = read_manifest(prepared)["test"].sha256
    assert find_table(prepared.parent, split="test", sha256=sha256) == prepared
    table = load_split(prepared, "test")
    keys = [question_key(row["source"], row["question_id"]) for row in table]
    found = pictures_of(cell_that_asked(sha256), [keys[5], keys[0], "scenes/unknown"], tables=prepared.parent)
    assert list(found) == [keys[5], keys[0]]
    for key, row in ((keys[5], table[5]), (keys[0], table[0])):
        assert found[key].image == row["image"]
        assert found[key].references == row["answers"]


def test_where_the_table_is_not_here_there_are_no_pictures_and_a_sentence(prepared, capsys):
    assert pictures_of(cell_that_asked("0" * 64), ["scenes/a"], tables=prepared.parent) == {}
    told = capsys.readouterr().err
    assert told == (
        f"the report shows no pictures of tiny · scenes: {prepared.parent} does not hold the table that was asked\n"
    )
