"""Linguistic shift: other words, typing errors and misleading remarks, all without a change of the answer.

The paraphrases and remarks are hand-written for the questions of easy-VQA, the scenes and the pictures. Misleading
remarks follow the idea of adversarial questions (S. Sheng et al., "Human-Adversarial Visual Question Answering", 2021:
AdVQA), whose texts are not ours to ship.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from reliabit.data import picture_questions as pictures
from reliabit.data.corruptions import SEVERITIES, check_severity
from reliabit.data.sources import easy_vqa, scenes
from reliabit.data.splits import stable_generator
from reliabit.errors import ReliabitError

_PRESENT = (
    "can you see a {thing} in the picture?",
    "does a {thing} appear in this drawing?",
    "would you say that the picture shows a {thing}?",
    "looking at the drawing, do you find a {thing}?",
)
# The source answers "is there not a circle?" with yes where there is none; so do these.
_ABSENT = (
    "is a {thing} missing from the picture?",
    "is it true that this drawing shows no {thing}?",
    "would you say that the picture lacks a {thing}?",
    "is the picture without a {thing}?",
)
_COLOR = (
    "which color does the {object} have?",
    "in what color has the {object} been drawn?",
    "looking at the {object}, which color do you see?",
    "tell me the color of the {object}.",
)
_SHAPE = (
    "which shape do you see in the picture?",
    "what kind of shape has been drawn?",
    "the drawing shows one shape, which is it?",
    "tell me the shape in this picture.",
)
_IS_THERE = ("is there a {thing}?", "is there a {thing} in the image?", "is a {thing} present?")
_IS_THERE_NONE = ("is there not a {thing}?", "is there not a {thing} in the image?", "is no {thing} present?")
_PICTURES = {
    "kind": (
        "this thing is of which kind?",
        "to what kind of things does this belong?",
        "tell me what kind of thing this is.",
    ),
    "name": ("which thing has been drawn?", "what would you call this?", "tell me what you see."),
    "name beside": ("{place}, what has been drawn?", "tell me what you see {place}.", "which thing is {place}?"),
    "is_it": ("would you call this {thing}?", "has {thing} been drawn here?", "would you say that this is {thing}?"),
    "flag": (
        "is some of this flag {color}?",
        "does {color} appear in the flag?",
        "would you find {color} in this flag?",
    ),
    "count": (
        "counting the {things}, how many are shown?",
        "tell me the number of {things}.",
        "how many {things} have been drawn?",
    ),
    "where": (
        "in which direction from the middle lies the {noun}?",
        "tell me on which side the {noun} has been drawn.",
        "which side has the {noun}?",
    ),
    "relation": (
        "would you find the {noun} {relation} the {other}?",
        "has the {noun} been drawn {relation} the {other}?",
        "looking at both, is the {noun} {relation} the {other}?",
    ),
    "colour": ("in what color has this been drawn?", "tell me its color.", "looking at this, which color do you see?"),
    "colour beside": (
        "in what color is the thing {place} drawn?",
        "tell me the color of what is {place}.",
        "looking {place}, which color do you see?",
    ),
}
TEMPLATES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "easy_vqa": {
        **dict.fromkeys((*_IS_THERE, "does the image contain a {thing}?"), _PRESENT),
        **dict.fromkeys((*_IS_THERE_NONE, "does the image not contain a {thing}?"), _ABSENT),
        **dict.fromkeys(("what color is the {object}?", "what is the color of the {object}?"), _COLOR),
        **dict.fromkeys(
            ("what shape is in the image?", "what shape is present?", "what shape does the image contain?"), _SHAPE
        ),
        "what is the {color} shape?": (
            "which shape has been drawn in {color}?",
            "what kind of shape is the {color} one?",
            "the picture shows something {color}, which shape is it?",
            "tell me the shape of what is {color}.",
        ),
    },
    "scenes": {
        scenes.ABOUT_ONE["shape"]: (
            "which shape does the {color} object have?",
            "what kind of shape is the {color} one?",
            "is the {color} object a circle or a rectangle?",
        ),
        scenes.ABOUT_ONE["left"]: (
            "does the {color} object lie in the left half of the picture?",
            "looking at the picture, is the {color} one left of the middle?",
            "would you find the {color} object on the left side?",
        ),
        scenes.ABOUT_ONE["top"]: (
            "does the {color} object lie in the top half of the picture?",
            "looking at the picture, is the {color} one above the middle?",
            "would you find the {color} object in the upper part?",
        ),
        scenes.ABOUT_ALL["nearest"]: (
            "which shape does the object closest to the {color} one have?",
            "what kind of shape is the nearest neighbor of the {color} object?",
            "of all other objects, the one least far from the {color} one has which shape?",
        ),
        scenes.ABOUT_ALL["farthest"]: (
            "which shape does the object most distant from the {color} one have?",
            "what kind of shape lies farthest away from the {color} object?",
            "of all other objects, the one least near to the {color} one has which shape?",
        ),
        scenes.ABOUT_ALL["count"]: (
            "counting the {color} object too, how many share its shape?",
            "what is the number of objects shaped like the {color} one, itself included?",
            "the {color} object has a shape, how many objects in the picture have it?",
        ),
    },
    "pictures": {phrase: _PICTURES[kind] for kind, phrases in pictures.PHRASES.items() for phrase in phrases},
}
"""By source, every template of its questions with the paraphrases that ask the same. A slot is a color, a thing
(`red shape`, `circle`), an object (`circle`, `shape`), or of pictures what `picture_questions.PHRASES` says."""

REMARKS: Mapping[str, tuple[str, ...]] = {
    "shape": ("i think it is a {wrong}.", "my friend told me that it is a {wrong}.", "surely it is a {wrong}."),
    "color": ("i think it is {wrong}.", "my friend told me that it is {wrong}.", "it looks {wrong} to me."),
    "count": ("i counted {wrong}.", "my friend told me that it is {wrong}.", "it must be {wrong}."),
    **dict.fromkeys(
        ("yes/no", "name", "kind", "side"),
        ("i think the answer is {wrong}.", "my friend would say {wrong}.", "surely the answer is {wrong}."),
    ),
}
ANSWERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "easy_vqa": {
        "shape": tuple(sorted(easy_vqa.SHAPES)),
        "color": tuple(sorted(easy_vqa.COLORS)),
        "yes/no": ("yes", "no"),
    },
    "scenes": {
        "shape": ("circle", "rectangle"),
        "count": tuple(str(count) for count in range(1, len(scenes.COLORS) + 1)),
        "yes/no": ("yes", "no"),
    },
    "pictures": {
        "name": pictures.NAMES,
        "kind": tuple(pictures.KINDS),
        "color": pictures.COLORS,
        "side": tuple(pictures.PLACES),
        "count": tuple("123456"),
        "yes/no": ("yes", "no"),
    },
}
"""By source, the answers of each kind."""


def reword(question: str, *, source: str, question_id: str, seed: int) -> str:
    """Ask a question of a source in `TEMPLATES` in other words; its id and the seed draw them among the paraphrases.

    Raises:
        ReliabitError: The source has no paraphrases, or none for this question.

    >>> reword("is no teal shape present?", source="easy_vqa", question_id="test-1", seed=1)
    'would you say that the picture lacks a teal shape?'
    """
    template, slots = match_template(question, source=source)
    paraphrases = TEMPLATES[source][template]
    choice = stable_generator("reworded", seed, question_id).integers(len(paraphrases))
    return paraphrases[choice].format(**slots)


def match_template(question: str, *, source: str) -> tuple[str, dict[str, str]]:
    """Find the template of a question, and what fills its slots.

    Raises:
        ReliabitError: The source has no templates, or none fits.

    >>> match_template("what is the red shape?", source="easy_vqa")
    ('what is the {color} shape?', {'color': 'red'})
    """
    for template, pattern in _patterns(_known(source)).items():
        if match := pattern.fullmatch(question):
            return template, match.groupdict()
    raise ReliabitError(f"the question {question!r} fits no template of {source}; add one to reliabit.data.wording")


def misspell(question: str, *, question_id: str, seed: int, severity: int) -> str:
    """Put as many typing errors into a question as the severity says: letters swapped, dropped or doubled.

    Only words of four letters and more are hit, and never their first and last letters, so that the words stay
    legible and a negation stays whole. The errors of a lower severity are among those of a higher one. A question
    with room for fewer errors gets those. The question's id and the seed draw them.

    Raises:
        ReliabitError: There is no such severity.

    >>> [misspell("what color is the triangle?", question_id="7", seed=0, severity=s) for s in (1, 5)]
    ['what color is the tiangle?', 'whaat cllor is the tiiangle?']
    """
    check_severity(severity, of="misspelled")
    letters = list(question)
    for spot, typed in _typing_errors(question, key=question_id, seed=seed)[:severity]:
        letters[spot : spot + len(typed)] = typed
    return "".join(letters)


def mislead(question: str, answers: Sequence[str], *, source: str, question_id: str, seed: int) -> str:
    """Put a false remark before a question that suggests a wrong answer of the same kind; the truth stays.

    Args:
        question: A question of the source.
        answers: Its reference answers; none of them is ever suggested.
        source: One of `ANSWERS`.
        question_id: Draws the remark, together with the seed.
        seed: See there.

    Raises:
        ReliabitError: The source or the answer is unknown, or every answer of its kind is a reference answer.

    >>> mislead("what shape is present?", ["circle"], source="easy_vqa", question_id="3", seed=0)
    'surely it is a rectangle. what shape is present?'
    """
    usual = Counter(answers).most_common(1)[0][0]
    kinds = [kind for kind, known in ANSWERS[_known(source)].items() if usual in known]
    # An orange is one and has one: the question says which is asked.
    kind = next((kind for kind in kinds if kind in question), kinds[0] if kinds else None)
    if kind is None:
        raise ReliabitError(f"question {question_id!r}: {usual!r} is not an answer of {source}; add it to its ANSWERS")
    wrong = [name for name in ANSWERS[source][kind] if not any(pictures.unclear(name, answer) for answer in answers)]
    if not wrong:
        raise ReliabitError(f"question {question_id!r} of {source} has no wrong {kind} to suggest; leave it out")
    rng = stable_generator("misleading", seed, question_id)
    remark = REMARKS[kind][rng.integers(len(REMARKS[kind]))]
    return f"{remark.format(wrong=wrong[rng.integers(len(wrong))])} {question}"


def _known(source: str) -> str:
    if source not in TEMPLATES:
        raise ReliabitError(f"{source} has no wordings; the linguistic shifts know {', '.join(TEMPLATES)}")
    return source


@cache
def _patterns(source: str) -> dict[str, re.Pattern[str]]:
    if source == "pictures":
        slots = dict.fromkeys(("thing", "things", "noun", "other"), "[a-z ]+?") | {
            "color": "|".join(pictures.FLAG_COLORS),
            "place": "|".join(pictures.PLACES.values()),
            "relation": "|".join(pictures.RELATIONS.values()),
        }
    else:
        colors = "|".join(sorted(scenes.COLORS if source == "scenes" else easy_vqa.COLORS))
        shapes = "|".join(sorted(easy_vqa.SHAPES))
        slots = {"color": colors, "thing": f"(?:{colors}) shape|{shapes}", "object": f"{shapes}|shape"}
    groups = {name: f"(?P<{name}>{choices})" for name, choices in slots.items()}
    return {
        template: re.compile("".join(groups.get(part, re.escape(part)) for part in re.split(r"[{}]", template)))
        for template in TEMPLATES[source]
    }


def _typing_errors(question: str, *, key: str, seed: int) -> list[tuple[int, list[str]]]:
    """The errors of the highest severity in order: where each starts, and what is typed for each letter there."""
    words = [match.span() for match in re.finditer(r"[A-Za-z]{4,}", question)]
    word_of = {spot: word for word in words for spot in range(word[0] + 1, word[1] - 1)}
    free, shortened = set(word_of), set()
    rng = stable_generator("misspelled", seed, key)
    errors: list[tuple[int, list[str]]] = []
    for spot in rng.permutation(sorted(free)).tolist():
        if spot not in free or len(errors) == len(SEVERITIES):
            continue
        before, here, after = question[spot - 1], question[spot], question[spot + 1]
        options = [[here * 2]]
        # Of two equal letters none is dropped: another error could double the other and undo it.
        if word_of[spot] not in shortened and here not in (before, after):
            options.append([""])
        # A swap uses up two letters; it must leave room for the errors that are still to come.
        if spot + 1 in free and here != after and len(free) - 2 >= len(SEVERITIES) - len(errors) - 1:
            options.append([after, here])
        typed = options[rng.integers(len(options))]
        if typed == [""]:
            shortened.add(word_of[spot])
        free -= {spot, spot + 1} if len(typed) == 2 else {spot}
        errors.append((spot, typed))
    return errors
