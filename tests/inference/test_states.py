"""The states that a Selector reads are those of the answering pass, at the right places of the prompt."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.answers import answer_table
from reliabit.errors import ReliabitError
from reliabit.inference._prefix_sharing import PackedPrompts
from reliabit.inference.answering import Answering, pool_states, prompt_states, state_module
from reliabit.inference.settings import FeatureSettings
from reliabit.models.encoding import Encoder, tokens_within


class Kept:
    """Takes what a writer would be given."""

    def __init__(self, layer=None):
        self.settings = FeatureSettings(layer=layer)
        self.blocks = []

    def append(self, blocks):
        self.blocks.append(blocks)

    def all(self, name):
        return np.concatenate([blocks[name] for blocks in self.blocks])


def features_of(checkpoint, table, batch_size, layer=None):
    kept = Kept(layer)
    answers = answer_table(
        table,
        checkpoint,
        batch_size=batch_size,
        max_new_tokens=8,
        accelerator="cpu",
        progress=False,
        features=kept,
    )
    return kept, answers


def test_the_first_state_gives_the_logits_of_the_first_token(checkpoint, tables):
    table = tables["easy_vqa"]["test"].select(range(12))
    kept, answers = features_of(checkpoint, table, 5)
    with torch.inference_mode():
        logits = checkpoint.model.get_output_embeddings()(torch.from_numpy(kept.all("first")))
    best = torch.log_softmax(logits.double(), -1).exp().max(-1).values
    assert best.tolist() == pytest.approx([answer["first_token_prob"] for answer in answers], abs=1e-4)


def test_keeping_states_changes_no_answer(checkpoint, tables):
    table = tables["scenes"]["test"].select(range(10))
    plain = answer_table(table, checkpoint, batch_size=4, max_new_tokens=8, accelerator="cpu", progress=False)
    assert features_of(checkpoint, table, 4)[1] == plain


def test_batch_size_and_padding_change_no_state(checkpoint, tables):
    table = tables["easy_vqa"]["test"].select(range(20))
    alone, together = features_of(checkpoint, table, 1)[0], features_of(checkpoint, table, 20)[0]
    for name in ("image", "question", "first"):
        np.testing.assert_allclose(alone.all(name), together.all(name), atol=2e-4)


def test_states_are_pooled_over_a_plain_forward_pass(checkpoint, tables):
    """The image's states over all its tokens and no other, by a pass of the plain model without any hook."""
    rows = list(tables["easy_vqa"]["test"].select(range(3)))
    kept, _ = features_of(checkpoint, tables["easy_vqa"]["test"].select(range(3)), 3)
    batch, model, adapter = checkpoint.encoder(rows), checkpoint.model, checkpoint.encoder.adapter
    with torch.inference_mode():
        shared = adapter.shared_images(model, batch.images, batch.image_of)
        states = model(**batch.text, **shared, output_hidden_states=True).hidden_states[-1]
    for row in range(3):
        image = states[row][batch.text["input_ids"][row] == checkpoint.encoder.processor.image_token_id]
        np.testing.assert_allclose(kept.all("image")[row], image.max(0).values, atol=2e-4)


def test_another_layer_gives_other_states(checkpoint, tables):
    table = tables["easy_vqa"]["test"].select(range(3))
    last, first, final = (features_of(checkpoint, table, 3, layer)[0].all("first") for layer in (-1, 0, None))
    assert not np.allclose(last, first)
    norm = checkpoint.model.get_submodule(checkpoint.encoder.adapter.final_norm)
    with torch.inference_mode():
        np.testing.assert_allclose(norm(torch.from_numpy(last)), final, atol=1e-4)
    with pytest.raises(ReliabitError, match=r"features.layer=7 does not exist; the decoder has layers 0 to 1"):
        state_module(checkpoint.model, checkpoint.encoder.adapter, layer=7)


@pytest.mark.parametrize("template", ["{question}", "{question}\nUse a single word.", "Look closely. {question}"])
def test_question_tokens_are_the_question_and_nothing_else(checkpoint, tables, template):
    encoder = Encoder(adapter=checkpoint.encoder.adapter, processor=checkpoint.encoder.processor, template=template)
    rows = list(tables["easy_vqa"]["test"].select(range(8)))
    batch = encoder(rows)
    for row, ids, where in zip(rows, batch.text["input_ids"], batch.question_tokens, strict=True):
        # A token may reach over the border by a blank or a line's end.
        assert encoder.processor.tokenizer.decode(ids[where]).strip() == row["question"]
        assert not (where & (ids == encoder.processor.image_token_id)).any()


def test_a_template_that_repeats_the_question_is_refused(checkpoint, tables):
    twice = "{question} {question}"
    encoder = Encoder(adapter=checkpoint.encoder.adapter, processor=checkpoint.encoder.processor, template=twice)
    with pytest.raises(ReliabitError, match="shows the question 2 times"):
        encoder(list(tables["easy_vqa"]["test"].select(range(1))))


def test_the_hook_leaves_the_model_as_it_was(checkpoint, tables):
    module = state_module(checkpoint.model, checkpoint.encoder.adapter, layer=None)
    answering = Answering(checkpoint, max_new_tokens=4, features=Kept())
    answering.predict_step(checkpoint.encoder(list(tables["easy_vqa"]["test"].select(range(2)))), 0)
    assert not module._forward_hooks
    with pytest.raises(ZeroDivisionError), prompt_states(module):
        _ = 1 / 0
    assert not module._forward_hooks


def packed(owner, *, image_tokens, question_tokens):
    """One row of two questions, with two columns in common and two at each place."""
    return PackedPrompts(
        input_ids=torch.zeros_like(owner),
        owner=owner,
        position_ids=torch.arange(owner.shape[1]).expand(len(owner), -1),
        image_tokens=image_tokens,
        question_tokens=question_tokens,
        image_of=torch.tensor([0]),
        row_of=torch.tensor([0, 0]),
        place_of=torch.tensor([1, 0]),
        starts=[2, 4],
        ends=[4, 6],
    )


def test_pooling_takes_the_common_image_and_each_questions_own_words():
    """The questions of the batch stand at places 1 and 0."""
    states = torch.tensor([[[9.0], [1.0], [3.0], [2.0], [5.0], [7.0]]])
    prompts = packed(
        torch.tensor([[0, 0, 1, 1, 2, 2]]),
        image_tokens=torch.tensor([[0, 1, 0, 0, 0, 0]]).bool(),
        question_tokens=torch.tensor([[0, 0, 1, 0, 1, 0]]).bool(),
    )
    pooled = pool_states(states, prompts)
    assert pooled.image.tolist() == [[1.0], [1.0]]
    assert pooled.question.tolist() == [[5.0], [3.0]]
    assert pooled.first.tolist() == [[7.0], [2.0]]


@given(st.integers(0, 2**32 - 1))
def test_pooling_sees_only_where_it_should(seed):
    """Changing the states of no image and no question, nor of an end, changes nothing."""
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(1, 6, 4, generator=draw)
    image, question = torch.zeros(2, 1, 6, dtype=torch.bool)
    image[:, 1], question[:, [2, 4]] = True, True
    prompts = packed(torch.tensor([[0, 0, 1, 1, 2, 2]]), image_tokens=image, question_tokens=question)
    shaken = states.clone()
    shaken[:, 0] = torch.randn(4, generator=draw)
    before, after = pool_states(states, prompts), pool_states(shaken, prompts)
    assert all(torch.equal(vars(before)[name], vars(after)[name]) for name in vars(before))


def test_nothing_to_pool_gives_zeros():
    nowhere = torch.zeros(1, 6, dtype=torch.bool)
    prompts = packed(torch.tensor([[0, 0, 1, 1, 2, 2]]), image_tokens=nowhere, question_tokens=nowhere)
    pooled = pool_states(torch.ones(1, 6, 2), prompts)
    assert pooled.image.tolist() == pooled.question.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_tokens_that_only_touch_a_span_are_outside():
    offsets = torch.tensor([[[0, 4], [4, 6], [6, 9]]])
    assert tokens_within(offsets, [(4, 6)]).tolist() == [[False, True, False]]
