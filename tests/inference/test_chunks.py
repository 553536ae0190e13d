from io import BytesIO

import numpy as np
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.answers import answer_table
from reliabit.inference.chunks import InTableOrder, by_length, restored
from reliabit.inference.features import BLOCKS
from reliabit.inference.settings import FeatureSettings

SIZES = [(30, 20), (10, 10), (20, 30), (30, 20)]


def encoded(size, **settings):
    file = BytesIO()
    Image.new("RGB", size).save(file, **{"format": "PNG", **settings})
    return file.getvalue()


def table(pairs, images=None):
    """A table of questions by their images' numbers and their own lengths."""
    images = [encoded(size) for size in SIZES] if images is None else images
    return Dataset.from_list(
        [
            {"source": "made", "image_id": str(image), "image": images[image], "question": "x" * length}
            for image, length in pairs
        ]
    )


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=12)


@given(pairs)
def test_questions_of_an_image_stand_together_and_images_by_size(asked):
    order = by_length(table(asked))
    assert sorted(order) == list(range(len(asked)))
    images = [asked[row][0] for row in order]
    runs = [image for place, image in enumerate(images) if place == 0 or images[place - 1] != image]
    assert len(runs) == len(set(runs))
    areas = [SIZES[image][0] * SIZES[image][1] for image in runs]
    assert areas == sorted(areas)


def test_images_of_one_size_stand_by_their_longest_question():
    asked = [(0, 5), (3, 2), (3, 3), (0, 1)]
    assert by_length(table(asked)) == [1, 2, 0, 3]


def test_questions_that_are_alike_stay_as_they_are():
    assert by_length(table([(1, 3), (1, 2), (1, 3)])) == [0, 1, 2]


def test_a_damaged_image_is_left_to_who_decodes_it():
    assert by_length(table([(0, 1), (1, 1)], images=[encoded((5, 5)), b"no image"])) == [1, 0]


def test_images_stand_as_they_are_shown():
    exif = Image.Exif()
    exif[0x0112] = 6
    lying, standing = encoded((30, 20)), encoded((20, 30))
    turned = encoded((30, 20), format="JPEG", exif=exif)
    assert by_length(table([(image, 1) for image in range(4)], images=[lying, turned, lying, standing])) == [1, 3, 0, 2]


@given(st.permutations(list(range(7))), st.lists(st.integers(1, 6), max_size=3))
def test_what_came_in_another_order_goes_on_in_that_of_the_table(order, cuts):
    class Kept:
        settings = FeatureSettings()

        def __init__(self):
            self.rows = []

        def append(self, blocks):
            assert all(np.array_equal(blocks[name], blocks["image"] + number) for number, name in enumerate(BLOCKS))
            self.rows += blocks["image"][:, 0].tolist()

    kept = Kept()
    sorter = InTableOrder(kept, order)
    values = np.array(order, dtype=np.float32)[:, None]
    for part in np.split(values, sorted(set(cuts))):
        sorter.append({name: part + number for number, name in enumerate(BLOCKS)})
    assert kept.rows == list(range(7))
    assert restored([f"{row}" for row in order], order) == [f"{row}" for row in range(7)]
    assert sorter.settings == kept.settings


def test_answers_and_states_are_those_of_the_table_as_it_is(checkpoint, tables):
    class Kept:
        settings = FeatureSettings()

        def __init__(self):
            self.first = np.empty((0, 0))

        def append(self, blocks):
            self.first = np.concatenate([self.first, blocks["first"]]) if len(self.first) else blocks["first"]

    table = tables["scenes"]["test"].select([*range(17, 3, -3), *range(0, 17, 2)])
    order = by_length(table)
    assert order != list(range(len(table)))

    def answered(asked, features):
        how = {"batch_size": 4, "max_new_tokens": 4, "accelerator": "cpu", "progress": False}
        return answer_table(asked, checkpoint, features=features, **how)

    plain, ordered = Kept(), Kept()
    expected = answered(table, plain)
    found = restored(answered(table.select(order), InTableOrder(ordered, order)), order)
    assert [row["question_id"] for row in found] == table["question_id"][:]
    assert [row["answer"] for row in found] == [row["answer"] for row in expected]
    np.testing.assert_allclose(ordered.first, plain.first, atol=2e-4)
