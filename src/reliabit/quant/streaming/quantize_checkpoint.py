"""`quantize_checkpoint`: what `quantize_model` and `save_checkpoint` do, with one layer in memory at a time."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from reliabit.quant.checkpoint_files import check_destination, write_checksums
from reliabit.quant.checkpoint_io import copy_processor
from reliabit.quant.convert import (
    ConversionReport,
    ConvertedModule,
    check_schemes,
    convert,
    packed_modules,
    say_untied,
    scheme_records,
)
from reliabit.quant.input_moments import InputMoments
from reliabit.quant.layers import replace_by_empty
from reliabit.quant.mbq.decoder import walk_observed
from reliabit.quant.mbq.groups import Observed
from reliabit.quant.mbq.scaling import Calibration, by_layer, check_statistics, fold_layer
from reliabit.quant.mbq.search import GroupScale, LayerSchemes, search_layer
from reliabit.quant.mbq.statistics_key import folder_digest
from reliabit.quant.packed import PackedWeight
from reliabit.quant.plan import Plan, Scheme
from reliabit.quant.plugin import attach
from reliabit.quant.quantized_prefix import InputCalibration, QuantizedPrefix, check_inputs, learns_inputs
from reliabit.quant.streaming.job import Progress, job_key, unfinished_folder, whole_folder
from reliabit.quant.streaming.streamed_decoder import StreamedDecoder
from reliabit.quant.streaming.written_shards import SHARD_BYTES, Finished, ShardWriter, assemble

GENERATION = "generation_config.json"


def quantize_checkpoint(
    source: Path,
    destination: Path,
    plan: Plan,
    *,
    decoder_layers: str,
    calibration: Calibration | None = None,
    inputs: InputCalibration | None = None,
    dtype: torch.dtype = torch.bfloat16,
    shard_bytes: int = SHARD_BYTES,
) -> ConversionReport:
    """Quantize a checkpoint into another one; memory holds one layer, or one tensor outside the layers.

    What is done is kept beside the destination, in `.<name>.unfinished`, until all is. A call after a killed one goes
    on from there, with what it finds checked against its hash, and gives the same bytes; a call with another model,
    plan, calibration, code or libraries starts over.

    Args:
        source: An unquantized checkpoint folder.
        destination: Where to; it appears whole or not at all, with the hashes of its files (`verify_checkpoint`).
        plan: Which modules, and how.
        decoder_layers: The dotted path of the decoder layers.
        calibration: Statistics and a scale search, or None.
        inputs: What methods that learn from the inputs of their layers are shown, as for `quantize_model`. Its states
            are in memory too, and go through layers that are done already once more.
        dtype: The type of the weights that are not quantized.
        shard_bytes: Size of the shards that are written.

    Returns:
        What was converted, as from `quantize_model`.

    Raises:
        ReliabitError: As from `quantize_model`, the source is no whole checkpoint, the destination is not to be
            replaced (`check_destination`), or another process is writing it.
        OSError: The disk is full; what is done stays for the next call.
    """
    check_destination(destination, source=source)
    decoder = StreamedDecoder(source, decoder_layers, dtype=dtype)
    schemes = check_schemes(decoder.model, plan)
    check_inputs(schemes, inputs)
    digest = folder_digest(source)
    job = job_key(
        source=digest,
        schemes=schemes,
        decoder_layers=decoder_layers,
        calibration=calibration,
        inputs=inputs,
        dtype=dtype,
        shard_bytes=shard_bytes,
    )
    with unfinished_folder(destination, job=job) as folder:
        work = _Work(decoder, schemes, calibration, inputs, folder=folder, shard_bytes=shard_bytes)
        work.run()
        finished = work.writer.finished()
        with whole_folder(folder, destination) as whole:
            hashes = _finish(work, finished, source=source, folder=whole)
            write_checksums(whole, hashes, source=digest)
    converted = {module.name: module for found in finished for module in found.modules}
    return ConversionReport(
        tuple(converted[name] for name in schemes), tuple(scale for found in finished for scale in found.scales)
    )


def _finish(work: "_Work", finished: Sequence[Finished], *, source: Path, folder: Path) -> dict[str, str]:
    """Put everything but the hashes into the folder that is to appear; give those of the shards."""
    hashes = assemble(work.writer.shards(), folder)
    copy_processor(source, folder)
    if (source / GENERATION).is_file():
        shutil.copy2(source / GENERATION, folder / GENERATION)
    model = work.decoder.model
    packed = packed_modules(model)
    for found in finished:
        for module, layout in zip(found.modules, found.layouts, strict=True):
            # What an earlier process quantized is plain here; the configuration tells its layout.
            if module.name not in packed:
                replace_by_empty(model, module.name, layout)
    attach(model, scheme_records(model, work.schemes))
    quantized = tuple(f"{name}." for name in work.schemes)
    if any(name.startswith(quantized) for pair in work.decoder.tensors.aliases.items() for name in pair):
        say_untied(model)
    model.config.save_pretrained(folder)
    return hashes


class _Work:
    """A checkpoint on its way from one folder into the other.

    Its units are the decoder layers, what is quantized outside them, and the tensors that stay as they were.
    """

    def __init__(
        self,
        decoder: StreamedDecoder,
        schemes: Mapping[str, Scheme],
        calibration: Calibration | None,
        inputs: InputCalibration | None,
        *,
        folder: Path,
        shard_bytes: int,
    ) -> None:
        self.decoder, self.schemes, self.calibration = decoder, schemes, calibration
        self._inputs = inputs if any(map(learns_inputs, schemes.values())) else None
        self._prefix: QuantizedPrefix | None = None
        self.planned: Mapping[int, LayerSchemes] = {}
        if calibration is not None:
            check_statistics(calibration.statistics, path=decoder.path, depth=decoder.depth)
            self.planned = by_layer(schemes, path=decoder.path, depth=decoder.depth)
        self._layers = {f"{decoder.path}.{index}": index for index in range(decoder.depth)}
        inside = f"{decoder.path}."
        self._modules = [name for name in schemes if not name.startswith(inside)]
        passed = (inside, *(f"{name}." for name in schemes))
        stored = decoder.tensors.keys
        # Embeddings and head that are one matrix are stored once; where that is quantized, the other is stored too.
        untied = [name for name, owner in decoder.tensors.aliases.items() if owner.startswith(passed)]
        self._copied = [name for name in [*stored, *untied] if not name.startswith(passed)]
        self._weights = dict(self._count())
        self.writer = ShardWriter(folder, list(self._weights), shard_bytes=shard_bytes)

    def run(self) -> None:
        """Scale, quantize and write what is not written yet."""
        with closing(Progress(self._weights)) as self._progress:
            layers_left = not self.writer.done.keys() >= self._layers.keys()
            if layers_left and self._inputs is not None:
                self._prefix = self._begin(self._inputs)
            if layers_left and self.calibration is not None and self.calibration.settings.search == "faithful":
                walk_observed(self.decoder, self.calibration.batches, self._observed_layer)
            else:
                for name in self._layers:
                    self._visit(name, None)
            for name in self._to_do(self._modules):
                with self.decoder.loaded(name):
                    self._write(name, [name])
            for name in self._to_do(self._copied):
                (tensor,) = self.decoder.tensors.read([name]).values()
                typed = tensor.to(self.decoder.dtype) if tensor.is_floating_point() else tensor
                self._done(Finished(name), {self._key(name): typed})
            self.writer.flush()

    def _count(self) -> Iterator[tuple[str, int]]:
        """Each unit with its number of weights."""
        model = self.decoder.model
        for name in (*self._layers, *self._modules):
            yield name, sum(parameter.numel() for parameter in model.get_submodule(name).parameters())
        tensors = model.state_dict()
        for name in self._copied:
            yield name, tensors[name].numel()

    def _to_do(self, units: Iterable[str]) -> Iterator[str]:
        return (name for name in units if not self._is_done(name))

    def _is_done(self, name: str) -> bool:
        """Whether a unit is written already, which ends the shard that is being gathered."""
        if name not in self.writer.done:
            return False
        self.writer.flush()
        self._progress.skip(name)
        return True

    def _begin(self, inputs: InputCalibration) -> QuantizedPrefix:
        decoder = self.decoder
        if inputs.dtype != decoder.dtype:
            decoder = StreamedDecoder(decoder.tensors.folder, decoder.path, dtype=inputs.dtype)
        return QuantizedPrefix(self.schemes, inputs, first=[decoder.inputs(batch) for batch in inputs.batches])

    def _visit(self, name: str, layer: nn.Module | None, seen: Sequence[Observed] | None = None) -> None:
        """Quantize and write a layer, unless that is done; it is read where it is not given."""
        done, prefix = self._is_done(name), self._prefix
        if done and (prefix is None or self._layers[name] > prefix.last):
            return
        with self.decoder.loaded(name) if layer is None else nullcontext(layer) as read:
            if not done:
                self._layer(name, read, seen)
            elif prefix is not None:
                self._pass(name, read, prefix)

    def _observed_layer(self, index: int, layer: nn.Module, seen: Sequence[Observed]) -> None:
        self._visit(f"{self.decoder.path}.{index}", layer, seen)

    @torch.no_grad()
    def _pass(self, name: str, layer: nn.Module, prefix: QuantizedPrefix) -> None:
        """Take the calibration set through a layer that is written already, as it did when it was."""
        finished, model = self.writer.done[name], self.decoder.model
        fold_layer(layer, finished.scales, planned=self.planned.get(self._layers[name], {}))
        prefix.pass_exact(layer.to(self._computed))
        for module, layout in zip(finished.modules, finished.layouts, strict=True):
            replace_by_empty(model, module.name, layout)
        keys = {own: self._key(f"{name}.{own}") for own in layer.state_dict()}
        read = self.writer.tensors(list(keys.values()))
        layer.load_state_dict({own: read[key] for own, key in keys.items()}, assign=True)
        prefix.pass_quantized(layer.to(self._computed))

    @property
    def _computed(self) -> torch.dtype:
        """What layers compute in while inputs are looked at."""
        return self.decoder.dtype if self._inputs is None else self._inputs.dtype

    @torch.no_grad()
    def _layer(self, name: str, layer: nn.Module, seen: Sequence[Observed] | None) -> None:
        index, scales = self._layers[name], list[GroupScale]()
        if self.calibration is not None and index in self.planned:
            scales = search_layer(
                layer,
                index,
                schemes=self.planned[index],
                statistics=self.calibration.statistics,
                settings=self.calibration.settings,
                seen=seen,
                batches=self.calibration.batches,
            )
            fold_layer(layer, scales, planned=self.planned[index])
        done: dict[str, ConvertedModule] = {}
        if self._prefix is not None and index <= self._prefix.last:

            def quantize(module: str, moments: InputMoments | None) -> None:
                done[module] = convert(self.decoder.model, module, self.schemes[module], moments)

            self._prefix.quantize_layer(layer.to(self._computed), index, quantize)
            layer.to(self.decoder.dtype)
        self._write(name, [module for module in self.schemes if module.startswith(f"{name}.")], scales, done)

    def _write(
        self,
        name: str,
        modules: Sequence[str],
        scales: Sequence[GroupScale] = (),
        done: Mapping[str, ConvertedModule] = MappingProxyType({}),
    ) -> None:
        """Quantize what is left of a unit, and write its tensors under the keys that its file had them under."""
        model = self.decoder.model
        converted = tuple(done.get(module) or convert(model, module, self.schemes[module]) for module in modules)
        packed = packed_modules(model)
        layouts = tuple(packed[module].layout for module in modules)
        tensors = model.get_submodule(name).state_dict()
        keyed = {self._key(f"{name}.{own}"): tensor for own, tensor in tensors.items()}
        self._done(Finished(name, converted, layouts, tuple(scales)), keyed)

    def _done(self, finished: Finished, tensors: Mapping[str, Tensor]) -> None:
        self.writer.add(finished, tensors)
        self._progress.advance(finished.unit)

    def _key(self, name: str) -> str:
        owner, _, leaf = name.rpartition(".")
        module = self.decoder.model.get_submodule(owner)
        keys = self.decoder.tensors.keys
        if isinstance(module, PackedWeight) and leaf != "bias":
            return keys.get(f"{owner}.weight", f"{owner}.weight").removesuffix("weight") + leaf
        return keys.get(name, name)
