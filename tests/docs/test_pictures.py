"""The pictures of the pages: drawn of what was measured, the same as those that are kept, and small."""

import re
from xml.etree import ElementTree

import concept_pictures
import pytest

LARGEST = 80_000
"""Bytes of a picture."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return concept_pictures.draw(tmp_path_factory.mktemp("pictures"))


def texts(path):
    """What is written in a picture: titles, numbers, ticks."""
    return [node.text for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.medium
def test_the_pictures_that_are_kept_are_those_that_would_be_drawn(drawn):
    kept = sorted(concept_pictures.FOLDER.iterdir())
    assert [path.name for path in kept] == sorted(path.name for path in drawn)
    for path in drawn:
        assert texts(path) == texts(concept_pictures.FOLDER / path.name), (
            f"{path.name} has changed; run `python bench/concept_pictures.py`"
        )


def test_they_are_small_and_there_for_light_and_dark():
    kept = {path.name: path.stat().st_size for path in concept_pictures.FOLDER.iterdir()}
    assert max(kept.values()) < LARGEST
    assert {name.split(".")[0] for name in kept if ".light." in name} == concept_pictures.PICTURES.keys()
    assert {name.split(".")[0] for name in kept if ".dark." in name} == concept_pictures.PICTURES.keys()


def test_every_picture_is_on_a_page_with_words_for_who_cannot_see_it():
    pages = "".join((concept_pictures.PROJECT / "docs" / f"{name}.md").read_text() for name in ("index", "concepts"))
    shown = re.findall(r"!\[([^\]]+)\]\(images/concepts/(\w+)\.(light|dark)\.svg#only-(light|dark)\)", pages)
    assert {name for _, name, _, _ in shown} == concept_pictures.PICTURES.keys()
    assert all(drawn_for == shown_in for _, _, drawn_for, shown_in in shown)
    assert min(len(words) for words, *_ in shown) > 10


def test_the_cells_are_those_of_the_page_of_results():
    found = {(cell.method, cell.bits): cell for cell in concept_pictures.cells()}
    assert len(found) == 24
    assert found["none", 16].mib == 294.4
    assert (found["gptq", 2].accuracy, found["gptq", 2].coverage) == (54.9, 12.3)
    assert (found["mbq", 3].accuracy, found["mbq", 3].aurc) == (55.48, 25.02)
