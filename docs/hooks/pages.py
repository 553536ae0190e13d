"""What MkDocs calls while it builds the site: pages that are made, and links that leave the folder of pages.

Pages are written to be read in the repository; their links lead to files beside the folder as well. On the site such a
link leads to the page that the file is shown as, and is plain text where it is shown as none.
"""

import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import command_reference
import findings_index
import python_reference
import settings_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parents[2]

SHOWN_AS = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "bench/README.md": "project/benchmarks.md",
    "bench/peers_found.md": "project/peers_found.md",
}
"""Files beside the folder of pages, and the pages that they are shown as."""

LEADS_TO = {
    "README.md": "index.md",
    "findings/calibration_error_libraries.sh": "project/findings.md",
    "src/reliabit/metrics/functional/__init__.py": "reference/metrics.md",
}
"""Files that are not shown, and the pages that tell what is in them."""

MADE = {
    "project/findings.md": findings_index.page,
    "reference/commands.md": command_reference.page,
    "reference/metrics.md": python_reference.metrics_page,
    "reference/python.md": python_reference.python_page,
    "reference/settings.md": settings_reference.page,
}
"""Pages that no file holds, and what writes them."""

NUMBERS = "paper/"
"""Pages of numbers alone, which would come before all that explains them when somebody searches."""

_NAME = re.compile(r"[\w./]+\.md")
_LINK = re.compile(r"(?P<sign>!?)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[\w-]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and files beside the folder of pages."""
    for name, shown in SHOWN_AS.items():
        files.append(File.generated(config, shown, content=(PROJECT / name).read_text(encoding="utf-8")))
    for name, write in MADE.items():
        files.append(File.generated(config, name, content=write(PROJECT)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead where the site shows what they name."""
    place = page.file.src_uri
    if place.startswith(NUMBERS):
        page.meta["search"] = {"exclude": True}
    shown = {site: name for name, site in SHOWN_AS.items()}
    return relinked(markdown, origin=shown.get(place, f"docs/{place}"), place=place)


def on_post_page(output: str, **_: Any) -> str:
    """Name the dialog of the search, which the theme leaves without a name for who cannot see it."""
    dialog = 'data-md-component="search" role="dialog"'
    return output.replace(dialog, f'{dialog} aria-label="Search"')


def relinked(markdown: str, *, origin: str, place: str) -> str:
    """A page with its links as they hold on the site, called by what they lead to.

    Args:
        markdown: The page.
        origin: Where it lies in the repository; links are relative to that.
        place: Where it lies on the site.

    >>> relinked("[a](../CONTRIBUTING.md#terms), [b](../LICENSE), [ui.md](ui.md)", origin="docs/x.md", place="x.md")
    '[a](project/contributing.md#terms), b, [Choosing in the MLflow UI](ui.md)'
    >>> relinked("[d](docs/use.md)", origin="CONTRIBUTING.md", place="project/contributing.md")
    '[d](../use.md)'
    """

    def replaced(link: re.Match[str]) -> str:
        if ":" in link["target"]:
            return link[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link["target"]))
        page = named.removeprefix("docs/") if named.startswith("docs/") else None
        site = (SHOWN_AS | LEADS_TO).get(named, page)
        if site is None:
            return link["text"]
        target = posixpath.relpath(site, posixpath.dirname(place) or ".")
        text = title_of(named) if _NAME.fullmatch(link["text"]) else link["text"]
        return f"{link['sign']}[{text}]({target}{link['anchor'] or ''})"

    return _LINK.sub(replaced, markdown)


@cache
def title_of(name: str) -> str:
    """What a page is headed by, in place of the name of its file.

    >>> title_of("docs/own_data.md")
    'Your own data'
    """
    first = (PROJECT / name).read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("# ").strip()


def named_in(nav: Any) -> Iterator[str]:
    """The pages of a navigation.

    >>> [*named_in([{"Start": ["a.md", {"B": "b.md"}]}])]
    ['a.md', 'b.md']
    """
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from named_in(entry)
