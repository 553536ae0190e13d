"""Pictures: public-domain drawings of openclipart.org, and questions: what is it, how many, where, which colour.

The pictures are those that `bench/pictures.py` takes from Debian's package openclipart-png; what is known of each, its
kind, its name and its colour, is in the same Parquet, and every answer follows from it. See docs/pictures.md.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.data import picture_canvas as canvas
from reliabit.data import picture_questions as questions
from reliabit.data.in_memory import InMemorySource, SourcePart
from reliabit.data.picture_questions import COUNTED, FLAG_COLORS, KINDS, NAMES, OPPOSITE, Asked, Thing, could_be
from reliabit.data.sources import SOURCES, SPLITS
from reliabit.data.splits import stable_generator
from reliabit.data.table import VQARow, answer_type
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    import numpy as np

FILE = "pictures.parquet"
DIGEST = "dcede8fe239bfd879e05066053d727c32f4e3f94b1df186b536c26721ddb9c2d"
"""SHA-256 of the file: another one would be other questions."""


@dataclass(frozen=True)
class Sizes:
    """How much a split has beside a question or two about each of its pictures.

    Attributes:
        pairs: Canvases of two pictures.
        scattered: Canvases of one to six.
        most: At most so many pictures are asked for one kind, one name, one colour.
        denied: So many times a name is asked of pictures that have it, and of as many that have not.
        again: Whether a canvas may take pictures that others have.
    """

    pairs: int
    scattered: int
    most: dict[str, int]
    denied: int
    again: bool = False


# No interval is of `train` or `dev`, so pictures are in more than one canvas there. `dev` has few pictures, and an
# estimator that learns from 460 answers instead of 900 learns less (docs/pretrained.md).
SIZES = {
    "train": Sizes(1250, 1700, {"kind": 150, "name": 60, "colour": 250, "flag": 300}, denied=20, again=True),
    "dev": Sizes(80, 120, {"kind": 60, "name": 60, "colour": 100, "flag": 60}, denied=6, again=True),
    "val": Sizes(28, 28, {"kind": 6, "name": 4, "colour": 8, "flag": 8}, denied=1),
    "cal": Sizes(125, 130, {"kind": 24, "name": 12, "colour": 30, "flag": 34}, denied=3),
    "test": Sizes(170, 190, {"kind": 30, "name": 16, "colour": 40, "flag": 44}, denied=2),
}


@SOURCES.register("pictures")
class Pictures(InMemorySource):
    """The set; which pictures are in a split is decided with the pictures, and no canvas takes any of another split."""

    def parts(self) -> list[SourcePart]:
        file = picture_file(self.data.root)
        return [
            SourcePart(
                read=partial(generate, split, file=file),
                splits=(split,),
                files=partial(_found, file),
            )
            for split in SPLITS
        ]


def picture_file(root: str | None = None) -> Path:
    """The Parquet of the pictures: in a folder, or that which comes with the package."""
    return (Path(root).expanduser() if root else Path(str(files("reliabit.data") / "openclipart"))) / FILE


def _found(file: Path) -> list[Path]:
    if not file.is_file():
        raise ReliabitError(f"pictures: {file} does not exist; restore it, or set data.root to the folder that has it")
    return [file]


def read_things(file: Path) -> dict[str, list[Thing]]:
    """The pictures of each split.

    Raises:
        ReliabitError: The file is missing, cannot be read, or is not the one that the questions were made for.
    """
    import pyarrow.parquet as pq

    try:
        content = _found(file)[0].read_bytes()
    except OSError as error:
        raise ReliabitError(f"pictures: {file} cannot be read ({error.strerror}); restore it") from error
    if (found := hashlib.sha256(content).hexdigest()) != DIGEST:
        raise ReliabitError(
            f"pictures: {file} was altered (SHA-256 {found[:12]}… and not {DIGEST[:12]}…); restore it, or rebuild it "
            "with bench/pictures.py"
        )
    things = defaultdict(list)
    for row in pq.read_table(BytesIO(content)).drop_columns(["country"]).to_pylist():
        split = row.pop("split")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
        }
        things[split].append(Thing(**fields))
    return dict(things)


def generate(split: str, *, file: Path) -> Iterator[VQARow]:
    """Generate the questions of a split, those of an image in a row; canvases are drawn when they are reached.

    Which questions there are no setting changes: `data.seed` draws which images are taken, and their order.

    Raises:
        ReliabitError: See `read_things`.
    """
    number = 0
    for image_id, image, about in Drawing(split, read_things(file)[split]).images():
        for one in about:
            yield VQARow(
                image=image,
                question=one.question,
                answers=one.answers,
                question_id=f"{split}-{number}",
                image_id=image_id,
                question_type=one.kind,
                answer_type=answer_type(one.answers[0]),
                source="pictures",
            )
            number += 1


class Drawing:
    """The images of a split and what is asked of each."""

    def __init__(self, split: str, things: Sequence[Thing]) -> None:
        """Shuffle the pictures."""
        self.split, self.sizes = split, SIZES[split]
        self.things = _shuffled(things, self._rng("order"))
        self.named = [thing for thing in self.things if thing.noun in NAMES]

    def _rng(self, *of: str | int) -> "np.random.Generator":
        return stable_generator("pictures", 0, self.split, *of)

    def images(self) -> Iterator[tuple[str, bytes, list[Asked]]]:
        """Each image: its id, the encoded file and the questions."""
        about = self._about_one()
        for thing in self.things:
            if about[thing.path]:
                yield thing.path, thing.image, about[thing.path]
        yield from self._pairs()
        yield from self._scattered()

    def _about_one(self) -> dict[str, list[Asked]]:
        about: dict[str, list[Asked]] = defaultdict(list)
        rng, most = self._rng("one"), self.sizes.most
        nameable = [t for t in self.things if t.noun] if self.split == "train" else self.named
        chosen = (
            ("kind", [t for t in self.things if t.kind], lambda t: t.kind, questions.kind_question),
            ("name", nameable, lambda t: t.noun, questions.name_question),
            ("colour", [t for t in self.things if t.color], lambda t: t.color, questions.color_question),
        )
        for kind, candidates, key, question in chosen:
            for thing in _at_most(most[kind], candidates, key):
                about[thing.path].append(question(thing, rng=rng))
        self._ask_whether(about, rng=rng)
        for right, thing, color in self._flags(rng):
            about[thing.path].append(questions.flag_question(color, right=right, rng=rng))
        return about

    def _ask_whether(self, about: dict[str, list[Asked]], *, rng: "np.random.Generator") -> None:
        """Ask for each name and kind as often where it is right as where it is not, half of these of its own kind."""
        for name in (*NAMES, *sorted(KINDS)):
            of_kind = name in KINDS
            rights = [t for t in self.things if (t.kind if of_kind else t.noun) == name]
            wrongs = [t for t in (self.things if of_kind else self.named) if t.kind and not could_be(name, t)]
            rights = _least_asked(rights, about, rng)[: self.sizes.denied * (3 if of_kind else 1)]
            near = [t for t in wrongs if rights and t.kind == rights[0].kind]
            for number, thing in enumerate(rights):
                pool = near if near and number % 2 else wrongs
                denied = _least_asked(pool, about, rng)[0]
                about[thing.path].append(questions.is_it_question(name, right=True, rng=rng))
                about[denied.path].append(questions.is_it_question(name, right=False, rng=rng))

    def _flags(self, rng: "np.random.Generator") -> Iterator[tuple[bool, Thing, str]]:
        """Flags and colours that they have, or have not, each colour as often the one as the other."""
        flags = [thing for thing in self.things if thing.kind == "flag"]
        had: Counter[str] = Counter()
        for number, thing in enumerate(flags[: self.sizes.most["flag"]]):
            right = number % 2 == 0
            among = [color for color in FLAG_COLORS if (color in thing.shown if right else color not in thing.traces)]
            if among:
                # The colour that was asked most often with the other answer, as far as this flag allows.
                order = rng.permutation(len(among))
                color = max((among[i] for i in order), key=lambda name: -had[name] if right else had[name])
                had[color] += 1 if right else -1
                yield right, thing, color

    def _pairs(self) -> Iterator[tuple[str, bytes, list[Asked]]]:
        """Canvases of two pictures of different names."""
        for number, (first, second) in enumerate(self._two_by_two()):
            rng = self._rng("pair", number)
            side = ("left", "top", "right", "bottom")[number % 4]
            placed = {side: first, OPPOSITE[side]: second}
            about = [
                questions.where_question(first.noun, side, rng=rng),
                questions.relation_question(second.noun, OPPOSITE[side], first.noun, right=number % 8 < 4, rng=rng),
            ]
            sides = list(placed) if number % 2 else list(placed)[::-1]
            colored = [at for at in sides if placed[at].color]
            # Questions about an image are learned together, and cost little more than one.
            every = 2 if self.split == "train" else 1
            about += [questions.color_question(placed[at], rng=rng, side=at) for at in colored[:every]]
            about += [questions.name_question(placed[at], rng=rng, side=at) for at in sides[::-1][:every]]
            image = canvas.beside({at: thing.image for at, thing in placed.items()}, rng=rng)
            yield f"pair-{self.split}-{number}", image, about

    def _two_by_two(self) -> Iterator[tuple[Thing, Thing]]:
        """Pictures whose names nobody takes for each other; those of one clear colour come first."""
        left = 2 * self.sizes.pairs
        rounds = 0
        while left > 0:
            rng = self._rng("two by two", rounds)
            pool = sorted(_shuffled(self._for_pairs(rng), rng), key=lambda thing: not thing.color)
            pool = pool[:left]
            pool = _shuffled(pool, rng)
            start = left
            while len(pool) > 1:
                first = pool.pop()
                other = next((i for i, t in enumerate(pool) if not could_be(first.noun, t)), None)
                if other is not None:
                    yield first, pool.pop(other)
                    left -= 2
            rounds += 1
            if not self.sizes.again or left == start:
                return

    def _for_pairs(self, rng: "np.random.Generator") -> list[Thing]:
        """No name comes more often than others: at most as often as a name is asked of single pictures."""
        return list(_at_most(self.sizes.most["name"], _shuffled(self.named, rng), lambda thing: thing.noun))

    def _scattered(self) -> Iterator[tuple[str, bytes, list[Asked]]]:
        """Canvases of one to six pictures: how many there are, and how many of a kind."""
        pool: list[Thing] = []
        answered: Counter[str] = Counter()
        for number in range(self.sizes.scattered):
            rng = self._rng("scattered", number)
            if len(pool) < 12:
                if pool and not self.sizes.again:
                    return
                pool = _shuffled([thing for thing in self.things if thing.whole], self._rng("scattering", number))
            count = number // 2 % 6 + 1
            if number % 2:
                taken = [pool.pop() for _ in range(count)]
                about = [questions.count_question(taken, rng=rng)]
            else:
                kind, other = (COUNTED[i] for i in rng.permutation(len(COUNTED))[:2])
                counted = [thing for thing in pool if thing.kind == kind][:count]
                if len(counted) < count:
                    continue
                wanted = int(rng.integers(0, 7 - count))
                others = [t for t in pool if t.kind == other and not could_be(kind, t)][:wanted]
                taken = [*counted, *others]
                pool = [thing for thing in pool if thing not in taken]
                about = [questions.count_question(taken, rng=rng, kind=kind)]
                if others:
                    further = [questions.count_question(taken, rng=rng, kind=which) for which in ("", other)]
                    about.append(min(further, key=lambda one: answered[one.answers[0]]))
            answered.update(one.answers[0] for one in about)
            image = canvas.scattered([thing.image for thing in taken], rng=rng)
            yield f"scattered-{self.split}-{number}", image, about


def _shuffled(things: Sequence[Thing], rng: "np.random.Generator") -> list[Thing]:
    return [things[i] for i in rng.permutation(len(things))]


def _at_most(count: int, things: Iterable[Thing], key: Callable[[Thing], Hashable]) -> Iterator[Thing]:
    """The first so many of each."""
    seen: Counter[Hashable] = Counter()
    for thing in things:
        seen[key(thing)] += 1
        if seen[key(thing)] <= count:
            yield thing


def _least_asked(things: Sequence[Thing], about: dict[str, list[Asked]], rng: "np.random.Generator") -> list[Thing]:
    """Pictures in order of how much is asked of them already, others by chance."""
    return sorted(_shuffled(things, rng), key=lambda thing: len(about[thing.path]))
