"""VQA accuracy against several annotators, and the three answer normalisers in circulation."""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

from reliabit.errors import ReliabitError

Variant: TypeAlias = Literal["official", "evalai", "reliable_vqa"]

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = frozenset({"a", "an", "the"})
_COUNTING = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORDS = {"none": "0"} | {word: str(number) for number, word in enumerate(_COUNTING)}

_CLASS = f"[{re.escape(_PUNCTUATION)}]"
_EDGE = f"[ {re.escape(_PUNCTUATION)}]"
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_LEADING = re.compile(rf"\A{_EDGE}+(?=[a-zA-Z0-9 ])")
_TRAILING = re.compile(rf"(?<=[a-zA-Z0-9 ]){_EDGE}+\Z")
_COMMAS_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")
_BESIDE_BREAK = re.compile(rf"(?<={_EDGE}){_CLASS}|{_CLASS}(?={_EDGE})")
_BETWEEN_LETTERS = re.compile(rf"(?<=[a-zA-Z]){_CLASS}(?=[a-zA-Z])")


# The spellings that the VQA evaluators map to a contraction, built from their structure. The official table has 120
# entries. Four of them start with a capital and can never match lower-cased text ("Im", "Ive", "Id've", "I'dve"), so
# "im" stays "im"; they are left out here without any change in behaviour.
_STEMS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'ll": "how it somebody someone something they what who why you",
    "'s": "he how somebody someone that there what when where who why",
    "'re": "there they what why you",
}
# Two apostrophes, of which either one may be missing: "couldnt've" and "couldn'tve" both mean "couldn't've".
_DOUBLE_STEMS = (
    "couldn't hadn't he'd it'd mightn't she'd shouldn't somebody'd someone'd something'd there'd they'd we'd who'd "
    "wouldn't you'd"
)
_IRREGULAR = {
    "maam": "ma'am",
    "oclock": "o'clock",
    "twas": "'twas",
    "yall": "y'all",
    "yall'll": "y'all'll",
    "y'allll": "y'all'll",
    "yall'd've": "y'all'd've",
    "y'alld've": "y'all'd've",
    "y'all'dve": "y'all'd've",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
    # The official table has this one the wrong way round; both sides of a comparison go through it.
    "somebody'd": "somebodyd",
}


def _contractions() -> dict[str, str]:
    """Map each misspelt contraction to the right one.

    >>> _contractions()["shouldnt've"]
    "shouldn't've"
    """
    table = dict(_IRREGULAR)
    for ending, stems in _STEMS.items():
        for stem in stems.split():
            table[(stem + ending).replace("'", "")] = stem + ending
    for stem in _DOUBLE_STEMS.split():
        table[stem.replace("'", "") + "'ve"] = stem + "'ve"
        table[stem + "ve"] = stem + "'ve"
    return table


CONTRACTIONS = _contractions()


def normalize_answer(text: str, *, variant: Variant = "official") -> str:
    """Bring an answer to the form in which VQA evaluators compare answers.

    All variants turn line breaks into spaces, lower the case, spell number words as digits, drop the articles a, an and
    the, and restore the apostrophes of contractions. They differ in what they do with punctuation.

    Args:
        text: A prediction or a reference answer.
        variant: `official` (GT-Vision-Lab/VQA, the rules that lmms-eval uses for VQAv2), `evalai` (MMF's
            EvalAIAnswerProcessor, lmms-eval for VizWiz: commas and question marks go first, "'s" is split off) or
            `reliable_vqa` (Whitehead et al. 2022 and Dancette et al. 2023).

    Returns:
        The normalised answer, which may be empty.

    Raises:
        ReliabitError: The variant does not exist.

    >>> normalize_answer("The black-and-white T-shirt.")
    'black and white t shirt'
    >>> normalize_answer("red,white", variant="evalai")
    'redwhite'
    """
    if variant not in get_args(Variant):
        raise ReliabitError(f"variant is {variant!r}; it must be one of {', '.join(get_args(Variant))}")
    return _normalize(text, variant)


@lru_cache(maxsize=1 << 16)  # ten annotators agree more often than not, and a data set has few distinct answers
def _normalize(text: str, variant: Variant) -> str:
    if variant == "evalai":
        text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = text.replace("\n", " ").replace("\t", " ").strip()
    text = _space_punctuation(text) if variant == "reliable_vqa" else _drop_punctuation(text)
    return _normalize_words(_PERIOD.sub("", text))


def _drop_punctuation(text: str) -> str:
    # Each mark is judged by the original text: one spaced occurrence deletes all of its kind, without a space.
    has_number = _DIGIT_COMMA_DIGIT.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        spaced = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if spaced or has_number else " ")
    return result


def _space_punctuation(text: str) -> str:
    text = _TRAILING.sub("", _LEADING.sub("", text))
    text = _BESIDE_BREAK.sub(" ", _COMMAS_IN_NUMBER.sub("", text))
    return _BETWEEN_LETTERS.sub(" ", re.sub(" +", " ", text))


def _normalize_words(text: str) -> str:
    words = (_NUMBER_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def comparable_answer(text: str, *, variant: Variant = "official") -> tuple[str, str]:
    """What two answers must have in common to be the same answer.

    That is their normalised form; where nothing is left of it, as of "The", "?" or the letter "A", it is the raw text,
    since otherwise all answers of which nothing is left would pass for one.

    Args:
        text: A prediction or a reference answer.
        variant: The normaliser, see `normalize_answer`.

    Returns:
        The normalised answer, and the raw one if the former is empty; two that are equal stand for the same answer.

    >>> comparable_answer("Two.") == comparable_answer("2"), comparable_answer("") == comparable_answer("the")
    (True, False)
    """
    normalized = normalize_answer(text, variant=variant)
    return normalized, "" if normalized else text


def vqa_accuracy(
    prediction: str, answers: Sequence[str], *, variant: Variant = "official", paper_compat: bool = False
) -> float:
    """Soft VQA accuracy of one answer: the mean over annotators of min(1, agreeing others / 3).

    With n annotators of whom k agree with the prediction, leaving one annotator out at a time gives
    [k min(1, (k-1)/3) + (n-k) min(1, k/3)] / n; for n = 10 that is 0, 0.3, 0.6, 0.9 and 1 from k = 4 on
    (Antol et al. 2015). Annotators are left out by position, so ten equal references count as ten. Answers of which
    normalization leaves nothing agree only where they are the same string: "" is no "a"; see `comparable_answer`.

    Args:
        prediction: The model's answer, raw; it and the references are always normalised.
        answers: The annotators' answers, raw, one each. Fewer than two can agree with nobody else, hence 0.
        variant: The normaliser, see `normalize_answer`.
        paper_compat: Reproduce the official evaluator's exception: where all references are the same string, neither
            side is normalised, so that "Yes" against ten times "yes" scores 0.

    Returns:
        The accuracy in [0, 1], the double nearest to the exact fraction.

    Raises:
        ReliabitError: The variant does not exist, or `answers` is a single string.

    >>> vqa_accuracy("the dog", ["a dog"] * 2 + ["dog"] + ["cat"] * 7)
    0.9
    """
    if isinstance(answers, str):
        raise ReliabitError("answers is one string; it must be a list with one answer an annotator")
    if not answers:
        return 0.0
    if paper_compat and len({_tidy(answer) for answer in answers}) == 1:
        matches = len(answers) if _tidy(prediction) == _tidy(answers[0]) else 0
    else:
        wanted = comparable_answer(prediction, variant=variant)
        matches = sum(comparable_answer(answer, variant=variant) == wanted for answer in answers)
    return accuracy_from_matches(matches, len(answers))


def _tidy(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def accuracy_from_matches(matches: int, n_annotators: int) -> float:
    """Soft VQA accuracy when `matches` of `n_annotators` agree with the prediction; see `vqa_accuracy`.

    Args:
        matches: How many annotators agree, from 0 to `n_annotators`.
        n_annotators: How many there are, at least 1.

    Returns:
        The accuracy in [0, 1].

    Raises:
        ReliabitError: The counts contradict each other.

    >>> [accuracy_from_matches(k, 10) for k in range(5)]
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    if not 0 <= matches <= n_annotators or n_annotators < 1:
        raise ReliabitError(f"matches is {matches} of {n_annotators} annotators; it must lie in 0 to all")
    agreeing = matches * min(3, max(0, matches - 1)) + (n_annotators - matches) * min(3, matches)
    return float(Fraction(agreeing, 3 * n_annotators))
