import json
import re
from io import BytesIO, StringIO
from itertools import islice

import pytest
from PIL import Image

from messages import LEADS_OUT
from reliabit.data.bad_samples import BadSamples
from reliabit.data.chat import draw_chats
from reliabit.errors import ReliabitError


def drawn(places, *, count, seed=0):
    """The first chats of a draw, and why those before them could not be used."""
    bad = BadSamples(listed := StringIO())
    rows = list(islice(draw_chats(**places, seed=seed, bad=bad), count))
    return rows, [json.loads(line)["detail"] for line in listed.getvalue().splitlines()]


def png(color):
    file = BytesIO()
    Image.new("RGB", (8, 8), color).save(file, format="PNG")
    return file.getvalue()


def chat(number, image, *, answer="A red square."):
    first = [{"from": "human", "value": "<image>\nDescribe it."}, {"from": "gpt", "value": "A square."}]
    last = [{"from": "human", "value": "In one sentence?\n<image>"}, {"from": "gpt", "value": answer}]
    return {"id": f"item-{number}", "image": image, "conversations": first + last}


@pytest.fixture
def chats(tmp_path):
    images = tmp_path / "images"
    (images / "coco").mkdir(parents=True)
    for number in range(5):
        (images / "coco" / f"{number}.png").write_bytes(png((number, 0, 0)))
    (tmp_path / "secret.png").write_bytes(png("white"))

    def write(items):
        file = tmp_path / "chats.json"
        file.write_text(json.dumps(items))
        return {"file": file, "images": images}

    return write


def test_the_last_turn_of_each_chat_becomes_a_row(chats):
    places = chats([chat(number, f"coco/{number}.png") for number in range(5)] + [{"id": "text only"}])
    rows, bad = drawn(places, count=10)
    assert (len(rows), bad) == (5, [])
    assert {row["question"] for row in rows} == {"In one sentence?"}
    assert {tuple(row["answers"]) for row in rows} == {("A red square.",)}
    by_image = {row["image_id"]: row["image"] for row in rows}
    assert by_image == {f"coco/{number}.png": png((number, 0, 0)) for number in range(5)}


def test_the_draw_depends_on_the_seed_alone(chats):
    places = chats([chat(number, f"coco/{number}.png") for number in range(5)])
    draws = [tuple(row["image_id"] for row in drawn(places, count=2, seed=seed)[0]) for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1
    assert all(len(set(draw)) == 2 for draw in draws)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../secret.png", LEADS_OUT),
        ("coco/../../secret.png", LEADS_OUT),
        ("/etc/hostname", "is not relative to"),
        ("coco/9.png", "there is no such file"),
        ("coco/\0.png", "which is none"),
        ("coco/\ud83d.png", "which is none"),
        (["coco/1.png"], "is not relative to"),
    ],
)
def test_images_lie_in_the_folder(path, message, chats):
    rows, [said] = drawn(chats([chat(0, path)]), count=1)
    assert not rows
    assert re.match(rf"chat 'item-0' of .*chats.json has the image path .*{message}", said)


def test_a_link_cannot_leave_the_folder(chats, tmp_path):
    places = chats([chat(0, "coco/link.png")])
    (tmp_path / "images" / "coco" / "link.png").symlink_to(tmp_path / "secret.png")
    rows, [said] = drawn(places, count=1)
    assert not rows
    assert LEADS_OUT in said


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"id": 1}, "is no JSON list"),
        ([], "has no chat about an image"),
    ],
)
def test_files_of_another_kind_are_refused(items, message, chats):
    with pytest.raises(ReliabitError, match=message):
        drawn(chats(items), count=1)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"id": 1, "image": "coco/1.png", "conversations": "none"}, "no question followed by an answer"),
        (chat(0, "coco/1.png", answer="  "), "has an empty answer"),
        (chat(0, "coco/1.png", answer="a \ud83d"), "its answer holds half of a character"),
        (chat(0, "coco"), "there is no such file"),
        (chat(0, "coco/damaged.png"), "cannot be decoded"),
    ],
)
def test_chats_that_cannot_be_used_are_bad_samples_and_others_take_their_place(item, message, chats, tmp_path):
    (tmp_path / "images" / "coco" / "damaged.png").write_bytes(png("red")[:40])
    places = chats([chat(1, "coco/1.png"), item, chat(2, "coco/2.png")])
    rows, [said] = drawn(places, count=3)
    assert {row["image_id"] for row in rows} == {"coco/1.png", "coco/2.png"}
    assert message in said


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / "chats.json").write_text("{")
    with pytest.raises(ReliabitError, match="chats.json cannot be read"):
        drawn({"file": tmp_path / "chats.json", "images": tmp_path}, count=1)
    (tmp_path / "chats.json").write_text("[" * 100_000)
    with pytest.raises(ReliabitError, match="chats.json cannot be read"):
        drawn({"file": tmp_path / "chats.json", "images": tmp_path}, count=1)
    with pytest.raises(ReliabitError, match="missing.json cannot be read"):
        drawn({"file": tmp_path / "missing.json", "images": tmp_path}, count=1)
