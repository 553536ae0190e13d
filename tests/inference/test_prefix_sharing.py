"""Questions that share an image are answered as if each were asked alone, by transformers' own `generate`."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import GenerationConfig

from reliabit.inference._prefix_sharing import COMMON, NOWHERE, pack
from reliabit.inference.answering import Answering
from reliabit.inference.decoding import score_tokens
from reliabit.inference.settings import FeatureSettings
from reliabit.models.encoding import Encoder
from reliabit.models.loading import Checkpoint, load_checkpoint
from reliabit.models.settings import ModelConfig

MODELS = Path(__file__).resolve().parents[2] / "models"
QUESTIONS = (
    "what is it?",
    "is there a red shape in the image, or is there none at all?",
    "what color is the shape?",
    "why?",
    "does the image show a circle or another shape that is blue or green?",
)


class Kept:
    """Takes what a features writer would be given."""

    def __init__(self):
        self.settings = FeatureSettings(dtype="float32")

    def append(self, blocks):
        self.blocks = blocks


def picture(size, seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(file, format="PNG")
    return file.getvalue()


PICTURES = [picture((64, 64), 0), picture((96, 40), 1), picture((40, 72), 2)]


def asked(*pairs):
    """Rows of a table by the numbers of their images and questions."""
    return [
        {
            "question_id": f"{number}",
            "image_id": f"{image}",
            "source": "made",
            "image": PICTURES[image],
            "question": QUESTIONS[question],
        }
        for number, (image, question) in enumerate(pairs)
    ]


def plain(checkpoint, row, *, ends, max_new_tokens):
    """Text, tokens, log-probability and pooled states of one question, without any code of the answering pass."""
    model, batch = checkpoint.model, checkpoint.encoder([row])
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        pad_token_id=0,
        output_logits=True,
        output_hidden_states=True,
        return_dict_in_generate=True,
    )
    output = model.generate(**batch.text, **batch.images)
    tokens = output.sequences[:, batch.text["input_ids"].shape[1] :]
    scores = score_tokens(torch.stack(output.logits, 1), tokens, torch.tensor([tokens.shape[1]]))
    states = output.hidden_states[0][-1][0]
    return {
        "answer": checkpoint.encoder.processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip(),
        "tokens": tokens[0].tolist(),
        "n_tokens": tokens.shape[1],
        "truncated": tokens[0, -1].item() not in (ends or []),
        "log_prob": scores.log_prob.item(),
        "first_token_entropy": scores.first_token_entropy.item(),
        "image": states[batch.image_tokens[0]].amax(0),
        "question": states[batch.question_tokens[0]].amax(0),
        "first": states[-1],
    }


def check(checkpoint, rows, *, ends=None, max_new_tokens=8, expected=None):
    """Answer rows together and compare each with the plain pass; what was answered."""
    kept = Kept()
    answering = Answering(checkpoint, max_new_tokens=max_new_tokens, features=kept)
    answering.ends = answering.ends if ends is None else ends
    found = answering.predict_step(checkpoint.encoder(rows), 0)
    for number, (row, mine) in enumerate(zip(rows, found, strict=True)):
        alone = (
            plain(checkpoint, row, ends=answering.ends, max_new_tokens=max_new_tokens)
            if expected is None
            else expected[number]
        )
        for name in ("answer", "n_tokens", "truncated"):
            assert mine[name] == alone[name], (number, name)
        for name in ("log_prob", "first_token_entropy"):
            assert mine[name] == pytest.approx(alone[name], abs=1e-4), (number, name)
        for name in ("image", "question", "first"):
            np.testing.assert_allclose(kept.blocks[name][number], alone[name], atol=2e-4)
    return found


def packed(checkpoint, rows):
    return pack(checkpoint.encoder(rows), model=checkpoint.model, adapter=checkpoint.encoder.adapter)


SEVERAL = asked(*[(image, question) for image in (0, 1) for question in range(5)])
MIXED = asked((0, 1), (2, 0), (1, 4), (0, 3), (1, 0), (0, 2), (2, 0), (0, 0), (0, 4))


@pytest.mark.parametrize("rows", [SEVERAL, MIXED], ids=["five an image", "mixed"])
def test_questions_of_an_image_are_answered_as_alone(checkpoint, rows):
    assert len(packed(checkpoint, rows).input_ids) < len(rows), "nothing was shared"
    assert len({row["answer"] for row in check(checkpoint, rows)}) > 1


@pytest.mark.parametrize("rows", [SEVERAL, MIXED], ids=["five an image", "mixed"])
def test_the_trained_models_answer_as_alone(family, rows):
    trained = load_checkpoint(
        ModelConfig(path=str(MODELS / f"{family}_tiny"), family=family, dtype="float32", template="Look. {question}")
    )
    found = check(trained, rows)
    assert not all(row["truncated"] for row in found)


def test_answers_may_end_at_different_steps(checkpoint):
    """Some token ends some answers early, others late and others never, once it is taken for the end."""
    whole = [plain(checkpoint, row, ends=None, max_new_tokens=8)["tokens"] for row in SEVERAL]
    found = {token: {ids.index(token) if token in ids else None for ids in whole} for ids in whole for token in ids}
    end = max(found, key=lambda token: len(found[token]))
    answers = check(checkpoint, SEVERAL, ends=[end])
    assert len({row["n_tokens"] for row in answers}) > 2
    assert len({row["truncated"] for row in answers}) == 2


@pytest.mark.parametrize("max_new_tokens", [1, 2])
def test_answers_may_be_cut_off(checkpoint, max_new_tokens):
    found = check(checkpoint, MIXED, max_new_tokens=max_new_tokens)
    assert all(row["n_tokens"] <= max_new_tokens for row in found)


def test_a_question_alone_has_the_plain_layout(checkpoint):
    [row] = asked((1, 4))
    batch, prompts = checkpoint.encoder([row]), packed(checkpoint, [row])
    assert torch.equal(prompts.input_ids, batch.text["input_ids"])
    assert (prompts.owner == 1).all()
    check(checkpoint, [row])


def test_one_question_an_image_has_the_plain_layout(checkpoint):
    rows = asked((0, 0), (1, 1), (2, 4))
    batch, prompts = checkpoint.encoder(rows), packed(checkpoint, rows)
    assert prompts.input_ids.shape == batch.text["input_ids"].shape
    assert torch.equal(prompts.owner == 1, batch.text["attention_mask"].bool())
    check(checkpoint, rows)


def test_packing_loses_and_doubles_no_token(checkpoint):
    batch, prompts = checkpoint.encoder(MIXED), packed(checkpoint, MIXED)
    for question, (ids, mask) in enumerate(zip(batch.text["input_ids"], batch.text["attention_mask"], strict=True)):
        row, place = prompts.row_of[question], prompts.place_of[question]
        own = (prompts.owner[row] == COMMON) | (prompts.owner[row] == place + 1)
        assert torch.equal(prompts.input_ids[row][own], ids[mask.bool()])
        assert prompts.owner[row, prompts.ends[place] - 1] == place + 1
    assert prompts.input_ids.numel() < batch.text["input_ids"].numel()
    assert not (prompts.image_tokens & (prompts.owner == NOWHERE)).any()


def test_an_image_is_read_once(checkpoint):
    rows = asked(*[(0, question) for question in range(5)])
    prompts, image_tokens = packed(checkpoint, rows), checkpoint.encoder(rows).image_tokens
    assert len(prompts.input_ids) == 1
    assert prompts.image_tokens.sum() == image_tokens[0].sum()


def test_uneven_numbers_of_questions_are_not_padded_out(checkpoint):
    """Twelve questions about one image, one about each of two others: a row of all twelve would be half padding."""
    rows = asked(*[(0, number % 5) for number in range(12)], (1, 0), (2, 0))
    prompts = packed(checkpoint, rows)
    assert (prompts.owner == NOWHERE).float().mean() < 0.35
    assert prompts.input_ids.numel() < checkpoint.encoder(rows).text["input_ids"].numel()
    check(checkpoint, rows)


def test_a_family_that_shows_the_image_last_shares_nothing(checkpoint):
    adapter = checkpoint.encoder.adapter

    class ImageLast(type(adapter)):
        def prompt(self, processor, question):
            content = [{"type": "text", "text": question}, {"type": "image"}]
            return processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )

    encoder = Encoder(adapter=ImageLast(), processor=checkpoint.encoder.processor)
    other = Checkpoint(model=checkpoint.model, encoder=encoder)
    rows = asked((0, 0), (0, 1), (1, 2), (0, 4))
    assert len(packed(other, rows).input_ids) == len(rows)
    check(other, rows)


def test_what_was_seen_before_is_not_seen_again(checkpoint, monkeypatch):
    adapter, model = checkpoint.encoder.adapter, checkpoint.model
    answering = Answering(checkpoint, max_new_tokens=4)
    batch = checkpoint.encoder(SEVERAL)
    once = answering.predict_step(batch, 0)
    seen = replace(batch, seen=adapter.see_images(model, batch.images))
    monkeypatch.setattr(type(adapter), "see_images", None)
    assert answering.predict_step(seen, 0) == once


def test_eager_attention_answers_alike(checkpoint):
    found = check(checkpoint, SEVERAL)
    checkpoint.model.set_attn_implementation("eager")
    again = Answering(checkpoint, max_new_tokens=8).predict_step(checkpoint.encoder(SEVERAL), 0)
    assert [row["answer"] for row in again] == [row["answer"] for row in found]


@pytest.fixture
def alone(checkpoint):
    """Every question about every image, by the plain pass."""
    pairs = [(image, question) for image in range(3) for question in range(5)]
    ends = Answering(checkpoint, max_new_tokens=3).ends
    return {pair: plain(checkpoint, asked(pair)[0], ends=ends, max_new_tokens=3) for pair in pairs}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=12))
def test_any_grouping_gives_the_same(checkpoint, alone, pairs):
    check(checkpoint, asked(*pairs), max_new_tokens=3, expected=[alone[pair] for pair in pairs])
