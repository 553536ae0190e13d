"""What full-size checkpoints have and the reference models lack: another family, tiles, sampling, chat templates."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers import Idefics3ImageProcessorPil, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from conftest import save_untrained
from inference.answers import answer_table
from reliabit.errors import ReliabitError
from reliabit.models.encoding import distinct_images
from reliabit.models.loading import Checkpoint, load_checkpoint, load_encoder
from reliabit.models.reference import build_qwen2_vl
from reliabit.models.settings import ModelConfig
from reliabit.quant.module_names import component_of

pytestmark = pytest.mark.medium


def load(folder, family) -> Checkpoint:
    return load_checkpoint(ModelConfig(path=str(folder), family=family, dtype="float32", template="{question}"))


@pytest.fixture(scope="module")
def qwen2_5_vl(tables, tmp_path_factory):
    """A small Qwen2.5-VL with random weights, tokenizer and image processor as of the Qwen2-VL reference model."""
    folder = tmp_path_factory.mktemp("models") / "qwen2_5_vl"
    adapter = save_untrained("qwen2_vl", tables, folder)
    like = build_qwen2_vl(list(tables["scenes"]["train"]["question"])).model.config
    text, vision = like.text_config.to_dict(), like.vision_config
    ids = {name: getattr(like, name) for name in ("image_token_id", "video_token_id", "vision_start_token_id")}
    config = Qwen2_5_VLConfig(
        text_config={key: value for key, value in text.items() if key not in ("model_type", "architectures")},
        vision_config={
            "depth": 2,
            "hidden_size": vision.embed_dim,
            "intermediate_size": 2 * vision.embed_dim,
            "num_heads": vision.num_heads,
            "out_hidden_size": text["hidden_size"],
            "patch_size": vision.patch_size,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 4 * vision.patch_size,
            "fullatt_block_indexes": [1],
        },
        vision_end_token_id=like.vision_end_token_id,
        tie_word_embeddings=False,
        **ids,
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    model.save_pretrained(folder)
    assert adapter.model_type == "qwen2_vl"
    return folder


def separate_logits(checkpoint, rows, batch):
    """The plain forward pass, an image a question."""
    encoder = checkpoint.encoder
    images, image_of = distinct_images(rows)
    separate = encoder.adapter.encode_images(encoder.processor, [images[i] for i in image_of]).tensors
    return checkpoint.model(**batch.text, **separate).logits[:, -1]


def shared_logits(checkpoint, batch):
    shared = checkpoint.encoder.adapter.shared_images(checkpoint.model, batch.images, batch.image_of)
    return checkpoint.model(**batch.text, **shared).logits[:, -1]


def test_qwen2_5_vl_answers_as_its_plain_forward_pass(qwen2_5_vl, tables):
    checkpoint = load(qwen2_5_vl, "qwen2_5_vl")
    rows = [tables["easy_vqa"]["test"][i] for i in range(14)]
    batch = checkpoint.encoder(rows)
    with torch.inference_mode():
        ours, plain = shared_logits(checkpoint, batch), separate_logits(checkpoint, rows, batch)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
    adapter = checkpoint.encoder.adapter
    assert len(checkpoint.model.get_submodule(adapter.decoder_layers)) == 2
    assert checkpoint.model.get_submodule(adapter.final_norm)
    found = {component_of(name) for name, _ in checkpoint.model.named_modules()}
    assert found >= {"language_attention", "language_mlp", "vision", "connector", "lm_head", "embeddings"}


def test_qwen2_5_vl_can_be_asked_a_table(qwen2_5_vl, tables):
    checkpoint, table = load(qwen2_5_vl, "qwen2_5_vl"), tables["scenes"]["test"].select(range(12))
    how = {"max_new_tokens": 6, "accelerator": "cpu", "progress": False}
    alone, together = (answer_table(table, checkpoint, batch_size=size, **how) for size in (1, 12))
    assert [row["answer"] for row in alone] == [row["answer"] for row in together]


def test_images_in_tiles_are_told_apart(tables, tmp_path):
    """Full-size Idefics3 cuts an image into as many tiles as its size asks for, another number for each image."""
    folder = tmp_path / "idefics3"
    save_untrained("idefics3", tables, folder)
    checkpoint = load(folder, "idefics3")
    processor = checkpoint.encoder.processor
    processor.image_processor = Idefics3ImageProcessorPil(
        size={"longest_edge": 160}, max_image_size={"longest_edge": 80}, do_image_splitting=True
    )
    rows = [tables["scenes"]["test"][i] for i in range(12)]
    buffer = tmp_path / "wide.png"
    Image.linear_gradient("L").resize((160, 80)).save(buffer)
    rows[5] = {**rows[5], "image": buffer.read_bytes(), "image_id": "wide"}
    batch = checkpoint.encoder(rows)
    tiles = batch.images["pixel_values"].shape
    assert tiles[0] == 3
    assert tiles[1] > 2
    assert len({int(row.sum()) for row in batch.image_tokens}) == 2
    with torch.inference_mode():
        ours, plain = shared_logits(checkpoint, batch), separate_logits(checkpoint, rows, batch)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def test_generation_settings_that_ship_with_a_checkpoint_are_overridden(untrained, family, tables, tmp_path):
    folder = tmp_path / "sampling"
    shutil.copytree(untrained, folder)
    shipped = json.loads((folder / "generation_config.json").read_text())
    sampling = {"do_sample": True, "temperature": 5.0, "top_p": 0.9, "top_k": 50, "repetition_penalty": 3.0}
    (folder / "generation_config.json").write_text(json.dumps({**shipped, **sampling}))
    table = tables["easy_vqa"]["test"].select(range(8))
    how = {"batch_size": 8, "max_new_tokens": 8, "accelerator": "cpu", "progress": False}
    plain, sampled = load(untrained, family), load(folder, family)
    assert sampled.model.generation_config.repetition_penalty == 3.0
    assert answer_table(table, sampled, **how) == answer_table(table, plain, **how)


def test_a_chat_template_is_found_wherever_a_checkpoint_keeps_it(untrained, family, tmp_path):
    """Idefics3 and SmolVLM ship theirs in chat_template.json, which a tokenizer does not read."""
    folder = tmp_path / "older"
    shutil.copytree(untrained, folder)
    expected = load_encoder(ModelConfig(path=str(untrained), family=family, template="{question}")).prompt(
        "what?", placeholder="<>"
    )
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ReliabitError, match="has no chat template"):
        load_encoder(ModelConfig(path=str(folder), family=family, template="{question}"))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    encoder = load_encoder(ModelConfig(path=str(folder), family=family, template="{question}"))
    assert encoder.prompt("what?", placeholder="<>") == expected


def test_the_papers_prompt_is_whole_and_the_question_is_told_from_it(untrained, family):
    template = "{question}\nAnswer the question using a single word or phrase."
    encoder = replace(
        load_encoder(ModelConfig(path=str(untrained), family=family, template="{question}")), template=template
    )
    text = encoder.prompt("what is it?", placeholder="")
    assert "what is it?\nAnswer the question using a single word or phrase." in text
