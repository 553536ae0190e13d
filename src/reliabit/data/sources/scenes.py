"""Scenes: generated images and questions after the published Sort-of-CLEVR recipe.

Six objects, one of each colour, each a circle or a rectangle, on a white field of 75x75 pixels; half of the
questions are about one object (its shape, left or right, top or bottom), half relate it to the others (the
shape of the nearest or the farthest, how many share its shape). The recipe is that of A. Santoro et al., "A
simple neural network module for relational reasoning", 2017, supplement; the wording of the questions is ours.
A synthetic set, and named so wherever it appears.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np

from reliabit.data.in_memory import InMemorySource, SourcePart
from reliabit.data.sources import SOURCES, SPLITS, DataConfig
from reliabit.data.table import VQARow, answer_type
from reliabit.errors import ReliabitError

ANNOTATORS = 10
SIZE = 75
HALF = 5
COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "orange": (255, 156, 0),
    "gray": (128, 128, 128),
    "yellow": (255, 255, 0),
}
ABOUT_ONE = {
    "shape": "what is the shape of the {color} object?",
    "left": "is the {color} object on the left?",
    "top": "is the {color} object at the top?",
}
ABOUT_ALL = {
    "nearest": "what is the shape of the object nearest to the {color} object?",
    "farthest": "what is the shape of the object farthest from the {color} object?",
    "count": "how many objects have the shape of the {color} object?",
}


@SOURCES.register("scenes")
class Scenes(InMemorySource):
    """As many images as the splits ask for."""

    @classmethod
    def check(cls, data: DataConfig, key: str) -> None:
        """Check that the number of questions is given."""
        super().check(data, key)
        if data.questions_per_image is None:
            raise ReliabitError(f"{key}.questions_per_image is null, and {key}.name=scenes needs it")

    def parts(self) -> list[SourcePart]:
        images, questions = int(sum(self.data.splits.values())), self.data.questions_per_image or 10
        read = partial(generate, images=images, questions_per_image=questions, seed=self.data.seed)
        return [SourcePart(read=read, splits=SPLITS)]


@dataclass(frozen=True)
class Shape:
    """One object: its colour, its shape (`circle` or `rectangle`) and its centre in pixels."""

    color: str
    shape: str
    x: int
    y: int


def draw_scene(rng: np.random.Generator) -> list[Shape]:
    """Draw six objects whose centres are at least two half sizes apart, one of each colour."""
    shapes: list[Shape] = []
    for color in COLORS:
        while True:
            x, y = (int(value) for value in rng.integers(HALF, SIZE - HALF, size=2))
            if all((x - other.x) ** 2 + (y - other.y) ** 2 >= (2 * HALF) ** 2 for other in shapes):
                break
        shapes.append(Shape(color=color, shape=str(rng.choice(["circle", "rectangle"])), x=x, y=y))
    return shapes


def render(shapes: list[Shape]) -> bytes:
    """Render a scene as a PNG file."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIZE, SIZE), "white")
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        box = (shape.x - HALF, shape.y - HALF, shape.x + HALF, shape.y + HALF)
        (pen.ellipse if shape.shape == "circle" else pen.rectangle)(box, fill=COLORS[shape.color])
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def answer(shapes: list[Shape], kind: str, color: str) -> str:
    """Answer a question of `kind` about the object of `color`.

    >>> scene = [Shape("red", "circle", 10, 10), Shape("blue", "rectangle", 60, 60)]
    >>> answer(scene, "left", "red"), answer(scene, "nearest", "red"), answer(scene, "count", "blue")
    ('yes', 'rectangle', '1')
    """
    subject = next(shape for shape in shapes if shape.color == color)
    others = [shape for shape in shapes if shape.color != color]

    def distance(other: Shape) -> int:
        return (other.x - subject.x) ** 2 + (other.y - subject.y) ** 2

    match kind:
        case "shape":
            return subject.shape
        case "left":
            return "yes" if subject.x < SIZE / 2 else "no"
        case "top":
            return "yes" if subject.y < SIZE / 2 else "no"
        case "nearest":
            return min(others, key=distance).shape
        case "farthest":
            return max(others, key=distance).shape
        case "count":
            return str(sum(shape.shape == subject.shape for shape in shapes))
    raise ValueError(f"no question of the kind {kind!r}")


def generate(*, images: int, questions_per_image: int, seed: int) -> Iterator[VQARow]:
    """Generate a set; image `i` depends on the seed and on `i` alone, not on how many are asked for.

    At most 36 questions are asked of an image, half of them relational.
    """
    for index in range(images):
        rng = np.random.default_rng([seed, index])
        shapes = draw_scene(rng)
        encoded = render(shapes)
        relational = questions_per_image // 2
        asked = [
            (kind, template, color)
            for templates, count in ((ABOUT_ONE, questions_per_image - relational), (ABOUT_ALL, relational))
            for kind, template, color in _draw_questions(templates, count=count, rng=rng)
        ]
        for number, (kind, template, color) in enumerate(asked):
            truth = answer(shapes, kind, color)
            yield VQARow(
                image=encoded,
                question=template.format(color=color),
                answers=[truth] * ANNOTATORS,
                question_id=f"{index}-{number}",
                image_id=f"{index}",
                question_type=kind,
                answer_type=answer_type(truth),
                source="scenes",
            )


def _draw_questions(templates: dict[str, str], *, count: int, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    every = [(kind, template, color) for kind, template in templates.items() for color in COLORS]
    return [every[i] for i in rng.permutation(len(every))[:count]]
