"""`QuantEmbedding`: an embedding table kept as densely packed codes."""

import torch
from torch import Tensor, nn

from reliabit.quant.grid import Layout, QuantizedWeight, dequantize
from reliabit.quant.packed import PackedWeight
from reliabit.quant.packing import unpack


class QuantEmbedding(PackedWeight):
    """An embedding that dequantizes only the rows it looks up.

    Attributes:
        num_embeddings: Tokens.
        embedding_dim: Width.
        padding_idx: As in `torch.nn.Embedding`; it only matters in training.
        dtype: The type of what it gives.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        layout: Layout,
        *,
        dtype: torch.dtype,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Make an empty table."""
        super().__init__(num_embeddings, embedding_dim, layout, device)
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        # The only floating tensor that follows `model.to(dtype)`: it carries the type of the output.
        self.register_buffer("like", torch.empty(0, dtype=dtype, device=device), persistent=False)

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding, weight: QuantizedWeight) -> "QuantEmbedding":
        """Replace an embedding, with the quantized form of its table."""
        table = embedding.weight
        layer = cls(
            embedding.num_embeddings,
            embedding.embedding_dim,
            weight.layout,
            dtype=table.dtype,
            padding_idx=embedding.padding_idx,
            device=table.device,
        )
        layer.hold(weight)
        return layer.train(embedding.training)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the embeddings it gives."""
        like: Tensor = self.get_buffer("like")
        return like.dtype

    @property
    def weight(self) -> Tensor:
        """The dequantized table, for code that only looks at an embedding's weight."""
        return self.dequantize(self.dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look tokens up, `[...]` to `[..., embedding_dim]`."""
        rows = tokens.reshape(-1)
        codes = unpack(self.weight_codes[rows], self.layout.bits, self.columns)
        found = dequantize(codes, self.weight_scale[rows], self.zeros()[rows])
        return found.to(self.dtype).reshape(*tokens.shape, self.columns)
