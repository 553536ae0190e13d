"""`quantize_checkpoint`: what `quantize_model` and `save_checkpoint` do, with one layer in memory at a time."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from reliabit.files import staged_folder
from reliabit.quant.checkpoint import copy_processor
from reliabit.quant.convert import ConvertedModule, Report, check_schemes, convert, scheme_records
from reliabit.quant.linear import PackedWeight
from reliabit.quant.mbq.evidence import walk_observed
from reliabit.quant.mbq.fold import fold_layer
from reliabit.quant.mbq.observation import Observed
from reliabit.quant.mbq.scaling import Calibration, by_layer, check_statistics
from reliabit.quant.mbq.search import GroupScale, LayerSchemes, search_layer
from reliabit.quant.plan import Plan, Scheme
from reliabit.quant.plugin import attach
from reliabit.quant.streaming.decoder import StreamedDecoder
from reliabit.quant.streaming.shards import SHARD_BYTES, ShardWriter

GENERATION = "generation_config.json"


def quantize_checkpoint(
    source: Path,
    destination: Path,
    plan: Plan,
    *,
    decoder_layers: str,
    calibration: Calibration | None = None,
    dtype: torch.dtype = torch.bfloat16,
    shard_bytes: int = SHARD_BYTES,
) -> Report:
    """Quantize a checkpoint into another one; memory holds one layer, or one tensor outside the layers.

    Args:
        source: An unquantized checkpoint folder.
        destination: Where to; it appears whole or not at all.
        plan: Which modules, and how.
        decoder_layers: The dotted path of the decoder layers.
        calibration: Statistics and a scale search, or None.
        dtype: The type of the weights that are not quantized.
        shard_bytes: Size of the shards that are written.

    Returns:
        What was converted, as from `quantize_model`.

    Raises:
        ReliabitError: As from `quantize_model`, or the source is no whole checkpoint.
    """
    decoder = StreamedDecoder(source, decoder_layers, dtype=dtype)
    schemes = check_schemes(decoder.model, plan)
    with staged_folder(destination) as staging:
        work = _Work(decoder, schemes, calibration, ShardWriter(staging, shard_bytes=shard_bytes))
        work.layers()
        work.rest()
        work.writer.close()
        copy_processor(source, staging)
        if (source / GENERATION).is_file():
            shutil.copy2(source / GENERATION, staging / GENERATION)
        attach(decoder.model, scheme_records(decoder.model, schemes))
        decoder.model.config.save_pretrained(staging)
    order = {name: number for number, name in enumerate(schemes)}
    return Report(tuple(sorted(work.converted, key=lambda module: order[module.name])), tuple(work.scales))


class _Work:
    """A checkpoint on its way from one folder into the other."""

    def __init__(
        self,
        decoder: StreamedDecoder,
        schemes: Mapping[str, Scheme],
        calibration: Calibration | None,
        writer: ShardWriter,
    ) -> None:
        self.decoder, self.schemes, self.calibration, self.writer = decoder, schemes, calibration, writer
        self.converted: list[ConvertedModule] = []
        self.scales: list[GroupScale] = []
        self.planned: Mapping[int, LayerSchemes] = {}
        if calibration is not None:
            check_statistics(calibration.statistics, path=decoder.path, depth=decoder.depth)
            self.planned = by_layer(schemes, path=decoder.path, depth=decoder.depth)

    def layers(self) -> None:
        """Scale, quantize and write the decoder layers."""
        if self.calibration is not None and self.calibration.settings.mode == "faithful":
            walk_observed(self.decoder, self.calibration.batches, self._layer)
            return
        for index in tqdm(range(self.decoder.depth), desc="quantize", unit=" layers", disable=None):
            with self.decoder.layer(index) as layer:
                self._layer(index, layer, None)

    def rest(self) -> None:
        """Quantize what is planned outside the layers, and copy what is not."""
        prefix, model = f"{self.decoder.path}.", self.decoder.model
        for name in (name for name in self.schemes if not name.startswith(prefix)):
            with self.decoder.loaded(name):
                self.converted.append(convert(model, name, self.schemes[name]))
                self._write(name)
        done = tuple(f"{name}." for name in self.schemes)
        for name in self.decoder.tensors.keys:
            if not name.startswith((prefix, *done)):
                (tensor,) = self.decoder.tensors.read([name]).values()
                typed = tensor.to(self.decoder.dtype) if tensor.is_floating_point() else tensor
                self.writer.add(self._key(name), typed)

    @torch.no_grad()
    def _layer(self, index: int, layer: nn.Module, seen: Sequence[Observed] | None) -> None:
        name = f"{self.decoder.path}.{index}"
        if self.calibration is not None and index in self.planned:
            found = search_layer(
                layer,
                index,
                schemes=self.planned[index],
                statistics=self.calibration.statistics,
                settings=self.calibration.settings,
                seen=seen,
                batches=self.calibration.batches,
            )
            fold_layer(layer, found, planned=self.planned[index])
            self.scales += found
        for module in (module for module in self.schemes if module.startswith(f"{name}.")):
            self.converted.append(convert(self.decoder.model, module, self.schemes[module]))
        self._write(name)

    def _write(self, name: str) -> None:
        """Write a module's tensors under the keys that its file had them under."""
        for own, tensor in self.decoder.model.get_submodule(name).state_dict().items():
            self.writer.add(self._key(f"{name}.{own}"), tensor)

    def _key(self, name: str) -> str:
        owner, _, leaf = name.rpartition(".")
        module = self.decoder.model.get_submodule(owner)
        if isinstance(module, PackedWeight) and leaf != "bias":
            return self.decoder.tensors.keys[f"{owner}.weight"].removesuffix("weight") + leaf
        return self.decoder.tensors.keys[name]
