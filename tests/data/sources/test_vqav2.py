import json
import tarfile
from dataclasses import replace
from hashlib import sha256

import pytest
from datasets import concatenate_datasets

from data.vqa_files import ADVQA, VQAV2, picture, vqa_entries, vqa_spec, write_vqa
from reliabit.data.image_decoding import decode_image
from reliabit.data.prepared_table import load_split, prepare, read_manifest
from reliabit.data.shifts import apply_shift, parse_shift
from reliabit.data.table import vqa_features
from reliabit.errors import ReliabitError
from reliabit.metrics.functional import vqa_accuracy


@pytest.fixture
def root(tmp_path):
    return write_vqa(tmp_path / "vqav2")


@pytest.fixture
def tables(tmp_path):
    return tmp_path / "tables"


def read(spec, tables):
    folder = prepare(spec, root=tables)
    return {split: load_split(folder, split) for split in read_manifest(folder)}


def test_every_question_comes_with_its_image_and_its_ten_answers(root, tables):
    splits = read(vqa_spec(root), tables)
    rows = {row["question_id"]: row for table in splits.values() for row in table}
    questions, _ = vqa_entries(images=10, questions_per_image=3)
    assert len(rows) == len(questions) == 30
    for question in questions:
        row = rows[str(question["question_id"])]
        assert row["image"] == picture(question["image_id"])
        assert decode_image(row["image"], item="").size == (16, 16)
        assert row["answers"] == ["yes"] * 7 + ["no"] * 3
        assert (row["question"], row["image_id"]) == (question["question"], str(question["image_id"]))
        assert (row["question_type"], row["answer_type"], row["source"]) == ("what is", "yes/no", "vqav2")


def test_splits_are_by_image_and_in_the_papers_shares(root, tables):
    splits = read(vqa_spec(root), tables)
    images = {split: set(table["image_id"]) for split, table in splits.items()}
    assert {split: len(found) for split, found in images.items()} == {"dev": 4, "val": 1, "test": 5}
    assert len(set.union(*images.values())) == 10


def test_an_image_is_stored_once_and_its_store_is_a_tar_file(root, tables):
    folder = prepare(vqa_spec(root), root=tables)
    with tarfile.open(folder / "test.images.tar") as store:
        members = store.getmembers()
        found = {sha256(store.extractfile(member).read()).hexdigest() for member in members}
    assert [member.name for member in members] == [f"{number:08d}.jpg" for number in range(5)]
    wanted = {sha256(picture(int(image))).hexdigest() for image in load_split(folder, "test")["image_id"]}
    assert found == wanted


def test_a_table_with_stored_images_is_a_table_like_any_other(root, tables):
    from reliabit.data.sources import scenes

    test = read(vqa_spec(root), tables)["test"]
    assert test.features == vqa_features()
    generated = type(test).from_list(
        list(scenes.generate(images=1, questions_per_image=2, seed=0)), features=vqa_features()
    )
    both = concatenate_datasets([test, generated]).add_column("split", ["test"] * (len(test) + 2))
    picked = both.select([len(test), 0])
    assert [row["source"] for row in picked] == ["scenes", "vqav2"]
    assert [decode_image(row["image"], item="").size for row in picked] == [(75, 75), (16, 16)]
    blurred = apply_shift(test, parse_shift("gaussian_blur_3"), seed=0)
    assert blurred["question_id"] == test["question_id"]
    assert blurred.features == vqa_features()
    assert blurred[0]["image"] != test[0]["image"]


def test_the_same_files_give_the_same_tables(root, tmp_path):
    manifests = [json.loads((prepare(vqa_spec(root), root=tmp_path / n) / "manifest.json").read_text()) for n in "ab"]
    assert manifests[0] == manifests[1]


def test_advqa_has_the_same_layout_under_other_names(tmp_path, tables):
    root = write_vqa(tmp_path / "advqa", files=ADVQA, images=4)
    splits = read(vqa_spec(root, name="advqa", files=ADVQA, splits={"test": 1.0}), tables)
    assert list(splits) == ["test"]
    assert set(splits["test"]["source"]) == {"advqa"}
    assert len(splits["test"]) == 12


def test_the_template_of_a_set_is_put_around_its_questions(root, tables):
    splits = read(vqa_spec(root, template="{question} (briefly)"), tables)
    assert all(question.endswith("? (briefly)") for question in splits["dev"]["question"])


def ids_file(tmp_path, name, ids):
    path = tmp_path / name
    path.write_text(json.dumps(ids) if name.endswith("json") else "\n".join(map(str, ids)) + "\n")
    return str(path)


def test_published_lists_of_questions_are_the_splits(root, tables, tmp_path):
    listed = {"dev": [1000, 1002, 2001], "test": [5000]}
    files = {"dev": ids_file(tmp_path, "dev.json", listed["dev"]), "test": ids_file(tmp_path, "test.txt", [5000])}
    splits = read(vqa_spec(root, split_ids=files, split_ids_of="question"), tables)
    found = {split: sorted(map(int, table["question_id"])) for split, table in splits.items()}
    assert found == listed


def test_published_lists_of_images_are_the_splits(root, tables, tmp_path):
    files = {"dev": ids_file(tmp_path, "dev.txt", [1, 2]), "test": ids_file(tmp_path, "test.json", ["7"])}
    splits = read(vqa_spec(root, split_ids=files, split_ids_of="image"), tables)
    assert {split: set(table["image_id"]) for split, table in splits.items()} == {"dev": {"1", "2"}, "test": {"7"}}
    assert len(splits["dev"]) == 6


def test_listed_splits_that_share_an_image_are_refused(root, tables, tmp_path):
    files = {"dev": ids_file(tmp_path, "dev.txt", [1000]), "test": ids_file(tmp_path, "test.txt", [1001])}
    with pytest.raises(ReliabitError, match="the image 1 is in data.split_ids.dev and in data.split_ids.test"):
        prepare(vqa_spec(root, split_ids=files, split_ids_of="question"), root=tables)


def test_a_listed_id_that_is_not_there_is_a_bad_sample(root, tables, tmp_path):
    files = {"test": ids_file(tmp_path, "test.txt", [1000, 999])}
    with pytest.raises(ReliabitError, match="the listed question is not there: 1"):
        prepare(vqa_spec(root, split_ids=files, split_ids_of="question"), root=tables)


def test_a_store_that_was_changed_is_noticed_by_the_images_it_concerns(root, tables):
    folder = prepare(vqa_spec(root), root=tables)
    table = load_split(folder, "val")
    store = folder / "val.images.tar"
    content = bytearray(store.read_bytes())
    content[600] ^= 1
    store.write_bytes(content)
    with pytest.raises(ReliabitError, match=r"val\.images\.tar is not the one that was written"):
        _ = table[0]
    store.unlink()
    with pytest.raises(ReliabitError, match=r"val\.images\.tar cannot be read"):
        _ = table[0]


def test_question_files_that_changed_are_noticed(root, tables):
    prepare(vqa_spec(root), root=tables)
    with (root / VQAV2["questions"]).open("a") as file:
        file.write("\n")
    with pytest.raises(ReliabitError, match=r"questions\.json was changed after .* was made of it"):
        prepare(vqa_spec(root), root=tables)


@pytest.mark.parametrize("missing", ["questions", "annotations"])
def test_a_missing_file_is_named(root, tables, missing):
    (root / VQAV2[missing]).unlink()
    with pytest.raises(ReliabitError, match=rf"vqav2: .*{VQAV2[missing]} does not exist; put it there"):
        prepare(vqa_spec(root), root=tables)
    assert not [path for path in tables.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"questions": [{"question_id": 1', "is not in the expected layout"),
        ('{"annotations": []}', "it has no key 'questions'"),
        ("[]", "'{' was expected and '\\[' came"),
        ("<html>", "'{' was expected and '<' came"),
    ],
)
def test_a_file_that_is_something_else_is_refused(root, tables, text, message):
    (root / VQAV2["questions"]).write_text(text)
    with pytest.raises(ReliabitError, match=message):
        prepare(vqa_spec(root), root=tables)


def test_a_set_without_a_folder_says_what_to_set(tables):
    with pytest.raises(ReliabitError, match=r"data.root is null; name the folder of vqav2"):
        prepare(replace(vqa_spec(tables), root=None), root=tables)


def test_a_set_with_fewer_images_than_asked_for_is_refused(root, tables):
    with pytest.raises(ReliabitError, match="ask for 99 images and there are 10"):
        prepare(vqa_spec(root, splits={"test": 99}), root=tables)


def test_answers_are_scored_by_place_and_not_by_id(root, tables):
    row = read(vqa_spec(root), tables)["val"][0]
    # Seven of ten say yes: nine others, of which at least six agree, for each of the seven; seven for the three.
    assert vqa_accuracy("yes", row["answers"]) == 1.0
    # Three say no: two others for each of the three, three for each of the seven.
    assert vqa_accuracy("no", row["answers"]) == pytest.approx((3 * 2 / 3 + 7 * 1) / 10)
