"""The page itself: one HTML file with its pictures, its data, its script and the library that draws, and no address."""

import json
import re
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.evaluation.sweep_report.contents import QUESTIONS
from reliabit.evaluation.sweep_report.curves import Json
from reliabit.files import write_text

PAGE = "report.html"
"""The name of the page among what a sweep's parent run holds."""

LIMIT = 3 * 10**6
"""Bytes of a page at most: what a mail takes, and MLflow shows."""

FEWER = (QUESTIONS, 36, 20, 8, 0)
"""How many questions are shown of each model and data set, until the page is small enough."""


def report_page(contents: Json, *, limit: int = LIMIT, cache: Path | None = None) -> str:
    """Write the page, with as many questions as fit.

    Args:
        contents: What is shown, see `report_contents`.
        limit: Bytes that it may have.
        cache: Where the drawing library is kept between reports; nowhere by default.

    Raises:
        ReliabitError: It has more even without questions.
    """
    size = 0
    for count in FEWER:
        page = _page(with_questions(contents, count), cache=cache)
        size = len(page.encode())
        if size <= limit:
            return page
    raise ReliabitError(
        f"the report of this sweep takes {size / 1e6:.1f} MB without a single picture, and no more than "
        f"{limit / 1e6:.1f} are made: it has too many configurations for one page; run fewer in one sweep"
    )


def with_questions(contents: Json, count: int) -> Json:
    """The same contents with no more than the first questions of each model and data set, and their pictures."""
    return {**contents, "families": [_with_questions(family, count) for family in contents["families"]]}


def _with_questions(family: Json, count: int) -> Json:
    kept = family["questions"][:count]
    needed = {one["picture"] for one in kept}
    return {
        **family,
        "questions": kept,
        "spread": min(family["spread"], len(kept)),
        "flips": [{**one, "shown": [at for at in one["shown"] if at < len(kept)]} for one in family["flips"]],
        "pictures": {name: address for name, address in family["pictures"].items() if name in needed},
    }


def _page(contents: Json, *, cache: Path | None) -> str:
    """The page; what is told of a sweep stands in its JSON alone, from where the script sets it as text."""
    parts = {
        "title": escape(contents["provenance"]["title"]),
        "style": _part("page.css"),
        "library": drawing_library(cache),
        "script": f"{_part('charts.js')}\n{_part('page.js')}",
        "contents": embedded(contents),
    }
    # In one pass, as what is put in may hold such a place by chance.
    return re.sub(r"@(\w+)@", lambda place: parts[place[1]], _part("page.html"))


def embedded(contents: Any) -> str:
    r"""JSON as it may stand within a script element: no text of it can end that element.

    >>> embedded({"a": "</script><!--"})
    '{"a":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(contents, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def drawing_library(cache: Path | None = None) -> str:
    """Vega, Vega-Lite and Vega-Embed (BSD-3-Clause), as the installed `vl-convert-python` bundles them.

    Args:
        cache: Where the bundle is kept, as making it takes more than a second; nowhere by default.
    """
    kept = cache and cache / f"vega-{version('vl-convert-python')}.js"
    if kept and kept.is_file():
        return kept.read_text(encoding="utf-8")
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in script.lower():
        raise TypeError("the drawing library would end its own script element")
    if kept:
        write_text(kept, script)
    return script


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
