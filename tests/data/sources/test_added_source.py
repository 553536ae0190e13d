"""A source that somebody adds is one file and one YAML."""

import pytest

from added_packages import added, composed
from reliabit.data.prepared_table import load_split, prepare, table_folder
from reliabit.data.sources import SOURCES, DataConfig
from reliabit.errors import ReliabitError
from reliabit.tasks._asked_questions import load_questions

pytestmark = pytest.mark.medium

CODE = """
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from reliabit.data.in_memory import InMemorySource, SourcePart
from reliabit.data.sources import SOURCES, SPLITS
from reliabit.data.table import VQARow
from reliabit.settings import choice, positive


@dataclass
class SquaresOptions:
    images: int = positive(default=6)
    color: str = choice("red", "blue", default="red")


@SOURCES.register("squares")
class Squares(InMemorySource):
    options_schema = SquaresOptions

    def parts(self):
        return [SourcePart(read=self.rows, splits=SPLITS)]

    def rows(self):
        for number in range(self.options.images):
            file = BytesIO()
            Image.new("RGB", (8 + number, 8), self.options.color).save(file, format="PNG")
            yield VQARow(
                image=file.getvalue(),
                question="which color is it?",
                answers=[self.options.color] * 10,
                question_id=str(number),
                image_id=str(number),
                question_type="color",
                answer_type="other",
                source="squares",
            )
"""
OPTIONS = """
name: squares
splits: {val: 2, test: 3}
options: {color: blue}
ask: {val: null, test: null}
"""


@pytest.fixture(autouse=True)
def package(tmp_path):
    options = {"data/squares.yaml": OPTIONS}
    with added(tmp_path, SOURCES, name="squares", group="reliabit.sources", code=CODE, options=options):
        yield tmp_path


def test_an_added_source_is_composed_prepared_and_asked(package):
    config = composed(package, "data=squares", f"paths.root={package}")
    table = load_split(prepare(config.data, root=package / "tables"), "test")
    assert len(table) == 3
    assert {answer for row in table for answer in row["answers"]} == {"blue"}
    asked = load_questions(config, training=False)
    assert sorted(asked["split"]) == ["test"] * 3 + ["val"] * 2
    assert set(asked["source"]) == {"squares"}


def test_its_own_options_are_checked_and_decide_the_table(package):
    config = composed(package, "data=squares", "+data.options.images=5")
    plain = DataConfig(name="squares", splits=config.data.splits)
    assert table_folder(config.data, root=package) != table_folder(plain, root=package)
    assert config.data.identity()["options"] == {"color": "blue", "images": 5}
    for override, message in (
        ("data.options.color=green", "data.options.color=green is not a value of this key; choose one of: red, blue"),
        ("+data.options.images=0", "data.options.images=0 must be above zero"),
        ("+data.options.images=many", "data.options cannot be used: .*'many'"),
        ("+data.options.size=1", r"data.options has unknown keys \['size'\]"),
        ("data.splits.test=0.5", "data.name=squares takes numbers of images"),
    ):
        with pytest.raises(ReliabitError, match=message):
            composed(package, "data=squares", override)
    with pytest.raises(ReliabitError, match=r"data.options has unknown keys .*; data.name=easy_vqa takes none"):
        composed(package, "data=easy_vqa", "+data.options.images=3")


def test_it_is_among_the_choices_while_it_is_installed(package):
    assert tuple(SOURCES) == ("advqa", "easy_vqa", "folder", "pictures", "scenes", "squares", "vizwiz", "vqav2")
    choices = "advqa, easy_vqa, folder, pictures, scenes, squares, vizwiz, vqav2"
    with pytest.raises(ReliabitError, match=f"choose one of: {choices}"):
        composed(package, "data.name=circles")
