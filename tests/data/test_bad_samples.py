import json

import pytest

from data.vqa_files import (
    VQAV2,
    vizwiz_entries,
    vizwiz_spec,
    vqa_entries,
    vqa_spec,
    write_vizwiz,
    write_vqa,
)
from reliabit.data.prepared_table import bad_samples_file, load_split, prepare, table_folder
from reliabit.errors import ReliabitError

ALL = {"test": 1.0}


def drop_annotation(questions, annotations):
    annotations.pop()


def annotate_twice(questions, annotations):
    annotations.append(annotations[0])


def repeat_id(questions, annotations):
    questions.append({**questions[0], "question": "another?"})


def no_annotators(questions, annotations):
    annotations[0]["answers"] = []


def no_answers_key(questions, annotations):
    del annotations[0]["answers"]


def answers_of_numbers(questions, annotations):
    annotations[0]["answers"] = [{"answer": 3}]


def empty_question(questions, annotations):
    questions[0]["question"] = " "


def no_image_id(questions, annotations):
    del questions[0]["image_id"]


def image_id_that_is_no_number(questions, annotations):
    questions[0]["image_id"] = "seven"


def no_object(questions, annotations):
    questions[0] = "what?"


@pytest.mark.parametrize(
    ("spoil", "problem", "lost"),
    [
        (drop_annotation, "the question has no annotation: 1", 1),
        (annotate_twice, "the question is annotated twice: 1", 0),
        (repeat_id, "the question id comes twice: 1", 0),
        (no_annotators, "the question has no answers: 1", 1),
        (no_answers_key, "the annotation is malformed: 1", 1),
        (answers_of_numbers, "the annotation is malformed: 1", 1),
        (empty_question, "the question is empty: 1", 1),
        (no_image_id, "the question is malformed: 1", 1),
        (image_id_that_is_no_number, "the question is malformed: 1", 1),
        (no_object, "the question is malformed: 1", 1),
    ],
)
def test_questions_that_cannot_be_used(tmp_path, capsys, spoil, problem, lost):
    entries = vqa_entries(images=3, questions_per_image=2)
    spoil(*entries)
    root = write_vqa(tmp_path / "vqav2", images=3, entries=entries)
    with pytest.raises(ReliabitError, match=f"vqav2: .*{problem}.* listed in .*; repair the files, or set data.on_bad"):
        prepare(vqa_spec(root, splits=ALL), root=tmp_path / "tables")
    spec = vqa_spec(root, splits=ALL, on_bad_sample="skip")
    folder = prepare(spec, root=tmp_path / "tables")
    assert len(load_split(folder, "test")) == 6 - lost
    assert problem in capsys.readouterr().err
    listed = [json.loads(line) for line in bad_samples_file(folder).read_text().splitlines()]
    assert problem.partition(":")[0] in {entry["problem"] for entry in listed}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "its image is missing: 2"),
        (b"", "its image does not decode: 2"),
        (b"<html>no image</html>", "its image does not decode: 2"),
    ],
)
def test_images_that_cannot_be_used_take_all_their_questions_along(tmp_path, content, problem):
    root = write_vqa(tmp_path / "vqav2", images=3, questions_per_image=2)
    image = root / VQAV2["images"].format(image_id=2)
    image.unlink() if content is None else image.write_bytes(content)
    with pytest.raises(ReliabitError, match=problem):
        prepare(vqa_spec(root, splits=ALL), root=tmp_path / "tables")
    folder = prepare(vqa_spec(root, splits=ALL, on_bad_sample="skip"), root=tmp_path / "tables")
    assert set(load_split(folder, "test")["image_id"]) == {"1", "3"}
    listed = [json.loads(line) for line in bad_samples_file(folder).read_text().splitlines()]
    assert [(entry["question_id"], entry["image_id"]) for entry in listed] == [("2000", "2"), ("2001", "2")]


def test_every_bad_sample_is_listed_and_not_only_the_first(tmp_path):
    entries = vizwiz_entries(images=5)
    del entries[0]["answers"]
    entries[1]["answers"] = []
    entries[2]["image"] = "../../secret.jpg"
    entries.append(entries[3])
    root = write_vizwiz(tmp_path / "vizwiz", images=4, entries=entries)
    spec = vizwiz_spec(root)
    with pytest.raises(ReliabitError, match="vizwiz: 5 samples cannot be used"):
        prepare(spec, root=tmp_path / "tables")
    listed = bad_samples_file(table_folder(spec, root=tmp_path / "tables")).read_text().splitlines()
    assert {(entry["question_id"], entry["problem"]) for entry in map(json.loads, listed)} == {
        ("VizWiz_val_00000000.jpg", "the question has no annotation"),
        ("VizWiz_val_00000001.jpg", "the question has no answers"),
        ("../../secret.jpg", "the question is malformed"),
        ("VizWiz_val_00000003.jpg", "the question id comes twice"),
        ("VizWiz_val_00000004.jpg", "its image is missing"),
    }


def test_a_set_of_which_nothing_is_left_fails_even_if_bad_samples_are_skipped(tmp_path):
    root = write_vizwiz(tmp_path / "vizwiz", images=2)
    for image in (root / "val").iterdir():
        image.unlink()
    with pytest.raises(ReliabitError, match="no question of data.splits.test of vizwiz can be used"):
        prepare(vizwiz_spec(root, on_bad_sample="skip"), root=tmp_path / "tables")
    assert not [path for path in (tmp_path / "tables").iterdir() if path.is_dir()]


def test_a_good_set_leaves_no_list_and_no_other_file(tmp_path):
    folder = prepare(vizwiz_spec(write_vizwiz(tmp_path / "vizwiz")), root=tmp_path / "tables")
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "test.images.tar", "test.parquet"]
    assert {path.name for path in folder.parent.iterdir()} - {folder.name} <= {f".{folder.name}.lock"}
