"""Answering five questions an image: Reliabit against lmms-eval's `qwen2_vl`, both from image files to texts.

Run as `python bench/answer_lmms.py` from the repository's root, where lmms-eval imports (`pip install --no-deps
lmms-eval==0.7.3 qwen-vl-utils decord torchvision evaluate`, and what else it asks for); it adds to
`bench/results/answer.json`. Both answer the same questions with the reference model, as many at once, on one thread,
and take turns. lmms-eval puts a system turn before each question and hands images on as JPEG, so the answers are not
compared; `bench/answer.py` does that with loops that read the same tokens.
"""

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.metadata import version
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
import torchvision_names  # noqa: F401  (first: torchvision is imported by what follows)

from reliabit.models.settings import ModelConfig

# isort: split
from answer import NEW_TOKENS, RESULTS, ROOT, ROUNDS, machine, rows_of
from datasets import Dataset
from PIL import Image

from reliabit.inference.answering import answer_batches
from reliabit.inference.prediction_loop import batches_of
from reliabit.models.loading import load_checkpoint

SIZES = [(112, 112), (336, 224), (448, 336), (672, 448)]
"""Of images: multiples of what either way rounds sizes to, so that both make as many tokens of them."""

MODEL = ROOT / "models" / "qwen2_vl_tiny"
TASK, SPLIT = "scenes", "test"


def enlarge(folder: Path, pixels: int) -> Path:
    """A copy of the reference model that takes images of up to so many pixels as they are."""
    copy = folder / "model"
    shutil.copytree(MODEL, copy)
    file = copy / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    settings["size"]["longest_edge"] = pixels
    file.write_text(json.dumps(settings))
    return copy


def lmms_loop(model: Path, rows: list[dict[str, Any]], pixels: int) -> Callable[[], int]:
    """lmms-eval answering the questions; the loop returns how many tokens one image became."""
    from lmms_eval.api.instance import Instance
    from lmms_eval.models.simple.qwen2_vl import Qwen2_VL

    wrapped = Qwen2_VL(
        str(model), device="cpu", device_map="cpu", batch_size=len(rows), max_pixels=pixels, system_prompt=""
    )
    wrapped.model.float()
    wrapped.task_dict = {TASK: {SPLIT: rows}}
    kept: list[int] = []
    wrapped.model.get_submodule("model.visual").register_forward_hook(
        lambda _, __, seen: kept.append(len(seen.pooler_output) // len(rows))
    )

    def loop() -> int:
        settings = {"max_new_tokens": NEW_TOKENS, "until": ["\n\n"]}
        requests = [
            Instance(
                request_type="generate_until",
                arguments=(row["question"], dict(settings), _opened, number, TASK, SPLIT),
                idx=0,
                metadata={"task": TASK, "doc_id": number, "repeats": 1},
            )
            for number, row in enumerate(rows)
        ]
        kept.clear()
        with redirect_stderr(StringIO()):
            answers = wrapped.generate_until(requests)
        return kept[0] if len(answers) == len(rows) else 0

    return loop


def _opened(row: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(BytesIO(row["image"])).convert("RGB")]


def our_loop(model: Path, rows: list[dict[str, Any]]) -> Callable[[], int]:
    """Reliabit answering the questions; the loop returns how many tokens one image became."""
    checkpoint = load_checkpoint(
        ModelConfig(path=str(model), family="qwen2_vl", dtype="float32", template="{question}")
    )
    table = Dataset.from_list(rows)
    tokens = int(checkpoint.encoder(rows[:1]).image_tokens.sum())

    def loop() -> int:
        batches = batches_of(table, checkpoint.encoder, batch_size=len(rows))
        answer_batches(batches, checkpoint, max_new_tokens=NEW_TOKENS, accelerator="cpu", progress=False)
        return tokens

    return loop


def measure(size: tuple[int, int]) -> dict[str, Any]:
    """Time both in turns."""
    rows, pixels = rows_of(size), size[0] * size[1]
    with tempfile.TemporaryDirectory() as made:
        model = enlarge(Path(made), pixels)
        loops = {"lmms-eval": lmms_loop(model, rows, pixels), "reliabit": our_loop(model, rows)}
        tokens = {name: loop() for name, loop in loops.items()}
        rounds = [{name: timed(loop) for name, loop in loops.items()} for _ in range(ROUNDS)]
    seconds = {name: min(times[name] for times in rounds) for name in loops}
    return {
        "image_tokens": tokens,
        "questions": len(rows),
        "seconds": {name: round(least, 4) for name, least in seconds.items()},
        "times_as_fast_as_lmms_eval": round(seconds["lmms-eval"] / seconds["reliabit"], 2),
    }


def timed(loop: Callable[[], int]) -> float:
    """Seconds that a loop takes."""
    start = time.perf_counter()
    loop()
    return time.perf_counter() - start


def main() -> None:
    """Measure, and write the results."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    described = {**machine(torch.device("cpu")), "lmms-eval": version("lmms-eval")}
    cases = []
    for size in SIZES:
        cases.append(measure(size))
        print(json.dumps(cases[-1]), flush=True)
    found = {"machine": described, "new_tokens": NEW_TOKENS, "rounds": ROUNDS, "models": {MODEL.name: cases}}
    written = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    RESULTS.write_text(json.dumps({**written, "cpu, lmms-eval": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
