"""Distribution shifts by name, and the VQA table that a shift makes of another.

Only the image or only the question shifts, never both, so that a drop in reliability can be laid at one door.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from reliabit.data.corruptions import LEVELS, SEVERITIES, blank, check_severity, corrupt
from reliabit.data.image_decoding import decode_image
from reliabit.data.picture_questions import names_place
from reliabit.data.table import vqa_features
from reliabit.data.wording import mislead, misspell, reword
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from PIL.Image import Image

SHIFTS: dict[str, tuple[str, ...]] = {
    "visual": (*LEVELS, "blank_image"),
    "linguistic": ("reworded", "misspelled", "misleading"),
}
"""The shifts of each kind."""

GRADED = frozenset({*LEVELS, "misspelled"})
"""The shifts that have severities."""

TRUTH_CHANGES: dict[str, frozenset[tuple[str, str]]] = {
    "rotation": frozenset({("scenes", "left"), ("scenes", "top"), ("pictures", "where")})
}
"""By shift, the kinds of questions (source, question type) that have another answer afterwards."""

_ROWS = 256
"""How many rows are worked on at once."""


@dataclass(frozen=True)
class Shift:
    """A distribution shift.

    Attributes:
        name: One of `SHIFTS`.
        severity: 1 to 5 for the shifts in `GRADED`, else `None`.

    Raises:
        ReliabitError: There is no such shift or severity.

    >>> Shift("gaussian_blur", 3).label, Shift("reworded").kind
    ('gaussian_blur_3', 'linguistic')
    """

    name: str
    severity: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not in the catalogue."""
        if not any(self.name in names for names in SHIFTS.values()):
            every = ", ".join(name for names in SHIFTS.values() for name in names)
            raise ReliabitError(f"{self.name!r} is not a shift; choose one of {every}")
        if self.name not in GRADED and self.severity is not None:
            raise ReliabitError(f"the shift {self.name} has no severities; leave out the {self.severity}")
        if self.name in GRADED and self.severity is None:
            raise ReliabitError(f"the shift {self.name} needs a severity; write {self.name}_1 to {self.name}_5")
        if self.severity is not None:
            check_severity(self.severity, of=self.name)

    @property
    def kind(self) -> str:
        """`visual` or `linguistic`."""
        return next(kind for kind, names in SHIFTS.items() if self.name in names)

    @property
    def label(self) -> str:
        """What the shift is called in configurations, files and figures; `parse_shift` reads it back."""
        return self.name if self.severity is None else f"{self.name}_{self.severity}"


def parse_shift(label: str) -> Shift:
    """Read a label such as `gaussian_blur_3` or `reworded`.

    Raises:
        ReliabitError: There is no such shift or severity.

    >>> parse_shift("misspelled_2")
    Shift(name='misspelled', severity=2)
    """
    name, _, severity = label.rpartition("_")
    # As it is recorded: not 03, nor a digit of another script.
    plain = severity.isdecimal() and severity == str(int(severity))
    return Shift(name, int(severity)) if name and plain else Shift(label)


def catalogue() -> list[Shift]:
    """Every shift at every severity, kind by kind.

    >>> [shift.label for shift in catalogue()][-7:]
    ['reworded', 'misspelled_1', 'misspelled_2', 'misspelled_3', 'misspelled_4', 'misspelled_5', 'misleading']
    """
    return [
        Shift(name, severity)
        for names in SHIFTS.values()
        for name in names
        for severity in (SEVERITIES if name in GRADED else (None,))
    ]


def apply_shift(table: "Dataset", shift: Shift, *, seed: int) -> "Dataset":
    """Shift a VQA table.

    Schema, ids, answers and order stay. A visual shift changes the images alone (each image once, however many
    questions it has, and PNG afterwards), a linguistic shift the questions alone. Left out are the questions whose
    truth the shift changes: after a rotation, those about the sides of a scene or of a canvas of pictures. A truth
    that can merely no longer be seen, such as under an occluder or on a blank image, is a truth still, and its
    questions stay.

    Of one seed, an image or a question gets the same draws in every table. The images are decoded one at a time; what
    is held is the shifted table, as encoded files.

    Raises:
        ReliabitError: An image does not decode, or a question has no wording of this shift.
    """
    import pyarrow as pa
    from datasets import Dataset

    schema = vqa_features().arrow_schema
    column = "image" if shift.kind == "visual" else "question"
    change = _image_changer(shift, seed=seed) if shift.kind == "visual" else _question_changer(shift, seed=seed)

    def shifted() -> Iterator["pa.Table"]:
        for batch in _unharmed(table, shift).with_format("arrow").iter(batch_size=_ROWS):
            values = pa.array(change(batch), type=schema.field(column).type)
            yield batch.set_column(batch.column_names.index(column), column, values).select(schema.names).cast(schema)

    return Dataset(pa.concat_tables([schema.empty_table(), *shifted()]))


def _unharmed(table: "Dataset", shift: Shift) -> "Dataset":
    changed = TRUTH_CHANGES.get(shift.name)
    if not changed:
        return table
    rows = zip(table["source"], table["question_type"], table["question"], strict=True)
    return table.select(
        [
            row
            for row, (source, kind, question) in enumerate(rows)
            if (source, kind) not in changed and not (source == "pictures" and names_place(question))
        ]
    )


def _image_changer(shift: Shift, *, seed: int) -> Callable[["pa.Table"], list[dict[str, Any]]]:
    column = vqa_features()["image"]
    done: dict[tuple[str, str], dict[str, Any]] = {}

    def change(batch: "pa.Table") -> list[dict[str, Any]]:
        images = list(zip(batch["source"].to_pylist(), batch["image_id"].to_pylist(), strict=True))
        for row, (source, image_id) in enumerate(images):
            if (source, image_id) not in done:
                encoded = column.decode_example(batch["image"][row].as_py())
                image = decode_image(encoded, item=f"image {image_id!r} of {source}")
                shifted = _shifted_image(image, shift, seed=seed, image_id=image_id)
                buffer = BytesIO()
                shifted.save(buffer, format="PNG")
                done[source, image_id] = column.encode_example(buffer.getvalue())
        return [done[image] for image in images]

    return change


def _shifted_image(image: "Image", shift: Shift, *, seed: int, image_id: str) -> "Image":
    if shift.name == "blank_image":
        return blank(image)
    return corrupt(image, corruption=shift.name, severity=shift.severity or 0, seed=seed, image_id=image_id)


def _question_changer(shift: Shift, *, seed: int) -> Callable[["pa.Table"], list[str]]:
    severity = shift.severity or 0

    def shifted(question: str, answers: list[str], source: str, question_id: str) -> str:
        match shift.name:
            case "reworded":
                return reword(question, source=source, question_id=question_id, seed=seed)
            case "misspelled":
                return misspell(question, question_id=question_id, seed=seed, severity=severity)
            case "misleading":
                return mislead(question, answers, source=source, question_id=question_id, seed=seed)
        raise ValueError(f"no linguistic shift {shift.name!r}")

    def change(batch: "pa.Table") -> list[str]:
        columns = (batch[name].to_pylist() for name in ("question", "answers", "source", "question_id"))
        return [shifted(*row) for row in zip(*columns, strict=True)]

    return change
