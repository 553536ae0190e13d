import pytest

from data.vqa_files import picture, vizwiz_entries, vizwiz_spec, write_hub_vizwiz, write_vizwiz
from reliabit.data.prepared_table import load_split, prepare
from reliabit.metrics.functional import vqa_accuracy

HUB = {"layout": "hub", "files": {"parquet": "data/val-*.parquet"}}


@pytest.fixture(params=["official", "hub"])
def table(request, tmp_path):
    write, changes = (write_vizwiz, {}) if request.param == "official" else (write_hub_vizwiz, HUB)
    spec = vizwiz_spec(write(tmp_path / "vizwiz"), **changes)
    return load_split(prepare(spec, root=tmp_path / "tables"), "test")


def test_image_names_are_the_ids(table):
    assert sorted(table["question_id"]) == [entry["image"] for entry in vizwiz_entries(images=6)]
    assert list(table["question_id"]) == list(table["image_id"])
    assert {row["image_id"]: row["image"] for row in table} == {
        f"VizWiz_val_{number:08d}.jpg": picture(number) for number in range(6)
    }


def test_ten_equal_answers_without_ids_are_ten(table):
    assert all(len(answers) == 10 for answers in table["answers"])
    row = next(row for row in table if row["answers"][0] == "can")
    # By value, ten equal answers without ids would all be one, and nothing would be right.
    assert vqa_accuracy("can", row["answers"]) == 1.0


def test_unanswerable_is_an_answer_and_a_kind(table):
    found = {row["image_id"]: (row["answers"][0], row["answer_type"]) for row in table}
    assert found["VizWiz_val_00000000.jpg"] == ("unanswerable", "unanswerable")
    assert found["VizWiz_val_00000001.jpg"] == ("can", "other")


def test_questions_are_capitalized(table):
    assert set(table["question"]) == {"What is this?"}


def test_the_official_files_say_what_is_answerable(tmp_path):
    spec = vizwiz_spec(write_vizwiz(tmp_path / "vizwiz"))
    table = load_split(prepare(spec, root=tmp_path / "tables"), "test")
    kinds = dict(zip(table["image_id"], table["question_type"], strict=True))
    assert [kinds[f"VizWiz_val_{number:08d}.jpg"] for number in range(3)] == [
        "unanswerable",
        "answerable",
        "answerable",
    ]
