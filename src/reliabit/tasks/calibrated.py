"""Calibration statistics of a configuration: found where they were written, or measured first."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.cache import entry_lock, touch
from reliabit.config import CalibrationConfig, Config, ModelConfig, ScalingConfig
from reliabit.data.bad_samples import FAIL, BadSamples, judged, summary, tell
from reliabit.data.table import image_size
from reliabit.errors import ReliabitError
from reliabit.models.admission import Admission, read_context_length
from reliabit.models.checkpoint import load_encoder
from reliabit.models.encoding import Encoder

if TYPE_CHECKING:
    from reliabit.quant import Calibration, CalibrationBatch, GroupScale, SearchSettings, Statistics

FOLDER = "calibration"
"""Below `paths.cache`: all widths of a sweep share a measurement."""


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


def encoder_of(model: ModelConfig) -> Encoder:
    """What encodes a model's questions."""
    return load_encoder(Path(model.path), family=model.family, template=model.template, max_pixels=model.max_pixels)


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
    with entry_lock(folder):
        if folder.is_dir():
            touch([folder])
            return read_statistics(folder, key=key)
        decoder = StreamedDecoder(model, decoder_layers, dtype=dtype)
        return collect(decoder, batches, folder, key=key, settings=settings)


def load_batches(config: Config, encoder: Encoder) -> "list[CalibrationBatch]":
    """The calibration set, encoded for a model."""
    from reliabit.models.calibration import calibration_batches

    return calibration_batches(
        calibration_rows(config, encoder), encoder=encoder, batch_size=config.quant.calibration.batch_size
    )


def calibration_rows(config: Config, encoder: Encoder) -> list[dict[str, Any]]:
    """Questions with answers, one an image: of a chat file, or of a split of the configured data set.

    Those that cannot be read, or that the model does not take, are bad samples: they end the task, or are listed and
    replaced by others, as `data.on_bad_sample` says.

    Args:
        config: Where they come from, and how many there are.
        encoder: What encodes them.

    Raises:
        ReliabitError: There are fewer images than were asked for, or bad samples that are not to be skipped.
    """
    wanted, on_bad_sample = config.quant.calibration, config.data.on_bad_sample
    admission = Admission(encoder, longest=read_context_length(Path(config.model.path)))
    path = Path(config.paths.cache) / FOLDER / f"{config.model.name}.bad_samples.jsonl"
    source = f"the calibration set of {config.model.name}"
    with judged(path, source=source, on_bad_sample=on_bad_sample) as bad:
        drawn = _chat_rows(wanted, bad) if wanted.chat is not None else _table_rows(config, wanted)
        rows = list(islice((row for row in drawn if _taken(row, admission, bad)), wanted.images))
        # Where bad samples end the task anyway, they are what is said.
        if len(rows) < wanted.images and not (bad.counts and on_bad_sample == FAIL):
            raise ReliabitError(
                f"quant.calibration.images={wanted.images} is more than the {len(rows)} images there are; lower it"
            )
    if bad.counts:
        tell(f"{source}: {summary(bad.by_problem())}; they are left out and listed in {path}")
    return rows


def _taken(row: dict[str, Any], admission: Admission, bad: BadSamples) -> bool:
    """Whether the model takes a question with its answer; otherwise it is listed."""
    size = image_size(row["image"], item=f"image {row['image_id']!r} of {row['source']}")
    [refusal] = admission.answered_refusals([row["question"]], [row["answers"][0]], [size])
    if refusal is not None:
        ids = {"question_id": row["question_id"], "image_id": row["image_id"]}
        bad.add(refusal.problem, **ids, detail=refusal.detail)
    return refusal is None


def scales_table(scales: "Sequence[GroupScale]") -> str:
    """What a search chose, a line a group; empty where nothing was scaled."""
    lines = [
        f"  layer {found.layer} {found.group}: exponent {found.exponent:.2f}, sensitivity {found.sensitivity:.4f}, "
        f"loss {found.loss_before:.6f} -> {found.loss_after:.6f}\n"
        for found in scales
    ]
    return "".join(["scales:\n", *lines]) if lines else ""


def _table_rows(config: Config, wanted: CalibrationConfig) -> Iterator[dict[str, Any]]:
    """One question of each of the first images, and then of the others, should some of the first be bad."""
    from reliabit.data.prepare import load_split, prepare
    from reliabit.data.table import first_images
    from reliabit.metrics import one_per_image
    from reliabit.tasks.questions import source_spec

    table = load_split(prepare(source_spec(config.data), root=Path(config.paths.data)), wanted.split)
    first = first_images(table, wanted.images)
    # Drawn apart, so that what is drawn of the first does not depend on whether others are needed.
    yield from first.select(one_per_image(first["image_id"], seed=wanted.seed))
    if len(first) < len(table):
        others = table.select(range(len(first), len(table)))
        yield from others.select(one_per_image(others["image_id"], seed=wanted.seed))


def _chat_rows(wanted: CalibrationConfig, bad: BadSamples) -> Iterator[dict[str, Any]]:
    from reliabit.data.chat import draw_chats

    drawn = draw_chats(Path(wanted.chat or ""), images=Path(wanted.chat_images or ""), seed=wanted.seed, bad=bad)
    return (dict(row) for row in drawn)
