"""What is asked about pictures whose kind, name and colour are known, and about several on a canvas; the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ANNOTATORS = 10

PHRASES: Mapping[str, tuple[str, ...]] = {
    "kind": ("what kind of thing is this?", "what sort of thing is shown?", "which kind of thing do you see?"),
    "name": ("what is this?", "what is shown here?", "what does the picture show?"),
    "name beside": ("what is {place}?", "what do you see {place}?", "what is shown {place}?"),
    "is_it": ("is this {thing}?", "does the picture show {thing}?", "do you see {thing} here?"),
    "flag": (
        "is there {color} in this flag?",
        "does this flag have {color} in it?",
        "do you see {color} in this flag?",
    ),
    "count": ("how many {things} are there?", "how many {things} do you see?", "what is the number of {things}?"),
    "where": ("where is the {noun}?", "on which side is the {noun}?", "where do you see the {noun}?"),
    "relation": (
        "is the {noun} {relation} the {other}?",
        "does the {noun} lie {relation} the {other}?",
        "do you see the {noun} {relation} the {other}?",
    ),
    "colour": ("what color is this?", "which color does this have?", "what is the color of this?"),
    "colour beside": (
        "what color is the thing {place}?",
        "which color has the thing {place}?",
        "what is the color {place}?",
    ),
}
"""How each question is asked; slots take what is in `PLACES`, `RELATIONS` and `KINDS`, a noun or a colour."""

PLACES: Mapping[str, str] = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
RELATIONS: Mapping[str, str] = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}
OPPOSITE: Mapping[str, str] = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
FLAG_COLORS = ("black", "blue", "green", "red", "white", "yellow")
"""The colours that are asked for of flags: those that many have and many have not."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "animal": ("animals",),
    "building": ("buildings", "house"),
    "clothing": ("clothes", "clothes"),
    "device": ("devices", "electronics"),
    "flag": ("flags",),
    "food": ("foods",),
    "instrument": ("instruments", "music"),
    "map": ("maps",),
    "person": ("people", "people"),
    "plant": ("plants",),
    "sign": ("signs",),
    "tool": ("tools",),
    "vehicle": ("vehicles",),
}
"""Each kind of thing with its plural, and other words for it that count as answers."""

COUNTED = ("animal", "building", "flag", "person", "plant", "sign", "tool", "vehicle")
"""The kinds that are counted."""

# fmt: off
NO_ARTICLE = frozenset((
    "bacon", "bamboo", "binoculars", "chips", "chocolate", "clothing", "corn", "fireworks", "food",
    "french fries", "fruit", "garlic", "glasses", "grapes", "headphones", "honey", "juice", "lasagna", "maracas",
    "milk", "music", "onion rings", "pliers", "scissors", "screws", "shears", "spaghetti", "tools",
))
# fmt: on
"""Names that are asked for as they are."""

_UNCLEAR = (
    {"man", "person", "face", "stick figure", "baby", "smiley", "robot"},
    {"woman", "person", "face", "stick figure", "baby", "smiley"},
    {"glass", "cup", "juice", "bottle", "teapot", "milk", "can", "soup", "wine", "ice cube"},
    {"computer", "television", "server", "keyboard", "printer", "mouse", "camera", "gps", "phone", "calculator"},
    {"lemon", "lime", "orange", "grapes", "fruit", "juice"},
    {"flower", "tree", "leaf", "clover", "cactus", "wreath", "bamboo", "reed", "fern"},
    {"paper", "envelope", "certificate", "newspaper", "clipboard", "folder", "book", "ribbon", "stamp"},
    {"house", "building", "church", "castle", "tower", "lighthouse"},
    {"truck", "car", "bus", "tractor", "tank"},
    {"cake", "muffin", "pie", "pancake", "bread", "sandwich"},
    {"moon", "planet", "globe", "ball", "button", "cd", "clock", "record", "coin", "map"},
    {"cat", "tiger", "lion", "cheetah"},
    {"dog", "wolf", "fox"},
    {"horse", "donkey", "camel", "deer", "goat", "cow"},
    {"hand", "glove", "footprint"},
    {"sun", "cloud", "moon", "star", "rainbow"},
    {"arrow", "button", "cube", "ball"},
    {"box", "bag", "gift", "cube", "folder", "trash can"},
    {"hat", "crown"},
    {"pen", "pencil", "brush"},
    {"mountain", "tree"},
    {"heart", "balloon"},
    {"eye", "mouth", "face", "smiley", "ball"},
    {"boat", "anchor"},
    {"insect", "spider"},
    {"bat", "bird", "penguin"},
    {"device", "tool", "instrument"},
    {"flag", "map", "sign"},
)
"""Names that people could give to one picture; none of a set is denied of a picture of another."""


@dataclass(frozen=True)
class Thing:
    """A picture, and what is known of it.

    Attributes:
        path: Its place in the package.
        kind: One of `KINDS`, or empty.
        noun: Its name, or empty.
        synonyms: Other names that are as right.
        color: The one colour that it has, or empty.
        shown: The colours that it shows.
        traces: The colours of which it has any.
        whole: Whether it is of one piece.
        image: The encoded image.
    """

    path: str
    kind: str
    noun: str
    synonyms: tuple[str, ...]
    color: str
    shown: tuple[str, ...]
    traces: tuple[str, ...]
    whole: bool
    image: bytes

    def names(self) -> set[str]:
        """All that it may be called."""
        return {name for name in (self.noun, *self.synonyms, self.kind) if name}


@dataclass(frozen=True)
class Asked:
    """A question with its answers; `kind` is its question type."""

    kind: str
    question: str
    answers: list[str]


def ask(kind: str, phrase: str, answer: str, *also: str, rng: "np.random.Generator", **slots: str) -> Asked:
    """Ask a question in one of its phrases; most annotators give the answer, some one of the other right ones."""
    phrases = PHRASES[phrase]
    return Asked(kind, phrases[int(rng.integers(len(phrases)))].format(**slots), annotated(answer, *also))


def annotated(answer: str, *also: str) -> list[str]:
    """The answers of ten annotators, of whom four, or three each, give another right one.

    >>> annotated("bird", "duck")
    ['bird', 'bird', 'bird', 'bird', 'bird', 'bird', 'duck', 'duck', 'duck', 'duck']
    """
    others = [name for name in dict.fromkeys(also) if name != answer][:2]
    each = 4 if len(others) == 1 else 3
    return [answer] * (ANNOTATORS - each * len(others)) + [name for name in others for _ in range(each)]


def with_article(noun: str) -> str:
    """A noun as it is asked for.

    >>> with_article("dog"), with_article("apple"), with_article("grapes")
    ('a dog', 'an apple', 'grapes')
    """
    if noun in NO_ARTICLE:
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def could_be(name: str, thing: Thing) -> bool:
    """Whether somebody could call a picture by a name, so that it must not be denied."""
    names = thing.names()
    return name in names or any(name in unclear and names & unclear for unclear in _UNCLEAR)


def kind_question(thing: Thing, *, rng: "np.random.Generator") -> Asked:
    """Ask what kind of thing a picture shows."""
    return ask("kind", "kind", thing.kind, *KINDS[thing.kind][1:], rng=rng)


def name_question(thing: Thing, *, rng: "np.random.Generator", side: str = "") -> Asked:
    """Ask what a picture shows, or what is on one side of a canvas."""
    if side:
        return ask("name", "name beside", thing.noun, *thing.synonyms, rng=rng, place=PLACES[side])
    return ask("name", "name", thing.noun, *thing.synonyms, rng=rng)


def is_it_question(name: str, *, right: bool, rng: "np.random.Generator") -> Asked:
    """Ask whether a picture shows a thing of that name or kind."""
    return ask("is_it", "is_it", "yes" if right else "no", rng=rng, thing=with_article(name))


def flag_question(color: str, *, right: bool, rng: "np.random.Generator") -> Asked:
    """Ask whether a flag has a colour."""
    return ask("flag", "flag", "yes" if right else "no", rng=rng, color=color)


def color_question(thing: Thing, *, rng: "np.random.Generator", side: str = "") -> Asked:
    """Ask for the colour of a picture, or of the thing on one side of a canvas."""
    also = ("grey",) if thing.color == "gray" else ()
    if side:
        return ask("colour", "colour beside", thing.color, *also, rng=rng, place=PLACES[side])
    return ask("colour", "colour", thing.color, *also, rng=rng)


def count_question(things: Sequence[Thing], *, rng: "np.random.Generator", kind: str = "") -> Asked:
    """Ask how many things there are, or how many of a kind."""
    number = sum(thing.kind == kind for thing in things) if kind else len(things)
    return ask("count", "count", str(number), rng=rng, things=KINDS[kind][0] if kind else "things")


def where_question(noun: str, side: str, *, rng: "np.random.Generator") -> Asked:
    """Ask on which side a thing is."""
    return ask("where", "where", side, rng=rng, noun=noun)


def relation_question(noun: str, side: str, other: str, *, right: bool, rng: "np.random.Generator") -> Asked:
    """Ask whether the thing on a side of the canvas is on that side of the other one, or say the opposite."""
    relation = RELATIONS[side if right else OPPOSITE[side]]
    answer = "yes" if right else "no"
    return ask("where", "relation", answer, rng=rng, noun=noun, relation=relation, other=other)
