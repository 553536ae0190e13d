"""`task=pretrain`: train a reference model from scratch, or what joins two pretrained parts into one."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.config import Config
from reliabit.data.prepared_table import load_split, prepare, read_manifest
from reliabit.digests import combined
from reliabit.errors import ReliabitError
from reliabit.files import staged_folder
from reliabit.models.pretrained.learned import FILE as LEARNED_FILE
from reliabit.models.settings import JoiningRecipe, ModelConfig, Recipe
from reliabit.tasks._results import command_line
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from reliabit.models.encoding import Encoder
    from reliabit.models.families import Adapter
    from reliabit.models.join_batches import Sources
    from reliabit.models.loading import Checkpoint

TRAINING_RECORD = "training.json"


def pretrain(config: Config) -> None:
    """Train the reference model of a configuration's family and write it to `model.path`.

    A model that has `model.parts` is joined from pretrained parts: what is learned goes there, and `task=assemble`
    makes the model of it.

    Raises:
        ReliabitError: It is there already, or another process is training it.
    """
    check_untrained(config.model)
    joined = config.model.parts is not None
    checkpoints = Path(config.paths.root) / "checkpoints" / f"pretrain-{config.model.folder.name}"
    with alone(checkpoints):
        (_join if joined else _pretrain)(config, checkpoints)


def check_untrained(model: ModelConfig) -> None:
    """Check that no trained model is written over.

    Raises:
        ReliabitError: There is one.
    """
    made = model.folder if model.parts is None else Path(model.parts) / LEARNED_FILE
    if made.exists():
        raise ReliabitError(f"{made} exists already; move it away to train the model anew")


@contextmanager
def alone(folder: Path, *, remedy: str = "set model.path to another name") -> Iterator[None]:
    """Be the one process that trains with the checkpoints of a folder; whoever comes after a dead one goes on there.

    Raises:
        ReliabitError: Another process does.
    """
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ReliabitError(
            f"another process is training with the checkpoints {folder}; wait for it, or {remedy}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _pretrain(config: Config, checkpoints: Path) -> None:
    from reliabit.models.pretraining import train

    recipe, folder = config.task.training(), config.model.folder
    set_up(config)
    tables = {name: prepare(spec, root=Path(config.paths.data)) for name, spec in recipe.data.items()}
    training = {name: load_split(table, "train") for name, table in tables.items()}
    checkpoint = untrained(config.model, training, seed=config.seed)
    metrics = train(
        checkpoint.model,
        encoder=checkpoint.encoder,
        train_tables=training,
        validation_tables={name: load_split(table, "val") for name, table in tables.items()},
        recipe=recipe,
        checkpoints=checkpoints,
        precision=recipe.precision,
        accelerator=config.trainer.accelerator,
        progress_bar=config.trainer.progress_bar,
    )
    record = {
        "recipe": {entry.name: getattr(recipe, entry.name) for entry in fields(Recipe)},
        "precision": recipe.precision,
        "trained_on": {name: read_manifest(table)["train"].sha256 for name, table in tables.items()},
        "validation": metrics,
    }
    save_checkpoint(checkpoint, folder=folder, record=record)
    show_result(
        f"{folder}: trained for {recipe.steps} steps",
        [(name, f"{value:.4f}") for name, value in metrics.items()],
        then=command_line(["quant.bits=4", f"model={config.model.name}", f"model.path={folder}"]),
    )


def _join(config: Config, checkpoints: Path) -> None:
    from reliabit.models.encoding import Encoder
    from reliabit.models.join_training import adapt, join, learned_tensors, standardize
    from reliabit.models.pretrained.assembling import TRAINING, publish
    from reliabit.models.pretrained.joining import build
    from reliabit.models.pretrained.packages import read_parts

    recipe, model, folder = config.task.join(), config.model, Path(str(config.model.parts))
    set_up(config)
    decoder, tower = read_parts()
    built = build(decoder, tower)
    encoder = Encoder(model.adapter, built.processor, model.template)
    tables = {name: prepare(spec, root=Path(config.paths.data)) for name, spec in recipe.data.items()}
    seen = partial(_seen, tables, model=built.model, encoder=encoder, recipe=recipe, config=config)
    train = seen("train", poses=recipe.poses, folder=checkpoints / "features")
    validation = seen("val", poses=dict.fromkeys(tables, 1), folder=checkpoints / "features")
    standardize(built.model, [source.features for source in train.values()])
    adapt(built.model, recipe)
    curve = join(
        built.model,
        train=train,
        validation=validation,
        encoder=encoder,
        recipe=recipe,
        checkpoints=checkpoints,
        progress_bar=config.trainer.progress_bar,
    )
    record = {
        "recipe": {entry.name: getattr(recipe, entry.name) for entry in fields(JoiningRecipe)},
        "trained_on": {name: read_manifest(table)["train"].sha256 for name, table in tables.items()},
        "curve": curve,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINING).write_text(json.dumps(record, indent=2) + "\n")
    publish(learned_tensors(built.model), folder, decoder=decoder, tower=tower)
    show_result(
        f"{folder}: trained for {recipe.steps} steps",
        [(name, f"{value:.4f}") for name, value in curve[-1].items() if name != "step"],
        then=command_line(["task=assemble", f"model={model.name}"]),
    )


def _seen(
    tables: Mapping[str, Path],
    split: str,
    *,
    model: "PreTrainedModel",
    encoder: "Encoder",
    recipe: JoiningRecipe,
    poses: Mapping[str, int],
    folder: Path,
    config: Config,
) -> "Sources":
    from reliabit.models.join_batches import SeenSource
    from reliabit.models.tower_features import pictured_questions, see_poses

    found = {}
    for name, prepared in tables.items():
        table, count = load_split(prepared, split), poses[name]
        groups = pictured_questions(table)
        if split == "val":
            groups = groups[: recipe.validation_images]
        digest = combined(
            {"table": read_manifest(prepared)[split].sha256, "poses": str(count), "seed": str(recipe.seed)}
        )
        features = see_poses(
            table,
            groups,
            model=model,
            encoder=encoder,
            poses=count,
            seed=recipe.seed,
            folder=folder / f"{name}-{split}-{digest[:16]}",
            shown=config.trainer.progress_bar,
        )
        found[name] = SeenSource(groups, features)
    return found


def untrained(model: ModelConfig, tables: "dict[str, Dataset]", *, seed: int) -> "Checkpoint":
    """A reference model with new weights, and a tokenizer trained on the texts of some tables."""
    import lightning.pytorch as lightning

    from reliabit.models.encoding import Encoder
    from reliabit.models.loading import Checkpoint
    from reliabit.models.reference import BUILDERS

    adapter = model.adapter
    lightning.seed_everything(seed, verbose=False)
    built = BUILDERS[model.known_family](_texts(tables, adapter))
    encoder = Encoder(adapter=adapter, processor=built.processor, template=model.template)
    return Checkpoint(model=built.model, encoder=encoder)


def save_checkpoint(checkpoint: "Checkpoint", *, folder: Path, record: dict[str, Any]) -> None:
    """Write a trained model in bfloat16, its processor and the record of its training; whole or not at all."""
    import torch

    with staged_folder(folder) as staging:
        checkpoint.model.to(torch.bfloat16).save_pretrained(staging)
        checkpoint.encoder.adapter.save_processor(checkpoint.encoder.processor, staging)
        (staging / TRAINING_RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _texts(tables: "dict[str, Dataset]", adapter: "Adapter") -> list[str]:
    questions = [question for table in tables.values() for question in table["question"]]
    return questions + [adapter.answer_prefix + answers[0] for table in tables.values() for answers in table["answers"]]
