"""Quantizes a checkpoint in a process of its own, to be killed: folders, decoder path, bits, shard bytes."""

import sys
from pathlib import Path

import torch

from reliabit.quant import Scheme, default_plan
from reliabit.quant.streaming.quantize_checkpoint import quantize_checkpoint

if __name__ == "__main__":
    source, destination, path, bits, shard_bytes = sys.argv[1:]
    torch.set_num_threads(1)
    quantize_checkpoint(
        Path(source),
        Path(destination),
        default_plan(Scheme("hqq", int(bits))),
        decoder_layers=path,
        shard_bytes=int(shard_bytes),
    )
