"""Samples that cannot be read: counted by what is wrong, listed in a file, and fatal unless they are to be skipped."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TextIO

from reliabit.errors import ReliabitError
from reliabit.files import replacing

FAIL, SKIP = "fail", "skip"
"""What `data.on_bad_sample` may say."""


SHOWN = 5
"""Bad samples that a message shows, where their place in a file is known."""


def summary(counts: Mapping[str, int]) -> str:
    """How many samples there are by what is wrong with them, as words.

    >>> summary({"its image is missing": 2, "the question is empty": 1})
    '3 samples cannot be used (its image is missing: 2, the question is empty: 1)'
    """
    listed = ", ".join(f"{problem}: {count}" for problem, count in counts.items())
    return f"{sum(counts.values())} samples cannot be used ({listed})"


@cache
def tell(message: str) -> None:
    """Say something on standard error once a process: a run asks for its tables many times."""
    sys.stderr.write(f"{message}\n")


@dataclass
class BadSamples:
    """A list of bad samples that is written as it grows; what is kept in memory are counts.

    Attributes:
        file: Where the list goes, one JSON object a line.
        counts: How many samples there are by what is wrong with them.
        files: The image files that could not be used, so that it can be told when they have been repaired.
        first: The first of those whose place in a file is known, as words.
    """

    file: TextIO
    counts: Counter[str] = field(default_factory=Counter)
    files: set[Path] = field(default_factory=set)
    first: list[str] = field(default_factory=list)

    def add(self, problem: str, *, question_id: str, image_id: str = "", detail: str = "", place: str = "") -> None:
        """List one sample: its problem in the same words for all of the kind, a detail of its own, and its line."""
        self.counts[problem] += 1
        record = {"question_id": question_id, "image_id": image_id, "problem": problem, "detail": detail}
        if place:
            record["place"] = place
            if len(self.first) < SHOWN:
                shown = " ".join(detail.split())
                self.first.append(f"{place}: {problem}{f' ({shown})' if shown else ''}")
        self.file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def by_problem(self) -> dict[str, int]:
        """The counts, the largest first.

        >>> import io
        >>> bad = BadSamples(io.StringIO())
        >>> for number, problem in enumerate(("the question is empty", *["its image is missing"] * 2)):
        ...     bad.add(problem, question_id=str(number))
        >>> bad.by_problem()
        {'its image is missing': 2, 'the question is empty': 1}
        """
        return dict(self.counts.most_common())


@contextmanager
def judged(path: Path, *, source: str, on_bad_sample: str) -> Iterator[BadSamples]:
    """Collect bad samples, and judge them when the block ends.

    Args:
        path: Where the list goes; it is written only where there is a bad sample, and removed where there is none.
        source: The data source, for the message.
        on_bad_sample: `fail`, or `skip`, which leaves the list.

    Raises:
        ReliabitError: There are bad samples, and they are not to be skipped; or the block raised, in which case its
            message is followed by what was listed until then.
    """
    failure: ReliabitError | None = None
    # A half of a character, which JSON can hold and UTF-8 cannot, is escaped as JSON does it.
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", errors="backslashreplace") as file:
        bad = BadSamples(file)
        try:
            yield bad
        except ReliabitError as error:
            failure = error
    if not bad.counts:
        # Another process may write the same list.
        path.unlink(missing_ok=True)
        if failure is not None:
            raise failure
        return
    shown = f"; {'; '.join(bad.first)}" if bad.first else ""
    listed = f"{summary(bad.by_problem())}{shown}; they are listed in {path}"
    if failure is not None:
        raise ReliabitError(f"{failure}; {listed}") from failure
    if on_bad_sample != SKIP:
        raise ReliabitError(
            f"{source}: {listed}; repair the files, or set data.on_bad_sample=skip to go on without them"
        )
