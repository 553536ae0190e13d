"""Damaged and hostile files of a data set: a table of what is sound, or one sentence; never anything else."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.vqa_files import VQAV2, hub_spec, vizwiz_spec, vqa_spec, write_hub_vqa, write_vizwiz, write_vqa
from reliabit.data.prepared_table import load_split, prepare, read_manifest, skipped_samples
from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError

SKIPPING = {"splits": {"test": 1.0}, "on_bad_sample": "skip"}


def damages(content, *, count, text=False):
    """A file with one bit or character changed, or cut off."""
    draw = random.Random(0)
    for number in range(count):
        damaged = bytearray(content)
        if number % 4 == 3:
            yield bytes(damaged[: draw.randrange(len(content))])
            continue
        place = draw.randrange(len(content) // 2 if number % 4 == 1 else 0, len(content))
        damaged[place] = draw.choice(b'{}[]",:0-e\xff') if text else damaged[place] ^ 1 << draw.randrange(8)
        yield bytes(damaged)


def said_of(attempt):
    try:
        attempt()
    except ReliabitError as error:
        return [str(error)]
    return []


def test_parquet_files_of_the_hub(tmp_path):
    root = write_hub_vqa(tmp_path / "hub", images=4, files=1)
    [file] = (root / "data").iterdir()
    said = []
    for number, damaged in enumerate(damages(file.read_bytes(), count=80)):
        file.write_bytes(damaged)
        said += said_of(lambda place=tmp_path / f"{number}": prepare(hub_spec(root, **SKIPPING), root=place))
    assert len(said) > 25
    assert not any("\n" in message for message in said)


ODD = [
    (pa.int64(), 5),
    (pa.binary(), b"\xff"),
    (pa.list_(pa.int64()), [1]),
    (pa.struct({"a": pa.int64()}), {"a": 1}),
    (pa.float64(), float("nan")),
    (pa.null(), None),
    (pa.bool_(), True),
    (pa.timestamp("us"), 2**62),
    (pa.date64(), 2**62),
    (pa.duration("s"), 2**62),
]


@pytest.mark.parametrize("column", ["image", "question", "answers", "question_id", "image_id", "question_type"])
def test_columns_of_other_types_in_files_of_the_hub(column, tmp_path):
    root = write_hub_vqa(tmp_path / "hub", images=2, files=1)
    [file] = (root / "data").iterdir()
    table = pq.read_table(file)
    for number, (kind, value) in enumerate(ODD):
        try:
            values = pa.array([value] * table.num_rows, type=kind)
        except (pa.ArrowException, OverflowError):
            # Dates that Python has none for.
            values = pa.array([value] * table.num_rows, type=pa.int64()).cast(kind, safe=False)
        pq.write_table(table.set_column(table.column_names.index(column), column, values), file)
        said = said_of(lambda place=tmp_path / f"{number}": prepare(hub_spec(root, **SKIPPING), root=place))
        assert not any("\n" in message for message in said), (column, kind)


@pytest.mark.parametrize("name", ["questions", "annotations"])
def test_json_files_of_vqav2(name, tmp_path):
    root = write_vqa(tmp_path / "vqav2", images=2, questions_per_image=2)
    file, said = root / VQAV2[name], []
    hostile = (b"", b"null", b"[]", b'{"questions": {}}', b'{"questions": [[]]}', b'{"questions": [' + b'{"a":' * 9000)
    for number, damaged in enumerate([*hostile, *damages(file.read_bytes(), count=100, text=True)]):
        file.write_bytes(damaged)
        said += said_of(lambda place=tmp_path / f"{number}": prepare(vqa_spec(root, **SKIPPING), root=place))
    assert len(said) > 50
    assert not any("\n" in message for message in said)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}x",
        "null",
        "[1]",
        "[[1, 2]]",
        '[["a?", "red", "../../etc/passwd"]]',
        '[["a?", 5, 1]]',
        '[[null, "red", 1]]',
        '[["a \\ud83d", "red", 1]]',
        "[" * 100_000,
    ],
)
def test_the_questions_of_easy_vqa(text, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "questions.json").write_text(text)
    spec = DataConfig(name="easy_vqa", splits={"test": 1}, root=str(tmp_path))
    with pytest.raises(ReliabitError, match=r"easy_vqa: .*questions.json is damaged \(.*\); restore it"):
        prepare(spec, root=tmp_path / "tables")


def test_the_manifest_of_a_prepared_table(tmp_path):
    spec = vizwiz_spec(write_vizwiz(tmp_path / "vizwiz", images=3))
    folder = prepare(spec, root=tmp_path / "tables")
    manifest, said = folder / "manifest.json", []
    readers = (
        lambda: prepare(spec, root=tmp_path / "tables"),
        lambda: load_split(folder, "test"),
        lambda: read_manifest(folder),
        lambda: skipped_samples(folder),
    )
    lists = (b"[]", b"null", b"{}", b'{"splits": []}', b'{"splits": {"test": {}}}', b"[" * 100_000)
    for damaged in [*lists, *damages(manifest.read_bytes(), count=200, text=True)]:
        manifest.write_bytes(damaged)
        said += [message for read in readers for message in said_of(read)]
    assert len(said) > 400
    assert not any("\n" in message for message in said)
    assert any(f"{manifest} is damaged" in message and "run task=prepare again" in message for message in said)
