"""An index of questions on disk: what joins, orders and splits a set that is too large to hold.

The official files list questions and annotations apart and in orders of their own, and a prepared table holds its
images in a random order. SQLite does both joins with some megabytes of memory, whatever the size of the set.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliabit.data.bad_samples import BadSamples

_SCHEMA = """
CREATE TABLE questions (
    number INTEGER PRIMARY KEY, question_id TEXT UNIQUE NOT NULL, image_id TEXT NOT NULL, image_file TEXT NOT NULL,
    question TEXT NOT NULL, answers TEXT, question_type TEXT, answer_type TEXT, further TEXT
);
CREATE TABLE images (
    image_id TEXT PRIMARY KEY, split TEXT, place INTEGER, position INTEGER, length INTEGER, sha256 BLOB
);
CREATE INDEX of_image ON questions (image_id);
CREATE INDEX of_split ON images (split, place);
"""

_ROWS = """
SELECT position AS image_position, length AS image_length, sha256 AS image_sha256, question, answers, question_id,
    image_id, question_type, answer_type
FROM images JOIN questions USING (image_id) WHERE split = ? AND length IS NOT NULL ORDER BY place, number
"""


@dataclass(frozen=True)
class Question:
    """A question as its source lists it.

    Attributes:
        question_id: What it is known by.
        image_id: Its image.
        image_file: Where that lies below the set's folder, if in a file.
        text: What is asked.
        further: What else the source says of it, by column.
    """

    question_id: str
    image_id: str
    image_file: str
    text: str
    further: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotation:
    """What annotators said of a question: one answer each, and the source's own kinds of question and answer."""

    answers: Sequence[str]
    question_type: str
    answer_type: str


@dataclass(frozen=True)
class KeptImage:
    """Where an image lies in the store of its split: its first byte, how many there are, and their digest."""

    position: int
    length: int
    sha256: bytes


class QuestionIndex:
    """Questions, annotations and images by id; what cannot be used is told to `bad` and left out."""

    def __init__(self, connection: sqlite3.Connection, bad: BadSamples) -> None:
        """Use an empty database; see `open_index`."""
        self._rows = connection
        self.bad = bad

    def add(self, question: Question) -> bool:
        """Add a question; whether it could be."""
        ids = {"question_id": question.question_id, "image_id": question.image_id}
        if not question.text.strip():
            self.bad.add("the question is empty", **ids)
            return False
        try:
            self._rows.execute(
                "INSERT INTO questions (question_id, image_id, image_file, question, further) VALUES (?, ?, ?, ?, ?)",
                (
                    question.question_id,
                    question.image_id,
                    question.image_file,
                    question.text,
                    json.dumps(question.further) if question.further else None,
                ),
            )
        except sqlite3.IntegrityError:
            self.bad.add("the question id comes twice", **ids)
            return False
        return True

    def annotate(self, question_id: str, annotation: Annotation) -> None:
        """Give a question its annotation; one of a question that is not in the index is passed over."""
        found = self._rows.execute("SELECT answers FROM questions WHERE question_id = ?", (question_id,)).fetchone()
        if found is None:
            return
        if found[0] is not None:
            self.bad.add("the question is annotated twice", question_id=question_id)
            return
        self._rows.execute(
            "UPDATE questions SET answers = ?, question_type = ?, answer_type = ? WHERE question_id = ?",
            (json.dumps(list(annotation.answers)), annotation.question_type, annotation.answer_type, question_id),
        )

    def drop_unanswered(self) -> None:
        """Leave out questions without annotation, and those that no annotator answered."""
        for problem, unusable in (
            ("the question has no annotation", "answers IS NULL"),
            ("the question has no answers", "answers = '[]'"),
        ):
            self._drop(unusable, (), problem=problem, detail="")

    def image_ids(self) -> Iterator[str]:
        """Every image that has a question, in no particular order."""
        return (row[0] for row in self._rows.execute("SELECT DISTINCT image_id FROM questions"))

    def images_of(self, question_ids: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        """Each question with its image, `None` where there is no such question."""
        for question_id in question_ids:
            found = self._rows.execute("SELECT image_id FROM questions WHERE question_id = ?", (question_id,))
            yield question_id, next((row[0] for row in found), None)

    def keep_only(self, question_ids: Iterable[str]) -> None:
        """Leave out all other questions; they are not wanted, and not bad."""
        self._rows.execute("CREATE TEMP TABLE wanted (question_id TEXT PRIMARY KEY)")
        self._rows.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", ((name,) for name in question_ids))
        self._rows.execute("DELETE FROM questions WHERE question_id NOT IN (SELECT question_id FROM wanted)")

    def place(self, splits: Mapping[str, Sequence[str]]) -> None:
        """Decide which split each image belongs to, and in which order."""
        for split, images in splits.items():
            self._rows.executemany(
                "INSERT INTO images (image_id, split, place) VALUES (?, ?, ?)",
                ((image_id, split, place) for place, image_id in enumerate(images)),
            )

    def placed_images(self) -> Iterator[tuple[str, str]]:
        """Every image that was placed, with its file, split by split in order."""
        # The ids are fetched at once, as whoever reads this writes in between.
        asked = "SELECT image_file FROM questions WHERE image_id = ? ORDER BY number LIMIT 1"
        for (image_id,) in self._rows.execute("SELECT image_id FROM images ORDER BY split, place").fetchall():
            yield image_id, self._rows.execute(asked, (image_id,)).fetchone()[0]

    def split_of(self, image_id: str) -> str | None:
        """The split of an image that is not kept yet; `None` for all others."""
        found = self._rows.execute("SELECT split FROM images WHERE image_id = ? AND length IS NULL", (image_id,))
        return next((row[0] for row in found), None)

    def keep(self, image_id: str, kept: KeptImage) -> None:
        """Note where an image lies."""
        self._rows.execute(
            "UPDATE images SET position = ?, length = ?, sha256 = ? WHERE image_id = ?",
            (kept.position, kept.length, kept.sha256, image_id),
        )

    def drop_image(self, image_id: str, *, problem: str, detail: str) -> None:
        """Leave out an image and all its questions."""
        self._drop("image_id = ?", (image_id,), problem=problem, detail=detail)
        self._rows.execute("DELETE FROM images WHERE image_id = ?", (image_id,))

    def unkept_images(self) -> list[str]:
        """The images that were placed, and of which nothing was kept."""
        return [row[0] for row in self._rows.execute("SELECT image_id FROM images WHERE length IS NULL")]

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        """The rows of a split's table, its images in order and the questions of each in the order of the source."""
        found = self._rows.execute(_ROWS, (split,))
        columns = [column[0] for column in found.description]
        for values in found:
            row = dict(zip(columns, values, strict=True))
            yield row | {"answers": json.loads(row["answers"])}

    def further(self) -> Iterator[tuple[str, dict[str, str]]]:
        """What else the source says of the questions that are kept, in its order, where it says more."""
        found = self._rows.execute(
            "SELECT question_id, further FROM questions JOIN images USING (image_id) "
            "WHERE further IS NOT NULL AND length IS NOT NULL ORDER BY number"
        )
        return ((question_id, json.loads(text)) for question_id, text in found)

    def _drop(self, which: str, values: tuple[str, ...], *, problem: str, detail: str) -> None:
        # `which` is one of the conditions above, never a text from outside.
        for question_id, image_id in self._rows.execute(
            f"SELECT question_id, image_id FROM questions WHERE {which} ORDER BY number",  # noqa: S608
            values,
        ):
            self.bad.add(problem, question_id=question_id, image_id=image_id, detail=detail)
        self._rows.execute(f"DELETE FROM questions WHERE {which}", values)  # noqa: S608


@contextmanager
def open_index(file: Path, *, bad: BadSamples) -> Iterator[QuestionIndex]:
    """An empty index in a new file, which is removed afterwards.

    Args:
        file: Where it goes, on the disk that the table is written to; about twice the size of the questions.
        bad: Takes what cannot be used.
    """
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        # Nothing of it is needed after a crash.
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA + "BEGIN;")
        yield QuestionIndex(connection, bad)
    finally:
        connection.close()
        file.unlink(missing_ok=True)
