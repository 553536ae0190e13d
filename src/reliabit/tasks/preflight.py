"""Mistakes that a configuration alone shows, refused before anything heavy is imported, read or recorded.

A check is a function of a configuration that raises `ReliabitError`. To add one, write it below (or, where the rule
belongs to another floor, there) and name it in `CHECKS` for every task that it concerns. It may look at files and read
small ones, such as a checkpoint's config.json; it may neither open a tracking store nor import torch, transformers,
MLflow, Lightning or datasets, which a test watches. Single runs are checked before they have a folder, and all cells of
a sweep before its parent run is opened, so what is refused here leaves nothing behind.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from reliabit.config import Config
from reliabit.config_errors import no_table
from reliabit.data.prepared_table import is_prepared
from reliabit.data.sources import DataConfig, find_source
from reliabit.errors import ReliabitError
from reliabit.inference.features import FEATURES, check_features
from reliabit.models.checkpoint_folder import (
    SCHEME,
    check_checkpoint,
    check_folder,
    check_pin,
    find_checkpoint,
    is_pinned,
)
from reliabit.models.llama_cpp import PLAIN
from reliabit.models.pretrained.assembling import check_assembled, check_assembling
from reliabit.models.pretrained.packages import check_installed
from reliabit.models.reference import check_family
from reliabit.paths import project_root
from reliabit.quant.checkpoint_files import check_destination
from reliabit.quant.plan import build_plan
from reliabit.quant.record import OUR_FORMAT, quantized_as
from reliabit.tasks._plans import planned
from reliabit.tracking.store.opening import check_address

Check = Callable[[Config], None]

RUN = "runs:/"


def preflight(config: Config) -> None:
    """Run every check of a configuration's task.

    Raises:
        ReliabitError: The first mistake that was found.
    """
    for check in CHECKS[config.task.name]:
        check(config)


def check_store(config: Config) -> None:
    """Check that runs can be recorded at `tracking.uri`, as far as the address tells."""
    check_address(config.tracking.uri)


def check_engine(config: Config) -> None:
    """Check that what is asked of another process is something that it can do, and that it is there."""
    if config.engine.is_remote:
        # Not for those who ask none.
        from reliabit.tasks._served import check_askable

        check_askable(config)


def check_model(config: Config) -> None:
    """Check that the model is a checkpoint of its family with all its shards, and takes the limit of pixels."""
    if not config.engine.loads_checkpoint:
        return
    config.model.adapter.check_limit(config.model.max_pixels)
    folder = model_folder(config)
    if folder is not None:
        check_checkpoint(folder, family=config.model.known_family)


def check_model_config(config: Config) -> None:
    """Check that the model's folder describes a model of its family, whatever weights it holds."""
    folder = model_folder(config)
    if folder is not None:
        check_folder(folder, family=config.model.known_family)


def model_folder(config: Config) -> Path | None:
    """The folder of the model; `None` for one that is to be fetched first."""
    model = config.model
    check_pin(model.place, revision=model.revision)
    if model.place.startswith(SCHEME) and model.download:
        return None
    if model.parts is not None:
        check_assembled(model.folder, parts=Path(model.parts))
    if not is_pinned(model.place, revision=model.revision):
        return model.folder
    return find_checkpoint(model.place, revision=model.revision, download=False)


def check_plan(config: Config) -> None:
    """Check the rules of the quantization plan, or the file that holds it; one that is searched is not there yet."""
    if config.quant.method != "none" and not config.quant.is_searched:
        build_plan(planned(config, model_folder(config)))


def check_calibration(config: Config) -> None:
    """Check that what a data-aware quantizer is calibrated on is there."""
    wanted = config.quant.calibration
    if not config.quant.is_calibrated:
        return
    if wanted.chat is not None:
        from reliabit.data.chat import check_chats

        check_chats(Path(wanted.chat), images=Path(wanted.chat_images or ""))
        return
    if not config.data.splits.get(wanted.split):
        raise ReliabitError(
            f"quant.calibration.split={wanted.split} is to be learned from, and data.splits leaves it empty; give "
            f"data.splits.{wanted.split} images, or choose another split"
        )
    _check_source(config.data, config=config)


def check_calibrating(config: Config) -> None:
    """Check the model that statistics are measured of, and the calibration set; other quantizers learn nothing."""
    if config.quant.is_calibrated:
        check_model(config)
        check_calibration(config)


def check_searching(config: Config) -> None:
    """Check that there is a plan to search."""
    if not config.quant.is_searched:
        raise ReliabitError(
            f"task=search finds a plan, and quant={config.quant.name} brings one; choose quant=searched with "
            "quant.budget_mib or quant.budget_bits"
        )


def check_data(config: Config) -> None:
    """Check that the files of `data` are there, unless its table is prepared already."""
    _check_source(config.data, config=config)


def check_questions(config: Config) -> None:
    """Check that something is asked, also of what estimators are trained on, and that its files are there."""
    from reliabit.tasks._asked_questions import check_asked

    check_asked(config, training=config.confidence.needs_training())
    for data in (config.data, *config.other_data.values()):
        _check_source(data, config=config)


def check_parts(config: Config) -> None:
    """Check that the model is one that is assembled, and that it can be."""
    check_assembling(config.model.folder, parts=config.model.learned_part())


def check_training(config: Config) -> None:
    """Check that a reference model can be trained: what it is trained on is there, and no model where it goes."""
    check_family(config.model.known_family)
    from reliabit.tasks.pretrain import check_untrained

    check_untrained(config.model)
    joined = config.model.parts is not None
    if joined:
        check_installed()
    for data in (config.task.join() if joined else config.task.training()).data.values():
        _check_source(data, config=config)


def check_quantized(config: Config) -> None:
    """Check that there is something to quantize, once, and a folder to write it to."""
    task = config.task
    if task.format != "gguf" and (task.gguf or task.pre_tokenizer):
        raise ReliabitError(
            f"task.gguf and task.pre_tokenizer are for task.format=gguf, and task.format={task.format}; leave them out"
        )
    if config.quant.method == "none" and task.format != "gguf":
        raise ReliabitError("task=quantize has nothing to do with quant=none; choose a quantizer")
    if config.quant.method != "none" and task.gguf not in (None, *PLAIN):
        raise ReliabitError(
            f"task.gguf={task.gguf} quantizes by llama.cpp's rules, and quant={config.quant.name} by its own; add "
            "quant=none, or leave task.gguf out"
        )
    destination, folder = Path(config.task.place("checkpoint")), model_folder(config)
    if folder is not None:
        check_destination(destination, source=folder)


def check_recovered(config: Config) -> None:
    """Check that there is a packed model of ours to recover, one to learn from, and questions, and where it goes."""
    recipe, packed, teacher = config.task.recovering(), config.task.packed, model_folder(config)
    if teacher is not None and quantized_as(teacher) is not None:
        raise ReliabitError(
            f"model.path={teacher} is quantized, and task=recover learns from the unquantized model; name that one, "
            "and the quantized one as task.packed"
        )
    if packed is None and config.quant.method == "none":
        raise ReliabitError(
            "task=recover has nothing to recover with quant=none: the model is unquantized; choose a quantizer, or "
            "name a checkpoint of task=quantize as task.packed"
        )
    if packed is not None:
        _check_packed(Path(packed), config=config)
    for split, needed in (("train", True), ("dev", recipe.reliability_weight > 0)):
        if needed and not config.data.splits.get(split):
            raise ReliabitError(
                f"task=recover trains on the split {split}, and data.splits leaves it empty; give data.splits.{split} "
                "images" + ("" if split == "train" else ", or set task.recovery.reliability_weight=0")
            )
    if config.data.splits["train"] <= recipe.held_out_images:
        raise ReliabitError(
            f"task.recovery.held_out_images={recipe.held_out_images} leaves none of the {config.data.splits['train']} "
            "images of train to train on; lower it"
        )
    destination = Path(config.task.place("checkpoint"))
    for source in (teacher, None if packed is None else Path(packed)):
        if source is not None:
            check_destination(destination, source=source)


def _check_packed(packed: Path, *, config: Config) -> None:
    check_folder(packed, family=config.model.known_family)
    found = quantized_as(packed)
    if config.quant.method != "none":
        raise ReliabitError(f"task.packed={packed} is what is recovered, and nothing is quantized; add quant=none")
    if found is None:
        raise ReliabitError(f"task.packed={packed} is unquantized; name a checkpoint that task=quantize wrote")
    if found.format != OUR_FORMAT:
        raise ReliabitError(
            f"task.packed={packed} is in the format {found.format}, whose scales are not trained here; name a "
            "checkpoint that task=quantize wrote with task.format=reliabit"
        )
    check_checkpoint(packed, family=config.model.known_family)


def check_predictions(config: Config) -> None:
    """Check that the predictions tables are there that are evaluated; those of runs are looked for later."""
    named = {"task.predictions": config.task.place("predictions"), "task.baseline": config.task.baseline}
    for key, place in named.items():
        if place is None:
            continue
        if place.startswith(RUN):
            check_store(config)
        else:
            _check_table(Path(place), key=key)


def check_answers(config: Config) -> None:
    """Check that the predictions are there that estimators are fitted to, and the features that they read."""
    path = Path(config.task.place("predictions"))
    _check_table(path, key="task.predictions")
    if config.confidence.needs_features():
        check_features(path.parent / FEATURES)
    if any(one.unquantized for one in config.confidence.chosen()) and config.quant.method != "none":
        # The unquantized model is asked what the transferred Selector learns from.
        check_model(config)
        check_questions(config)


def check_sweep(config: Config) -> None:
    """Check that a sweep is named."""
    config.task.place("sweep")
    check_store(config)


def check_results(config: Config) -> None:
    """Check that the folder of results is there, and the list of the cells to choose among."""
    folder = config.task.place("results")
    if not Path(folder).is_dir():
        raise ReliabitError(f"task.results={folder} does not exist; run dvc repro, or correct the path")
    if not (project_root() / "params.yaml").is_file():
        raise ReliabitError(
            f"task=promote chooses among the cells of params.yaml, and {project_root()} has none; run it in a clone"
        )


CHECKS: Mapping[str, tuple[Check, ...]] = MappingProxyType(
    {
        "prepare": (check_data,),
        "assemble": (check_parts,),
        "pretrain": (check_training,),
        "calibrate": (check_calibrating,),
        "search": (check_searching, check_model, check_calibration),
        "quantize": (check_quantized, check_model, check_plan, check_calibration),
        "recover": (check_recovered, check_model, check_plan, check_calibration, check_data),
        "footprint": (check_model_config, check_plan),
        "answer": (check_engine, check_model, check_plan, check_calibration, check_questions),
        "select": (check_answers,),
        "evaluate": (check_predictions,),
        "report": (check_sweep,),
        "promote": (check_results,),
        "pipeline": (check_store, check_engine, check_model, check_plan, check_calibration, check_questions),
    }
)
"""The checks of each task."""


def _check_source(data: DataConfig, *, config: Config) -> None:
    if not is_prepared(data, root=Path(config.paths.data)):
        find_source(data).check_files()


def _check_table(path: Path, *, key: str) -> None:
    if not path.is_file():
        raise ReliabitError(no_table(key, str(path)))
