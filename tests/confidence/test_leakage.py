import pytest

from reliabit.confidence.leakage import FittedOn, check_unseen
from reliabit.data.splits import check_disjoint
from reliabit.errors import ReliabitError

FITTED_ON = FittedOn.images(["a/1", "a/2", "a/2"], ["a/3"])


def test_digests_are_sorted_once_each_and_of_16_digits():
    assert len(FITTED_ON.trained) == 2
    assert list(FITTED_ON.trained) == sorted(FITTED_ON.trained)
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in FITTED_ON.trained + FITTED_ON.chose)
    assert FittedOn.images(["a/2", "a/1"]).trained == FITTED_ON.trained


def test_seen_images_are_refused_with_their_role():
    with pytest.raises(ReliabitError, match=r"^2 images of test \(such as a/1\) trained the confidence estimator; "):
        check_unseen(FITTED_ON, ["a/1", "a/2", "a/2", "b/1"], what="test")
    with pytest.raises(ReliabitError, match=r"^1 image of cal \(such as a/3\) chose "):
        check_unseen(FITTED_ON, ["b/9", "a/3"], what="cal")


def test_the_same_image_id_of_another_source_is_another_image():
    check_unseen(FITTED_ON, ["b/1", "b/2", "b/3"], what="test")


def test_roles_share_no_image():
    check_disjoint({"dev": ["a/1", "a/1"], "val": ["a/2"], "cal": [], "test": ["b/1"]})
    with pytest.raises(
        ReliabitError, match=r"val and test share 1 image \(such as a/2\); split the questions by image"
    ):
        check_disjoint({"dev": ["a/1"], "val": ["a/2"], "test": ["a/3", "a/2"]})
