"""Calibration statistics of a configuration: found where they were written, or measured first."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.cache import get_or_create
from reliabit.config import Config, ScalingConfig
from reliabit.models.encoding import Encoder
from reliabit.tasks.calibration_rows import FOLDER, calibration_rows
from reliabit.tasks.encoders import encoder_of

if TYPE_CHECKING:
    from reliabit.quant import Calibration, CalibrationBatch, GroupScale, SearchSettings, Statistics


def load_calibration(config: Config) -> "Calibration | None":
    """The scale search that a configuration asks for, with its statistics; None where it asks for none."""
    if config.quant.scaling.search == "none":
        return None
    from reliabit.quant import Calibration

    settings = search_settings(config.quant.scaling)
    encoder = encoder_of(config.model)
    batches = load_batches(config, encoder)
    statistics = load_statistics(config, batches, decoder_layers=encoder.adapter.decoder_layers)
    return Calibration(statistics, settings, batches if settings.mode == "faithful" else ())


def search_settings(scaling: ScalingConfig) -> "SearchSettings":
    """The search that a configuration describes."""
    from reliabit.quant import SearchSettings

    own = {key: value for key, value in vars(scaling).items() if key != "search"}
    return SearchSettings(mode=scaling.search, **own)  # type: ignore[arg-type]


def load_statistics(config: Config, batches: "Sequence[CalibrationBatch]", *, decoder_layers: str) -> "Statistics":
    """The statistics of a model on a calibration set; processes may call this at once, and one of them measures.

    They are measured in `model.dtype`, a layer of the checkpoint at a time.

    Args:
        config: The model and the settings.
        batches: The calibration set.
        decoder_layers: The dotted path of the decoder layers.
    """
    import torch

    from reliabit.quant import CollectionSettings, collect, folder_digest, read_statistics
    from reliabit.quant import statistics_key as key_of
    from reliabit.quant.streaming.decoder import StreamedDecoder

    wanted, model = config.quant.calibration, Path(config.model.path)
    settings = CollectionSettings(tokens=wanted.tokens, contexts=wanted.contexts, gram=wanted.gram, seed=wanted.seed)
    dtype = getattr(torch, config.model.dtype)
    key = key_of(weights=folder_digest(model), batches=batches, settings=settings, path=decoder_layers, dtype=dtype)
    folder = Path(config.paths.cache) / FOLDER / f"{config.model.name}-{key[:12]}"

    def read() -> "Statistics | None":
        return read_statistics(folder, key=key) if folder.is_dir() else None

    def measure() -> "Statistics":
        decoder = StreamedDecoder(model, decoder_layers, dtype=dtype)
        return collect(decoder, batches, folder, key=key, settings=settings)

    return get_or_create(folder, read=read, make=measure)


def load_batches(config: Config, encoder: Encoder) -> "list[CalibrationBatch]":
    """The calibration set, encoded for a model."""
    from reliabit.models.calibration import calibration_batches

    return calibration_batches(
        calibration_rows(config), encoder=encoder, batch_size=config.quant.calibration.batch_size
    )


def scales_table(scales: "Sequence[GroupScale]") -> str:
    """What a search chose, a line a group; empty where nothing was scaled."""
    lines = [
        f"  layer {found.layer} {found.group}: exponent {found.exponent:.2f}, sensitivity {found.sensitivity:.4f}, "
        f"loss {found.loss_before:.6f} -> {found.loss_after:.6f}\n"
        for found in scales
    ]
    return "".join(["scales:\n", *lines]) if lines else ""
