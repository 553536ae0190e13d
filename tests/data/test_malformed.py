"""What JSON and Parquet can hold and a question cannot."""

import json

import pyarrow as pa
import pytest

from data.vqa_files import (
    IMAGE,
    VIZWIZ,
    VQAV2,
    hub_spec,
    picture,
    vizwiz_entries,
    vizwiz_spec,
    vqa_entries,
    vqa_spec,
    write_hub_vqa,
    write_parts,
    write_vizwiz,
    write_vqa,
)
from reliabit.data.prepared_table import bad_samples_file, load_split, prepare
from reliabit.errors import ReliabitError

ALL = {"test": 1.0}
HALF = "what \ud83d?"
"""A text with half of a character: json.dumps writes it, and json.loads reads it."""


def usable(spec, tables):
    """The questions of a set that are left, and what is said of the others."""
    folder = prepare(spec, root=tables)
    listed = bad_samples_file(folder)
    said = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()] if listed.is_file() else []
    return load_split(folder, "test"), [(entry["problem"], entry["detail"]) for entry in said]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question": None}, "its question is no text but null"),
        ({"question": ["a"]}, "its question is no text but a list"),
        ({"question": 7}, "its question is no text but a number"),
        ({"question": HALF}, "its question holds half of a character"),
        ({"question_id": None}, "its question_id is no text and no whole number but null"),
        ({"question_id": True}, "its question_id is no text and no whole number but a truth value"),
        ({"question_id": 1.5}, "its question_id is no text and no whole number but a fraction"),
        ({"question_id": float("nan")}, "its question_id is no text and no whole number but a fraction"),
        ({"question_id": 1e300}, "its question_id is no text and no whole number but a fraction"),
        ({"question_id": " "}, "its question_id is empty"),
        ({"question_id": HALF}, "its question_id holds half of a character"),
        ({"image_id": None}, "its image_id is no text and no whole number but null"),
        ({"image_id": [1]}, "its image_id is no text and no whole number but a list"),
        ({"image_id": {"a": 1}}, "its image_id is no text and no whole number but an object"),
    ],
)
def test_questions_of_vqav2_are_texts_with_ids(tmp_path, changes, reason):
    questions, annotations = vqa_entries(images=2, questions_per_image=1)
    questions[0].update(changes)
    root = write_vqa(tmp_path / "vqav2", images=2, entries=(questions, annotations))
    table, said = usable(vqa_spec(root, splits=ALL, on_bad_sample="skip"), tmp_path / "tables")
    assert table["question_id"][:] == ["2000"]
    [(problem, detail)] = said
    assert problem == "the question is malformed"
    assert detail.startswith(reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"question_type": 3},
        {"answer_type": ["other"]},
        {"answer_type": HALF},
        {"question_id": None},
        {"answers": [{"answer": HALF}]},
        {"answers": {"answer": "yes"}},
    ],
)
def test_annotations_of_vqav2_are_texts(tmp_path, changes):
    questions, annotations = vqa_entries(images=2, questions_per_image=1)
    annotations[0].update(changes)
    root = write_vqa(tmp_path / "vqav2", images=2, entries=(questions, annotations))
    table, said = usable(vqa_spec(root, splits=ALL, on_bad_sample="skip"), tmp_path / "tables")
    assert table["question_id"][:] == ["1000"]
    assert [problem for problem, _ in said] == ["the annotation is malformed", "the question has no annotation"]


def test_a_kind_that_is_null_is_no_kind(tmp_path):
    questions, annotations = vqa_entries(images=1, questions_per_image=1)
    annotations[0].update(question_type=None, answer_type=None)
    root = write_vqa(tmp_path / "vqav2", images=1, entries=(questions, annotations))
    [row] = usable(vqa_spec(root, splits=ALL), tmp_path / "tables")[0]
    assert (row["question_type"], row["answer_type"]) == ("", "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question": None}, "its question is no text but null"),
        ({"question": ["a"]}, "its question is no text but a list"),
        ({"question": HALF}, "its question holds half of a character"),
        ({"image": None}, "its image is no text and no whole number but null"),
        ({"image": ""}, "its image is empty"),
        ({"image": "a\0.jpg"}, "the image path 'val/a\\x00.jpg' holds a NUL"),
        ({"image": HALF}, "its image holds half of a character"),
        ({"answerable": [1]}, "its answerable is neither 0 nor 1"),
        ({"answerable": "yes"}, "its answerable is neither 0 nor 1"),
        ({"answerable": 2}, "its answerable is neither 0 nor 1"),
        ({"answers": [{"answer": HALF}]}, "its answer holds half of a character"),
        ({"answer_type": 1}, "its answer_type is no text but a number"),
    ],
)
def test_entries_of_vizwiz_are_texts(tmp_path, changes, reason):
    entries = vizwiz_entries(images=2)
    entries[0].update(changes)
    root = write_vizwiz(tmp_path / "vizwiz", images=2, entries=entries)
    table, said = usable(vizwiz_spec(root, on_bad_sample="skip"), tmp_path / "tables")
    assert table["question_id"][:] == ["VizWiz_val_00000001.jpg"]
    [(problem, detail)] = said
    assert problem == "the question is malformed"
    assert detail.startswith(f"entry 0 of the file: {reason}")


@pytest.mark.parametrize("entry", ["what?", 7, None, [], {}, {"image": "VizWiz_val_00000000.jpg"}])
def test_entries_of_vizwiz_that_lack_everything_are_named(tmp_path, entry):
    root = write_vizwiz(tmp_path / "vizwiz", images=1, entries=[*vizwiz_entries(images=1), entry])
    _, said = usable(vizwiz_spec(root, on_bad_sample="skip"), tmp_path / "tables")
    assert said == [("the question is malformed", "entry 1 of the file: it lacks its image or its question")]


def hub(tmp_path, kinds, changes):
    row = {"question_id": 1, "image_id": 1, "question": "what?", "answers": ["a"], "category": "other"}
    row["image"] = {"bytes": picture(1), "path": None}
    fields = {"question_id": pa.int64(), "image_id": pa.int64(), "question": pa.string(), "category": pa.string()}
    schema = pa.schema({**fields, "answers": pa.list_(pa.string()), "image": IMAGE, **kinds})
    for name, kind in kinds.items():
        row[name] = [row[name]] if pa.types.is_list(kind) else row[name]
    second = {**row, "question_id": 2, "image_id": 2, **changes}
    root = write_parts(tmp_path / "hub", [row, second], schema, files=1, part="validation")
    return hub_spec(root, splits=ALL, on_bad_sample="skip")


@pytest.mark.parametrize(
    ("kinds", "changes", "reason"),
    [
        ({}, {"question": None}, "its question is no text but null"),
        ({}, {"question_id": None}, "its question_id is no text and no whole number but null"),
        (
            {"question_id": pa.float64()},
            {"question_id": 2.5},
            "its question_id is no text and no whole number but a fra",
        ),
        ({"image_id": pa.float64()}, {"image_id": 2.5}, "its image_id is no text and no whole number but a fraction"),
        (
            {"image_id": pa.float64()},
            {"image_id": float("nan")},
            "its image_id is no text and no whole number but a fr",
        ),
    ],
)
def test_rows_of_the_hub_are_texts_with_ids(tmp_path, kinds, changes, reason):
    table, said = usable(hub(tmp_path, kinds, changes), tmp_path / "tables")
    assert table["question_id"][:] == ["1"]
    [(problem, detail)] = said
    assert problem == "the question is malformed"
    assert detail.startswith(reason)


@pytest.mark.parametrize("kinds", [{"question": pa.list_(pa.string())}, {"category": pa.list_(pa.string())}])
def test_columns_of_the_hub_that_hold_no_texts_leave_nothing(tmp_path, kinds):
    with pytest.raises(ReliabitError, match=r"vqav2 has no questions that can be used .*the question is malformed: 2"):
        usable(hub(tmp_path, kinds, {}), tmp_path / "tables")


def test_ids_that_pandas_wrote_as_floats_are_those_of_the_official_files(tmp_path):
    official = prepare(vqa_spec(write_vqa(tmp_path / "official"), splits=ALL), root=tmp_path / "tables")
    root = write_hub_vqa(tmp_path / "hub")
    for path in (root / "data").iterdir():
        table = pa.parquet.read_table(path)
        for name in ("question_id", "image_id"):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table[name].cast(pa.float64()))
        pa.parquet.write_table(table, path)
    floats = prepare(hub_spec(root, splits=ALL), root=tmp_path / "tables")
    assert list(load_split(floats, "test")) == list(load_split(official, "test"))


def test_ids_of_json_that_are_whole_floats_are_integers(tmp_path):
    questions, annotations = vqa_entries(images=2, questions_per_image=1)
    for entry in questions:
        entry.update(question_id=float(entry["question_id"]), image_id=float(entry["image_id"]))
    root = write_vqa(tmp_path / "vqav2", images=2, entries=(questions, annotations))
    table, said = usable(vqa_spec(root, splits=ALL), tmp_path / "tables")
    assert (sorted(table["question_id"]), said) == (["1000", "2000"], [])


@pytest.mark.parametrize(
    "pattern",
    [
        "val2014/{}.jpg",
        "val2014/{0}.jpg",
        "val2014/{id}.jpg",
        "val2014/{image_id.x}.jpg",
        "val2014/{image_id[0]}.jpg",
        "val2014/{image_id:{x}}.jpg",
        "val2014/{image_id:{image_id.x}}.jpg",
        "val2014/{image_id:nonsense}.jpg",
        "val2014/{image_id",
        "val2014/the_one.jpg",
        "",
    ],
)
def test_image_paths_without_an_image_id_are_refused(tmp_path, pattern):
    vqa = write_vqa(tmp_path / "vqav2", images=1)
    vizwiz = write_vizwiz(tmp_path / "vizwiz", images=1)
    message = "is not the path of an image with {image_id} in it; type it like"
    with pytest.raises(ReliabitError, match=message):
        prepare(vqa_spec(vqa, files={**VQAV2, "images": pattern}), root=tmp_path / "tables")
    with pytest.raises(ReliabitError, match=message):
        prepare(vizwiz_spec(vizwiz, files={**VIZWIZ, "images": pattern}), root=tmp_path / "tables")


@pytest.mark.parametrize("write_json", [json.dumps, lambda entries: "\ufeff" + json.dumps(entries)])
def test_question_files_may_begin_with_a_mark(tmp_path, write_json):
    root = write_vizwiz(tmp_path / "vizwiz", images=2)
    (root / VIZWIZ["annotations"]).write_text(write_json(vizwiz_entries(images=2)), encoding="utf-8")
    assert len(usable(vizwiz_spec(root), tmp_path / "tables")[0]) == 2


def test_json_that_is_nested_too_deeply_is_refused(tmp_path):
    root = write_vizwiz(tmp_path / "vizwiz", images=1)
    (root / VIZWIZ["annotations"]).write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ReliabitError, match=r"val.json is not in the expected layout \(its values are nested too dee"):
        prepare(vizwiz_spec(root), root=tmp_path / "tables")


@pytest.mark.parametrize("pattern", ["/somewhere/*.parquet", "", "data/**.parquet"])
def test_patterns_that_are_none_below_the_root_are_refused(tmp_path, pattern):
    root = write_hub_vqa(tmp_path / "hub")
    with pytest.raises(ReliabitError, match=r"data.files.parquet=.* of vqav2 is no pattern of files below data.root="):
        prepare(hub_spec(root, files={"parquet": pattern}), root=tmp_path / "tables")


def test_texts_of_parquet_that_are_no_utf8_are_refused(tmp_path):
    row = {"question_id": 1, "question": b"what \xff?", "answers": ["a"], "image": {"bytes": picture(1), "path": None}}
    raw = {"question_id": pa.int64(), "question": pa.binary(), "answers": pa.list_(pa.string()), "image": IMAGE}
    root = write_parts(tmp_path / "hub", [row], pa.schema(raw), files=1, part="validation")
    [path] = (root / "data").iterdir()
    table = pa.parquet.read_table(path)
    text = pa.StringArray.from_buffers(1, *table["question"].chunk(0).buffers()[1:])
    pa.parquet.write_table(table.set_column(table.schema.get_field_index("question"), "question", text), path)
    with pytest.raises(ReliabitError, match="cannot be read to its end"):
        prepare(hub_spec(root), root=tmp_path / "tables")
