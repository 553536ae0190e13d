"""Samples that cannot be read: counted by what is wrong, listed in a file, and fatal unless they are to be skipped."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from reliabit.errors import ReliabitError
from reliabit.files import replacing

FAIL, SKIP = "fail", "skip"
"""What `data.on_bad_sample` may say."""


@dataclass
class BadSamples:
    """A list of bad samples that is written as it grows; what is kept in memory are counts.

    Attributes:
        file: Where the list goes, one JSON object a line.
        counts: How many samples there are by what is wrong with them.
    """

    file: TextIO
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, problem: str, *, question_id: str, image_id: str = "", detail: str = "") -> None:
        """List one sample.

        Args:
            problem: What is wrong, in the same words for all samples of the kind.
            question_id: The question.
            image_id: Its image, where it is known.
            detail: What is particular to this sample.
        """
        self.counts[problem] += 1
        record = {"question_id": question_id, "image_id": image_id, "problem": problem, "detail": detail}
        self.file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def summary(self) -> str:
        """The counts as words.

        >>> import io
        >>> bad = BadSamples(io.StringIO())
        >>> for number in ("7", "8"):
        ...     bad.add("its image is missing", question_id=number)
        >>> bad.summary()
        '2 samples cannot be used (its image is missing: 2)'
        """
        listed = ", ".join(f"{problem}: {count}" for problem, count in self.counts.most_common())
        return f"{self.counts.total()} samples cannot be used ({listed})"


@contextmanager
def judged(path: Path, *, source: str, on_bad_sample: str) -> Iterator[BadSamples]:
    """Collect bad samples, and judge them when the block ends well.

    Args:
        path: Where the list goes; it is written only where there is a bad sample, and removed where there is none.
        source: The data source, for the message.
        on_bad_sample: `fail`, or `skip`, which leaves a line on standard error and the list.

    Raises:
        ReliabitError: There are bad samples, and they are not to be skipped.
    """
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        bad = BadSamples(file)
        yield bad
    if not bad.counts:
        path.unlink()
        return
    message = f"{source}: {bad.summary()}; they are listed in {path}"
    if on_bad_sample != SKIP:
        raise ReliabitError(f"{message}; repair the files, or set data.on_bad_sample=skip to go on without them")
    sys.stderr.write(f"{message}; skipped\n")
