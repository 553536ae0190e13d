"""Kept answers: nothing is asked twice, nothing stale is reused, and what was cut off goes on."""

import threading

import numpy as np
import pytest
from datasets import Dataset

from reliabit.inference.answer_store import Answers, AnswerStore
from reliabit.inference.chunks import chunks
from reliabit.inference.features import read_features
from reliabit.inference.predictions import gather, gather_features
from reliabit.inference.settings import FeatureSettings


def answered(questions, number=0):
    return [
        {
            "question_id": question_id,
            "answer": f"{question_id}-{number}",
            "log_prob": -0.5,
            "n_tokens": 2,
            "truncated": False,
            "first_token_prob": 0.9,
            "min_token_prob": 0.8,
            "first_token_entropy": 0.1,
            "first_token_margin": 0.7,
        }
        for question_id in questions["question_id"]
    ]


class Model:
    """Answers, keeps what it was asked, and may break down after some questions."""

    def __init__(self, breaks_after=None, seconds=0.5):
        self.asked = []
        self.seconds = seconds
        self.breaks_after = breaks_after

    def __call__(self, chunk, writer):
        questions = chunk.questions
        if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
            raise KeyboardInterrupt
        self.asked += questions["question_id"]
        if writer is not None:
            numbers = np.array([[float(len(question_id))] * 3 for question_id in questions["question_id"]])
            writer.append(dict.fromkeys(("image", "question", "first"), numbers))
        return Answers(answered(questions), seconds=self.seconds)


@pytest.fixture
def questions(tables):
    """The same table asked as it is and under a shift."""
    table = tables["easy_vqa"]["test"].select(range(10))
    parts = [table.add_column("split", ["test"] * 10).add_column("shift", [shift] * 10) for shift in ("none", "blur_1")]
    return Dataset.from_list([row for part in parts for row in part], features=parts[0].features)


def store_in(folder, *, identity="a", chunk=4, features=None):
    return AnswerStore(folder=folder, identity=identity, chunk=chunk, features=features)


def digests_of(questions):
    return [chunk.digest for chunk in chunks(questions, size=4)]


def test_a_chunk_takes_what_its_answers_say(questions, tmp_path):
    """Not what waiting for locks and writing files took, too."""
    stored = list(store_in(tmp_path).ask(questions, Model(seconds=100.0)))
    assert [chunk.seconds for chunk in stored] == [100.0] * 6


def test_chunks_lie_within_one_shift(questions):
    assert [len(part.questions) for part in chunks(questions, size=4)] == [4, 4, 2, 4, 4, 2]
    assert all(len(set(part.questions["shift"])) == 1 for part in chunks(questions, size=7))


def test_nothing_is_asked_twice(questions, tmp_path):
    first, second = Model(), Model()
    stored = list(store_in(tmp_path).ask(questions, first))
    again = list(store_in(tmp_path).ask(questions, second))
    assert len(first.asked) == 20
    assert second.asked == []
    assert gather(again).equals(gather(stored))
    assert [chunk.seconds for chunk in again] == [chunk.seconds for chunk in stored]


def test_what_was_cut_off_goes_on(questions, tmp_path):
    broken, rest = Model(breaks_after=8), Model()
    with pytest.raises(KeyboardInterrupt):
        list(store_in(tmp_path).ask(questions, broken))
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith(".")]
    whole = gather(list(store_in(tmp_path).ask(questions, rest)))
    assert len(broken.asked) == 8
    assert len(rest.asked) == 12
    assert whole["question_id"].to_pylist() == questions["question_id"]


def test_a_part_of_the_questions_is_found_where_all_were_asked(questions, tmp_path):
    list(store_in(tmp_path).ask(questions, Model()))
    part = Model()
    list(store_in(tmp_path).ask(questions.select(range(10, 20)), part))
    assert part.asked == []


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "b"},
        {"question": "is it blue?"},
        {"answers": ["blue"]},
        {"image": b"other"},
    ],
)
def test_whatever_changes_is_asked_again(questions, tmp_path, change):
    list(store_in(tmp_path).ask(questions, Model()))
    other = Model()
    if "identity" in change:
        list(store_in(tmp_path, **change).ask(questions, other))
        assert len(other.asked) == 20
        return
    rows = questions.to_list()
    rows[0] |= change
    changed = Dataset.from_list(rows, features=questions.features)
    assert digests_of(changed) != digests_of(questions)
    list(store_in(tmp_path).ask(changed, other))
    assert other.asked == questions["question_id"][:4]


def test_features_are_gathered_in_order(questions, tmp_path):
    settings = FeatureSettings()
    stored = list(store_in(tmp_path / "store", features=settings).ask(questions, Model()))
    predictions = gather(stored)
    gather_features(stored, tmp_path / "features", predictions=predictions, settings=settings, identity="a")
    blocks = read_features(tmp_path / "features", predictions=predictions)
    expected = [float(len(question_id)) for question_id in questions["question_id"]]
    assert blocks["image"][:, 0].tolist() == expected
    without = Model()
    list(store_in(tmp_path / "store").ask(questions, without))
    assert without.asked == [], "the identity tells whether features are kept; the store alone does not"


def test_of_two_that_ask_at_once_one_answers(questions, tmp_path):
    models = [Model(), Model(), Model()]
    started = threading.Barrier(3)

    def ask(model):
        started.wait()
        list(store_in(tmp_path).ask(questions, model))

    threads = [threading.Thread(target=ask, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(question for model in models for question in model.asked) == sorted(questions["question_id"])


@pytest.mark.parametrize("damage", ["answers.json", "features/features.json", "features/first.npy"])
def test_a_damaged_chunk_is_answered_again(questions, tmp_path, damage, capsys):
    store = store_in(tmp_path, features=FeatureSettings())
    whole = list(store.ask(questions, Model()))
    path = whole[1].folder / damage
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = Model()
    repaired = list(store.ask(questions, again))
    assert again.asked == questions["question_id"][4:8]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(path) in said
    assert said.endswith(": it is dropped and made anew\n")
    assert gather(repaired).equals(gather(whole))


def test_answers_are_judged_when_they_are_read(questions, tmp_path, monkeypatch):
    """A judge that changes must not be masked by answers that were kept."""
    store = store_in(tmp_path)
    list(store.ask(questions, Model()))
    monkeypatch.setattr("reliabit.metrics.functional.vqa_accuracy", lambda *_: 0.25)
    assert set(gather(list(store.ask(questions, Model())))["accuracy"].to_pylist()) == {0.25}


def test_those_that_fill_share_the_work(questions, tmp_path):
    """Two that fill at once answer every chunk once, from both ends; what one is at, the other leaves."""
    store, models = store_in(tmp_path), [Model(), Model()]
    fills = [store.fill(questions, model, share=share) for model, share in zip(models, (0.0, 0.5), strict=True)]
    for _ in range(6):
        for fill in fills:
            next(fill, None)
    assert sorted(question for model in models for question in model.asked) == sorted(questions["question_id"])
    assert all(model.asked for model in models)
    whole = Model()
    assert gather(list(store.ask(questions, whole))).num_rows == 20
    assert whole.asked == []


def test_a_chunk_that_somebody_is_at_is_left(questions, tmp_path):
    store, other = store_in(tmp_path), Model()

    def answer(chunk, writer):
        if not other.asked:
            list(store_in(tmp_path).fill(questions, other, share=0.0))
        return Model()(chunk, writer)

    list(store.fill(questions, answer, share=0.0))
    assert set(other.asked) == set(questions["question_id"][4:])
