"""Tables that leave out bad samples: what is recorded, what is said, and when they must be made anew."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.vqa_files import VQAV2, hub_spec, picture, vizwiz_spec, vqa_spec, write_hub_vqa, write_vizwiz, write_vqa
from reliabit.data import bad_samples
from reliabit.data.prepared_table import (
    bad_samples_file,
    load_split,
    prepare,
    read_manifest,
    skipped_samples,
    table_folder,
)
from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError

ALL = {"test": 1.0}


@pytest.fixture
def root(tmp_path):
    """A set of three images with two questions each, the second image missing and the third empty."""
    root = write_vqa(tmp_path / "vqav2", images=3, questions_per_image=2)
    image(root, 2).unlink()
    image(root, 3).write_bytes(b"")
    return root


@pytest.fixture
def tables(tmp_path):
    bad_samples.tell.cache_clear()
    return tmp_path / "tables"


def image(root, number):
    return root / VQAV2["images"].format(image_id=number)


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_the_manifest_says_what_was_left_out(root, tables):
    folder = prepare(vqa_spec(root, splits=ALL, on_bad_sample="skip"), root=tables)
    assert skipped_samples(folder) == {"its image is missing": 2, "its image does not decode": 2}
    assert manifest(folder)["skipped"] == skipped_samples(folder)
    assert read_manifest(folder)["test"].questions == 2


def test_a_table_that_leaves_out_nothing_says_nothing(tables, tmp_path, capsys):
    root = write_vqa(tmp_path / "vqav2", images=2)
    folder = prepare(vqa_spec(root, splits=ALL, on_bad_sample="skip"), root=tables)
    assert "skipped" not in manifest(folder)
    assert len(manifest(folder)["files"]) == 2
    assert skipped_samples(folder) == {}
    assert capsys.readouterr().err == ""


def test_whoever_uses_such_a_table_is_told_once(root, tables, capsys):
    spec = vqa_spec(root, splits=ALL, on_bad_sample="skip")
    folder = prepare(spec, root=tables)
    said = capsys.readouterr().err
    assert said.startswith(f"{folder} was made without bad samples: 4 samples cannot be used (its image ")
    assert "its image is missing: 2" in said
    assert said.endswith(f"; they are listed in {bad_samples_file(folder)}\n")
    prepare(spec, root=tables)
    assert capsys.readouterr().err == ""
    bad_samples.tell.cache_clear()  # As in another process.
    prepare(spec, root=tables)
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("number", [2, 3])
def test_a_repaired_image_is_noticed(root, tables, number):
    spec = vqa_spec(root, splits=ALL, on_bad_sample="skip")
    folder = prepare(spec, root=tables)
    assert prepare(spec, root=tables) == folder
    image(root, number).write_bytes(picture(number))
    with pytest.raises(ReliabitError, match=rf"{image(root, number)} was changed after .*; delete {folder} to prepare"):
        prepare(spec, root=tables)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert prepare(spec, root=tables) == folder
    assert sum(skipped_samples(folder).values()) == 2


def test_images_that_were_good_may_change_or_go(root, tables):
    spec = vqa_spec(root, splits=ALL, on_bad_sample="skip")
    folder = prepare(spec, root=tables)
    image(root, 1).unlink()
    assert prepare(spec, root=tables) == folder


def test_a_repaired_parquet_file_is_noticed(tables, tmp_path, monkeypatch):
    monkeypatch.setattr("data.vqa_files.picture", lambda number: b"" if number == 2 else picture(number))
    spec = hub_spec(write_hub_vqa(tmp_path / "hub", files=1), splits=ALL, on_bad_sample="skip")
    folder = prepare(spec, root=tables)
    assert skipped_samples(folder) == {"its image does not decode": 3}
    monkeypatch.undo()
    [path] = (tmp_path / "hub" / "data").iterdir()
    path.unlink()
    path.parent.rmdir()
    write_hub_vqa(tmp_path / "hub", files=1)
    with pytest.raises(ReliabitError, match="was changed after"):
        prepare(spec, root=tables)


def test_manifests_from_before_are_read(root, tables):
    folder = prepare(vqa_spec(root, splits=ALL, on_bad_sample="skip"), root=tables)
    record = manifest(folder)
    del record["skipped"], record["files"]
    (folder / "manifest.json").write_text(json.dumps(record))
    assert prepare(vqa_spec(root, splits=ALL, on_bad_sample="skip"), root=tables) == folder
    assert len(load_split(folder, "test")) == 2


def listed(spec, tables):
    path = bad_samples_file(table_folder(spec, root=tables))
    return path, [json.loads(line)["problem"] for line in path.read_text().splitlines()]


def test_a_set_without_any_usable_question_says_why_and_where(tmp_path, tables):
    root = write_vqa(tmp_path / "vqav2", images=2, questions_per_image=1)
    (root / VQAV2["annotations"]).write_text('{"annotations": []}')
    for how in ("fail", "skip"):
        spec = vqa_spec(root, splits=ALL, on_bad_sample=how)
        with pytest.raises(ReliabitError) as raised:
            prepare(spec, root=tables)
        path, problems = listed(spec, tables)
        assert problems == ["the question has no annotation"] * 2
        assert str(raised.value) == (
            f"the data source vqav2 has no questions that can be used in {root}; "
            f"2 samples cannot be used (the question has no annotation: 2); they are listed in {path}"
        )


def test_a_split_without_any_usable_image_says_why_and_where(tmp_path, tables):
    root = write_vizwiz(tmp_path / "vizwiz", images=2)
    for file in (root / "val").iterdir():
        file.unlink()
    spec = vizwiz_spec(root)
    with pytest.raises(ReliabitError, match=r"no question of data.splits.test .*its image is missing: 2.* listed in"):
        prepare(spec, root=tables)
    assert listed(spec, tables)[1] == ["its image is missing"] * 2


def test_what_was_bad_before_a_file_broke_off_is_listed(root, tables):
    questions = root / VQAV2["questions"]
    questions.write_text('{"questions": ["what?", {"question_id": 1')
    spec = vqa_spec(root, splits=ALL)
    with pytest.raises(ReliabitError, match=r"is not in the expected layout .*the question is malformed: 1"):
        prepare(spec, root=tables)
    assert listed(spec, tables)[1] == ["the question is malformed"]


def test_a_set_without_questions_has_nothing_to_list(tmp_path, tables):
    root = write_vqa(tmp_path / "vqav2", images=1)
    (root / VQAV2["questions"]).write_text('{"questions": []}')
    spec = vqa_spec(root, splits=ALL)
    with pytest.raises(ReliabitError, match=rf"has no questions that can be used in {root}$"):
        prepare(spec, root=tables)
    assert not bad_samples_file(table_folder(spec, root=tables)).exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from data.vqa_files import vqa_spec
from reliabit.data import streamed
from reliabit.data.prepared_table import prepare

def killed(*arguments, **settings):
    os.kill(os.getpid(), signal.SIGKILL)

streamed.write_rows = killed
prepare(vqa_spec(Path(sys.argv[1]), splits={"test": 1.0}), root=Path(sys.argv[2]))
"""


def test_what_a_killed_preparation_left_is_removed(tmp_path, tables):
    root = write_vqa(tmp_path / "vqav2", images=2)
    spec = vqa_spec(root, splits=ALL)
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{tests.parent / 'src'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(tables)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    name = table_folder(spec, root=tables).name
    left = [path.name for path in tables.iterdir() if path.name != f".{name}.lock"]
    assert len(left) == 2
    assert any((tables / leftover / "test.images.tar").is_file() for leftover in left)
    # Those of other tables may be in use.
    other = tables / f".{name}0.abc"
    other.mkdir()
    folder = prepare(spec, root=tables)
    assert {path.name for path in tables.iterdir()} - {f".{name}.lock"} == {folder.name, other.name}


def test_leftovers_of_small_sets_are_removed_too(tables):
    spec = DataConfig(name="scenes", splits={"test": 1})
    name = table_folder(spec, root=tables).name
    (tables / f".{name}.x1").mkdir(parents=True)
    (tables / f".{name}.x1" / "test.parquet").write_bytes(b"half")
    prepare(spec, root=tables)
    assert not (tables / f".{name}.x1").exists()
