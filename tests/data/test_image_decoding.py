import struct
import zlib
from io import BytesIO

import datasets
import numpy as np
import pytest
from PIL import Image, features

from data.vqa_files import VQAV2, vqa_spec, write_vqa
from reliabit.data.image_decoding import decode_image, image_size
from reliabit.data.prepared_table import load_split, prepare
from reliabit.errors import ReliabitError

ORIENTATION = 0x0112


def turned(orientation, *, kind="JPEG", size=(40, 20)):
    pixels = np.random.default_rng(0).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    image, file = Image.fromarray(pixels), BytesIO()
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(file, format=kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_datasets_turns_them(orientation, kind):
    encoded = turned(orientation, kind=kind)
    expected = datasets.Image(mode="RGB").decode_example({"bytes": encoded, "path": None})
    found = decode_image(encoded, item="a")
    assert found.size == ((20, 40) if orientation > 4 else (40, 20))
    assert image_size(encoded, item="a") == found.size
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_a_png_may_say_behind_its_pixels_how_it_lies():
    encoded = turned(6, kind="PNG")
    start = encoded.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", encoded[start : start + 4])[0]
    last = encoded.index(b"IEND") - 4
    moved = encoded[:start] + encoded[end:last] + encoded[start:end] + encoded[last:]
    assert decode_image(moved, item="a").size == (20, 40)


def test_the_stored_file_is_as_it_was(tmp_path):
    root = write_vqa(tmp_path / "vqav2", images=1)
    (root / VQAV2["images"].format(image_id=1)).write_bytes(turned(6))
    table = load_split(prepare(vqa_spec(root, splits={"test": 1.0}), root=tmp_path / "tables"), "test")
    assert table[0]["image"] == turned(6)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb():
    """A PNG of 200 million pixels, in some bytes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(60_001))) + chunk(b"IEND", b"")


def damaged_avif():
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(file, format="AVIF")
    content = bytearray(file.getvalue())
    middle = content.index(b"mdat") + 12
    content[middle : middle + 200] = bytes(200)
    return bytes(content)


BROKEN = [
    pytest.param(bomb, id="bomb"),
    pytest.param(
        damaged_avif, id="avif", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
    ),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_whatever_a_decoder_raises_is_one_sentence(broken):
    with pytest.raises(ReliabitError, match=r"the image of question 7 cannot be decoded \(.+\); replace the file"):
        decode_image(broken(), item="question 7")


@pytest.mark.parametrize("broken", BROKEN)
def test_whatever_a_decoder_raises_is_a_listed_sample(tmp_path, broken):
    root = write_vqa(tmp_path / "vqav2", images=2, questions_per_image=2)
    (root / VQAV2["images"].format(image_id=2)).write_bytes(broken())
    with pytest.raises(ReliabitError, match="its image does not decode: 2"):
        prepare(vqa_spec(root, splits={"test": 1.0}), root=tmp_path / "tables")


def test_a_full_memory_is_not_a_bad_image(monkeypatch):
    def full(*arguments, **settings):
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        decode_image(b"", item="a")
