import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st

from reliabit.data import corruptions, shifts
from reliabit.data.corruptions import LEVELS, blank, corrupt
from reliabit.data.image_decoding import decode_image
from reliabit.data.shifts import GRADED, SHIFTS, Shift, apply_shift, catalogue, parse_shift
from reliabit.data.sources import easy_vqa, scenes
from reliabit.data.table import vqa_features
from reliabit.data.wording import mislead, misspell, reword
from reliabit.errors import ReliabitError

pytestmark = pytest.mark.medium

VISUAL = [shift for shift in catalogue() if shift.kind == "visual"]
LINGUISTIC = [shift for shift in catalogue() if shift.kind == "linguistic"]


def table_of(rows) -> Dataset:

    return Dataset.from_list(rows, features=vqa_features())


def first_rows(source, count):
    return [row for row, _ in zip(source, range(count), strict=False)]


@pytest.fixture(scope="module")
def table() -> Dataset:
    easy = first_rows(easy_vqa.read_part("test"), 60)
    return table_of([*easy, *scenes.generate(images=4, questions_per_image=36, seed=0)])


def rows_of(table: Dataset, *columns: str) -> list[tuple]:
    return list(zip(*(list(table[column]) for column in columns), strict=True))


UNCHANGED = ("answers", "question_id", "image_id", "question_type", "answer_type", "source")


@pytest.mark.parametrize("shift", VISUAL, ids=lambda shift: shift.label)
def test_visual_shifts_change_the_images_alone(table, shift):
    shifted = apply_shift(table, shift, seed=3)
    assert shifted.features == table.features == vqa_features()
    lost = [row for row in table if (row["source"], row["question_type"]) in {("scenes", "left"), ("scenes", "top")}]
    assert len(lost) == 4 * 12
    kept = table.filter(lambda row: shift.name != "rotation" or row["question_type"] not in ("left", "top"))
    assert rows_of(shifted, "question", *UNCHANGED) == rows_of(kept, "question", *UNCHANGED)
    assert len(shifted) == len(table) - (len(lost) if shift.name == "rotation" else 0)
    for before, after in zip(kept, shifted, strict=True):
        image = decode_image(before["image"], item="x")
        expected = (
            blank(image)
            if shift.name == "blank_image"
            else corrupt(image, corruption=shift.name, severity=shift.severity, seed=3, image_id=before["image_id"])
        )
        assert after["image"].startswith(b"\x89PNG")
        assert (np.asarray(decode_image(after["image"], item="x")) == np.asarray(expected)).all()


@pytest.mark.parametrize("shift", LINGUISTIC, ids=lambda shift: shift.label)
def test_linguistic_shifts_change_the_questions_alone(table, shift):
    shifted = apply_shift(table, shift, seed=3)
    assert shifted.features == vqa_features()
    assert rows_of(shifted, "image", *UNCHANGED) == rows_of(table, "image", *UNCHANGED)
    changes = {
        "reworded": lambda row, key: reword(row["question"], source=row["source"], **key),
        "misspelled": lambda row, key: misspell(row["question"], severity=shift.severity, **key),
        "misleading": lambda row, key: mislead(row["question"], row["answers"], source=row["source"], **key),
    }
    expected = [changes[shift.name](row, {"question_id": row["question_id"], "seed": 3}) for row in table]
    assert list(shifted["question"]) == expected
    assert all(before != after for before, after in zip(table["question"], expected, strict=True))


def test_each_image_is_corrupted_once_in_any_order(table, monkeypatch):
    seen = []

    def spy(image, **arguments):
        seen.append(arguments["image_id"])
        return corruptions.corrupt(image, **arguments)

    monkeypatch.setattr(shifts, "corrupt", spy)
    monkeypatch.setattr(shifts, "_ROWS", 7)
    mixed = table.shuffle(seed=0)
    shifted = apply_shift(mixed, Shift("gaussian_noise", 2), seed=0)
    assert sorted(seen) == sorted(set(table["image_id"]))
    monkeypatch.undo()
    straight = {row["question_id"]: row for row in apply_shift(table, Shift("gaussian_noise", 2), seed=0)}
    assert len(straight) == len(table)
    assert [row["question_id"] for row in shifted] == list(mixed["question_id"])
    assert all(row == straight[row["question_id"]] for row in shifted)


def test_a_blank_image_shows_nothing_of_the_picture(table):
    """All that is left of it is its size: one grey, whatever was drawn and whatever the seed."""
    shifted = [apply_shift(table, Shift("blank_image"), seed=seed) for seed in (0, 1)]
    assert rows_of(shifted[0], "image", "question") == rows_of(shifted[1], "image", "question")
    for before, after in zip(table, shifted[0], strict=True):
        canvas = np.asarray(decode_image(after["image"], item="x"))
        assert canvas.shape == np.asarray(decode_image(before["image"], item="x")).shape
        assert np.unique(canvas).tolist() == [128]


def test_images_of_two_sources_may_share_an_id():
    one = first_rows(scenes.generate(images=1, questions_per_image=4, seed=0), 4)
    other = [{**row, "source": "easy_vqa"} for row in scenes.generate(images=1, questions_per_image=4, seed=1)]
    table = concatenate_datasets([table_of(one), table_of(other)])
    shifted = apply_shift(table, Shift("contrast", 1), seed=0)
    assert shifted[0]["image_id"] == shifted[4]["image_id"]
    assert shifted[0]["image"] != shifted[4]["image"]


def test_the_seed_decides_the_shift(table):
    small = table.select(range(8))
    for shift in (Shift("gaussian_noise", 1), Shift("occlusion", 3), Shift("reworded"), Shift("misspelled", 3)):
        assert rows_of(apply_shift(small, shift, seed=0), "image", "question") != rows_of(
            apply_shift(small, shift, seed=1), "image", "question"
        )


def digest(table: Dataset) -> str:
    found = hashlib.sha256()
    for row in table:
        found.update(row["image"] + json.dumps([row["question"], row["question_id"]]).encode())
    return found.hexdigest()


PRINT_DIGESTS = """
import sys
sys.path.insert(0, "tests/data")
import test_shifts
print(*test_shifts.digests())
"""

PROCESS_SHIFTS = ("gaussian_noise_2", "rotation_5", "occlusion_3", "reworded", "misspelled_4", "misleading")


def digests() -> list[str]:
    table = table_of(list(scenes.generate(images=3, questions_per_image=10, seed=0)))
    return [digest(apply_shift(table, parse_shift(label), seed=1)) for label in PROCESS_SHIFTS]


def test_another_process_makes_the_same_table(request):
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    other = subprocess.run(
        [sys.executable, "-c", PRINT_DIGESTS],
        env=environment,
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.stdout.split() == digests(), other.stderr


def test_an_empty_table_stays_empty(table):
    for label in ("rotation_1", "reworded"):
        shifted = apply_shift(table.select([]), parse_shift(label), seed=0)
        assert len(shifted) == 0
        assert shifted.features == vqa_features()


def test_a_broken_image_is_named(table):
    rows = [{**table[0], "image": b"no image"}]
    with pytest.raises(ReliabitError, match=f"image '{rows[0]['image_id']}' of easy_vqa cannot be decoded"):
        apply_shift(table_of(rows), Shift("contrast", 1), seed=0)
    assert apply_shift(table_of(rows), Shift("reworded"), seed=0)[0]["image"] == b"no image"


def test_the_catalogue_holds_every_shift_once():
    every = catalogue()
    assert len(every) == len(set(every)) == 6 * 5 + 1 + 5 + 2
    assert SHIFTS["visual"] == (*LEVELS, "blank_image")
    assert [parse_shift(shift.label) for shift in every] == every
    assert {shift.kind for shift in every} == {"visual", "linguistic"}
    assert all((shift.severity is None) == (shift.name not in GRADED) for shift in every)


@given(
    label=st.one_of(
        st.text(max_size=20),
        st.sampled_from([*LEVELS, "reworded"]).flatmap(
            lambda name: st.text(alphabet="_0123456789-", max_size=4).map(name.__add__)
        ),
    )
)
def test_a_label_is_a_shift_or_refused(label):
    try:
        shift = parse_shift(label)
    except ReliabitError:
        return
    assert shift.label == label


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("fog_3", "'fog' is not a shift; choose one of gaussian_noise, .*, misleading"),
        ("", "'' is not a shift"),
        ("rotation", "rotation needs a severity; write rotation_1 to rotation_5"),
        ("jpeg_6", "jpeg has no severity 6; choose one of 1, 2, 3, 4, 5"),
        ("blank_image_1", "the shift blank_image has no severities; leave out the 1"),
        ("reworded_2", "the shift reworded has no severities; leave out the 2"),
        ("gaussian_blur_-1", "'gaussian_blur_-1' is not a shift"),
    ],
)
def test_bad_labels_are_refused(label, message):
    with pytest.raises(ReliabitError, match=message):
        parse_shift(label)
