"""`task=answer`: ask the model every question and write the predictions table."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.inference.memory import peak_memory, reset_peak_memory
from reliabit.inference.predictions import PREDICTIONS, predictions_table, write_predictions
from reliabit.tasks.quantized import QuantizedCheckpoint, load_quantized
from reliabit.tasks.questions import load_questions
from reliabit.tasks.runtime import set_up

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


@dataclass(frozen=True)
class Answered:
    """Predictions, and what making them took.

    Attributes:
        predictions: The predictions table.
        seconds: Time spent answering, loading left out.
        peak_bytes: The largest memory of the process (or the accelerator) while answering.
    """

    predictions: "pa.Table"
    seconds: float
    peak_bytes: int


def answer_questions(config: Config, model: QuantizedCheckpoint, questions: "dict[str, Dataset]") -> Answered:
    """Ask a loaded model the questions of some splits."""
    import pyarrow as pa

    from reliabit.inference.answering import answer_table

    reset_peak_memory()
    seconds, tables = 0.0, []
    for split, table in questions.items():
        start = time.perf_counter()
        answers = answer_table(
            table,
            model.checkpoint,
            batch_size=config.trainer.batch_size,
            max_new_tokens=config.model.max_new_tokens,
            accelerator=config.trainer.accelerator,
            progress=config.trainer.progress_bar,
        )
        seconds += time.perf_counter() - start
        tables.append(predictions_table(table, answers, split=split))
    return Answered(predictions=pa.concat_tables(tables), seconds=seconds, peak_bytes=peak_memory())


def answer(config: Config) -> None:
    """Write the predictions table of a configuration."""
    set_up(config)
    questions = load_questions(config.data, root=Path(config.paths.data))
    answered = answer_questions(config, load_quantized(config), questions)
    path = config.paths.output_folder() / PREDICTIONS
    write_predictions(answered.predictions, path)
    sys.stdout.write(f"{answered.predictions.num_rows} predictions in {answered.seconds:.1f} s: {path}\n")
