"""Draw what the data set `pictures` asks, four test questions of each kind, as docs/images/pictures.png.

python bench/picture_sheet.py --to docs/images/pictures.png
"""

import argparse
import textwrap
from io import BytesIO
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw

from reliabit.data.picture_questions import PHRASES
from reliabit.data.sources.pictures import generate, picture_file

KINDS = ("kind", "name", "is_it", "flag", "count", "where", "colour")
EACH, SIDE, TEXT = 4, 132, 52
STEP = 9
"""Every ninth question is shown, so that one image does not fill a row."""


def sheet() -> Image.Image:
    """The sheet, a column a kind."""
    rows = list(generate("test", file=picture_file()))
    drawn = Image.new("RGB", (len(KINDS) * (SIDE + 16), EACH * (SIDE + TEXT)), "white")
    pen = ImageDraw.Draw(drawn)
    for column, kind in enumerate(KINDS):
        asked = [row for row in rows if row["question_type"] == kind][::STEP]
        for line, row in enumerate(islice(asked, EACH)):
            x, y = column * (SIDE + 16) + 8, line * (SIDE + TEXT) + 4
            picture = Image.open(BytesIO(row["image"])).convert("RGB")
            picture.thumbnail((SIDE, SIDE))
            drawn.paste(picture, (x, y))
            pen.rectangle((x - 2, y - 2, x + SIDE + 1, y + SIDE + 1), outline=(200, 200, 200))
            words = [*textwrap.wrap(row["question"], 24)[:2], "- " + ", ".join(dict.fromkeys(row["answers"]))]
            for number, text in enumerate(words):
                pen.text(
                    (x, y + SIDE + 3 + 14 * number), text, fill="black" if number + 1 < len(words) else "firebrick"
                )
    return drawn.quantize(96, dither=Image.Dither.NONE)


def main() -> None:
    """Read the arguments, and write the sheet."""
    parser = argparse.ArgumentParser(description=f"A sheet of the questions in {len(PHRASES)} forms.")
    parser.add_argument("--to", type=Path, required=True, help="the PNG that is written")
    sheet().save(parser.parse_args().to, optimize=True)


if __name__ == "__main__":
    main()
