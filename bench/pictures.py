"""Make the pictures of the data set `pictures` from Debian's package openclipart-png 1:0.18+dfsg-19 (public domain).

    python bench/pictures.py --package openclipart-png_0.18+dfsg-19_all.deb --to src/reliabit/data/openclipart

The package's 8 121 files are 6 900 different pictures. `bench/pictures.csv` lists those that are taken, chosen by
looking at them: what kind of thing each shows, its name (the head noun of its file name, translated where that is
Italian or French), other names for the same, of a national flag the country, and whether it shows several things. Left
out are icons of programs, logos, patterns, text, blank and unreadable pictures, weapons, portraits of known people,
whatever could offend, and names that only their author could read.

Here each is cut to what is drawn, brought to 144 pixels on its longer side, on white and in 128 colours; doubles are
dropped; what looks alike stays in one split. The arithmetic is in integers, so that it is the same everywhere; the
bytes of the files are those that Pillow and pyarrow of requirements.lock write.
"""

import argparse
import csv
import hashlib
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy import ndimage

LISTED = Path(__file__).with_suffix(".csv")
WITHIN = Path("usr/share/openclipart/png")

SIDE = 144
COLORS = 128
PAPER = 245
"""Pixels whose channels are all at least this are paper."""

SHARES = {"train": 0.56, "test": 0.215, "cal": 0.145, "dev": 0.05, "val": 0.03}
DOUBLE, ALIKE = 8, 10
"""Bits of 63 in which the outlines of doubles, and of pictures that stay in one split, differ at most."""

DOUBLE_COLOR, ALIKE_COLOR = 8, 40
"""Mean differences of their channels, below which the same holds of their colours."""

ALIKE_FIELDS = 13
"""The mean difference of two pictures in 24 by 24 fields, below which they stay in one split whatever their outline."""

HUES = (
    *(("red", 0, 12), ("red", 344, 361), ("orange", 17, 40), ("yellow", 46, 66), ("green", 75, 160)),
    *(("blue", 190, 252), ("purple", 262, 295), ("pink", 302, 338)),
)
"""From which degree of hue to which a lively colour has which name; what lies between has none."""


@dataclass
class Picture:
    """A row of the Parquet; see `docs/pictures.md`."""

    path: str
    kind: str
    noun: str
    synonyms: list[str]
    country: str
    color: str
    shown: list[str]
    traces: list[str]
    whole: bool
    split: str
    image: bytes


def drawn(file: Path) -> Image.Image:
    """What a file shows, on white, cut to what is drawn and at its final size."""
    image = Image.open(file).convert("RGBA")
    if max(image.size) > 1600:
        image = image.reduce(max(image.size) // 800)
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    image = paper.convert("RGB")
    ink = np.asarray(image).min(-1) < PAPER
    rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
    image = image.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    scale = SIDE / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    image = image.resize(size, Image.Resampling.LANCZOS)
    return image.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def figure(image: Image.Image) -> np.ndarray:
    """Which pixels belong to the thing: all that paper at the edge does not reach."""
    paper = np.pad(np.asarray(image).min(-1) >= PAPER, 1, constant_values=True)
    fields, _ = ndimage.label(paper)
    return (fields != fields[0, 0])[1:-1, 1:-1]


def color_names(image: Image.Image) -> np.ndarray:
    """The name of each pixel's colour, empty where people would not agree on one."""
    hue, saturation, value = (np.asarray(channel).astype(int) for channel in image.convert("HSV").split())
    degrees = hue * 360 // 256
    names = np.full(hue.shape, "", dtype="<U6")
    lively = (saturation >= 90) & (value >= 60)
    for name, low, high in HUES:
        names[lively & (degrees >= low) & (degrees < high)] = name
    warm = (degrees >= 8) & (degrees < 45) & (saturation >= 70)
    names[warm & (value < 190)] = ""
    names[warm & (value >= 55) & (value < 160)] = "brown"
    names[(degrees >= 46) & (degrees < 66) & (value < 160) & lively] = ""
    names[((degrees >= 330) | (degrees < 10)) & (saturation >= 50) & (saturation < 130) & (value > 200)] = "pink"
    names[(saturation < 30) & (value >= 70) & (value < 205)] = "gray"
    names[(saturation < 25) & (value >= 235)] = "white"
    names[value < 45] = "black"
    return names


def shares(image: Image.Image) -> dict[str, float]:
    """How much of the figure each colour fills."""
    names = color_names(image)[figure(image)]
    found, counts = np.unique(names, return_counts=True)
    return {str(name): count / names.size for name, count in zip(found, counts.tolist(), strict=True)}


def clear_color(filled: dict[str, float]) -> str:
    """The one colour that a thing has: it fills most of it, and no other comes near; empty where there is none."""
    lively = {name: share for name, share in filled.items() if name not in ("", "black", "white", "gray")}
    if filled.get("black", 0) >= 0.85:
        return "black"
    if filled.get("gray", 0) >= 0.7 and sum(lively.values()) < 0.05:
        return "gray"
    if not lively:
        return ""
    ranked = sorted(lively, key=lambda name: -lively[name])
    other = sum(lively.values()) - lively[ranked[0]] + filled.get("", 0) / 2
    return ranked[0] if lively[ranked[0]] >= 0.5 and other <= 0.2 and filled.get("gray", 0) <= 0.2 else ""


def is_whole(image: Image.Image) -> bool:
    """Whether a picture is of one piece, so that it counts as one."""
    parts, count = ndimage.label(ndimage.binary_dilation(figure(image), iterations=2))
    return bool(np.bincount(parts.ravel(), minlength=count + 1)[1:].max() >= 0.9 * (parts > 0).sum())


def outline(image: Image.Image) -> np.ndarray:
    """A perceptual hash of 63 bits: which low frequencies of a discrete cosine transform are above their median."""
    square = Image.new("L", (SIDE, SIDE), "white")
    square.paste(image.convert("L"), ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    pixels = np.asarray(square.resize((32, 32), Image.Resampling.BOX)).astype(np.int64)
    place, frequency = np.meshgrid(np.arange(32), np.arange(8))
    cosines = np.round(1024 * np.cos(np.pi * (2 * place + 1) * frequency / 64)).astype(np.int64)
    low = (cosines @ pixels @ cosines.T).ravel()[1:]
    return low > np.sort(low)[len(low) // 2]


def thumbnail(image: Image.Image) -> np.ndarray:
    """The colours of a picture in eight by eight fields."""
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.asarray(square.resize((8, 8), Image.Resampling.BOX)).astype(int).ravel()


def without_doubles(images: dict[str, Image.Image]) -> tuple[list[str], dict[str, str]]:
    """The pictures that are kept, and of each the first that looks like it."""
    paths = list(images)
    hashes = np.array([outline(image) for image in images.values()])
    colors = np.array([thumbnail(image) for image in images.values()])
    fields = np.array([np.asarray(image.resize((24, 24), Image.Resampling.BOX)) for image in images.values()])
    fields = fields.reshape(len(paths), -1).astype(np.int16)
    flags = np.array(["/flags/" in path for path in paths])
    kept: list[int] = []
    group = list(range(len(paths)))

    def first(index: int) -> int:
        while group[index] != index:
            index = group[index]
        return index

    for index in range(len(paths)):
        apart = (hashes[kept] != hashes[index]).sum(1)
        difference = np.abs(colors[kept] - colors[index]).mean(1)
        if ((apart <= DOUBLE) & (difference < DOUBLE_COLOR)).any():
            continue
        # Flags are often of one outline and tell themselves apart by their colours.
        alike = (apart <= ALIKE) & (difference < ALIKE_COLOR) | (apart <= DOUBLE) & ~(flags[index] & flags[kept])
        alike |= np.abs(fields[kept] - fields[index]).mean(1) < ALIKE_FIELDS
        for other in np.nonzero(alike)[0]:
            group[first(index)] = first(kept[other])
        kept.append(index)
    return [paths[index] for index in kept], {paths[index]: paths[first(index)] for index in kept}


def split_of(listed: Iterable[dict[str, str]], alike: dict[str, str]) -> dict[str, str]:
    """Share the pictures of each noun and kind out among the splits; those that look alike go together."""
    members: dict[str, list[dict[str, str]]] = {}
    for row in listed:
        members.setdefault(alike[row["path"]], []).append(row)

    def key(group: str) -> tuple[str, ...]:
        row = members[group][0]
        return (row["kind"], row["noun"], hashlib.sha256(group.encode()).hexdigest())

    missing = dict.fromkeys(SHARES, 0.0)
    splits = {}
    for group in sorted(members, key=key):
        for split, share in SHARES.items():
            missing[split] += share * len(members[group])
        chosen = max(missing, key=lambda split: missing[split])
        missing[chosen] -= len(members[group])
        splits |= {row["path"]: chosen for row in members[group]}
    return splits


def pictures(folder: Path) -> list[Picture]:
    """Every picture, in the order of the list."""
    with LISTED.open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    encoded, images = {}, {}
    for row in listed:
        image = drawn(folder / row["path"])
        buffer = BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        encoded[row["path"]], images[row["path"]] = buffer.getvalue(), image.convert("RGB")
    kept, alike = without_doubles(images)
    rows = {row["path"]: row for row in listed}
    splits = split_of((rows[path] for path in kept), alike)
    made = []
    for path in kept:
        filled = shares(images[path])
        row = rows[path]
        made.append(
            Picture(
                path=path,
                kind=row["kind"],
                noun=row["noun"],
                synonyms=row["synonyms"].split("|") if row["synonyms"] else [],
                country=row["country"],
                color="" if row["kind"] == "flag" else clear_color(filled),
                shown=[name for name, share in filled.items() if name and share >= 0.08],
                traces=[name for name, share in filled.items() if name and share >= 0.004],
                whole=not row["several"] and is_whole(images[path]),
                split=splits[path],
                image=encoded[path],
            )
        )
    return made


def write(made: list[Picture], file: Path) -> str:
    """Write the Parquet, and give its digest."""
    texts = pa.list_(pa.string())
    columns = {"synonyms": texts, "shown": texts, "traces": texts, "whole": pa.bool_(), "image": pa.binary()}
    schema = pa.schema([(name, columns.get(name, pa.string())) for name in Picture.__dataclass_fields__])
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in made], schema=schema), file, compression="zstd")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    """Read the arguments, and write the Parquet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="the .deb file, or the folder it was unpacked to")
    parser.add_argument("--to", type=Path, required=True, help="the folder that pictures.parquet is written to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as unpacked:
        folder = arguments.package
        if folder.is_file():
            subprocess.run(["dpkg-deb", "-x", str(folder), unpacked], check=True)  # noqa: S603, S607 - a fixed program
            folder = Path(unpacked)
        made = pictures(folder / WITHIN)
    arguments.to.mkdir(parents=True, exist_ok=True)
    file = arguments.to / "pictures.parquet"
    digest = write(made, file)
    print(f"{len(made)} pictures, {file.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
