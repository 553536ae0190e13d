"""What is held in memory does not grow with the set."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.vqa_files import VQAV2, picture, write_hub_vqa
from reliabit.data import _json_stream as json_stream
from reliabit.data._json_stream import stream_items
from reliabit.errors import ReliabitError

TESTS = Path(__file__).parents[1]


def write_large(root: Path, *, images: int, questions_per_image: int = 5, image_bytes: int = 20_000) -> int:
    """A set in the layout of VQAv2 with images of a given size; the bytes of it all."""
    (root / VQAV2["images"]).parent.mkdir(parents=True)
    # Decoders stop at the end of the JPEG, and what follows makes it as large as it should be.
    encoded = picture(0).ljust(image_bytes, b"\0")
    for image in range(1, images + 1):
        (root / VQAV2["images"].format(image_id=image)).write_bytes(encoded)
    keys = [
        {"image_id": image, "question_id": 1000 * image + number}
        for image in range(1, images + 1)
        for number in range(questions_per_image)
    ]
    answers = [{"answer": "yes", "answer_confidence": "maybe", "answer_id": number} for number in range(10)]
    kinds = {"question_type": "what is", "answer_type": "yes/no", "multiple_choice_answer": "yes"}
    with (root / VQAV2["questions"]).open("w") as file:
        json.dump({"questions": [{**key, "question": "what is in the picture?"} for key in keys]}, file)
    random.Random(0).shuffle(keys)
    with (root / VQAV2["annotations"]).open("w") as file:
        json.dump({"annotations": [{**key, **kinds, "answers": answers} for key in keys]}, file)
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def grown(layout: str, root: Path, tables: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}", "OMP_NUM_THREADS": "1"}
    worker = [sys.executable, str(TESTS / "data" / "preparing_worker.py"), layout, str(root), str(tables)]
    done = subprocess.run(worker, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.medium
def test_twenty_thousand_questions_are_prepared_and_read_within_bounds(tmp_path):
    size = write_large(tmp_path / "large", images=4000)
    found = grown("official", tmp_path / "large", tmp_path / "tables")
    assert found["questions"] == 20_000
    assert size > 90 * 2**20
    assert found["preparing"] < 40, found
    assert found["reading"] < 40, found


@pytest.mark.medium
def test_images_in_parquet_are_not_held_either(tmp_path, monkeypatch):
    # 300 images of 100 kB in rows of five, so 150 MB.
    monkeypatch.setattr("data.vqa_files.picture", lambda number: picture(number).ljust(100_000, b"\1"))
    write_hub_vqa(tmp_path / "large", images=300, questions_per_image=5)
    found = grown("hub", tmp_path / "large", tmp_path / "tables")
    assert found["questions"] == 1500
    assert found["preparing"] < 60, found
    assert found["reading"] < 40, found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.medium
@given(
    before=st.dictionaries(st.text(max_size=5), JSON, max_size=3), items=st.lists(JSON), indent=st.none() | st.just(1)
)
def test_items_are_those_that_json_reads_wherever_the_window_ends(tmp_path_factory, before, items, indent):
    file = tmp_path_factory.mktemp("json") / "file.json"
    before.pop("wanted", None)
    file.write_text(json.dumps({**before, "wanted": items, "after": [1]}, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", 1)
        assert list(stream_items(file, key="wanted")) == items


def test_a_broken_item_ends_the_reading_instead_of_filling_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "LONGEST_ITEM", 1000)
    monkeypatch.setattr(json_stream, "CHUNK", 100)
    file = tmp_path / "file.json"
    file.write_text('[{"question": "' + "a" * 100_000)
    with pytest.raises(ReliabitError, match="is not in the expected layout"):
        list(stream_items(file, key=None))
