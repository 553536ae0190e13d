import hashlib
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from reliabit.data.in_memory import SourcePart
from reliabit.data.prepared_table import load_split, prepare, read_manifest, table_folder
from reliabit.data.sources import SPLITS, DataConfig
from reliabit.data.sources.scenes import Scenes
from reliabit.data.table import first_images, vqa_features
from reliabit.errors import ReliabitError

SPEC = DataConfig(
    name="scenes", splits={"train": 3, "dev": 2, "val": 1, "cal": 2, "test": 2}, seed=1, questions_per_image=4
)


def prepare_in(root: Path) -> str:
    return str(prepare(SPEC, root=root))


def test_splits_share_no_image_and_match_their_manifest(tmp_path):
    folder = prepare(SPEC, root=tmp_path)
    tables = {split: load_split(folder, split) for split in SPLITS}
    images = [image for table in tables.values() for image in set(table["image_id"])]
    assert len(images) == len(set(images)) == 10
    for split, record in read_manifest(folder).items():
        assert record.questions == len(tables[split]) == 4 * SPEC.splits[split]
        assert record.sha256 == hashlib.sha256((folder / f"{split}.parquet").read_bytes()).hexdigest()
        assert tables[split].features == vqa_features()


@pytest.mark.medium
def test_easy_vqa_keeps_its_own_test_part(tmp_path):
    spec = DataConfig(name="easy_vqa", splits={"dev": 5, "cal": 3, "test": 4})
    folder = prepare(spec, root=tmp_path)
    assert {image.split("-")[0] for image in load_split(folder, "test")["image_id"]} == {"test"}
    assert {image.split("-")[0] for image in load_split(folder, "dev")["image_id"]} == {"train"}


def test_a_second_preparation_leaves_the_files_alone(tmp_path):
    folder = prepare(SPEC, root=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert prepare(SPEC, root=tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_the_same_specification_gives_the_same_hashes(tmp_path):
    first, second = (read_manifest(prepare(SPEC, root=tmp_path / name)) for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize("change", [{"seed": 2}, {"questions_per_image": 6}, {"splits": {"test": 1}}])
def test_another_specification_lives_in_another_folder(tmp_path, change):
    assert table_folder(replace(SPEC, **change), root=tmp_path) != table_folder(SPEC, root=tmp_path)


@pytest.mark.medium
def test_processes_that_prepare_at_once_agree(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        folders = pool.map(prepare_in, [tmp_path] * 4)
    assert len(set(folders)) == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [Path(folders[0]).name]


def test_a_changed_file_is_refused(tmp_path):
    folder = prepare(SPEC, root=tmp_path)
    with (folder / "test.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ReliabitError, match="differs from its hash"):
        load_split(folder, "test")


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    good = list(Scenes(SPEC).parts()[0].read())

    def failing():
        yield from good
        raise ReliabitError("the last item is bad")

    monkeypatch.setattr(Scenes, "parts", lambda source: [SourcePart(read=failing, splits=SPLITS)])
    with pytest.raises(ReliabitError, match="the last item is bad"):
        prepare(SPEC, root=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_repeated_question_ids_are_refused(tmp_path, monkeypatch):
    row = next(iter(Scenes(SPEC).parts()[0].read()))
    monkeypatch.setattr(Scenes, "parts", lambda source: [SourcePart(read=lambda: [row, row], splits=SPLITS)])
    with pytest.raises(ReliabitError, match="comes twice"):
        prepare(SPEC, root=tmp_path)


def test_an_empty_source_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Scenes, "parts", lambda source: [SourcePart(read=list, splits=SPLITS)])
    with pytest.raises(ReliabitError, match="has no questions"):
        prepare(SPEC, root=tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataConfig(name="vqa9", splits={"test": 1}), "data.name=vqa9 is not a data source"),
        (replace(SPEC, splits={"exam": 1}), "data.splits.exam is not a split"),
        (replace(SPEC, splits={"test": 0}), "is empty"),
        (DataConfig(name="easy_vqa", splits={"test": 5000}), "ask for 5000 images and there are 1000"),
    ],
)
def test_bad_specifications_are_refused(tmp_path, spec, message):
    with pytest.raises(ReliabitError, match=message):
        prepare(spec, root=tmp_path)


def test_a_split_that_was_not_prepared_is_refused(tmp_path):
    folder = prepare(replace(SPEC, splits={"test": 2}), root=tmp_path)
    with pytest.raises(ReliabitError, match="has no split .dev.; it has"):
        load_split(folder, "dev")


def test_the_first_images_keep_all_their_questions(tmp_path):
    table = load_split(prepare(SPEC, root=tmp_path), "train")
    kept = first_images(table, 2)
    assert len(kept) == 8
    assert len(set(kept["image_id"])) == 2
    assert first_images(table, None) is table
    assert len(first_images(table, 99)) == len(table)


def test_tables_that_were_prepared_before_are_found(tmp_path):
    many = {"train": 2400, "dev": 600, "val": 300, "cal": 700, "test": 1000}
    files = {"questions": "q.json", "annotations": "a.json", "images": "i/{image_id}.jpg"}
    ids = {"dev": "dev.txt", "test": None}
    assert table_folder(DataConfig(name="easy_vqa", splits=many), root=tmp_path).name == "easy_vqa-f3549f0c52"
    assert table_folder(SPEC, root=tmp_path).name == "scenes-d87a7bba6f"
    large = DataConfig(
        name="vqav2", splits={"dev": 0.4, "test": 0.5}, root="/x", files=files, split_ids=ids, on_bad_sample="skip"
    )
    assert table_folder(large, root=tmp_path).name == "vqav2-a60d894c2f"
    other = replace(large, name="vizwiz", layout="hub", template="a {question}", split_ids_of="question", split_ids={})
    assert table_folder(other, root=tmp_path).name == "vizwiz-9fe9853482"
    # What is asked of a table is no part of it.
    assert table_folder(replace(large, ask={"dev": 1}, shifts=["reworded"]), root=tmp_path).name == "vqav2-a60d894c2f"
