"""Prefill and decoding of a model's text part, in plain calls and as a CUDA graph, against the memory's bandwidth."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

COPIED_BYTES = {"cuda": 2**32, "cpu": 2**29}
"""Bytes that are copied to measure bandwidth: far beyond any cache."""


@dataclass
class FixedCache:
    """Keys and values in memory of a fixed size, written where a tensor says, so that a graph can be replayed.

    It has what the decoders of transformers ask of a cache, whatever the version; masks and positions are given.

    Attributes:
        length: Tokens that there is room for.
        position: Where the tokens of the present call go, int64 `[tokens]`.
    """

    length: int
    position: Tensor
    _held: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Put keys and values `[1, heads, tokens, width]` in their places, and give all."""
        if layer not in self._held:
            shape = (*keys.shape[:2], self.length, keys.shape[3])
            self._held[layer] = keys.new_zeros(shape), values.new_zeros(shape)
        held = self._held[layer]
        for whole, part in zip(held, (keys, values), strict=True):
            whole.index_copy_(2, self.position, part)
        return held

    def get_seq_length(self, *_: Any) -> int:
        """Not known on the host, and not needed."""
        return 0


class DecodeStep:
    """One greedy step: reads the last token from its own memory and leaves the next one there."""

    def __init__(self, model: nn.Module, text: nn.Module, *, length: int) -> None:
        """Begin an empty sequence.

        Args:
            model: The whole model, for its output embeddings.
            text: The part that has the decoder layers.
            length: Tokens that the sequence may have.
        """
        head: Any = model.get_submodule("lm_head")
        device = next(text.parameters()).device
        self.text, self.head = text, head
        self.token = torch.zeros((1, 1), dtype=torch.long, device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.places = torch.arange(length, device=device)
        self.cache = FixedCache(length, self.position)

    def __call__(self) -> None:
        """Take a step."""
        output = self.hidden()
        self.token.copy_(self.head(output).argmax(-1))
        self.position.add_(1)

    def hidden(self) -> Tensor:
        """The decoder's output for the last token, `[1, 1, width]`."""
        found: Tensor = self.text(
            input_ids=self.token,
            position_ids=self.position[None],
            attention_mask=(self.places <= self.position)[None, None, None],
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return found

    def restart(self) -> None:
        """Go back to the first place."""
        self.token.zero_()
        self.position.zero_()


@torch.no_grad()
def prefill_seconds(text: nn.Module, *, tokens: int, rounds: int) -> float:
    """Seconds to read a prompt of random tokens, the best of some rounds."""
    device = next(text.parameters()).device
    ids = torch.arange(tokens, device=device)[None] % 256
    return best_seconds(lambda: text(input_ids=ids, use_cache=False), device, rounds=rounds)


@torch.no_grad()
def decode_seconds(step: DecodeStep, *, tokens: int, rounds: int) -> float:
    """Seconds a token of plain calls, the best of some rounds."""
    return _seconds_a_token(step, step, tokens=tokens, rounds=rounds)


@torch.no_grad()
def graph_seconds(step: DecodeStep, *, tokens: int, rounds: int) -> float:
    """Seconds a token of a CUDA graph that is replayed, the best of some rounds."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    step.restart()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return _seconds_a_token(step, graph.replay, tokens=tokens, rounds=rounds)


def _seconds_a_token(step: DecodeStep, advance: Callable[[], object], *, tokens: int, rounds: int) -> float:
    def write() -> None:
        step.restart()
        for _ in range(tokens):
            advance()

    return best_seconds(write, step.token.device, rounds=rounds) / tokens


def best_seconds(work: Callable[[], object], device: torch.device, *, rounds: int) -> float:
    """Seconds that some work takes, the best of some rounds after one that does not count."""
    work()
    found = []
    for _ in range(rounds):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        found.append(time.perf_counter() - start)
    return min(found)


def bandwidth(device: torch.device, *, rounds: int = 5) -> float:
    """Bytes a second that the device reads and writes when it copies."""
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source), device, rounds=rounds)


def read_bytes(*modules: nn.Module) -> int:
    """Bytes of the weights in some modules, each read once a token; packed codes count as they are stored."""
    tensors = {id(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
