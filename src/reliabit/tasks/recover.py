"""`task=recover`: train scales, zeros and norms of a packed model towards the unquantized one; its codes stay."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.config import Config
from reliabit.data.prepared_table import load_split, prepare, read_manifest
from reliabit.digests import combined
from reliabit.errors import ReliabitError
from reliabit.evaluation.figure_style import legend_below, panels, series_style, styled, write_figures
from reliabit.models.loading import check_loadable, load_checkpoint
from reliabit.quant.checkpoint_files import check_destination, weight_files
from reliabit.quant.record import read_config
from reliabit.tasks._model import check_fits
from reliabit.tasks._results import next_command, own_overrides
from reliabit.tasks.pretrain import alone
from reliabit.tasks.quantize import QUANTIZING_KEYS, stream_quantized
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from reliabit.models.recovery_batches import Questions

RECORD, CURVE = "recovery.json", "recovery_curve.png"

TRAINING_BYTES = 2**30
"""What a step takes beside the weights of both models: the states of a batch's tokens, and one layer's weight."""

_SHAPES = ("hidden_size", "num_hidden_layers", "vocab_size")
"""What two models share of which one was quantized from the other."""

_WATCHED = (
    ("kl", "divergence from the unquantized model, nats a token"),
    ("score", "score of confidences"),
    ("right", "share of right answers"),
)


def recover(config: Config) -> None:
    """Quantize the configured model, or take `task.packed`, train its scales, and write it to `task.checkpoint`.

    Raises:
        ReliabitError: It cannot be quantized, is no quantized form of the model, does not fit into memory, or another
            process is training it.
    """
    from reliabit.models.recovery_training import recover_model
    from reliabit.quant.mbq.statistics_key import folder_digest
    from reliabit.quant.recovery import write_recovered

    set_up(config)
    recipe, folder = config.task.recovering(), Path(config.task.place("checkpoint"))
    check_loadable(config.model)
    check_fits(config)
    check_destination(folder, source=config.model.folder)
    _check_memory(config)
    work = Path(config.paths.root) / "checkpoints" / f"recover-{folder.name}"
    with alone(work, remedy="set task.checkpoint to another name"):
        packed = _packed(config, work)
        splits, digests = _questions(config)
        made = {"packed": folder_digest(packed), "teacher": folder_digest(config.model.folder), **digests}
        key = combined({**made, "recipe": str(asdict(recipe)), "template": config.model.template})
        student, teacher = (
            load_checkpoint(replace(config.model, path=str(path), dtype="float32"))
            for path in (packed, config.model.path)
        )
        trained, curve = recover_model(
            student.model,
            teacher.model,
            train=splits["train"],
            dev=splits.get("dev"),
            encoder=teacher.encoder,
            recipe=recipe,
            norm_types=_float_types(packed),
            checkpoints=work / f"training-{key[:12]}",
            progress_bar=config.trainer.progress_bar,
        )
        record = {"recipe": asdict(recipe), "made_of": made, "trained_tensors": len(trained), "curve": curve}
        write_recovered(packed, folder, trained, record=record, record_name=RECORD)
        shutil.rmtree(work)
    write_figures({CURVE: curve_figure(curve)}, config.paths.output_folder())
    _tell(folder, curve)


def _packed(config: Config, work: Path) -> Path:
    """The packed checkpoint that is trained; quantizing gives the same bytes after a training that was cut off."""
    if config.task.packed is None:
        stream_quantized(config, work / "packed")
        return work / "packed"
    packed = Path(config.task.packed)
    check_loadable(replace(config.model, path=str(packed)))
    shapes = []
    for path in (packed, config.model.folder):
        found = read_config(path)
        shapes.append([(found.get("text_config") or found).get(name) for name in _SHAPES])
    if shapes[0] != shapes[1]:
        raise ReliabitError(
            f"task.packed={packed} was quantized from another model than {config.model.path} (its {', '.join(_SHAPES)} "
            f"are {shapes[0]} and not {shapes[1]}); name the model that it was made of"
        )
    return packed


def _questions(config: Config) -> "tuple[dict[str, Questions], dict[str, str]]":
    """The questions that are trained on, and the digests of their tables; no other split is opened."""
    from reliabit.models.recovery_batches import Questions
    from reliabit.models.tower_features import pictured_questions

    prepared = prepare(config.data, root=Path(config.paths.data))
    names = ["train", "dev"] if config.task.recovering().reliability_weight > 0 else ["train"]
    tables = {name: load_split(prepared, name) for name in names}
    manifest = read_manifest(prepared)
    return (
        {name: Questions(table, pictured_questions(table)) for name, table in tables.items()},
        {name: manifest[name].sha256 for name in names},
    )


def _float_types(folder: Path) -> "dict[str, torch.dtype]":
    """The type that each tensor of a checkpoint is stored in."""
    from safetensors import safe_open

    found = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as shard:
            for key in shard.keys():  # noqa: SIM118 - no mapping
                # Of no rows: the type alone is wanted.
                found[key] = shard.get_slice(key)[:0].dtype
    return found


def _check_memory(config: Config) -> None:
    import psutil
    import torch

    from reliabit.quant.checkpoint_io import skeleton

    weights = sum(tensor.numel() for tensor in skeleton(config.model.folder, torch.float32).parameters())
    # The teacher in float32, and the student: codes a byte each, the rest in float32.
    needed, available = 8 * weights + TRAINING_BYTES, psutil.virtual_memory().available
    if available < needed:
        raise ReliabitError(
            f"recovering {config.model.name} takes {needed / 10**9:.1f} GB of memory, and {available / 10**9:.1f} GB "
            "are free; end other programs first, or take a smaller model"
        )


@styled
def curve_figure(curve: Sequence[Mapping[str, float]]) -> "Figure":
    """Draw what was watched while scales were trained: a panel each, with held-out images and those trained on."""
    figure, axes = panels(len(_WATCHED), title="Recovery: scales, zeros and norms are trained", height=2.2)
    for place, (name, title) in zip(axes, _WATCHED, strict=True):
        for number, (key, label) in enumerate(((f"held_out/{name}", "held-out images of train"), (name, "trained on"))):
            points = [(row["step"], row[key]) for row in curve if key in row]
            if points:
                place.plot(*zip(*points, strict=True), label=label, marker="o", **series_style(number))
        place.set(title=title, ylim=(0, None))
    axes[-1].set_xlabel("step")
    legend_below(figure, axes)
    return figure


def _tell(folder: Path, curve: Sequence[Mapping[str, Any]]) -> None:
    first, rounded, last = curve[0], curve[-1], curve[-2]
    names = [name for name in first if name != "step"]
    facts = [(name, f"{first[name]:.4f} -> {rounded[name]:.4f} (before rounding {last[name]:.4f})") for name in names]
    # What says how to train means nothing to the task that asks.
    trained_by = [one.split("=", 1)[0] for one in own_overrides() if one.startswith("task.")]
    show_result(
        f"{folder}: scales, zeros and norms trained for {rounded['step']:.0f} steps; codes as they were",
        facts,
        then=next_command(f"model.path={folder}", "quant=none", without=(*QUANTIZING_KEYS, "quant.rules", *trained_by)),
    )
