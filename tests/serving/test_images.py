import io
import struct
import zlib

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from reliabit.serving.http.intake import check_image
from reliabit.serving.http.limits import Limits
from reliabit.serving.http.messages import RefusalError

LIMITS = Limits(image_bytes=100_000, image_pixels=10_000)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, data=b"", before=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


RED = Image.new("RGB", (40, 30), "red")
FRAMES = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_images_are_taken(kind):
    check_image(saved(RED, kind), limits=LIMITS)


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode_are_taken(mode):
    check_image(saved(Image.new(mode, (5, 5)), "PNG"), limits=LIMITS)


def test_turned_and_multi_picture_jpegs_are_taken():
    exif = Image.Exif()
    exif[0x0112] = 6
    check_image(saved(RED, "JPEG", exif=exif), limits=LIMITS)
    check_image(saved(FRAMES[0], "MPO", save_all=True, append_images=FRAMES[1:]), limits=LIMITS)


@pytest.mark.parametrize(
    ("encoded", "status", "reason"),
    [
        (b"", 422, "is empty"),
        (b"x" * 100_001, 413, "has 100001 bytes and at most 100000 are taken"),
        (b"hello", 415, "no PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "no PNG, JPEG or WebP"),
        (saved(RED, "GIF"), 415, "no PNG, JPEG or WebP"),
        (saved(RED, "TIFF"), 415, "no PNG, JPEG or WebP"),
        (saved(RED, "BMP"), 415, "no PNG, JPEG or WebP"),
        (saved(Image.new("RGB", (101, 100)), "PNG"), 413, "has 101 x 100 pixels and at most 10000 are taken"),
        (saved(Image.new("RGB", (4000, 1000)), "WEBP"), 413, "4000 x 1000 pixels"),
        (saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), 415, "animated"),
        (saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), 415, "animated"),
        (saved(RED, "PNG")[:-40], 422, "cannot be decoded"),
        (saved(RED, "JPEG")[:400], 422, "the header of the image is damaged"),
        (saved(RED, "WEBP")[:50], 422, ""),
        # A header that promises more pixels than any memory holds.
        (png(2**31 - 1, 2**31 - 1), 413, "far more pixels"),
        (png(20_000, 9_000), 413, "pixels"),
        # Pixels that unpack to 50 MB behind a header of 7.5 kB: what is beyond the image is never unpacked.
        (png(50, 50, data=zlib.compress(bytes(50_000_000), 9)), None, None),
        (png(50, 50, data=b"nonsense"), 422, "cannot be decoded"),
        # A text chunk that unpacks to 80 MB.
        (png(50, 50, before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))), 422, ""),
    ],
)
def test_what_cannot_be_answered_about_is_refused_for_its_reason(encoded, status, reason):
    if status is None:
        check_image(encoded, limits=LIMITS)
        return
    with pytest.raises(RefusalError) as caught:
        check_image(encoded, limits=LIMITS)
    assert caught.value.status == status
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_files_are_refused_or_taken_and_nothing_else(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    encoded = bytearray(saved(RED, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_image(bytes(encoded), limits=LIMITS)
    except RefusalError as error:
        event(f"refused with {error.status}")
    else:
        event("taken")


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 "]))
def test_noise_is_refused(noise, start):
    with pytest.raises(RefusalError) as caught:
        check_image(start + noise, limits=LIMITS)
    assert caught.value.status in (413, 415, 422)
