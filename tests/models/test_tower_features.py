import numpy as np
import pytest
import torch
from PIL import Image

from reliabit.models import tower_features
from reliabit.models.tower_features import pictured_questions, posed, see_poses

of_idefics3 = pytest.mark.parametrize("family", ["idefics3"], indirect=True, scope="session")


def see(checkpoint, table, folder, *, poses=2):
    groups = pictured_questions(table)
    return groups, see_poses(
        table,
        groups,
        model=checkpoint.model,
        encoder=checkpoint.encoder,
        poses=poses,
        seed=0,
        folder=folder,
        shown=False,
    )


@of_idefics3
def test_the_first_pose_is_what_the_model_sees(checkpoint, tables, tmp_path):
    table = tables["easy_vqa"]["train"]
    groups, features = see(checkpoint, table, tmp_path)
    for number, group in enumerate(groups):
        batch = checkpoint.encoder([table[group.row]])
        expected = checkpoint.model.get_image_features(**batch.images, return_dict=True).last_hidden_state[0]
        torch.testing.assert_close(features[number, 0], expected, atol=2e-2, rtol=2e-3)
        assert not torch.allclose(features[number, 1], expected, atol=2e-2)


def test_each_question_is_with_its_image(tables):
    table = tables["scenes"]["train"]
    groups = pictured_questions(table)
    assert [row["question_id"] for group in groups for row in group.rows] == table["question_id"]
    for group in groups:
        assert {row["image_id"] for row in group.rows} == {table[group.row]["image_id"]}


def test_images_whose_questions_tell_sides_are_not_mirrored(tables):
    table = tables["scenes"]["train"]
    sided = [any(side in row["question"] for side in ("left", "right")) for row in table]
    assert any(sided)
    for group in pictured_questions(table):
        texts = [text for row in group.rows for text in (row["question"], *row["answers"])]
        assert group.mirrored == (not any(side in text for text in texts for side in ("left", "right")))


@of_idefics3
def test_the_moments_are_those_of_all_features(checkpoint, tables, tmp_path, monkeypatch):
    monkeypatch.setattr(tower_features, "CHUNK", 5)
    groups, features = see(checkpoint, tables["easy_vqa"]["train"], tmp_path)
    assert len(list(tmp_path.iterdir())) == -(-len(groups) * 2 // 5)
    stacked = torch.stack([features[image, pose] for image in range(len(groups)) for pose in (0, 1)]).double()
    mean, square = features.moments()
    torch.testing.assert_close(mean, stacked.mean((0, 1)))
    torch.testing.assert_close((square - mean**2).sqrt(), stacked.flatten(0, 1).std(0, correction=0))


@of_idefics3
def test_what_was_seen_is_not_seen_again(checkpoint, tables, tmp_path, monkeypatch):
    _, first = see(checkpoint, tables["easy_vqa"]["train"], tmp_path)
    monkeypatch.setattr(tower_features, "_drawn", None)
    _, again = see(checkpoint, tables["easy_vqa"]["train"], tmp_path)
    assert torch.equal(first[1, 1], again[1, 1])


def test_a_pose_keeps_the_middle_and_adds_only_white():
    image = Image.new("RGB", (60, 40), "blue")
    for seed in range(20):
        pose = np.asarray(posed(image, rng=np.random.default_rng(seed), mirrored=True))
        assert pose.shape == (40, 60, 3)
        assert tuple(pose[20, 30]) == (0, 0, 255)
        # Every pixel is blue, white, or a mixture of both at the edge.
        assert (pose[..., 2] >= 250).all()
        np.testing.assert_array_equal(pose[..., 0], pose[..., 1])


def test_a_mirror_swaps_the_sides():
    image = Image.new("RGB", (60, 60), "white")
    image.paste("red", (0, 0, 30, 60))
    rng = np.random.default_rng(3)
    sides = {tuple(np.asarray(posed(image, rng=rng, mirrored=True))[30, 10]) for _ in range(20)}
    kept = {tuple(np.asarray(posed(image, rng=rng, mirrored=False))[30, 10]) for _ in range(20)}
    assert sides == {(255, 0, 0), (255, 255, 255)}
    assert kept == {(255, 0, 0)}
