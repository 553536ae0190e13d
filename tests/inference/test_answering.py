import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from inference.answers import answer_table
from reliabit.inference.answering import Answering
from reliabit.inference.decoding import score_tokens


def answers_of(checkpoint, table, batch_size):
    return answer_table(table, checkpoint, batch_size=batch_size, max_new_tokens=8, accelerator="cpu", progress=False)


@pytest.mark.parametrize("source", ["easy_vqa", "scenes"])
def test_batch_size_changes_neither_answers_nor_confidences(checkpoint, tables, source):
    table = tables[source]["test"].select(range(30))
    alone, seven, all_at_once = (answers_of(checkpoint, table, size) for size in (1, 7, 64))
    assert len({row["answer"] for row in alone}) > 1, "a model that always says the same would prove nothing"
    for first, *others in zip(alone, seven, all_at_once, strict=True):
        for other in others:
            assert other["answer"] == first["answer"]
            assert other["n_tokens"] == first["n_tokens"]
            assert math.exp(other["log_prob"]) == pytest.approx(math.exp(first["log_prob"]), abs=1e-4)


def test_scores_are_those_of_a_second_forward_pass(checkpoint, tables):
    """Teacher-forcing the answer through the plain model gives the probabilities that decoding recorded."""
    table = tables["easy_vqa"]["test"].select(range(4))
    encoder, model = checkpoint.encoder, checkpoint.model
    module = Answering(checkpoint, max_new_tokens=8)
    for number, row in enumerate(table):
        batch = encoder([row])
        answered = module.predict_step(batch, number)[0]
        with torch.inference_mode():
            shared = encoder.adapter.shared_images(model, batch.images, batch.image_of)
            greedy = GenerationConfig(do_sample=False, max_new_tokens=8, eos_token_id=module.ends, pad_token_id=0)
            model.generation_config = greedy
            tokens = model.generate(**batch.text, **shared)
            kinds = {"mm_token_type_ids": (tokens == encoder.processor.image_token_id).int()}
            text = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            text |= kinds if "mm_token_type_ids" in batch.text else {}
            logits = model(**text, **encoder.adapter.shared_images(model, batch.images, batch.image_of)).logits
        start = batch.text["input_ids"].shape[1]
        log_probs = torch.log_softmax(logits.double(), -1)[0, start - 1 : -1]
        chosen = log_probs.gather(1, tokens[0, start:, None])[:, 0][: answered["n_tokens"]]
        assert answered["log_prob"] == pytest.approx(chosen.sum().item(), abs=1e-4)
        assert answered["first_token_prob"] == pytest.approx(chosen[0].exp().item(), abs=1e-5)
        assert answered["min_token_prob"] == pytest.approx(chosen.min().exp().item(), abs=1e-5)


def test_sampling_settings_of_a_checkpoint_are_overridden(checkpoint, tables):
    table = tables["easy_vqa"]["test"].select(range(8))
    greedy = answers_of(checkpoint, table, 8)
    checkpoint.model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0)
    assert answers_of(checkpoint, table, 8) == greedy


def test_maxprob_is_the_product_over_all_tokens():
    """The vector of the specification: .9 x .8 x 1.0 = .72, in log space -0.328504."""
    logits = torch.log(torch.tensor([[[0.9, 0.1], [0.2, 0.8], [1.0, 1e-30]]]))
    scores = score_tokens(logits, torch.tensor([[0, 1, 0]]), torch.tensor([3]))
    assert scores.log_prob.item() == pytest.approx(-0.328504, abs=1e-6)
    assert scores.min_token_prob.item() == pytest.approx(0.8)
    assert scores.first_token_margin.item() == pytest.approx(0.8)
    assert scores.first_token_entropy.item() == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))


def test_padding_after_the_end_does_not_count():
    logits = torch.log(torch.tensor([[[0.9, 0.1], [0.5, 0.5]]]))
    scores = score_tokens(logits, torch.tensor([[0, 0]]), torch.tensor([1]))
    assert scores.log_prob.item() == pytest.approx(math.log(0.9))


def test_nearly_sure_answers_keep_their_order():
    """In float32 both log-probabilities would round to zero, and the answers would tie."""
    logits = torch.tensor([[[20.0, 0.0]], [[25.0, 0.0]]])
    scores = score_tokens(logits, torch.tensor([[0], [0]]), torch.tensor([1, 1]))
    assert scores.log_prob[0] < scores.log_prob[1] < 0


@given(
    st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_probabilities_are_consistent(rows, token):
    logits = torch.tensor([rows], dtype=torch.float32)
    steps = len(rows)
    scores = score_tokens(logits, torch.full((1, steps), token), torch.tensor([steps]))
    probability = scores.log_prob.exp().item()
    assert 0 <= probability <= scores.min_token_prob.item() + 1e-12
    assert scores.min_token_prob.item() <= scores.first_token_prob.item() + 1e-12
    assert 0 <= scores.first_token_entropy.item() <= math.log(4) + 1e-9
    assert -1e-12 <= scores.first_token_margin.item() <= 1


def test_answers_end_where_generate_ends_them(checkpoint, tables):
    """Full-size checkpoints ship several end tokens; here some token that answers hold becomes one as well."""
    row = tables["easy_vqa"]["test"][0]
    batch = checkpoint.encoder([row])
    own = Answering(checkpoint, max_new_tokens=8).ends
    prompt = batch.text["input_ids"].shape[1]
    greedy = GenerationConfig(do_sample=False, max_new_tokens=8, eos_token_id=own, pad_token_id=0)
    whole = checkpoint.model.generate(**batch.text, **batch.images, generation_config=greedy)[0, prompt:].tolist()
    shipped = [*own, whole[1]]
    checkpoint.model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=8, eos_token_id=shipped, pad_token_id=0
    )
    expected = checkpoint.model.generate(**batch.text, **batch.images)[0, prompt:].tolist()
    assert len(expected) < len(whole)
    found = Answering(checkpoint, max_new_tokens=8).predict_step(batch, 0)[0]
    assert (found["n_tokens"], found["truncated"]) == (len(expected), False)
