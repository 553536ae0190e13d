"""A model family that somebody adds is one file and one YAML; here SmolVLM under its own name."""

import pytest
import torch
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from added_packages import added, composed
from conftest import save_untrained
from reliabit.errors import ReliabitError
from reliabit.models.checkpoint_folder import check_checkpoint
from reliabit.models.families import FAMILIES
from reliabit.models.loading import load_checkpoint
from reliabit.models.reference import build_idefics3

pytestmark = pytest.mark.medium

CODE = """
from reliabit.models.families import FAMILIES
from reliabit.models.families.idefics3 import Idefics3


@FAMILIES.register("smolvlm")
class SmolVLM(Idefics3):
    model_type = "smolvlm"
"""
OPTIONS = """
name: smolvlm_small
family: smolvlm
path: ${paths.root}/smolvlm
dtype: float32
template: "{question}"
max_new_tokens: 8
"""


@pytest.fixture(autouse=True)
def package(tmp_path):
    options = {"model/smolvlm_small.yaml": OPTIONS}
    with added(tmp_path, FAMILIES, name="smolvlm", group="reliabit.families", code=CODE, options=options):
        yield tmp_path


@pytest.fixture
def folder(package, tables):
    """A small SmolVLM with random weights, tokenizer and image processor as of the Idefics3 reference model."""
    save_untrained("idefics3", tables, package / "smolvlm")
    like = build_idefics3(list(tables["scenes"]["train"]["question"])).model.config
    kinds = ("model_type", "architectures", "transformers_version")
    parts = {
        name: {key: value for key, value in getattr(like, name).to_dict().items() if key not in kinds}
        for name in ("text_config", "vision_config")
    }
    parts["text_config"]["model_type"] = "llama"
    same = {name: getattr(like, name) for name in ("scale_factor", "image_token_id", "pad_token_id")}
    torch.manual_seed(0)
    model = SmolVLMForConditionalGeneration(SmolVLMConfig(**parts, **same, tie_word_embeddings=False))
    model.save_pretrained(package / "smolvlm")
    return package / "smolvlm"


def test_an_added_family_is_composed_loaded_and_answers_as_its_plain_forward_pass(package, folder, tables):
    config = composed(package, "model=smolvlm_small", f"paths.root={package}")
    check_checkpoint(folder, family=config.model.family)
    checkpoint = load_checkpoint(config.model)
    assert type(checkpoint.model).__name__ == "SmolVLMForConditionalGeneration"
    rows = list(tables["scenes"]["test"])[:3]
    batch = checkpoint.encoder(rows)
    shared = checkpoint.encoder.adapter.shared_images(checkpoint.model, batch.images, batch.image_of)
    answered = checkpoint.model(**batch.text, **shared).logits[:, -1]
    images = {name: tensor[batch.image_of] for name, tensor in batch.images.items()}
    plain = checkpoint.model(**batch.text, **images).logits[:, -1]
    torch.testing.assert_close(answered, plain)


def test_it_is_among_the_choices_while_it_is_installed(package):
    assert tuple(FAMILIES) == ("idefics3", "qwen2_5_vl", "qwen2_vl", "smolvlm")
    with pytest.raises(ReliabitError, match="choose one of: idefics3, qwen2_5_vl, qwen2_vl, smolvlm"):
        composed(package, "model.family=llava")
