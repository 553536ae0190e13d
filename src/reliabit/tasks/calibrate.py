"""`task=calibrate`: measure calibration statistics and write them, for all widths at once."""

import json
from collections.abc import Mapping
from pathlib import Path

from reliabit.config import Config
from reliabit.files import inside, replacing
from reliabit.models.loading import check_loadable
from reliabit.progress import step
from reliabit.tasks._calibration_rows import FOLDER, calibration_digest
from reliabit.tasks._model import load_statistics, needs_statistics
from reliabit.tasks._results import next_command
from reliabit.tasks.runtime import set_up
from reliabit.terminal import show_result


def calibrate(config: Config) -> None:
    """Write the statistics of the configured model, unless they are there, and say where and what they are.

    For a quantizer that needs none, a note that says so: the versioned pipeline has one stage for all. Where it learns
    while it quantizes the note names the questions, as what is made of it then depends on them.

    Raises:
        ReliabitError: Nothing can be learned from the calibration set.
    """
    from reliabit.quant.mbq.calibration_statistics import RECORD

    if not needs_statistics(config):
        path = inside(Path(config.paths.cache) / FOLDER, f"{config.quant.name}.md")
        questions = calibration_digest(config)
        learned = "learns nothing from data" if questions is None else f"learns from {questions} while it quantizes"
        note = f"quant={config.quant.name} {learned}: there is nothing to calibrate.\n"
        with replacing(path) as unfinished:
            unfinished.write_text(note)
        show_result(f"{path}: {note.rstrip()}", [], then=next_command("task=quantize"))
        return
    set_up(config)
    check_loadable(config.model)
    with step("measuring calibration statistics", shown=config.trainer.progress_bar):
        statistics, _ = load_statistics(config)
    record = json.loads((statistics.folder / RECORD).read_text(encoding="utf-8"))
    counts = ", ".join(f"{count} {kind}" for kind, count in record["tokens"].items())
    facts = [
        (f"layer {layer} {place}", f"image tokens count {_share(found)} of answer tokens")
        for layer, places in enumerate(record["ratios"])
        for place, found in places.items()
    ]
    title = f"{statistics.folder}: {record['sequences']} sequences, {counts} tokens"
    show_result(title, facts, then=next_command("task=quantize"))


def _share(found: Mapping[str, float]) -> str:
    return f"{found['estimate']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
