"""A folder of one's own: what is read of each kind of table, and how mistakes are named."""

import csv
import gc
import json
import re
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from added_packages import composed
from reliabit.data.own_files.column_names import ColumnNames
from reliabit.data.prepared_table import bad_samples_file, load_split, prepare, previewed, read_manifest
from reliabit.data.sources import DataConfig, find_source
from reliabit.data.sources.folder import SHARES
from reliabit.errors import ReliabitError

QUESTIONS = [
    {"image": f"images/{number}.png", "question": f"what is {number}?", "answer": answer}
    for number, answer in enumerate(("cat", "007", "NA", "null", "2012-08-14", "true"))
]
"""Answers that readers like to take for numbers, nothing, dates and truth values."""


def picture(number: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 90)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def pets(tmp_path):
    """A folder with six pictures and no table."""
    folder = tmp_path / "pets"
    (folder / "images").mkdir(parents=True)
    for number in range(6):
        (folder / "images" / f"{number}.png").write_bytes(picture(number))
    return folder


def write_csv(path, rows, *, sep=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=sep)
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def settings(place, **changes):
    return DataConfig(**{"name": "folder", "root": str(place), "splits": dict(SHARES), **changes})


def made(root, **changes):
    return prepare(settings(root, **changes), root=root.parent / "tables")


def read(root, split="test", **changes):
    """The question, the first answer and the picture of each row, in the order of the ids."""
    table = load_split(made(root, **changes), split)
    rows = sorted(table, key=lambda row: row["question_id"])
    return [(row["question"], row["answers"][0], row["image"]) for row in rows]


leaves_files_open = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""The image folder of `datasets` does; ours is not read by that class."""


def image_folder(folder, cache, monkeypatch):
    """What `datasets` itself reads; it would count downloads on a server, and leaves files to the garbage collector."""
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    found = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(cache))
    gc.collect()
    return found


WANTED = [(row["question"], row["answer"], picture(number)) for number, row in enumerate(QUESTIONS)]


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_a_csv_is_read_as_texts_whatever_stands_between_them(pets, sep):
    write_csv(pets / ("questions.tsv" if sep == "\t" else "questions.csv"), QUESTIONS, sep=sep, encoding="utf-8-sig")
    assert read(pets) == WANTED
    assert read(next(pets.glob("questions.*"))) == WANTED


def test_columns_without_a_name_are_read_over(pets):
    write_csv(pets / "questions.csv", [{**row, "": "x", "answer ": ""} for row in QUESTIONS])
    text = (pets / "questions.csv").read_text().replace("answer ", "").replace('""', "")
    (pets / "questions.csv").write_text(text)
    assert text.startswith("image,question,answer,,\n")
    assert read(pets) == WANTED


def test_json_lines_and_parquet_are_read_as_texts_too(pets):
    write_jsonl(pets / "questions.jsonl", QUESTIONS)
    assert read(pets) == WANTED
    (pets / "questions.jsonl").unlink()
    embedded = [{**row, "image": picture(number)} for number, row in enumerate(QUESTIONS)]
    for rows in (QUESTIONS, embedded):
        pq.write_table(pa.Table.from_pylist(rows), pets / "questions.parquet")
        assert read(pets, seed=len(rows[0]["image"])) == WANTED


@leaves_files_open
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_image_folder_is_what_datasets_reads(pets, kind, tmp_path, monkeypatch):
    rows = [
        {"file_name": row["image"], "question": row["question"], "answer": f"a{i}"} for i, row in enumerate(QUESTIONS)
    ]
    (write_csv if kind == "csv" else write_jsonl)(pets / f"metadata.{kind}", rows)
    theirs = image_folder(pets, tmp_path / "cache", monkeypatch)["train"]
    theirs = theirs.cast_column("image", datasets.Image(decode=False))
    opened = [(row["question"], row["answer"], Path(row["image"]["path"]).read_bytes()) for row in theirs]
    assert read(pets) == opened


def test_a_picture_of_a_train_does_not_make_a_split(pets):
    # `datasets` takes such a word in a name for one and drops all others: findings/datasets_picture_names_as_splits.sh
    names = [f"{kind} {number}.png" for number, kind in enumerate(("train", "bus", "test tube"))]
    for number, name in enumerate(names):
        (pets / name).write_bytes(picture(number))
    rows = [{"file_name": name, "question": f"{number}?", "answer": name} for number, name in enumerate(names)]
    write_csv(pets / "metadata.csv", rows)
    assert [answer for _, answer, _ in read(pets)] == names


@leaves_files_open
def test_the_splits_of_an_image_folder_are_those_of_datasets(tmp_path, monkeypatch):
    for number, split in enumerate(("train", "validation", "test")):
        folder = tmp_path / "pets" / split
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(picture(number))
        write_csv(folder / "metadata.csv", [{"picture_file_name": "a.png", "question": "what?", "answer": split}])
    theirs = image_folder(tmp_path / "pets", tmp_path / "cache", monkeypatch)
    names = {"train": "dev", "validation": "val", "test": "test"}
    folder = made(tmp_path / "pets")
    assert {*read_manifest(folder)} == {names[split] for split in theirs}
    for split, name in names.items():
        assert [row["answers"][0] for row in load_split(folder, name)] == theirs[split]["answer"][:]


def test_a_saved_data_set_is_read_with_its_splits_and_the_names_of_its_labels(pets):
    rows = {"image": [str(pets / row["image"]) for row in QUESTIONS], "question": ["what?"] * 6, "label": [0, 1] * 3}
    saved = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    saved = saved.cast_column("label", datasets.ClassLabel(names=["cat", "dog"]))
    saved.save_to_disk(pets.parent / "one")
    assert [answer for _, answer, _ in read(pets.parent / "one")] == ["cat", "dog"] * 3
    assert [image for *_, image in read(pets.parent / "one")] == [picture(number) for number in range(6)]
    both = datasets.DatasetDict({"train": saved.select([0, 1]), "dev": saved.select([2]), "test": saved.select([3])})
    both.save_to_disk(pets.parent / "several")
    # `dev` beside `train` is what others choose on.
    found = read_manifest(made(pets.parent / "several"))
    assert {name: record.questions for name, record in found.items()} == {"dev": 2, "val": 1, "test": 1}


@pytest.mark.parametrize("answers", [["cat", "cat", "dog"], ["cat"], ["a", "b", "c", "d"]])
def test_fewer_than_ten_annotators_count_in_the_same_shares(pets, answers):
    columns = {f"answer_{number}": answer for number, answer in enumerate(answers)}
    write_csv(pets / "a.csv", [{"image": "images/0.png", "question": "what?", **columns}])
    write_jsonl(pets.parent / "b.jsonl", [{"image": "pets/images/0.png", "question": "what?", "answers": answers}])
    quoted = [{"image": "images/0.png", "question": "what?", "answers": json.dumps(answers)}]
    tables = [load_split(made(pets / "a.csv"), "test"), load_split(made(pets.parent / "b.jsonl"), "test")]
    write_csv(pets / "c.csv", quoted)
    for table in [*tables, load_split(made(pets / "c.csv"), "test")]:
        counts = Counter(table[0]["answers"])
        assert sum(counts.values()) >= 10
        assert {answer: count / sum(counts.values()) for answer, count in counts.items()} == {
            answer: count / len(answers) for answer, count in Counter(answers).items()
        }


def test_columns_are_found_or_given_or_named_as_a_mistake(pets):
    rows = [{"Bild": "images/0.png", "Frage": "was?", "A1": "Hund", "A2": "Katze", "answer": "x", "id": "q1"}]
    write_csv(pets / "fragen.csv", rows)
    given = ColumnNames(image="Bild", question="Frage", answers=["A1", "A2"])
    [row] = load_split(made(pets, columns=given), "test")
    assert (row["question_id"], Counter(row["answers"])) == ("q1", {"Hund": 5, "Katze": 5})
    with pytest.raises(ReliabitError, match="no column is called like one of image; name it by data.columns.image="):
        made(pets, columns=ColumnNames(question="Fragen"))
    with pytest.raises(
        ReliabitError, match=r"no column 'Fragen', which data.columns.question names.*columns are Bild, "
    ):
        made(pets, columns=ColumnNames(question="Fragen"))
    write_csv(pets / "fragen.csv", [{"image": "a.png", "file_name": "b.png", "question": "what?", "answer": "x"}])
    with pytest.raises(ReliabitError, match="'image' and 'file_name' could both hold the image; say which by data.col"):
        made(pets)
    with pytest.raises(ReliabitError, match=r"data.columns.answers=\[1\] is no column"):
        ColumnNames(answers=[1]).check("data.columns")


def bad(pets, rows, **changes):
    write_csv(pets / "questions.csv", rows)
    with pytest.raises(ReliabitError) as raised:
        made(pets, **changes)
    return str(raised.value)


def test_all_mistakes_of_a_table_are_named_at_once_with_their_lines(pets):
    rows = [{**row, "id": f"q{number}"} for number, row in enumerate(QUESTIONS)]
    (pets / "images" / "3.png").write_bytes(b"no picture")
    rows[0]["question"] = "two\nlines"
    rows[1]["image"] = "images/gone.png"
    rows[2]["answer"] = " "
    rows[4]["id"] = "q0"
    rows[5]["question"] = ""
    message = bad(pets, rows)
    for wanted in (
        "pets: 5 samples cannot be used",
        "questions.csv line 4: its image is missing (images/gone.png)",
        "questions.csv line 5: the question has no answers (column answer)",
        "questions.csv line 6: its image does not decode (the image of 3.png cannot be decoded",
        "questions.csv line 7: the question id comes twice ('q0' is that of questions.csv line 2 too)",
        "questions.csv line 8: the question is empty",
        "set data.on_bad_sample=skip to go on without them",
    ):
        assert wanted in message
    folder = made(pets, on_bad_sample="skip")
    assert [row["question"] for row in load_split(folder, "test")] == ["two\nlines"]
    assert len(bad_samples_file(folder).read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (
            "https://example.org/cat.png",
            "its image is an address and no file (https://example.org/cat.png; download it",
        ),
        ("../outside.png", "its image lies outside of data.root (../outside.png; move it there, or allow others by"),
        ("/etc/hostname", "its image lies outside of data.root"),
        ("images/link.png", "its image lies outside of data.root"),
        ("images", "its image cannot be read (images: Is a directory)"),
        ("", "its image is not named (column image)"),
    ],
)
def test_pictures_are_files_within_the_folder(pets, image, problem):
    (pets.parent / "outside.png").write_bytes(picture(9))
    (pets / "images" / "link.png").symlink_to(pets.parent / "outside.png")
    assert f"questions.csv line 2: {problem}" in bad(pets, [{**QUESTIONS[0], "image": image}])
    if image.endswith(("outside.png", "link.png")):
        assert read(pets, options={"outside_root": True})[0][2] == picture(9)


def test_copies_of_a_picture_never_come_into_two_splits(pets):
    (pets / "images" / "copy.png").write_bytes(picture(0))
    rows = [{**QUESTIONS[0], "split": "train"}, {**QUESTIONS[0], "image": "images/copy.png", "split": "test"}]
    assert "questions.csv line 3: its image is in two splits (train and test)" in bad(pets, rows)
    rows = [
        {**row, "image": f"images/{name}.png"} for row, name in zip(QUESTIONS, ("0", "copy", 1, 2, 3, 4), strict=True)
    ]
    write_csv(pets / "questions.csv", rows)
    folder = made(pets, splits={"dev": 2, "test": 3})
    places = {row["image_id"]: split for split in ("dev", "test") for row in load_split(folder, split)}
    assert {split: record.images for split, record in read_manifest(folder).items()} == {"dev": 2, "test": 3}
    assert len(places) == 5


def test_a_column_of_splits_may_use_the_names_of_others(pets):
    names = ("train", "validation", "calib", "test", "Test", "train")
    write_csv(pets / "questions.csv", [{**row, "split": name} for row, name in zip(QUESTIONS, names, strict=True)])
    folder = made(pets)
    assert {name: record.questions for name, record in read_manifest(folder).items()} == {
        "dev": 2,
        "val": 1,
        "cal": 1,
        "test": 2,
    }
    assert "train is dev, validation is val" in previewed(settings(pets), folder)
    rows = [{**row, "split": name} for row, name in zip(QUESTIONS, ("fold 1", *names[1:]), strict=True)]
    assert "questions.csv line 2: its split is unknown ('fold 1')" in bad(pets, rows, seed=1)
    assert "the splits train, and no test, which reports" in bad(pets, [{**QUESTIONS[0], "split": "train"}], seed=1)
    assert len(read(pets, columns=ColumnNames(split="none"))) == 1


def test_splits_are_drawn_from_two_hundred_pictures_on(tmp_path):
    rows = [{"image": picture(number), "question": "what?", "answer": "x", "kind": "y"} for number in range(200)]
    for count, wanted in ((199, {"test": 199}), (200, {"dev": 60, "val": 20, "cal": 60, "test": 60})):
        folder = tmp_path / f"set{count}"
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(rows[:count]), folder / "x.parquet")
        assert {name: record.images for name, record in read_manifest(made(folder)).items()} == wanted
    assert {*read_manifest(made(tmp_path / "set199", options={"drawn_from": 0}))} == {*SHARES}


def test_a_table_that_cannot_be_read_is_named_with_its_line(pets):
    path = pets / "questions.csv"
    for content, message in (
        (
            b"image,question,answer\na.png,what?\nb.png,what, then?,x\n",
            "3 columns, and line 2 has 2, line 3 has 4; put ",
        ),
        (b"image,question,answer\na.png,caf\xe9,x\n", "questions.csv line 2: byte 0xe9 is not UTF-8; save it as UTF-8"),
        ("image,question,answer\n".encode("utf-16"), "questions.csv is UTF-16; save it as UTF-8"),
        (b'image,question,answer\na.png,"what,x\n', "questions.csv line 2: it cannot be read (unexpected end of data)"),
        (b"image question answer\na.png what x\n", "Its columns are image question answer"),
        (b"image,question,answer\na.png,what?,a\0\n", "line 2: it holds a byte 0; save it as UTF-8 text"),
        (b"image,image,answer\n", "line 1: two columns are called 'image'; rename one of them"),
        (b"", "questions.csv is empty; its first line names the columns"),
        (b"image,question,answer\n", "has no questions that can be used"),
    ):
        path.write_bytes(content)
        with pytest.raises(ReliabitError, match=re.escape(message)):
            made(pets)
    path.unlink()
    for name, content, message in (
        ("a.jsonl", b'{"image": "a.png"\n', "a.jsonl line 1: it is no JSON"),
        ("a.jsonl", b'\n["a"]\n', "a.jsonl line 2: it is no JSON object; hold one JSON object a line"),
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.parquet", b"PAR1", "a.parquet is no Parquet file that can be read"),
    ):
        (pets / name).write_bytes(content)
        with pytest.raises(ReliabitError, match=re.escape(message)):
            made(pets / name)


def test_values_of_several_kinds_are_named(pets):
    path, row = pets / "a.jsonl", QUESTIONS[0]
    for answer, message in (
        (["cat"], "line 2: its answers are mixed (a.jsonl line 2 has a list and a.jsonl line 1 one answer"),
        (True, "line 2: the answer is no text (its answer is no text but a truth value)"),
    ):
        write_jsonl(path, [row, {**row, "answer": answer}])
        with pytest.raises(ReliabitError, match=re.escape(message)):
            made(pets)
    write_jsonl(path, [row, {**row, "answer": 3}, {**row, "answer": 2.5}])
    assert [answer for _, answer, _ in read(pets)] == ["cat", "3", "2.5"]
    write_jsonl(path, [{**row, "question": 3, "image": 4}, {**row, "answer": "[yes]"}, {**row, "image": 4}])
    with pytest.raises(ReliabitError) as raised:
        made(pets, seed=1)
    assert "line 1: the question is no text" in str(raised.value)
    assert "line 2: its answers look like a list and are none ([yes]; write them like" in str(raised.value)
    assert "line 3: its image is neither a path nor bytes (column image holds int)" in str(raised.value)


def test_it_is_said_what_is_missing_before_anything_is_read(tmp_path, pets):
    for root, message in (
        (None, "data.root is null; name the folder of your pictures and questions"),
        ("https://example.org/pets", "data.root=https://example.org/pets is an address; download it"),
        (str(tmp_path / "gone"), "gone does not exist; name a folder, or a table by its file"),
        (str(pets), "pets holds no table; put a file of questions there that ends in .csv"),
        (str(pets / "images" / "0.png"), "0.png is no table; it may end in .csv"),
    ):
        with pytest.raises(ReliabitError, match=re.escape(message)):
            find_source(settings(pets, root=root)).check_files()
    for name in ("a.csv", "b.csv"):
        write_csv(pets / name, QUESTIONS)
    with pytest.raises(ReliabitError, match=r"several tables \(a.csv, b.csv\); name one of them by data.root=.*a.csv"):
        find_source(settings(pets)).check_files()


def test_small_tables_are_tried_before_anything_heavy_is_imported(pets):
    write_csv(pets / "questions.csv", [*QUESTIONS, {**QUESTIONS[0], "image": "images/gone.png"}])
    code = f"""
import sys
from reliabit.data.sources import DataConfig, find_source
from reliabit.errors import ReliabitError
try:
    find_source(DataConfig(name="folder", root={str(pets)!r}, splits={SHARES})).check_files()
except ReliabitError as error:
    print(error)
print(*({{"datasets", "torch", "pandas", "pyarrow"}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "pets: 1 samples cannot be used (its image is missing: 1); questions.csv line 8: its image is missing "
        "(images/gone.png); repair the table, or set data.on_bad_sample=skip to go on without them\n\n"
    )
    find_source(settings(pets, on_bad_sample="skip")).check_files()


def test_a_changed_picture_or_table_is_noticed(pets):
    write_csv(pets / "questions.csv", QUESTIONS)
    folder = made(pets)
    assert made(pets) == folder
    for path, content in ((pets / "images" / "2.png", picture(77)), (pets / "questions.csv", b"x")):
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(ReliabitError, match=f"{path.name} was changed after .* delete .* to prepare it anew"):
            made(pets)
        path.write_bytes(before)


def test_what_was_read_is_shown_and_what_so_few_can_say(pets, capsys):
    write_csv(pets / "questions.csv", [{**row, "type": "things"} for row in QUESTIONS])
    made(pets)
    shown = capsys.readouterr().err
    for wanted in (
        "pets: 6 questions about 6 pictures (test: 6 about 6)",
        "pets/questions.csv: image from image, question from question, answers from answer, type from type; ",
        "answers a question: 1 (6 questions)",
        "types: things 6",
        "6 test questions tell an accuracy to about ±31 points",
        "no risk is certified, as there is no cal split",
    ):
        assert wanted in shown
    assert len(re.findall(r"^  \d\. \[8×8\] what is \d\? → ", shown, re.MULTILINE)) == 3
    made(pets)
    assert capsys.readouterr().err == ""


def test_a_run_calls_it_by_its_folder_from_wherever_it_is_started(pets, monkeypatch):
    monkeypatch.chdir(pets.parent)
    here = settings("pets")
    assert (here.called(), settings(pets / "my set.csv").called()) == ("pets", "my_set")
    assert settings("pets", label="cats").called() == "cats"
    assert here.identity() == settings(pets).identity()
    assert DataConfig(name="scenes", root="x").called() == "scenes"


def test_the_shares_that_are_left_to_few_pictures_are_those_of_the_group(tmp_path):
    (tmp_path / "options").mkdir()
    config = composed(tmp_path, "data=folder", "data.root=pets", "data.columns.answers=[a1,a2]")
    assert config.data.splits == SHARES
    assert config.data.columns.answers == ["a1", "a2"]
