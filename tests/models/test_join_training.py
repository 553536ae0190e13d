import pytest
import torch

from reliabit.models.join_batches import JoiningBatches, SeenBatch, SeenSource, ValidationBatches
from reliabit.models.join_training import Joining, adapt, join
from reliabit.models.packed_questions import pack_questions
from reliabit.models.settings import JoiningRecipe
from reliabit.models.tower_features import pictured_questions, see_poses

pytestmark = pytest.mark.parametrize("family", ["idefics3"], indirect=True, scope="session")


def recipe(**changes):
    values = {
        "steps": 6,
        "epoch_steps": 3,
        "images": {"easy_vqa": 2, "scenes": 1},
        "questions": 2,
        "poses": {"easy_vqa": 2, "scenes": 1},
        "adapted": ["q_proj", "v_proj", "down_proj"],
        "rank": 2,
        "connector_rate": 2e-3,
        "adapter_rate": 1e-3,
        "weight_decay": 0.01,
        "dropout": 0.1,
        "warmup_steps": 2,
        "validation_images": 2,
        "seed": 0,
    }
    return JoiningRecipe(**{**values, **changes})


@pytest.fixture
def sources(checkpoint, tables, tmp_path):
    found = {}
    for name, poses in recipe().poses.items():
        table = tables[name]["train"]
        groups = pictured_questions(table)
        features = see_poses(
            table,
            groups,
            model=checkpoint.model,
            encoder=checkpoint.encoder,
            poses=poses,
            seed=0,
            folder=tmp_path / "features" / name,
            shown=False,
        )
        found[name] = SeenSource(groups, features)
    return found


def placeholder(encoder):
    return encoder.adapter.placeholder(encoder.processor, (1, 1))


def batches(sources, encoder, **changes):
    changed = recipe(**changes)
    return JoiningBatches(sources, encoder=encoder, placeholder=placeholder(encoder), recipe=changed, epoch=0)


def test_packed_questions_are_answered_as_the_model_answers_each(checkpoint, tables):
    """Compared with the model's own forward pass on each question alone."""
    encoder, found = checkpoint.encoder, checkpoint.model
    row = tables["easy_vqa"]["train"][0]
    table = tables["easy_vqa"]["train"].filter(lambda other: other["image_id"] == row["image_id"])
    rows = list(table)
    batch = encoder(rows[:1])
    norm = found.model.vision_model.post_layernorm
    with torch.no_grad():
        # As the tower's features are where the norm's scale and shift are not learned yet.
        seen = found.get_image_features(**batch.images, return_dict=True).last_hidden_state
        module = Joining(found, train={}, validation={}, encoder=encoder, recipe=recipe(dropout=0.0))
        packed = pack_questions([rows], encoder=encoder, placeholder=placeholder(encoder))
        states = module(SeenBatch(packed, (seen - norm.bias) / norm.weight, "easy_vqa"))
        for number, asked in enumerate(rows, start=1):
            alone = encoder([asked])
            expected = found(**alone.text, **alone.images, use_cache=False).logits[0, -1]
            last = int(((packed.segments[0] == number) & (packed.labels[0] == -100)).nonzero().max())
            torch.testing.assert_close(found.lm_head(states[0, last]), expected, atol=1e-4, rtol=1e-4)


def test_only_connector_adapters_and_norms_are_learned(checkpoint):
    adapt(checkpoint.model, recipe())
    learned = {name for name, tensor in checkpoint.model.named_parameters() if tensor.requires_grad}
    layers = len(checkpoint.model.model.text_model.layers)
    assert sum("lora" in name for name in learned) == layers * 3 * 2
    assert sum("norm" in name for name in learned) == layers * 2 + 1
    assert [name for name in learned if "lora" not in name and "norm" not in name] == [
        "model.connector.modality_projection.proj.weight"
    ]
    assert not any("vision_model" in name for name in learned)


def test_every_image_comes_once_before_any_comes_again(checkpoint, sources):
    images = len(sources["easy_vqa"].groups)
    drawn = batches(sources, checkpoint.encoder, images={"easy_vqa": 1}, steps=3 * images, epoch_steps=3 * images)
    features = [drawn[step][0].features for step in range(3 * images)]
    for turn in range(3):
        seen = torch.stack(features[turn * images : (turn + 1) * images]).flatten(1)
        assert len(seen.unique(dim=0)) == images
    # In two poses, so that the third turn sees again what the first did, in another order.
    first, second, third = (torch.stack(features[turn * images :][:images]).flatten(1) for turn in range(3))
    assert torch.equal(first.unique(dim=0), third.unique(dim=0))
    assert not torch.equal(first.unique(dim=0), second.unique(dim=0))
    assert not torch.equal(first, third)


def test_the_steps_of_an_epoch_are_the_same_every_time(checkpoint, sources):
    one, again = (batches(sources, checkpoint.encoder) for _ in range(2))
    assert torch.equal(one[1][1].questions.ids, again[1][1].questions.ids)
    assert not torch.equal(one[1][0].features, one[2][0].features)
    assert [len(JoiningBatches(sources, encoder=checkpoint.encoder, placeholder="", recipe=recipe(steps=7), epoch=e))
            for e in range(3)] == [3, 3, 1]  # fmt: skip


def test_validation_asks_all_questions_of_the_first_images(checkpoint, sources):
    found = ValidationBatches(
        sources, encoder=checkpoint.encoder, placeholder=placeholder(checkpoint.encoder), images=2
    )
    asked = {batch.source: batch.questions.types for batch in (found[number] for number in range(len(found)))}
    assert {name: [len(types) for types in kinds] for name, kinds in asked.items()} == {
        name: [len(group.rows) for group in source.groups[:2]] for name, source in sources.items()
    }


class MachineGoneError(Exception):
    """Stands for the machine going away."""


def train(checkpoint, sources, folder, **changes):
    torch.manual_seed(0)
    changed = recipe(**changes)
    adapt(checkpoint.model, changed)
    return join(
        checkpoint.model,
        train=sources,
        validation=sources,
        encoder=checkpoint.encoder,
        recipe=changed,
        checkpoints=folder,
        progress_bar=False,
    )


@pytest.mark.medium
def test_training_that_was_cut_off_ends_as_if_it_had_not_been(untrained, sources, tmp_path, monkeypatch):
    from reliabit.models.loading import load_checkpoint
    from reliabit.models.settings import ModelConfig

    def fresh():
        return load_checkpoint(
            ModelConfig(path=str(untrained), family="idefics3", dtype="float32", template="{question}")
        )

    whole = fresh()
    curve = train(whole, sources, tmp_path / "whole")
    assert [row["step"] for row in curve] == [3, 6]
    assert set(curve[0]) >= {"loss", "right/easy_vqa", "right/scenes"}

    draw = JoiningBatches.__getitem__

    def fail_in_the_second_epoch(batches, index):
        if batches.epoch == 1 and index == 1:
            raise MachineGoneError
        return draw(batches, index)

    monkeypatch.setattr(JoiningBatches, "__getitem__", fail_in_the_second_epoch)
    with pytest.raises(MachineGoneError):
        train(fresh(), sources, tmp_path / "cut")
    monkeypatch.setattr(JoiningBatches, "__getitem__", draw)
    kept = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["state_dict"]
    assert not any("vision_model" in name or "embed_tokens" in name for name in kept)
    resumed = fresh()
    again = train(resumed, sources, tmp_path / "cut")
    assert again[0] == curve[0]
    assert again[1] == pytest.approx(curve[1], rel=1e-4)
    for (name, expected), actual in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, msg=name)


@pytest.mark.medium
def test_training_lowers_the_loss(checkpoint, sources, tmp_path):
    curve = train(
        checkpoint,
        {"easy_vqa": sources["easy_vqa"]},
        tmp_path,
        images={"easy_vqa": 4},
        steps=60,
        epoch_steps=10,
        connector_rate=1e-2,
        adapter_rate=1e-2,
    )
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
