"""P(True) and sampled answers, against plain passes of the same model."""

import math

import pytest
import torch

from inference.answers import answer_table
from reliabit.errors import ReliabitError
from reliabit.inference.further_passes import find_verdict, sample_answers, self_evaluations
from reliabit.inference.settings import SamplingSettings, SelfEvaluationPrompt

HOW = {"accelerator": "cpu", "progress": False}
PROMPT = SelfEvaluationPrompt(template="{question} {answer}?", right="yes", wrong="no")


@pytest.fixture
def table(tables):
    return tables["easy_vqa"]["test"].select(range(6))


def test_p_true_is_that_of_a_plain_pass_over_the_second_prompt(checkpoint, table):
    answers = ["circle", "red", "yes", "no", "two words", ""]
    found = self_evaluations(table, answers, checkpoint, prompt=PROMPT, batch_size=4, **HOW)
    encoder, model = checkpoint.encoder, checkpoint.model
    verdict = find_verdict(encoder, PROMPT)
    for row, answer, confidence in zip(table, answers, found, strict=True):
        batch = encoder([{**row, "question": f"{row['question']} {answer}?"}])
        words = torch.tensor([verdict.shared], dtype=torch.long)
        text = {"input_ids": torch.cat([batch.text["input_ids"], words], 1)}
        text["attention_mask"] = torch.ones_like(text["input_ids"])
        if "mm_token_type_ids" in batch.text:
            text["mm_token_type_ids"] = (text["input_ids"] == encoder.processor.image_token_id).int()
        with torch.inference_mode():
            shared = encoder.adapter.shared_images(model, batch.images, batch.image_of)
            probability = model(**text, **shared).logits[0, -1].double().softmax(-1)
        expected = probability[verdict.right] / (probability[verdict.right] + probability[verdict.wrong])
        assert confidence == pytest.approx(expected.item(), abs=1e-5)


def test_the_answer_decides_and_not_the_question_alone(checkpoint, table):
    """The published visual P(True) of another library scores the original question, whatever was answered."""
    one = self_evaluations(table, ["circle"] * 6, checkpoint, prompt=PROMPT, batch_size=6, **HOW)
    other = self_evaluations(table, ["triangle"] * 6, checkpoint, prompt=PROMPT, batch_size=6, **HOW)
    assert all(abs(a - b) > 1e-9 for a, b in zip(one, other, strict=True))


def test_words_that_part_late_share_their_first_tokens(checkpoint):
    encoder = checkpoint.encoder
    verdict = find_verdict(encoder, SelfEvaluationPrompt(template="{question}", right="red x", wrong="red y"))
    tokens = encoder.processor.tokenizer(encoder.adapter.answer_prefix + "red x", add_special_tokens=False)["input_ids"]
    assert tokens[: len(verdict.shared)] == verdict.shared
    assert len(verdict.shared) > 0
    assert verdict.right != verdict.wrong
    with pytest.raises(ReliabitError, match="cannot be told apart"):
        find_verdict(encoder, SelfEvaluationPrompt(template="{question}", right="yes", wrong="yes"))


def test_a_cold_draw_is_the_greedy_answer(checkpoint, table):
    greedy = answer_table(table, checkpoint, batch_size=6, max_new_tokens=8, **HOW)
    settings = SamplingSettings(samples=2, temperature=1e-4, seed=0)
    drawn = sample_answers(table, checkpoint, settings=settings, batch_size=6, max_new_tokens=8, **HOW)
    for answer, sampled in zip(greedy, drawn, strict=True):
        assert sampled.answers == [answer["answer"]] * 2
        assert sampled.log_probs == pytest.approx([answer["log_prob"]] * 2, abs=1e-4)


def test_draws_follow_the_distribution(checkpoint, table):
    """The greedy answer comes up as often as its probability says, within four standard errors."""
    table = table.select(range(3))
    greedy = answer_table(table, checkpoint, batch_size=3, max_new_tokens=1, **HOW)
    settings = SamplingSettings(samples=300, temperature=1.0, seed=0)
    drawn = sample_answers(table, checkpoint, settings=settings, batch_size=3, max_new_tokens=1, **HOW)
    for answer, sampled in zip(greedy, drawn, strict=True):
        probability = math.exp(answer["log_prob"])
        same = sum(abs(value - answer["log_prob"]) < 1e-6 for value in sampled.log_probs) / 300
        assert same == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / 300) + 1e-9)


def test_a_seed_gives_the_same_draws_whatever_was_drawn_before(checkpoint, table):
    def draw(seed):
        settings = SamplingSettings(samples=3, temperature=2.0, seed=seed)
        return sample_answers(table, checkpoint, settings=settings, batch_size=6, max_new_tokens=8, **HOW)

    torch.manual_seed(5)
    first = draw(1)
    torch.manual_seed(6)
    assert draw(1) == first
    assert draw(2) != first
