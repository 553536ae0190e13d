import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.vqa_files import IMAGE, hub_spec, picture, vqa_spec, write_hub_vqa, write_parts, write_vqa
from reliabit.data.prepared_table import load_split, prepare
from reliabit.errors import ReliabitError

SPLITS = ("dev", "val", "test")


def test_both_layouts_of_a_set_make_the_same_table(tmp_path):
    official = prepare(vqa_spec(write_vqa(tmp_path / "official")), root=tmp_path / "tables")
    hub = prepare(hub_spec(write_hub_vqa(tmp_path / "hub")), root=tmp_path / "tables")
    assert official != hub
    for split in SPLITS:
        assert list(load_split(hub, split)) == list(load_split(official, split))


def test_images_that_many_rows_repeat_are_stored_once(tmp_path):
    folder = prepare(hub_spec(write_hub_vqa(tmp_path / "hub"), splits={"test": 1.0}), root=tmp_path / "tables")
    stored = (folder / "test.images.tar").stat().st_size
    padded = sum(512 + len(picture(number)) + -len(picture(number)) % 512 for number in range(1, 11))
    assert stored == padded + 1024


def rows(**changes):
    row = {"question_id": 1, "question": "what?", "answers": ["a"], "image": {"bytes": picture(1), "path": None}}
    return [{**row, **changes}]


SCHEMA = pa.schema(
    {"question_id": pa.int64(), "question": pa.string(), "answers": pa.list_(pa.string()), "image": IMAGE}
)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"answers": []}, "the question has no answers: 1"),
        ({"answers": None}, "the question has no annotation: 1"),
        ({"answers": ["a", None]}, "the question is malformed: 1"),
        ({"question": None}, "the question is malformed: 1"),
        ({"image": {"bytes": None, "path": "elsewhere.jpg"}}, "its image is missing: 1"),
        ({"image": None}, "its image is missing: 1"),
        ({"image": {"bytes": b"no image", "path": None}}, "its image does not decode: 1"),
        ({"image": {"bytes": picture(1)[:300], "path": None}}, "its image does not decode: 1"),
    ],
)
def test_bad_rows_are_named(tmp_path, changes, problem):
    bad = [{**rows(**changes)[0], "question_id": 2}]
    root = write_parts(tmp_path / "hub", [*rows(), *bad], SCHEMA, files=1, part="validation")
    with pytest.raises(ReliabitError, match=problem):
        prepare(hub_spec(root, splits={"test": 1.0}), root=tmp_path / "tables")


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ReliabitError, match=r"vqav2: no file in .* matches data/validation-\*\.parquet"):
        prepare(hub_spec(tmp_path / "nowhere"), root=tmp_path / "tables")


def test_missing_columns_are_named(tmp_path):
    schema = SCHEMA.remove(SCHEMA.get_field_index("answers"))
    write_parts(tmp_path / "hub", rows(), schema, files=1, part="validation")
    with pytest.raises(ReliabitError, match="lacks the columns answers; it has question_id, question, image"):
        prepare(hub_spec(tmp_path / "hub"), root=tmp_path / "tables")


def test_a_file_cut_short_is_refused(tmp_path):
    root = write_hub_vqa(tmp_path / "hub", files=1)
    [path] = (root / "data").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReliabitError, match="is no Parquet file that can be read"):
        prepare(hub_spec(root), root=tmp_path / "tables")


def test_a_file_damaged_in_the_middle_is_refused(tmp_path):
    root = write_hub_vqa(tmp_path / "hub", files=1)
    [path] = (root / "data").iterdir()
    place = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place : place + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(ReliabitError, match="cannot be read to its end"):
        prepare(hub_spec(root), root=tmp_path / "tables")
