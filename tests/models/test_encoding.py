from io import BytesIO

import pytest
import torch
from PIL import Image

from reliabit.errors import ReliabitError
from reliabit.models.encoding import distinct_images
from reliabit.models.loading import load_encoder
from reliabit.models.settings import ModelConfig


def rows_of(table, count):
    return [table[i] for i in range(count)]


@pytest.mark.parametrize("source", ["easy_vqa", "scenes"])
def test_prompts_equal_those_of_the_family_s_own_processor(checkpoint, tables, source):
    """The processor of transformers, called one question at a time with its own image, is the reference."""
    rows = rows_of(tables[source]["test"], 12)
    encoder = checkpoint.encoder
    batch = encoder(rows)
    images, image_of = distinct_images(rows)
    for number, row in enumerate(rows):
        prompt = encoder.adapter.prompt(encoder.processor, row["question"])
        own = encoder.processor(
            text=[prompt], images=[images[image_of[number]]], return_tensors="pt", add_special_tokens=False
        )
        mask = batch.text["attention_mask"][number].bool()
        assert torch.equal(batch.text["input_ids"][number][mask], own["input_ids"][0])
        assert not mask[: int((~mask).sum())].any()


def test_every_image_is_encoded_once(checkpoint, tables):
    rows = rows_of(tables["scenes"]["test"], 25)
    batch = checkpoint.encoder(rows)
    assert len({row["image_id"] for row in rows}) == 3
    assert batch.image_of.tolist() == [0] * 10 + [1] * 10 + [2] * 5
    count = {"qwen2_vl": "image_grid_thw", "idefics3": "pixel_values"}[checkpoint.encoder.adapter.model_type]
    assert len(batch.images[count]) == 3


def test_the_template_goes_around_the_question(checkpoint, tables):
    from dataclasses import replace

    encoder = replace(checkpoint.encoder, template="{question} Answer briefly.")
    text = encoder.prompt("is it red?", placeholder="<>")
    assert "is it red? Answer briefly." in text
    assert text.count("<>") == 1


def test_shared_images_give_the_logits_of_separate_ones(checkpoint, tables):
    """One pass of the vision tower an image equals the plain forward pass with an image a question."""
    encoder, model = checkpoint.encoder, checkpoint.model
    rows = rows_of(tables["easy_vqa"]["test"], 14)
    batch = encoder(rows)
    images, image_of = distinct_images(rows)
    separate = encoder.adapter.encode_images(encoder.processor, [images[i] for i in image_of]).tensors
    if "image_grid_thw" in separate:
        separate = {name: separate[name] for name in ("pixel_values", "image_grid_thw")}
    with torch.inference_mode():
        shared = encoder.adapter.shared_images(model, batch.images, batch.image_of)
        ours = model(**batch.text, **shared).logits[:, -1]
        plain = model(**batch.text, **separate).logits[:, -1]
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_answers_span_several_tokens(checkpoint):
    tokenizer = checkpoint.encoder.processor.tokenizer
    for answer in ("rectangle", "circle", "triangle", "yellow", "black"):
        assert len(tokenizer(answer, add_special_tokens=False)["input_ids"]) > 1


def test_large_images_are_shrunk_where_the_family_takes_any_size(checkpoint, untrained, family):
    limited = {"family": family, "template": "{question}", "max_pixels": 64 * 64}
    if family == "idefics3":
        with pytest.raises(ReliabitError, match="max_pixels=4096 is no setting of the family idefics3"):
            load_encoder(ModelConfig(path=str(untrained), **limited))
        return
    row = picture_row(Image.new("RGB", (160, 160)))
    whole, shrunk = (
        encoder([row]) for encoder in (checkpoint.encoder, load_encoder(ModelConfig(path=str(untrained), **limited)))
    )
    assert shrunk.image_tokens.sum() == (64 // 16) ** 2 < whole.image_tokens.sum()
    with pytest.raises(ReliabitError, match="max_pixels=10 is less than the 256 pixels"):
        load_encoder(ModelConfig(path=str(untrained), **{**limited, "max_pixels": 10}))


def picture_row(image, question="what is it?"):
    file = BytesIO()
    image.save(file, format="PNG")
    return {"image": file.getvalue(), "image_id": "7", "source": "made", "question_id": "1", "question": question}


def test_what_the_model_does_not_take_is_named(checkpoint, family):
    encoder, good = checkpoint.encoder, picture_row(Image.new("RGB", (80, 80)))
    token = encoder.adapter.image_token
    with pytest.raises(ReliabitError, match="the question 1 of made holds .* which stands for an image"):
        encoder([good, picture_row(Image.new("RGB", (80, 80)), f"what is {token}?")])
    if family == "qwen2_vl":
        narrow = {**picture_row(Image.new("RGB", (1500, 6))), "image_id": "8"}
        with pytest.raises(ReliabitError, match="the image 8 of made, 1500x6 pixels, is none that the model takes"):
            encoder([good, narrow])
