import pytest
import torch

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.models.loading import load_checkpoint
from reliabit.models.recovery_training import (
    Questions,
    RecoveryBatches,
    answer_logits,
    divergence,
    judged_confidence,
    open_for_training,
    proper_score,
    recover_model,
)
from reliabit.models.settings import ModelConfig, RecoveryRecipe
from reliabit.models.tower_features import pictured_questions
from reliabit.quant.convert import packed_modules, quantize_model

PLAN = [{"components": ["language_attention", "language_mlp"], "bits": 2, "group_size": 32, "method": "hqq"}]


def recipe(**changes):
    values = {
        "steps": 4,
        "epoch_steps": 2,
        "images": 2,
        "scored_images": 1,
        "questions": 2,
        "reliability_weight": 0.5,
        "score": "brier",
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "held_out_images": 1,
        "seed": 0,
    }
    return RecoveryRecipe(**{**values, **changes})


def of(table):
    return Questions(table, pictured_questions(table))


@pytest.fixture(scope="module")
def splits(tables, tmp_path_factory):
    found = prepare(
        DataConfig(name="easy_vqa", splits={"train": 5, "dev": 3, "test": 1}), root=tmp_path_factory.mktemp("data")
    )
    return {name: of(load_split(found, name)) for name in ("train", "dev")}


@pytest.fixture
def fresh(untrained, family):
    def load(*, packed=True):
        found = load_checkpoint(ModelConfig(path=str(untrained), family=family, dtype="float32", template="{question}"))
        if packed:
            quantize_model(found.model, PLAN)
        return found

    return load


def recovered(fresh, splits, folder, *, dev="dev", **changes):
    student, teacher = fresh(), fresh(packed=False)
    trained, curve = recover_model(
        student.model,
        teacher.model,
        train=splits["train"],
        dev=splits[dev] if dev else None,
        encoder=teacher.encoder,
        recipe=recipe(**changes),
        norm_types={},
        checkpoints=folder,
        progress_bar=False,
    )
    return student.model, trained, curve


def test_training_lowers_the_divergence_and_leaves_codes_alone(fresh, splits, tmp_path):
    before = {name: layer.weight_codes.clone() for name, layer in packed_modules(fresh().model).items()}
    model, trained, curve = recovered(fresh, splits, tmp_path, steps=12, epoch_steps=6)
    assert [row["step"] for row in curve] == [0, 6, 12, 12]
    assert curve[-2]["held_out/kl"] < 0.9 * curve[0]["held_out/kl"]
    # Rounding to float16 costs next to nothing.
    assert curve[-1]["held_out/kl"] == pytest.approx(curve[-2]["held_out/kl"], rel=0.02)
    after = packed_modules(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(codes, after[name].weight_codes) for name, codes in before.items())
    assert {f"{name}.weight_scale" for name in before} < set(trained)
    assert any("norm" in name for name in trained)
    assert not any("visual" in name or "vision" in name or "embed" in name for name in trained)


@pytest.mark.parametrize("family", ["idefics3"], indirect=True, scope="session")
def test_a_weight_of_zero_is_plain_distillation(fresh, splits, tmp_path):
    """To the last bit, whether there are questions of dev or not; and any other weight is not."""
    plain = recovered(fresh, splits, tmp_path / "plain", dev=None, reliability_weight=0.0, steps=2)[1]
    zero = recovered(fresh, splits, tmp_path / "zero", reliability_weight=0.0, steps=2)[1]
    scored = recovered(fresh, splits, tmp_path / "scored", reliability_weight=2.0, steps=2)[1]
    assert all(torch.equal(plain[name], zero[name]) for name in plain)
    assert not all(torch.equal(plain[name], scored[name]) for name in plain)


class MachineGoneError(Exception):
    """Stands for the machine going away."""


@pytest.mark.parametrize("family", ["idefics3"], indirect=True, scope="session")
def test_training_that_was_cut_off_ends_as_if_it_had_not_been(fresh, splits, tmp_path, monkeypatch):
    _, whole, curve = recovered(fresh, splits, tmp_path / "whole")
    draw = RecoveryBatches.__getitem__

    def fail_in_the_second_epoch(batches, index):
        if batches.epoch == 1 and index == 1:
            raise MachineGoneError
        return draw(batches, index)

    monkeypatch.setattr(RecoveryBatches, "__getitem__", fail_in_the_second_epoch)
    with pytest.raises(MachineGoneError):
        recovered(fresh, splits, tmp_path / "cut")
    monkeypatch.setattr(RecoveryBatches, "__getitem__", draw)
    kept = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(name.endswith(("factor", "shift", "weight")) for name in kept)
    assert not any("embed" in name or "lm_head" in name for name in kept)
    _, resumed, again = recovered(fresh, splits, tmp_path / "cut")
    assert again == curve
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("family", ["idefics3"], indirect=True, scope="session")
def test_steps_draw_from_train_alike_with_dev_and_without(fresh, splits):
    encoder = fresh(packed=False).encoder
    alone, both = (
        RecoveryBatches(splits["train"], dev, encoder=encoder, recipe=recipe(), epoch=1)[1]
        for dev in (None, splits["dev"])
    )
    assert len(alone.inputs["labels"]) == alone.scored == both.scored == 4
    assert len(both.inputs["labels"]) == 6

    def answered(batch):
        return [labels[labels != -100].tolist() for labels in batch.inputs["labels"][: batch.scored]]

    assert answered(alone) == answered(both)


def test_the_loss_is_that_of_the_models_own_logits(fresh, splits):
    """Against the model's whole forward pass, and the divergence and confidence as they are defined, by tokens."""
    student, teacher = fresh(), fresh(packed=False)
    batch = RecoveryBatches(splits["train"], None, encoder=teacher.encoder, recipe=recipe(), epoch=0)[0]
    inputs = batch.inputs
    logits, labels, question = answer_logits(student.model, inputs, encoder=student.encoder)
    shared = student.encoder.adapter.shared_images(student.model, inputs["images"], inputs["image_of"])
    with torch.no_grad():
        whole = student.model(**inputs["text"], **shared, use_cache=False).logits[:, :-1]
    at = inputs["labels"][:, 1:] != -100
    torch.testing.assert_close(logits.detach(), whole[at], atol=1e-4, rtol=1e-4)

    expected = answer_logits(teacher.model, inputs, encoder=teacher.encoder)[0].detach()
    found = divergence(expected, logits.detach())
    reference = torch.nn.functional.kl_div(
        logits.detach().log_softmax(-1), expected.log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    torch.testing.assert_close(found, reference)

    confidence, right = judged_confidence(logits, labels, question)
    for number in range(len(inputs["labels"])):
        probability, correct = 1.0, True
        for row, label in zip(logits[question == number], labels[question == number], strict=True):
            probability *= float(row.softmax(-1).max())
            if int(row.argmax()) != int(label):
                correct = False
                break
        assert float(confidence[number].exp()) == pytest.approx(probability, rel=1e-4)
        assert bool(right[number]) == correct


def test_scores_are_proper():
    """The share of right answers is the confidence that costs least."""
    grid = torch.linspace(0.01, 0.99, 99)
    for rule in ("brier", "log"):
        costs = [
            0.3 * proper_score(p.log(), torch.tensor(True), rule=rule)
            + 0.7 * proper_score(p.log(), torch.tensor(False), rule=rule)
            for p in grid
        ]
        assert float(grid[int(torch.stack(costs).argmin())]) == pytest.approx(0.3)
    certain = torch.zeros(1, requires_grad=True)
    proper_score(certain, torch.tensor([False]), rule="log").sum().backward()
    assert torch.isfinite(certain.grad).all()


def test_only_scales_zeros_and_norms_of_the_decoder_learn(fresh):
    student = fresh()
    layers, norms = open_for_training(student.model, student.encoder)
    learned = {name for name, tensor in student.model.named_parameters() if tensor.requires_grad}
    assert learned == {*norms, *(f"{layer}.{part}" for layer in layers for part in ("factor", "shift"))}
    assert student.encoder.adapter.final_norm + ".weight" in learned
