import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from confidence.answers import draw_answers
from reliabit.confidence._selector_training import train_selectors
from reliabit.confidence.estimators.formulas import MAXPROB
from reliabit.confidence.estimators.regressions import Logistic
from reliabit.confidence.examples import Examples
from reliabit.confidence.leakage import FittedOn
from reliabit.confidence.selector import SelectorNetwork, confidences, selector_inputs, standardizer
from reliabit.confidence.settings import SelectorSettings
from reliabit.errors import ReliabitError
from reliabit.metrics.functional import aurc
from reliabit.settings import check
from reliabit.threads import one_thread

TRAIN = draw_answers(1500, seed=1, images="a")
VALIDATION = draw_answers(500, seed=2, images="b")
TEST = draw_answers(2000, seed=3, images="c")
WIDE, VALIDATION_WIDE = (draw_answers(n, seed=n, width=256, images=f"w{n}") for n in (1000, 300))
SMALL = SelectorSettings(hidden=(32, 32), learning_rate=3e-3, epochs=8, batch_size=128)


def train_selector(train, validation, *, settings, seed, **how):
    [selector] = train_selectors(train, validation, settings=settings, seeds=[seed], **how)
    return selector


@pytest.fixture(scope="module")
def trained():
    return train_selector(TRAIN, VALIDATION, settings=SMALL, seed=0)


def changed(examples, **values):
    return Examples(**{**vars(examples), **values})


@pytest.mark.parametrize(("width", "expected"), [(3 * 3584 + 1, 8_850_433), (3 * 4096 + 1, 10_030_081)])
def test_parameter_counts(width, expected):
    with torch.device("meta"):
        network = SelectorNetwork(width, hidden=SelectorSettings().hidden, dropout=0.1)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_the_published_two_logit_loss_is_twice_this_one():
    torch.manual_seed(0)
    logits, right = torch.randn(64, 2, dtype=torch.float64), torch.rand(64, dtype=torch.float64)
    published = torch.nn.functional.binary_cross_entropy(logits.softmax(-1), torch.stack([1 - right, right], 1)) * 2
    ours = binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], right)
    assert published.item() == pytest.approx(2 * ours.item(), rel=1e-12)
    as_classes = cross_entropy(logits, torch.stack([1 - right, right], 1))
    assert as_classes.item() == pytest.approx(ours.item(), rel=1e-12)


def test_constant_features_lead_to_the_mean_accuracy():
    def constant(n, *, images):
        return Examples(
            columns={"log_prob": np.full(n, -0.5)},
            accuracy=np.tile([0, 0.3, 0.6, 0.9, 1], n // 5),
            image_keys=[f"{images}/{index}" for index in range(n)],
            features={"first": np.ones((n, 3), np.float16)},
        )

    # One pass of many steps: equal confidences have equal AURC, and of equal passes the first is kept.
    settings = SelectorSettings(
        inputs=("first", "maxprob"), hidden=(8,), dropout=0.0, learning_rate=0.01, weight_decay=0.0, epochs=1
    )
    selector = train_selector(constant(40_000, images="a"), constant(5, images="b"), settings=settings, seed=0)
    np.testing.assert_allclose(selector(constant(5, images="c")), 0.56, atol=0.002)


def test_it_ranks_better_than_what_sees_no_states(trained):
    [logistic] = Logistic().fit(TRAIN, VALIDATION)
    scores = [aurc(fitted(TEST), TEST.accuracy) for fitted in (trained, logistic, MAXPROB)]
    best = aurc(TEST.accuracy, TEST.accuracy)
    assert scores[0] - best < 0.5 * min(score - best for score in scores[1:])


def test_a_seed_decides_everything_and_disturbs_nothing(trained):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again, other = train_selectors(TRAIN, VALIDATION, settings=SMALL, seeds=[0, 1])
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(again(TEST), trained(TEST))
    assert (again.history, again.epoch, again.seed) == (trained.history, trained.epoch, 0)
    assert other.history != trained.history


def test_the_number_of_threads_decides_nothing():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = train_selector(WIDE, VALIDATION_WIDE, settings=SMALL, seed=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    with one_thread():
        expected = train_selector(WIDE, VALIDATION_WIDE, settings=SMALL, seed=0)
    assert all(map(torch.equal, again.network.state_dict().values(), expected.network.state_dict().values()))


def test_large_blocks_are_streamed_to_the_same_weights(trained, tmp_path):
    mapped = {}
    for name, block in TRAIN.features.items():
        np.save(tmp_path / f"{name}.npy", block)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    streamed = train_selector(changed(TRAIN, features=mapped), VALIDATION, settings=SMALL, seed=0, memory=0)
    np.testing.assert_array_equal(streamed(TEST), trained(TEST))
    assert streamed.history == trained.history


def test_the_best_pass_is_kept(trained):
    assert len(trained.history) <= SMALL.epochs
    assert trained.epoch == min(range(len(trained.history)), key=lambda epoch: trained.history[epoch]) + 1
    assert trained.val_aurc == min(trained.history) == aurc(trained(VALIDATION), VALIDATION.accuracy)
    assert trained.fitted_on == FittedOn.images(TRAIN.image_keys, VALIDATION.image_keys)


def test_training_ends_once_patience_is_spent():
    settings = SelectorSettings(**{**vars(SMALL), "patience": 1, "learning_rate": 0.3, "epochs": 30})
    selector = train_selector(TRAIN, VALIDATION, settings=settings, seed=0)
    history = selector.history
    assert len(history) < 30
    assert list(history[:-1]) == sorted(history[:-1], reverse=True)
    assert history[-1] >= history[-2]
    assert selector.epoch == len(history) - 1
    assert selector.val_aurc == aurc(selector(VALIDATION), VALIDATION.accuracy) == history[-2]


def test_asking_switches_dropout_off_and_on_again():
    inputs = selector_inputs(TEST, SMALL.inputs)
    network = SelectorNetwork(inputs.width, hidden=(32,), dropout=0.5).train()
    np.testing.assert_array_equal(confidences(network, inputs), confidences(network, inputs))
    assert network.training


def test_equal_passes_keep_the_first():
    blind = SelectorSettings(**{**vars(SMALL), "inputs": ("first",), "patience": 2})
    flat = [changed(part, features={"first": np.zeros((len(part), 2), np.float16)}) for part in (TRAIN, VALIDATION)]
    selector = train_selector(*flat, settings=blind, seed=0)
    assert selector.epoch == 1
    assert len(selector.history) == 3
    assert len(set(selector.history)) == 1


def test_training_is_the_loop_written_by_hand():
    # Without dropout, and with all examples in one batch, nothing is drawn but the weights.
    settings = SelectorSettings(
        hidden=(16,),
        dropout=0.0,
        learning_rate=0.03,
        weight_decay=0.5,
        batch_size=len(TRAIN),
        epochs=12,
        patience=12,
        gradient_clip=0.05,
    )
    torch.manual_seed(4)
    first, last = torch.nn.Linear(19, 16), torch.nn.Linear(16, 1)
    parameters = [*first.parameters(), *last.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.03, weight_decay=0.5, fused=False)

    def inputs_of(examples):
        maxprob = np.exp(examples.columns["log_prob"])[:, None]
        return np.concatenate([*examples.features.values(), maxprob], axis=1).astype(np.float64)

    mean, deviation = inputs_of(TRAIN).mean(0), inputs_of(TRAIN).std(0)

    def logits_of(examples):
        inputs = torch.from_numpy((inputs_of(examples) - mean) / deviation).float()
        return last(torch.relu(first(inputs))).squeeze(1)

    history, kept, clipped = [], [], 0
    for epoch in range(12):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - epoch / 12)
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(logits_of(TRAIN), torch.from_numpy(TRAIN.accuracy).float()).backward()
        clipped += int(torch.nn.utils.clip_grad_norm_(parameters, 0.05) > 0.05)
        optimizer.step()
        with torch.no_grad():
            history.append(aurc(torch.sigmoid(logits_of(VALIDATION).double()), VALIDATION.accuracy))
            kept.append(torch.sigmoid(logits_of(TEST)).numpy())
    selector = train_selector(TRAIN, VALIDATION, settings=settings, seed=4)
    assert clipped > 0
    np.testing.assert_allclose(selector.history, history, atol=1e-5)
    np.testing.assert_allclose(selector(TEST), kept[int(np.argmin(history))], atol=1e-4)


def test_standardizer_is_numpys_and_leaves_constant_inputs_at_zero():
    block = np.concatenate([TRAIN.features["image"], np.full((len(TRAIN), 1), 0.1, np.float16)], axis=1)
    features = {**TRAIN.features, "image": block}
    inputs = selector_inputs(changed(TRAIN, features=features), ("image", "maxprob"))
    mean, deviation = standardizer(inputs)
    rows = inputs.gather(slice(None)).astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation[[0, 1, 2, 3, 4, 5, 7]], rows.std(0)[[0, 1, 2, 3, 4, 5, 7]], rtol=1e-12)
    assert deviation[6] == 1


def test_standardizing_in_chunks_is_standardizing_at_once(monkeypatch):
    inputs = selector_inputs(TRAIN, SMALL.inputs)
    at_once = standardizer(inputs)
    monkeypatch.setattr("reliabit.confidence.selector.CHUNK_BYTES", 4 * inputs.width * 64)
    in_chunks = standardizer(inputs)
    for expected, found in zip(at_once, in_chunks, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_paper_like_inputs_are_left_as_they_are():
    settings = SelectorSettings(**{**vars(SMALL), "standardize": False, "epochs": 1})
    network = train_selector(TRAIN, VALIDATION, settings=settings, seed=0).network
    assert not network.mean.any()
    assert (network.scale == 1).all()


def test_a_subset_of_inputs_reads_only_that(trained):
    settings = SelectorSettings(**{**vars(SMALL), "inputs": ("maxprob",)})
    bare = [changed(part, features=None) for part in (TRAIN, VALIDATION, TEST)]
    selector = train_selector(*bare[:2], settings=settings, seed=0)
    assert selector.widths == {"maxprob": 1}
    assert spearmanr(selector(bare[2]), TEST.columns["log_prob"]).statistic > 0.99
    with pytest.raises(
        ReliabitError, match="reads the feature blocks image, question, first, which these answers lack"
    ):
        trained(bare[2])


def test_another_model_of_the_same_widths_is_accepted_and_of_other_widths_refused(trained):
    assert len(trained(draw_answers(10, seed=9))) == 10
    with pytest.raises(ReliabitError, match="image is 7 wide and the Selector was trained on 6"):
        trained(draw_answers(10, seed=9, width=7))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("memory", [0, 2**30])
def test_what_is_not_finite_is_named(value, memory):
    spoilt = {name: block.copy() for name, block in TRAIN.features.items()}
    spoilt["question"][1234, 2] = value
    spoilt["first"][1300, 0] = value
    with pytest.raises(ReliabitError, match="block question holds a NaN or an infinity in row 1234"):
        train_selector(changed(TRAIN, features=spoilt), VALIDATION, settings=SMALL, seed=0, memory=memory)


def test_divergence_and_shared_images_are_refused():
    with pytest.raises(ReliabitError, match=r"diverged with a learning rate of 1e\+30; lower it"):
        train_selector(TRAIN, VALIDATION, settings=SelectorSettings(**{**vars(SMALL), "learning_rate": 1e30}), seed=0)
    with pytest.raises(ReliabitError, match="training and its validation share 500 images"):
        train_selector(TRAIN, TRAIN, settings=SMALL, seed=0)
    with pytest.raises(ReliabitError, match="training features have the widths"):
        train_selector(TRAIN, draw_answers(9, seed=0, width=5, images="b"), settings=SMALL, seed=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": []}, "=[] must name at least one value"),
        ({"inputs": ["first", "first"]}, "=['first', 'first'] must name at least one value, and each once"),
        ({"hidden": [0]}, "=[0] must have a unit in every layer"),
        ({"dropout": 1.2}, "=1.2 must lie in [0, 1)"),
        ({"learning_rate": 0.0}, "=0.0 must be above zero"),
        ({"weight_decay": -1.0}, "=-1.0 must be at least 0"),
        ({"batch_size": 0}, "=0 must be above zero"),
        ({"epochs": 0}, "=0 must be above zero"),
        ({"patience": 0}, "=0 must be above zero"),
        ({"gradient_clip": 0.0}, "=0.0 must be above zero"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong, message):
    with pytest.raises(ReliabitError, match=re.escape(f"confidence.selector.{next(iter(wrong))}{message}")):
        check(SelectorSettings(**wrong), key="confidence.selector")
