"""Made-up inputs for everything that reads what strangers write: each ends in a result or in one ReliabitError.

`python bench/fuzz.py --inputs 100000` gives every surface so many inputs, for so long as `--minutes` allows, and writes
`bench/results/fuzz.json`; a few of each are a test, `tests/bench/test_fuzz.py`. Hypothesis makes one input in ten; the
others are that one with some of its bytes changed, since inventing one takes longer than reading it.
"""

import argparse
import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from reliabit.data import question_files, sources
from reliabit.data._json_stream import stream_items
from reliabit.data.sources.folder import Folder
from reliabit.errors import ReliabitError
from reliabit.evaluation.own_answers.columns import Columns, read_columns
from reliabit.evaluation.own_answers.files import open_table
from reliabit.quant.checkpoint_files import stored_types, verify_checkpoint, weight_files
from reliabit.quant.record import check_format, quantized_as, read_config
from reliabit.serving.bundle.folder import read_description, verified_snapshot
from reliabit.serving.http.messages import Requests

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
SLOW_SECONDS = 10.0
"""An input that takes longer is reported as one that hangs."""

VARIANTS = 9
"""So many inputs are made of one by changing its bytes."""

ROUND = 5000
"""So many inputs are given to a surface before the next one has its turn."""

PIECES = (
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"NaN",
    b'"\\ud800"',
    b"[",
    b"]",
    b"{}",
    b"../x",
    b"\0",
    b'"',
    b",",
    b":",
    b"\n",
    b"\xff",
)
"""What is written over bytes, besides those of the input itself."""

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["../x", "/dev/zero", "\ud800", "1e999", "NaN", "-1", "val", "train", "0.5", "a.png", "<image>"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


def mapping(*keys: str) -> st.SearchStrategy[dict]:
    """A mapping in which some keys are those that a reader looks for, and any value stands behind any key."""
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=6), VALUES, max_size=4)


def encoded(values: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    """Values as JSON, some of them cut off or with bytes changed, and bytes of any kind."""
    whole = values.map(lambda value: json.dumps(value).encode())
    return whole | st.builds(_damaged, whole, st.integers(0), st.binary(max_size=4)) | st.binary(max_size=64)


def _damaged(content: bytes, place: int, instead: bytes) -> bytes:
    cut = place % (len(content) + 1)
    return content[:cut] + instead + (content[cut + 1 :] if instead else b"")


def varied(content: bytes, draw: random.Random) -> bytes:
    """An input with one to four of its places cut, doubled, or written over.

    >>> varied(b'{"a": 1}', random.Random(0)) != b'{"a": 1}'
    True
    """
    for _ in range(draw.randint(1, 4)):
        start, length = draw.randint(0, len(content)), draw.choice((0, 1, 1, 4, 16))
        instead = draw.choice((b"", content[start : start + length] * 2, draw.randbytes(1), draw.choice(PIECES)))
        content = content[:start] + instead + content[start + length :]
    return content


def _predictions(folder: Path, content: bytes) -> None:
    for name in ("answers.csv", "answers.jsonl", "answers.parquet", "answers.tsv"):
        (folder / name).write_bytes(content)
        with _refusable():
            read_columns(open_table(folder / name), Columns())


def _vqa_json(folder: Path, content: bytes) -> None:
    file = folder / "questions.json"
    file.write_bytes(content)
    for key in ("questions", None):
        with _refusable():
            for entry in stream_items(file, key=key):
                _vqa_entry(entry)


def _vqa_entry(entry: object) -> None:
    """An entry as the readers take it apart; a ValueError is one sample that is left out or named."""
    if not isinstance(entry, dict):
        return
    for read in (
        lambda: question_files.plain_text(entry.get("question"), what="question"),
        lambda: question_files.image_file(
            "a/{image_id}.jpg", question_files.plain_id(entry.get("image_id"), what="image_id")
        ),
        lambda: question_files.answer_texts(entry.get("answers")),
    ):
        try:
            read()
        except ValueError:
            continue


def _folder_source(folder: Path, content: bytes) -> None:
    root, out = folder / "set", folder / "out"
    root.mkdir(exist_ok=True)
    out.mkdir(exist_ok=True)
    if not (root / "a.png").is_file():
        Image.new("RGB", (4, 4)).save(root / "a.png")
    (root / ("q.csv" if len(content) % 2 else "q.jsonl")).write_bytes(content)
    try:
        with _refusable():
            data = sources.DataConfig(name="folder", root=str(root), splits={"test": 1.0})
            Folder.check(data, "data")
            Folder(data).check_files()
            Folder(data).write(out, bad_samples=folder / "bad.jsonl")
    finally:
        for file in [*root.glob("q.*"), *out.iterdir()]:
            file.unlink()


def _checkpoint(folder: Path, content: bytes) -> None:
    for name in ("config.json", "model.safetensors.index.json", "reliabit_checksums.json", "model.safetensors"):
        written = content if name.endswith(".json") else struct.pack("<Q", len(content)) + content
        (folder / name).write_bytes(written)
        for read in (verify_checkpoint, weight_files, stored_types, quantized_as, _check_config):
            with _refusable():
                read(folder)
        (folder / name).unlink()


def _check_config(folder: Path) -> None:
    check_format(read_config(folder), folder=folder)


def _bundle(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    (folder / "bundle.json").write_bytes(content)
    with _refusable(), verified_snapshot(folder):
        pass
    with _refusable():
        read_description(folder)


def _request(_: Path, content: bytes) -> None:
    try:
        for one in Requests.model_validate_json(content).questions:
            one.asked()
    except ValidationError:
        return


@contextmanager
def _refusable() -> Iterator[None]:
    try:
        yield
    except ReliabitError as error:
        if "\n" in str(error).strip() or not str(error).strip():
            raise AssertionError(f"a refusal is one line: {error!s:.200}") from error


_ANSWER = mapping("confidence", "correct", "image_id", "split", "conf_maxprob", "answer")
_TABLE = st.lists(
    st.lists(st.sampled_from(["0.5", "1", "", "nan", "x", '"', "é", "\0", "val"]), max_size=3), max_size=4
)
_CSV = _TABLE.map(lambda rows: "confidence,correct,split\n" + "\n".join(",".join(row) for row in rows)).map(str.encode)
_QUESTION = mapping("image", "question", "answer", "answers", "split", "image_id", "question_id")
_QUESTIONS = st.lists(
    st.lists(st.sampled_from(["a.png", "../a.png", "what?", "yes", "", '"', "é", "\0"]), max_size=3), max_size=4
).map(lambda rows: ("image,question,answer\n" + "\n".join(",".join(row) for row in rows)).encode())
_HASHES = st.dictionaries(st.sampled_from(["a", "../x", "/dev/zero", "config.json", ""]), VALUES, max_size=3)
_FILES = st.dictionaries(
    st.sampled_from(["bundle.json", "../x", "a", "manifest.json"]), mapping("sha256", "bytes") | VALUES, max_size=3
)

SURFACES: dict[str, tuple[Callable[[Path, bytes], None], st.SearchStrategy[bytes]]] = {
    "predictions reader": (_predictions, encoded(_ANSWER) | _CSV),
    "VQA JSON readers": (
        _vqa_json,
        encoded(st.lists(_QUESTION, max_size=3) | st.fixed_dictionaries({"questions": st.lists(_QUESTION) | VALUES})),
    ),
    "folder source": (_folder_source, encoded(_QUESTION) | _QUESTIONS),
    "checkpoint loader": (
        _checkpoint,
        encoded(
            st.fixed_dictionaries({"version": st.just(1) | VALUES, "sha256": _HASHES | VALUES})
            | st.fixed_dictionaries({"weight_map": _HASHES | VALUES})
            | st.fixed_dictionaries(
                {"quantization_config": mapping("quant_method", "schemes", "version", "bits") | VALUES}
            )
            | VALUES
        ),
    ),
    "bundle verifier": (
        _bundle,
        encoded(st.fixed_dictionaries({"format": st.just(1) | VALUES, "files": _FILES | VALUES}) | VALUES),
    ),
    "request schema": (
        _request,
        encoded(st.fixed_dictionaries({"questions": st.lists(mapping("image", "question", "risk")) | VALUES}) | VALUES),
    ),
}


@dataclass
class Counted:
    """How a surface stood.

    Attributes:
        inputs: How many it was given.
        seconds: Of processor time.
        slowest: The longest that one took, in seconds.
        failures: What ended otherwise than it should, each with its input.
    """

    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)

    def give(self, content: bytes, consume: Callable[[bytes], None]) -> None:
        """Have an input read, and count what became of it."""
        self.inputs += 1
        began = time.process_time()
        try:
            consume(content)
        except Exception as error:
            if len(self.failures) < 5:
                self.failures.append(f"{type(error).__name__}: {error!s:.200} for {content[:200]!r}")
        took = time.process_time() - began
        self.slowest = max(self.slowest, took)
        if took > SLOW_SECONDS:
            self.failures.append(f"{took:.0f} s for {content[:200]!r}")


def fuzz(surface: str, *, inputs: int, start: int, until: float = float("inf")) -> Counted:
    """Give a surface made-up inputs, until so many were given, or a moment of `time.monotonic` is past."""
    consume, strategy = SURFACES[surface]
    counted, began, draw = Counted(), time.process_time(), random.Random(start)
    with TemporaryDirectory(prefix="reliabit-fuzz-") as place:

        @seed(start)
        @settings(
            max_examples=-(-inputs // (1 + VARIANTS)),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def each(content: bytes) -> None:
            for one in (content, *(varied(content, draw) for _ in range(VARIANTS))):
                if time.monotonic() <= until:
                    counted.give(one, lambda given: consume(Path(place), given))

        each()
    counted.seconds = time.process_time() - began
    return counted


def main() -> None:
    """Fuzz all surfaces in turn, some thousand inputs each, and write what was counted after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="of each surface, those of earlier runs included")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no round begins")
    parser.add_argument("--anew", action="store_true", help="count from zero, and not from what was written")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() and not options.anew else {}
    found = {surface: Counted(**known.get("made_up", {}).get(surface, {})) for surface in SURFACES}
    while time.monotonic() < until and min(one.inputs for one in found.values()) < options.inputs:
        for surface, total in found.items():
            wanted = min(ROUND, options.inputs - total.inputs)
            if wanted <= 0:
                continue
            one = fuzz(surface, inputs=wanted, start=random.getrandbits(32), until=until)
            total.inputs += one.inputs
            total.seconds = round(total.seconds + one.seconds, 1)
            total.slowest = round(max(total.slowest, one.slowest), 3)
            total.failures = (total.failures + one.failures)[:20]
            others = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            RESULTS.write_text(
                json.dumps({**others, "made_up": {key: vars(one) for key, one in found.items()}}, indent=1) + "\n"
            )
    for surface, one in found.items():
        print(f"{surface}: {one.inputs} inputs, {len(one.failures)} failures, {one.seconds} s")


if __name__ == "__main__":
    main()
