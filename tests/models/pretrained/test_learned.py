"""The learned part: what is stored, what it does to a weight, and what is refused."""

import numpy as np
import pytest
import torch

from reliabit.errors import DamagedError, ReliabitError
from reliabit.files import MANIFEST
from reliabit.models.pretrained.learned import CONNECTOR, FILE, POST_NORM, Learned, fold, load_learned, save_learned

QUERY = "model.text_model.layers.0.self_attn.q_proj."
SHAPES = {CONNECTOR: (6, 8), f"{POST_NORM}.weight": (4,), f"{POST_NORM}.bias": (4,), f"{QUERY}weight": (5, 3)}


def tensors(**others: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items() if "q_proj" not in name}
    drawn[f"{QUERY}lora_A.weight"] = torch.randn(2, 3, generator=generator)
    drawn[f"{QUERY}lora_B.weight"] = torch.randn(5, 2, generator=generator)
    return drawn | others


def test_what_is_read_is_what_saving_returned_and_nearly_what_was_given(tmp_path):
    given = tensors()
    saved = save_learned(given, tmp_path, note="kept")
    read = load_learned(tmp_path)
    assert saved.tensors.keys() == read.tensors.keys() == given.keys()
    for name, tensor in given.items():
        wanted = torch.float16 if tensor.ndim == 2 else torch.float32
        assert np.array_equal(saved.tensors[name], tensor.to(wanted).numpy())
        assert np.array_equal(saved.tensors[name], read.tensors[name])
        assert saved.tensors[name].dtype == read.tensors[name].dtype
    read.check(SHAPES)


def test_the_same_part_has_the_same_bytes(tmp_path):
    save_learned(tensors(), tmp_path / "first")
    save_learned(dict(reversed(tensors().items())), tmp_path / "second")
    assert (tmp_path / "first" / FILE).read_bytes() == (tmp_path / "second" / FILE).read_bytes()
    assert (tmp_path / "first" / MANIFEST).read_bytes() == (tmp_path / "second" / MANIFEST).read_bytes()


def test_an_adapter_is_folded_as_it_is_trained():
    """A linear layer with the adapter beside it, in float64, gives what the folded weight gives."""
    generator = torch.Generator().manual_seed(0)
    weight, down, up = (torch.randn(shape, generator=generator).double() for shape in ((7, 5), (3, 5), (7, 3)))
    inputs = torch.randn(11, 5, generator=generator).double()
    expected = inputs @ weight.T + 2 * (inputs @ down.T) @ up.T
    folded = fold(weight.numpy(), down=down.numpy(), up=up.numpy())
    torch.testing.assert_close(inputs @ torch.from_numpy(folded).T, expected, atol=1e-13, rtol=1e-13)


def test_a_weight_is_replaced_adapted_or_left_as_it_is():
    ones = np.ones((5, 3), np.float32)
    adapters = {f"{QUERY}lora_A.weight": np.ones((2, 3)), f"{QUERY}lora_B.weight": np.ones((5, 2))}
    learned = Learned({"model.text_model.norm.weight": np.full(3, 7.0), **adapters})
    assert learned.applied("model.text_model.norm.weight", np.ones(3)).tolist() == [7.0] * 3
    assert np.array_equal(learned.applied(f"{QUERY}weight", ones), 5 * ones)
    assert learned.applied("model.text_model.layers.1.self_attn.q_proj.weight", ones) is ones


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({CONNECTOR: None}, f"the learned part lacks {CONNECTOR}; restore the folder"),
        ({CONNECTOR: torch.ones(8, 6)}, r"projection.proj.weight \[8, 6\] fits no weight"),
        ({f"{QUERY}lora_A.weight": None}, r"q_proj.lora_B.weight \[5, 2\] fits no weight"),
        ({f"{QUERY}lora_A.weight": torch.ones(3, 3)}, r"q_proj.lora_A.weight \[3, 3\] fits no weight"),
        ({f"{QUERY}lora_A.weight": torch.ones(3)}, r"q_proj.lora_A.weight \[3\] fits no weight"),
        ({"model.unheard.weight": torch.ones(2)}, r"model.unheard.weight \[2\] fits no weight"),
    ],
)
def test_a_part_of_another_model_is_refused(changed, message):
    kept = {name: tensor for name, tensor in tensors(**changed).items() if tensor is not None}
    with pytest.raises(ReliabitError, match=message):
        Learned({name: tensor.numpy() for name, tensor in kept.items()}).check(SHAPES)


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_what_cannot_be_stored_is_refused_and_nothing_is_written(value, tmp_path):
    with pytest.raises(ReliabitError, match=f"the learned {CONNECTOR} holds numbers that float16 does not; train"):
        save_learned(tensors(**{CONNECTOR: torch.full((6, 8), value)}), tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("name", [FILE, MANIFEST])
def test_a_part_that_is_missing_or_altered_is_told(name, tmp_path):
    save_learned(tensors(), tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-3] + b"\x00\x00\x00")
    with pytest.raises(DamagedError, match=f"{name} differs from .* hash.*; restore the folder with git checkout"):
        load_learned(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ReliabitError, match=f"the learned part .*{name} is missing; restore the folder"):
        load_learned(tmp_path)
