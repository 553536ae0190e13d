"""Answers scored before blank images, against plain passes of transformers over prompt and answer."""

from io import BytesIO

import pytest
import torch
from PIL import Image

from inference.answers import answer_table
from reliabit.data.corruptions import blank
from reliabit.inference.blanked_passes import followed_by, score_blanked
from reliabit.quant.convert import quantize_model

HOW = {"accelerator": "cpu", "progress": False}


@pytest.fixture
def table(tables):
    return tables["easy_vqa"]["test"].select(range(5))


def plain_scores(checkpoint, row, tokens, *, blanked):
    """Log-probability and mean entropy of an answer, by one pass over its prompt alone."""
    encoder, model = checkpoint.encoder, checkpoint.model
    if blanked:
        file = BytesIO()
        blank(Image.open(BytesIO(row["image"]))).save(file, "PNG")
        row = {**row, "image": file.getvalue()}
    batch = encoder([row])
    ids = torch.cat([batch.text["input_ids"], torch.tensor([tokens])], 1)
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "mm_token_type_ids" in batch.text:
        text["mm_token_type_ids"] = (ids == encoder.processor.image_token_id).int()
    with torch.inference_mode():
        logits = model(**text, **batch.images).logits[0, -len(tokens) - 1 : -1].double()
    distribution = torch.distributions.Categorical(logits=logits)
    return distribution.log_prob(torch.tensor(tokens)).sum().item(), distribution.entropy().mean().item()


@pytest.mark.parametrize("bits", [None, 3])
def test_both_uncertainties_are_those_of_plain_passes_over_both_prompts(checkpoint, table, bits):
    if bits is not None:
        quantize_model(checkpoint.model, bits=bits)
    answers = answer_table(table, checkpoint, batch_size=4, max_new_tokens=5, **HOW)
    # Answers of several lengths, some cut short, so that a batch has to align them.
    tokens = [answer["tokens"][: 1 + number % 4] for number, answer in enumerate(answers)]
    found = score_blanked(table, tokens, checkpoint, batch_size=4, **HOW)
    for row, answer, short, scores in zip(table, answers, tokens, found, strict=True):
        assert len(answer["tokens"]) == answer["n_tokens"]
        seen = plain_scores(checkpoint, row, answer["tokens"], blanked=False)
        assert (answer["log_prob"], answer["mean_entropy"]) == pytest.approx(seen, abs=1e-4)
        expected = plain_scores(checkpoint, row, short, blanked=True)
        assert (scores.log_prob, scores.mean_entropy) == pytest.approx(expected, abs=1e-4)


def test_scores_do_not_depend_on_the_batch_and_a_blank_image_is_seen_once_a_size(checkpoint, table, monkeypatch):
    tokenizer = checkpoint.encoder.processor.tokenizer
    tokens = [tokenizer(answer)["input_ids"] for answer in ("red circle", "no", "yes", "a blue circle", "red")]
    # A worn-out model may say the token of images; it is no image, here either.
    tokens[1] = [*tokens[1], checkpoint.encoder.processor.image_token_id]
    sizes = []
    for row, width in zip(table, [64, 96, 64, 96, 64], strict=True):
        file = BytesIO()
        Image.open(BytesIO(row["image"])).resize((width, 64)).save(file, "PNG")
        sizes.append({**row, "image_id": f"{row['image_id']}-{width}", "image": file.getvalue()})
    table = type(table).from_list(sizes, features=table.features)
    whole = score_blanked(table, tokens, checkpoint, batch_size=5, **HOW)
    adapter, seen = type(checkpoint.encoder.adapter), []
    see = adapter.see_images
    monkeypatch.setattr(adapter, "see_images", lambda self, *given: seen.append(1) or see(self, *given))
    single = score_blanked(table, tokens, checkpoint, batch_size=1, **HOW)
    assert len(seen) == 2
    for one, other in zip(whole, single, strict=True):
        assert (one.log_prob, one.mean_entropy) == pytest.approx((other.log_prob, other.mean_entropy), abs=1e-4)
    assert score_blanked(table.select([]), [], checkpoint, batch_size=4, **HOW) == []


def test_an_answer_stands_behind_its_prompt_and_padding_before_it(checkpoint, table):
    batch = checkpoint.encoder(list(table.select(range(2))))
    longer = followed_by(batch, [[5], [6, 7, 8]])
    for row, own in enumerate([[5], [6, 7, 8]]):
        there = longer.text["attention_mask"][row].bool()
        before = batch.text["input_ids"][row][batch.text["attention_mask"][row].bool()].tolist()
        assert longer.text["input_ids"][row][there].tolist() == before + own
        assert longer.image_tokens[row].sum() == batch.image_tokens[row].sum()
