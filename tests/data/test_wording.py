import re
import string
from collections import Counter, defaultdict
from itertools import chain, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reliabit.data import picture_questions
from reliabit.data.corruptions import SEVERITIES
from reliabit.data.sources import easy_vqa, pictures, scenes
from reliabit.data.wording import ANSWERS, REMARKS, TEMPLATES, match_template, mislead, misspell, reword
from reliabit.errors import ReliabitError

SHAPED = ("easy_vqa", "scenes")
"""The sources of coloured shapes."""

NEGATIONS = {"no", "not", "missing", "lacks", "without"}


@pytest.fixture(scope="module")
def easy_rows():
    return list(chain(easy_vqa.read_part("train"), easy_vqa.read_part("test")))


@pytest.fixture(scope="module")
def scene_rows():
    return list(scenes.generate(images=40, questions_per_image=36, seed=3))


@pytest.fixture(scope="module")
def rows(easy_rows, scene_rows):
    return easy_rows + scene_rows


@pytest.fixture(scope="module")
def picture_rows():
    """The test questions about pictures; nothing is drawn for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures.canvas, "beside", lambda *_, **__: b"")
        patch.setattr(pictures.canvas, "scattered", lambda *_, **__: b"")
        return list(pictures.generate("test", file=pictures.picture_file()))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text)


def easy_answer(question: str, *, shape: str, color: str) -> str:
    """Answer by keywords, for an image with one shape; knows no template."""
    said = set(words(question))
    if "color" in said:
        return color
    if said & easy_vqa.SHAPES or ({"a", "no"} & said and said & easy_vqa.COLORS):
        there = (shape if said & easy_vqa.SHAPES else color) in said
        return "yes" if there != bool(said & NEGATIONS) else "no"
    return shape


def scene_answer(question: str, objects: list[scenes.Shape]) -> str:
    """Answer by keywords; knows no template."""
    said = set(words(question))
    subject = next(one for one in objects if one.color in said)
    others = sorted(
        (one for one in objects if one is not subject),
        key=lambda one: (one.x - subject.x) ** 2 + (one.y - subject.y) ** 2,
    )
    if "left" in said:
        return "yes" if subject.x < 37.5 else "no"
    if said & {"top", "above", "upper"}:
        return "yes" if subject.y < 37.5 else "no"
    if said & {"many", "number"}:
        return str(sum(one.shape == subject.shape for one in objects))
    if said & {"nearest", "closest"} or "least far" in question:
        return others[0].shape
    if said & {"farthest", "distant"} or "least near" in question:
        return others[-1].shape
    return subject.shape


def fillings(template: str) -> list[dict[str, str]]:
    if any(template in phrases for phrases in picture_questions.PHRASES.values()):
        drawn = {"thing": "an apple", "things": "people", "noun": "dog", "other": "ice cream"}
        return [drawn | {"color": "red", "place": "at the top", "relation": "left of"}]
    colors, shapes = sorted(easy_vqa.COLORS), sorted(easy_vqa.SHAPES)
    slots = {"color": colors, "thing": [*shapes, *(f"{c} shape" for c in colors)], "object": [*shapes, "shape"]}
    return next(
        ([{name: value} for value in values] for name, values in slots.items() if f"{{{name}}}" in template), [{}]
    )


def test_easy_vqa_paraphrases_have_the_same_answer_in_every_image():
    compared = 0
    for template, paraphrases in TEMPLATES["easy_vqa"].items():
        for filling, paraphrase in product(fillings(template), paraphrases):
            for shape, color in product(easy_vqa.SHAPES, easy_vqa.COLORS):
                # The set never asks for the color of a circle, or the shape of what is red, where there is none.
                expected = easy_answer(template.format(**filling), shape=shape, color=color)
                assert easy_answer(paraphrase.format(**filling), shape=shape, color=color) == expected, paraphrase
                compared += 1
    assert compared > 5000


def test_the_oracle_answers_the_set(easy_rows):
    """What the test above relies on: read by keywords, the set's own questions have the set's own answers."""
    by_image = defaultdict(list)
    for row in easy_rows:
        by_image[row["image_id"]].append(row)
    answered = 0
    for questions in by_image.values():
        shapes = {row["answers"][0] for row in questions if row["question_type"] == "shape"}
        colors = {row["answers"][0] for row in questions if row["question_type"] == "color"}
        if len(shapes) == len(colors) == 1:
            shape, color = *shapes, *colors
            for row in questions:
                answered += 1
                assert easy_answer(row["question"], shape=shape, color=color) == row["answers"][0], row["question"]
    assert answered > 10_000


def test_scene_paraphrases_have_the_same_answer(scene_rows):
    import numpy as np

    for row in scene_rows:
        objects = scenes.draw_scene(np.random.default_rng([3, int(row["image_id"])]))
        template, filling = match_template(row["question"], source="scenes")
        for text in (template, *TEMPLATES["scenes"][template]):
            assert scene_answer(text.format(**filling), objects) == row["answers"][0], text


@pytest.mark.medium
def test_every_question_has_a_template_and_another_wording(rows, picture_rows):
    templates = set()
    for row in rows + picture_rows:
        template, filling = match_template(row["question"], source=row["source"])
        assert template.format(**filling) == row["question"]
        templates.add((row["source"], template))
        reworded = reword(row["question"], source=row["source"], question_id=row["question_id"], seed=0)
        assert reworded != row["question"]
        assert "{" not in reworded
        assert reworded in {text.format(**filling) for text in TEMPLATES[row["source"]][template]}
    assert templates == {(source, template) for source, known in TEMPLATES.items() for template in known}


def test_no_paraphrase_is_a_question_of_the_source():
    for source, templates in TEMPLATES.items():
        for template, paraphrases in templates.items():
            assert len(set(paraphrases)) == len(paraphrases) >= 3
            for filling, paraphrase in product(fillings(template), paraphrases):
                with pytest.raises(ReliabitError, match="fits no template"):
                    match_template(paraphrase.format(**filling), source=source)


def test_all_paraphrases_are_drawn_about_as_often(easy_rows):
    asked = [row for row in easy_rows if row["question"] == "what shape is present?"]
    drawn = [reword(row["question"], source="easy_vqa", question_id=row["question_id"], seed=0) for row in asked]
    expected, deviation = len(drawn) / 4, (len(drawn) * 3 / 16) ** 0.5
    assert len(set(drawn)) == 4
    assert all(abs(drawn.count(text) - expected) < 5 * deviation for text in set(drawn))


def edit_distance(one: str, other: str) -> int:
    """The fewest letters to insert, drop, replace or swap with the next (optimal string alignment)."""
    d = [[i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i, j in product(range(1, len(one) + 1), range(1, len(other) + 1)):
        a, b = one[i - 1], other[j - 1]
        d[i][j] = min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a != b))
        if i > 1 and j > 1 and (one[i - 2], a) == (b, other[j - 2]):
            d[i][j] = min(d[i][j], d[i - 2][j - 2] + 1)
    return d[-1][-1]


def test_typing_errors_grow_with_severity(rows):
    sample = rows[:: len(rows) // 150]
    distances = [
        [
            edit_distance(
                row["question"], misspell(row["question"], question_id=row["question_id"], seed=0, severity=s)
            )
            for s in SEVERITIES
        ]
        for row in sample
    ]
    for row in distances:
        assert row[0] == 1
        assert all(1 <= distance <= severity for severity, distance in zip(SEVERITIES, row, strict=True))
    # Two errors side by side can be one to a reader (a letter doubled beside a dropped one is a letter replaced).
    means = [sum(column) / len(distances) for column in zip(*distances, strict=True)]
    assert all(0.7 < worse - milder <= 1 for milder, worse in pairwise(means)), means


@pytest.mark.medium
def test_typing_errors_make_no_word_that_answers_or_negates(rows):
    vocabulary = {word for source in SHAPED for kind in ANSWERS[source].values() for word in kind}
    vocabulary |= NEGATIONS | set(scenes.COLORS) | {"left", "top", "nearest", "farthest"}
    for row in rows:
        before = words(row["question"])
        for severity in (1, 3, 5):
            after = words(misspell(row["question"], question_id=row["question_id"], seed=0, severity=severity))
            assert len(after) == len(before)
            for was, now in zip(before, after, strict=True):
                assert now == was or (now not in vocabulary and (now[0], now[-1]) == (was[0], was[-1]))
                assert now == was or len(was) >= 4


def test_severities_of_typing_errors_are_nested(rows):
    sample = rows[:: len(rows) // 100]
    for row in sample:
        typed = [misspell(row["question"], question_id=row["question_id"], seed=1, severity=s) for s in SEVERITIES]
        assert len({row["question"], *typed}) == 6
        assert all(edit_distance(milder, worse) <= 1 for milder, worse in pairwise(typed))


@settings(deadline=None)
@given(
    question=st.text(alphabet=string.ascii_letters + " ?.,'" + string.digits, max_size=30),
    severity=st.sampled_from(SEVERITIES),
    seed=st.integers(0, 3),
)
def test_any_text_can_be_misspelled(question, severity, seed):
    typed = misspell(question, question_id="q", seed=seed, severity=severity)
    assert edit_distance(question, typed) <= severity
    if severity == 1:
        assert (typed != question) == bool(re.search("[A-Za-z]{4}", question))
    assert re.sub("[A-Za-z]", "", typed) == re.sub("[A-Za-z]", "", question)


@pytest.mark.medium
def test_remarks_suggest_one_wrong_answer_of_the_same_kind(rows):
    suggested = set()
    for row in rows:
        truth = row["answers"][0]
        misled = mislead(row["question"], row["answers"], source=row["source"], question_id=row["question_id"], seed=0)
        remark = misled.removesuffix(f" {row['question']}")
        assert remark != misled
        kind = next(known for known in ANSWERS[row["source"]].values() if truth in known)
        named = [answer for answer in kind if answer in re.findall(r"\w+", remark)]
        assert len(named) == 1
        assert truth not in named
        suggested.add((row["source"], named[0]))
    every = {(source, one) for source in SHAPED for kind in ANSWERS[source].values() for one in kind}
    assert suggested == every


def test_answers_are_those_of_the_sources(rows):
    for source in SHAPED:
        given_answers = {row["answers"][0] for row in rows if row["source"] == source}
        assert given_answers == {answer for kind in ANSWERS[source].values() for answer in kind}
    assert {kind for kinds in ANSWERS.values() for kind in kinds} == set(REMARKS)


def test_typing_errors_make_no_other_name_of_a_picture(picture_rows):
    names = {*picture_questions.NAMES, *picture_questions.KINDS, *picture_questions.COLORS, *picture_questions.PLACES}
    for row in picture_rows:
        typed = misspell(row["question"], question_id=row["question_id"], seed=0, severity=5)
        made = {*words(typed)} - {*words(row["question"])}
        # A tree that a misspelled "there" ends a question with stands where no name can.
        assert not made & (names - {"tree"}), typed


def test_remarks_about_pictures_suggest_one_wrong_answer_of_the_same_kind(picture_rows):
    kind_of = {"is_it": "yes/no", "flag": "yes/no", "colour": "color"}
    seen = Counter()
    for row in picture_rows:
        misled = mislead(row["question"], row["answers"], source="pictures", question_id=row["question_id"], seed=0)
        remark = misled.removesuffix(f" {row['question']}")
        said = [
            (kind, wrong)
            for kind, known in ANSWERS["pictures"].items()
            for wrong in known
            if remark in {text.format(wrong=wrong) for text in REMARKS[kind]}
        ]
        assert said
        assert not {wrong for _, wrong in said} & {*row["answers"]}
        seen[kind_of.get(row["question_type"], row["question_type"]), said[0][0]] += 1
    # What kind of thing a person or a building is may be answered as what it is.
    assert {kinds for kinds, count in seen.items() if count > 40} == {
        ("yes/no", "yes/no"),
        ("color", "color"),
        ("count", "count"),
        ("kind", "kind"),
        ("name", "name"),
        ("where", "side"),
        ("where", "yes/no"),
    }


def test_no_remark_suggests_what_is_right_as_well(picture_rows):
    people = {"man", "woman", "person", "face", "smiley"}
    named = [row for row in picture_rows if row["question_type"] == "name" and row["answers"][0] == "person"]
    assert named
    for row in named:
        misled = mislead(row["question"], row["answers"], source="pictures", question_id=row["question_id"], seed=0)
        assert not people & set(words(misled.removesuffix(row["question"])))


def test_question_and_seed_decide_the_draw():
    def drawn(question_id, seed):
        text = "is there a circle in the image?"
        return (
            reword(text, source="easy_vqa", question_id=question_id, seed=seed),
            misspell(text, question_id=question_id, seed=seed, severity=4),
            mislead(text, ["yes"], source="easy_vqa", question_id=question_id, seed=seed),
        )

    assert drawn("a", 0) == drawn("a", 0)
    for questions in zip(*(drawn(name, 0) for name in "abcdefgh"), strict=True):
        assert len(set(questions)) > 1
    for questions in zip(*(drawn("a", seed) for seed in range(8)), strict=True):
        assert len(set(questions)) > 1


def test_what_has_no_wording_is_refused():
    with pytest.raises(ReliabitError, match="'why\\?' fits no template of scenes"):
        reword("why?", source="scenes", question_id="1", seed=0)
    for change in (
        lambda: reword("why?", source="vqav2", question_id="1", seed=0),
        lambda: mislead("why?", ["so"], source="vqav2", question_id="1", seed=0),
    ):
        with pytest.raises(ReliabitError, match="vqav2 has no wordings; the linguistic shifts know easy_vqa, sc"):
            change()
    with pytest.raises(ReliabitError, match="'so' is not an answer of easy_vqa"):
        mislead("why?", ["so"], source="easy_vqa", question_id="1", seed=0)
    with pytest.raises(ReliabitError, match="has no wrong yes/no to suggest"):
        mislead("is there a circle?", ["yes", "no"], source="easy_vqa", question_id="1", seed=0)
    with pytest.raises(ReliabitError, match="misspelled has no severity 0"):
        misspell("why?", question_id="1", seed=0, severity=0)
