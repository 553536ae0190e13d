import pytest
import torch

from reliabit.models.batches import IGNORED, encode_answered
from reliabit.models.packed_questions import PADDING, PREFIX, pack_questions

pytestmark = pytest.mark.parametrize("family", ["idefics3"], indirect=True, scope="session")


@pytest.fixture
def encoder(checkpoint):
    return checkpoint.encoder


@pytest.fixture
def rows(tables):
    return list(tables["easy_vqa"]["train"].remove_columns("image"))


@pytest.fixture
def packed(encoder, rows):
    placeholder = encoder.adapter.placeholder(encoder.processor, (1, 1))
    return pack_questions([rows[:3], rows[3:4]], encoder=encoder, placeholder=placeholder)


def test_each_question_has_the_tokens_and_labels_it_has_alone(packed, encoder, rows, tables):
    """Compared with how a question is encoded in a sequence of its own."""
    from PIL import Image

    alone = encode_answered(rows[:4], images=[Image.new("RGB", (64, 64))], image_of=[0] * 4, encoder=encoder)
    for number, (image, segment) in enumerate([(0, 1), (0, 2), (0, 3), (1, 1)]):
        own = (packed.segments[image] == PREFIX) | (packed.segments[image] == segment)
        attended = alone["text"]["attention_mask"][number].bool()
        assert torch.equal(packed.ids[image][own], alone["text"]["input_ids"][number][attended])
        assert torch.equal(packed.labels[image][own], alone["labels"][number][attended])
        assert torch.equal(packed.positions[image][own], torch.arange(int(own.sum())))


def test_a_question_sees_the_image_and_itself(packed):
    mask = packed.mask()[0, 0]
    segments = packed.segments[0]
    for token, seen in enumerate(mask):
        expected = (segments == PREFIX) | (segments == segments[token])
        assert torch.equal(seen.nonzero().flatten(), expected[: token + 1].nonzero().flatten())


def test_padding_comes_last_and_has_no_labels(packed):
    padding = packed.segments == PADDING
    assert padding[1].any()
    assert (packed.labels[padding] == IGNORED).all()
    assert packed.mask().any(-1).all(), "a token that sees nothing has no softmax"


def test_a_question_is_right_if_all_its_tokens_are(packed):
    assert packed.right(packed.labels) == [[True, True, True], [True]]
    predicted = packed.labels.clone()
    second = ((packed.segments[0] == 2) & (packed.labels[0] != IGNORED)).nonzero().flatten()
    predicted[0, second[-1]] += 1
    assert packed.right(predicted) == [[True, False, True], [True]]
