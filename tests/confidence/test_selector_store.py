import json

import pytest

from confidence.answers import draw_answers
from reliabit.confidence._selector_training import train_selectors
from reliabit.confidence.selector_store import CARD, WEIGHTS, load_selector, save_selector
from reliabit.confidence.settings import SelectorSettings
from reliabit.errors import ReliabitError

TEST = draw_answers(300, seed=3, images="c")


@pytest.fixture(scope="module")
def selectors():
    settings = SelectorSettings(hidden=[8], epochs=2, inputs=["first", "maxprob"], standardize=True)
    train, validation = draw_answers(300, seed=1, images="a"), draw_answers(100, seed=2, images="b")
    return train_selectors(train, validation, settings=settings, seeds=[0, 1])


@pytest.fixture
def folder(selectors, tmp_path):
    save_selector(selectors[0], tmp_path)
    return tmp_path


def test_confidences_survive_to_the_bit(selectors, folder):
    loaded = load_selector(folder)
    assert not loaded.network.training
    assert loaded(TEST).tobytes() == selectors[0](TEST).tobytes()
    for name in ("settings", "widths", "seed", "epoch", "val_aurc", "history", "fitted_on"):
        assert getattr(loaded, name) == getattr(selectors[0], name)


def test_the_card_says_what_it_is(folder):
    card = json.loads((folder / CARD).read_text())
    assert card["widths"] == {"first": 6, "maxprob": 1}
    assert set(card["versions"]) == {"reliabit", "torch", "lightning", "numpy"}
    assert len(card["fitted_on"]["trained"]) == 100
    assert len(card["fitted_on"]["chose"]) == 34


def test_what_else_is_in_the_folder_stays(selectors, folder):
    (folder / "notes.txt").write_text("kept")
    assert sorted(save_selector(selectors[1], folder)) == [folder / CARD, folder / WEIGHTS]
    assert (folder / "notes.txt").read_text() == "kept"
    assert load_selector(folder).seed == 1


def test_damaged_files_are_refused(selectors, folder, tmp_path_factory):
    weights, card = (folder / WEIGHTS).read_bytes(), (folder / CARD).read_text()
    (folder / WEIGHTS).write_bytes(weights[:-1])
    with pytest.raises(ReliabitError, match="selector.safetensors is damaged or belongs to another Selector"):
        load_selector(folder)
    other = tmp_path_factory.mktemp("other")
    save_selector(selectors[1], other)
    (folder / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(ReliabitError, match="damaged or belongs to another"):
        load_selector(folder)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CARD).write_text(card[: len(card) // 2])
    with pytest.raises(ReliabitError, match="selector.json is damaged"):
        load_selector(folder)
    (folder / CARD).write_text("[]")
    with pytest.raises(ReliabitError, match="is not the card of a Selector"):
        load_selector(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("widths", {"first": 7, "maxprob": 1}), ("settings", {"depth": 3}), ("widths", {}), ("seed", None)],
)
def test_a_card_that_does_not_fit_its_weights_is_refused(folder, key, value):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, key: value}))
    with pytest.raises(ReliabitError, match="does not describe its weights"):
        load_selector(folder)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ReliabitError, match=r"selector\.json cannot be read \(No such file or directory\); train it"):
        load_selector(tmp_path)
