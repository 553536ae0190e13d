"""What pixels of every mode become, against plain arithmetic on the numbers that were written."""

import struct
import zlib
from io import BytesIO, StringIO

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from data.vqa_files import VQAV2, vqa_spec, write_vqa
from reliabit.data.bad_samples import BadSamples
from reliabit.data.chat import draw_chats
from reliabit.data.corruptions import LEVELS, corrupt
from reliabit.data.image_decoding import decode_image, to_rgb
from reliabit.data.prepared_table import bad_samples_file, load_split, prepare, table_folder
from reliabit.data.shifts import apply_shift, parse_shift
from reliabit.errors import ReliabitError
from reliabit.serving.http.intake import check_image
from reliabit.serving.http.limits import Limits
from reliabit.serving.http.messages import RefusalError

SIXTEEN = np.random.default_rng(0).integers(1 << 16, size=(20, 40), dtype=np.uint16)
SIXTEEN[0, :4] = 0, 255, 256, 65535
SMALLEST, LARGEST = 340, 341


def png(samples, *, color):
    """A PNG of 16 bits a sample, written by hand: Pillow writes no colours of 16 bits."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels, *, bits=None, photometric=1, sample_format=None, tags=(), order="<"):
    """A TIFF of one channel, written by hand: Pillow writes few of its kinds."""
    kinds = {"u": 1, "i": 2, "f": 3}
    data = pixels if isinstance(pixels, bytes) else pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    shape = (8, 8) if isinstance(pixels, bytes) else pixels.shape
    bits = bits or pixels.dtype.itemsize * 8
    entries = {
        256: (3, shape[1]),
        257: (3, shape[0]),
        258: (3, bits),
        259: (3, 1),
        262: (3, photometric),
        273: (4, 8),
        277: (3, 1),
        278: (4, shape[0]),
        279: (4, len(data)),
        339: (3, sample_format or kinds[pixels.dtype.kind]),
        **{number: (11, value) for number, value in tags},
    }
    codes = {3: "HH", 4: "I", 11: "f"}
    directory = struct.pack(f"{order}H", len(entries))
    for number, (kind, value) in sorted(entries.items()):
        values = (value, 0) if kind == 3 else (value,)
        directory += struct.pack(f"{order}HHI", number, kind, 1) + struct.pack(order + codes[kind], *values)
    data += bytes(len(data) % 2)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return header + data + directory + bytes(4)


def decoded(encoded):
    return np.asarray(decode_image(encoded, item="a"))


def grey(levels):
    return np.repeat(levels[..., None].astype(np.uint8), 3, axis=2)


def saved(image, kind, **options):
    file = BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def test_grey_of_16_bits_keeps_its_upper_8():
    assert np.array_equal(decoded(png(SIXTEEN, color=0)), grey(SIXTEEN // 256))
    # Within a level of 65535 -> 255, and exact where 8 bits were widened to 16 in either of the usual ways.
    assert np.abs(decoded(png(SIXTEEN, color=0))[..., 0] - SIXTEEN * (255 / 65535)).max() <= 1
    eight = np.arange(256, dtype=np.uint16).reshape(16, 16)
    for widened in (eight * 257, eight * 256):
        assert np.array_equal(decoded(png(widened, color=0)), grey(eight))


def test_grey_and_colours_of_16_bits_are_one():
    colours = np.repeat(SIXTEEN[..., None], 3, axis=2)
    assert np.array_equal(decoded(png(SIXTEEN, color=0)), decoded(png(colours, color=2)))
    opaque = np.full_like(SIXTEEN, 65535)
    assert np.array_equal(decoded(png(np.stack([SIXTEEN, opaque], axis=2), color=4)), grey(SIXTEEN // 256))
    assert np.array_equal(decoded(png(np.stack([*[SIXTEEN] * 3, opaque], axis=2), color=6)), grey(SIXTEEN // 256))


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_of_16_bits_are_as_pngs(order):
    assert np.array_equal(decoded(tiff(SIXTEEN, order=order)), grey(SIXTEEN // 256))


def test_where_zero_is_white_it_stays_white():
    assert np.array_equal(decoded(tiff(SIXTEEN, photometric=0)), grey(255 - SIXTEEN // 256))
    eight = (SIXTEEN // 256).astype(np.uint8)
    assert np.array_equal(decoded(tiff(eight, photometric=0)), grey(255 - eight))


def test_twelve_bits_are_no_sixteen():
    values = np.random.default_rng(1).integers(4096, size=(8, 8))
    packed = bytearray()
    for one, other in values.reshape(-1, 2).tolist():
        packed += bytes([one >> 4, (one & 15) << 4 | other >> 8, other & 255])
    assert np.array_equal(decoded(tiff(bytes(packed), bits=12, sample_format=1)), grey(values // 16))


def test_netpbm_and_jpeg_2000_scale_to_their_own_largest_value():
    values = np.random.default_rng(2).integers(1001, size=(8, 8))
    header = b"P5 8 8 1000\n"
    found = decoded(header + values.astype(">u2").tobytes())
    assert np.abs(found[..., 0] - values * (255 / 1000)).max() <= 1
    assert np.array_equal(decoded(b"P5 40 20 65535\n" + SIXTEEN.astype(">u2").tobytes()), grey(SIXTEEN // 256))
    jpeg = saved(Image.fromarray(SIXTEEN), "JPEG2000", irreversible=False)
    assert np.array_equal(decoded(jpeg), grey(SIXTEEN // 256))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (100.0, 4000.0)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_are_scaled_by_the_range_that_their_file_states(low, high, order):
    values = np.linspace(low, high, 64, dtype=np.float32).reshape(8, 8)
    found = decoded(tiff(values, tags=[(SMALLEST, low), (LARGEST, high)], order=order))
    expected = (values.astype(np.float64) - low) / (high - low) * 255
    assert np.abs(found[..., 0] - expected).max() <= 1
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int16])
def test_integers_are_scaled_by_the_range_that_their_file_states(dtype):
    values = np.arange(64, dtype=dtype).reshape(8, 8) * 16
    found = decoded(tiff(values, tags=[(SMALLEST, 0.0), (LARGEST, 1023.0)]))
    assert np.array_equal(found, grey(values // 4))


UNKNOWN = [
    pytest.param(lambda: tiff(np.full((8, 8), 0.5, dtype=np.float32)), "32-bit floats", id="float"),
    pytest.param(lambda: tiff(np.full((8, 8), 7, dtype=np.int32)), "a sign or 32 bits", id="int32"),
    pytest.param(lambda: tiff(np.full((8, 8), 7, dtype=np.uint32)), "a sign or 32 bits", id="uint32"),
    pytest.param(lambda: tiff(np.full((8, 8), -7, dtype=np.int16)), "a sign or 32 bits", id="int16"),
    pytest.param(lambda: tiff(np.full((8, 8), -7, dtype=np.int8)), "signed 8-bit", id="int8"),
    pytest.param(lambda: b"Pf 8 8 -1.0\n" + bytes(256), "32-bit floats", id="pfm"),
]
STATED = [(SMALLEST, 0.0), (LARGEST, 1.0)]
OUTSIDE = [
    pytest.param(lambda: tiff(np.full((8, 8), 1.5, dtype=np.float32), tags=STATED), "not within the 0 to 1", id="1.5"),
    pytest.param(lambda: tiff(np.full((8, 8), np.nan, dtype=np.float32), tags=STATED), "not within", id="nan"),
    pytest.param(
        lambda: tiff(np.zeros((8, 8), dtype=np.float32), tags=[(SMALLEST, 1.0), (LARGEST, 1.0)]),
        "a range from 1 to 1 for its pixels, which is none",
        id="no range",
    ),
]


@pytest.mark.parametrize(("encoded", "reason"), [*UNKNOWN, *OUTSIDE])
def test_pixels_of_which_nothing_says_what_they_mean_are_bad_samples(encoded, reason, tmp_path):
    with pytest.raises(ReliabitError, match=f"the image of a cannot be decoded .*{reason}"):
        decode_image(encoded(), item="a")
    root = write_vqa(tmp_path / "vqav2", images=3, questions_per_image=2)
    (root / VQAV2["images"].format(image_id=2)).write_bytes(encoded())
    with pytest.raises(ReliabitError, match="its image does not decode: 2"):
        prepare(vqa_spec(root, splits={"test": 1.0}), root=tmp_path / "tables")
    spec = vqa_spec(root, splits={"test": 1.0}, on_bad_sample="skip")
    table = load_split(prepare(spec, root=tmp_path / "tables"), "test")
    assert set(table["image_id"]) == {"1", "3"}
    assert reason in bad_samples_file(table_folder(spec, root=tmp_path / "tables")).read_text()


def test_modes_of_8_bits_are_as_they_were():
    """Including transparency, which is left out: what lmms-eval shows a model."""
    colours = np.random.default_rng(3).integers(256, size=(6, 5, 3), dtype=np.uint8)
    alpha = np.random.default_rng(4).integers(256, size=(6, 5, 1), dtype=np.uint8)
    assert np.array_equal(decoded(saved(Image.fromarray(colours), "PNG")), colours)
    assert np.array_equal(decoded(saved(Image.fromarray(np.dstack([colours, alpha])), "PNG")), colours)
    luminance = np.dstack([colours[..., :1], alpha])
    assert np.array_equal(decoded(saved(Image.fromarray(luminance, mode=None), "PNG")), grey(colours[..., 0]))
    bits = colours[..., 0] > 127
    assert np.array_equal(decoded(saved(Image.fromarray(bits), "PNG")), grey(bits * 255))
    cmyk = np.dstack([colours, np.zeros_like(alpha)])
    inks = Image.frombytes("CMYK", (5, 6), cmyk.tobytes())
    assert np.array_equal(decoded(saved(inks, "TIFF")), 255 - colours)


@pytest.mark.parametrize("transparency", [2, bytes([0, 128, 255, 255])])
def test_a_palette_gives_its_colours_whatever_of_it_is_transparent(transparency):
    palette = np.random.default_rng(5).integers(256, size=(4, 3), dtype=np.uint8)
    indices = np.random.default_rng(6).integers(4, size=(6, 5), dtype=np.uint8)
    image = Image.frombytes("P", (5, 6), indices.tobytes())
    image.putpalette(palette.tobytes())
    assert np.array_equal(decoded(saved(image, "PNG", transparency=transparency)), palette[indices])


def test_a_turned_image_of_16_bits_is_scaled_all_the_same():
    image = Image.fromarray(SIXTEEN)
    exif = image.getexif()
    exif[0x0112] = 6
    assert np.array_equal(decoded(saved(image, "PNG", exif=exif)), np.rot90(grey(SIXTEEN // 256), -1))


@pytest.mark.parametrize("corruption", LEVELS)
def test_corruptions_take_16_bits_as_everyone_does(corruption):
    wide, narrow = (
        corrupt(image, corruption=corruption, severity=3, seed=0, image_id="1")
        for image in (Image.fromarray(SIXTEEN), Image.fromarray((SIXTEEN // 256).astype(np.uint8)))
    )
    assert np.array_equal(np.asarray(wide), np.asarray(narrow))


def test_in_memory_floats_have_no_range():
    with pytest.raises(ValueError, match="32-bit floats, and nothing in the file says"):
        to_rgb(Image.new("F", (2, 2)))


def test_one_rule_from_the_file_to_the_model(tmp_path):
    """Prepared, shifted, in a chat and in a request: the same pixels."""
    encoded = png(SIXTEEN, color=0)
    root = write_vqa(tmp_path / "vqav2", images=1, questions_per_image=1)
    (root / VQAV2["images"].format(image_id=1)).write_bytes(encoded)
    table = load_split(prepare(vqa_spec(root, splits={"test": 1.0}), root=tmp_path / "tables"), "test")
    assert np.array_equal(decoded(table[0]["image"]), grey(SIXTEEN // 256))
    shifted = apply_shift(table, parse_shift("contrast_1"), seed=0)
    expected = corrupt(
        Image.fromarray((SIXTEEN // 256).astype(np.uint8)), corruption="contrast", severity=1, seed=0, image_id="1"
    )
    assert np.array_equal(decoded(shifted[0]["image"]), np.asarray(expected))
    chats = tmp_path / "chats.json"
    turns = '[{"from": "human", "value": "what?"}, {"from": "gpt", "value": "grey"}]'
    chats.write_text(f'[{{"id": 1, "image": "wide.png", "conversations": {turns}}}]')
    (tmp_path / "wide.png").write_bytes(encoded)
    [row] = draw_chats(chats, images=tmp_path, seed=0, bad=BadSamples(StringIO()))
    assert np.array_equal(decoded(row["image"]), grey(SIXTEEN // 256))
    check_image(encoded, limits=Limits())


def test_the_service_says_what_it_cannot_read():
    with pytest.raises(RefusalError, match="no PNG, JPEG or WebP"):
        check_image(tiff(np.zeros((8, 8), dtype=np.float32)), limits=Limits())


def test_the_tags_are_those_of_the_specification():
    names = {number: TiffImagePlugin.TiffTags.lookup(number).name for number in (SMALLEST, LARGEST)}
    assert names == {SMALLEST: "SMinSampleValue", LARGEST: "SMaxSampleValue"}
