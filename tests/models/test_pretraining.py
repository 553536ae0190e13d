import json

import numpy as np
import pytest
import torch

from reliabit.models.batches import IGNORED, TrainingBatches, by_image, only, turned
from reliabit.models.encoding import Encoder
from reliabit.models.pretraining import train
from reliabit.models.reference import BUILDERS
from reliabit.models.settings import Recipe


def recipe(**changes):
    values = {
        "steps": 6,
        "epoch_steps": 3,
        "images": 4,
        "questions": 2,
        "mix": {"easy_vqa": 0.5, "scenes": 0.5},
        "first_steps": 2,
        "first_mix": {"easy_vqa": 1.0},
        "first_types": ["shape"],
        "flipped": ["easy_vqa"],
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "validation_images": 2,
        "seed": 0,
    }
    return Recipe(**{**values, **changes})


@pytest.fixture
def train_tables(tables):
    return {source: splits["train"] for source, splits in tables.items()}


@pytest.fixture
def groups(train_tables):
    return {source: by_image(table) for source, table in train_tables.items()}


def test_labels_are_the_answer_and_its_end(checkpoint, groups):
    encoder = checkpoint.encoder
    batch = TrainingBatches(groups, encoder=encoder, recipe=recipe(first_steps=0), epoch=0)[0]
    tokenizer = encoder.processor.tokenizer
    assert batch["labels"].shape == batch["text"]["input_ids"].shape
    answers = {row["answers"][0] for source in groups.values() for group in source for row in group.rows}
    for ids, labels in zip(batch["text"]["input_ids"], batch["labels"], strict=True):
        answered = labels[labels != IGNORED]
        assert torch.equal(ids[labels != IGNORED], answered)
        text = tokenizer.decode(answered)
        assert text.endswith(encoder.adapter.end_of_answer)
        assert text.removesuffix(encoder.adapter.end_of_answer).strip() in answers


def test_a_prompt_is_tokenized_as_it_will_be_without_its_answer(checkpoint, groups):
    """Were a token to span prompt and answer, training and answering would see different prompts."""
    encoder = checkpoint.encoder
    row = groups["scenes"][0].rows[0]
    prompt = encoder.prompt(row["question"], placeholder="")
    answer = f"{encoder.adapter.answer_prefix}{row['answers'][0]}"
    tokenizer = encoder.processor.tokenizer
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer, prompt + answer)]
    assert ids[0] + ids[1] == ids[2]


def test_the_curriculum_asks_only_its_types(checkpoint, groups):
    only_shapes = only(groups["easy_vqa"], ["shape"])
    assert only_shapes
    assert all(row["question_type"] == "shape" for group in only_shapes for row in group.rows)
    images = len(only_shapes)
    batches = TrainingBatches(groups, encoder=checkpoint.encoder, recipe=recipe(images=images), epoch=0)
    assert len(batches[0]["image_of"].unique()) == images
    assert len(batches[2]["image_of"].unique()) == 2 * round(images / 2)


def test_batches_are_the_same_every_time_and_differ_by_step(checkpoint, groups):
    batches = TrainingBatches(groups, encoder=checkpoint.encoder, recipe=recipe(images=2, first_steps=0), epoch=0)
    first, again, second = batches[1], batches[1], batches[2]
    assert torch.equal(first["text"]["input_ids"], again["text"]["input_ids"])
    assert not torch.equal(first["text"]["input_ids"], second["text"]["input_ids"])


def test_the_last_epoch_is_cut_to_the_steps_that_are_left(checkpoint, groups):
    lengths = [
        len(TrainingBatches(groups, encoder=checkpoint.encoder, recipe=recipe(steps=7), epoch=epoch))
        for epoch in range(3)
    ]
    assert lengths == [3, 3, 1]


def test_turning_keeps_every_pixel(groups):
    image = groups["easy_vqa"][0].image
    rng = np.random.default_rng(0)
    poses = {turned(image, rng=rng).tobytes() for _ in range(100)}
    assert len(poses) <= 8
    colors = sorted(image.getcolors())
    assert sorted(turned(image, rng=rng).getcolors()) == colors


class MachineGoneError(Exception):
    """Stands for the machine going away."""


def built(family, tables):
    texts = [text for table in tables.values() for text in table["question"]]
    torch.manual_seed(0)
    return BUILDERS[family](texts)


def run(reference, family, train_tables, checkpoints, **changes):
    from reliabit.models.families import find_adapter

    encoder = Encoder(adapter=find_adapter(family), processor=reference.processor)
    return train(
        reference.model,
        encoder=encoder,
        train_tables=train_tables,
        validation_tables=train_tables,
        recipe=recipe(images=2, **changes),
        checkpoints=checkpoints,
        precision="32-true",
        accelerator="cpu",
        progress_bar=False,
    )


@pytest.mark.medium
def test_training_that_was_cut_off_ends_as_if_it_had_not_been(family, train_tables, tmp_path, monkeypatch):
    whole = built(family, train_tables)
    metrics = run(whole, family, train_tables, tmp_path / "whole")
    assert set(metrics) >= {"right/easy_vqa", "right/scenes", "loss"}

    cut = built(family, train_tables)
    encode = TrainingBatches.__getitem__

    def fail_in_the_second_epoch(batches, index):
        if batches.epoch == 1 and index == 1:
            raise MachineGoneError
        return encode(batches, index)

    monkeypatch.setattr(TrainingBatches, "__getitem__", fail_in_the_second_epoch)
    with pytest.raises(MachineGoneError):
        run(cut, family, train_tables, tmp_path / "cut")
    monkeypatch.setattr(TrainingBatches, "__getitem__", encode)
    resumed = built(family, train_tables)
    run(resumed, family, train_tables, tmp_path / "cut")
    for (name, expected), actual in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, msg=name)


@pytest.mark.medium
def test_training_lowers_the_loss(family, train_tables, tmp_path):
    """The smoke form of `task=pretrain`: a few steps on a few images are learned by heart."""
    few = {"easy_vqa": train_tables["easy_vqa"]}
    reference = built(family, few)
    first = run(
        reference,
        family,
        few,
        tmp_path / "first",
        steps=1,
        epoch_steps=1,
        mix={"easy_vqa": 1.0},
        first_steps=0,
        learning_rate=1e-5,
        warmup_steps=1,
    )
    after = run(
        reference,
        family,
        few,
        tmp_path / "after",
        steps=60,
        epoch_steps=30,
        mix={"easy_vqa": 1.0},
        first_steps=0,
        learning_rate=3e-3,
        warmup_steps=10,
    )
    assert after["loss"] < first["loss"] / 3, json.dumps([first, after])
