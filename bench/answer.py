"""Answering five questions an image: the shared image prefix against plain batched loops over transformers' `generate`.

Run as `python bench/answer.py` from the repository's root; it adds to `bench/results/answer.json`. The reference models
get images as large as it takes for the full-size ones' ratio of image tokens to words. With `--full-size`, on a GPU of
40 GiB, Qwen2-VL-7B with random weights takes their place. The loops answer the same questions in the same batches, and
take turns, so that a busy moment hits all.
"""

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from full_size_model import qwen2_vl_7b
from PIL import Image
from transformers import GenerationConfig

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.inference.answering import Answering
from reliabit.inference.decoding import end_of_answers, score_tokens
from reliabit.models.encoding import Batch
from reliabit.models.loading import Checkpoint, load_checkpoint
from reliabit.models.settings import ModelConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "answer.json"
IMAGES, QUESTIONS, NEW_TOKENS, ROUNDS = 4, 5, 8, 5
BOUND = 2.5
"""How many times as fast as the plain loop answering must be."""

SIZES = {
    "qwen2_vl": [(80, 80), (320, 256), (480, 320), (640, 480)],
    "idefics3": [(80, 80), (240, 180), (400, 320), (560, 480)],
}
"""Of images: as the reference models' data have them, and larger."""

FULL_SIZE = (640, 480)
"""The size of most images of VQAv2."""


@dataclass(frozen=True)
class AnsweredBatch:
    """Texts and log-probabilities."""

    texts: list[str]
    log_probs: list[float]


def rows_of(size: tuple[int, int]) -> list[dict[str, Any]]:
    """Questions about generated scenes that are enlarged to a size."""
    with tempfile.TemporaryDirectory() as made:
        spec = DataConfig(name="scenes", splits={"train": 1, "test": IMAGES}, questions_per_image=QUESTIONS)
        rows = list(load_split(prepare(spec, root=Path(made)), "test"))
    return [{**row, "image": enlarged(row["image"], size)} for row in rows]


def enlarged(encoded: bytes, size: tuple[int, int]) -> bytes:
    """An image file at another size."""
    file = io.BytesIO()
    Image.open(io.BytesIO(encoded)).convert("RGB").resize(size).save(file, format="PNG")
    return file.getvalue()


def reference_model(family: str, size: tuple[int, int]) -> Checkpoint:
    """A reference model whose processor takes images of a size as they are, as many tokens as that makes."""
    path = ROOT / "models" / f"{family}_tiny"
    checkpoint = load_checkpoint(ModelConfig(path=str(path), family=family, dtype="float32", template="{question}"))
    processor = checkpoint.encoder.processor.image_processor
    if family == "qwen2_vl":
        processor.size = replace_edge(processor.size, size[0] * size[1])
    elif max(size) > 80:
        processor.do_image_splitting, processor.size = True, {"longest_edge": max(size)}
    return checkpoint


def models(device: torch.device, *, full_size: bool) -> Iterator[tuple[str, Checkpoint, tuple[int, int]]]:
    """The models to measure, by name, each with a size of images."""
    if full_size:
        yield "qwen2_vl_7b, random weights", qwen2_vl_7b(device), FULL_SIZE
        return
    for family, sizes in SIZES.items():
        for size in sizes:
            yield f"{family}_tiny", reference_model(family, size), size


def replace_edge(size: Any, longest: int) -> dict[str, int]:
    """The image processor's bounds of a size in pixels, with another upper one."""
    return {"shortest_edge": size["shortest_edge"], "longest_edge": longest}


def plain(checkpoint: Checkpoint, batch: Batch, images: dict[str, Any], *, ends: Sequence[int]) -> AnsweredBatch:
    """Answer as transformers does, with nothing shared in the decoder."""
    tokenizer, model = checkpoint.encoder.processor.tokenizer, checkpoint.model
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    output: Any = model.generate(**batch.text, **images)
    tokens = output.sequences[:, batch.text["input_ids"].shape[1] :]
    lengths, _ = end_of_answers(tokens, ends=ends)
    scores = score_tokens(torch.stack(output.logits, 1), tokens, lengths)
    kept = [row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)]
    texts = [text.strip() for text in tokenizer.batch_decode(kept, skip_special_tokens=True)]
    return AnsweredBatch(texts=texts, log_probs=scores.log_prob.tolist())


def ways(checkpoint: Checkpoint, rows: Sequence[dict[str, Any]], device: torch.device) -> dict[str, Callable[[], Any]]:
    """The loops over one batch of encoded questions, by name."""
    encoder, model, adapter = checkpoint.encoder, checkpoint.model.to(device), checkpoint.encoder.adapter
    answering = Answering(checkpoint, max_new_tokens=NEW_TOKENS)
    shared = encoder(rows).to(device)
    # With an image of its own for each question, as a processor encodes them.
    apart = encoder([{**row, "image_id": str(number)} for number, row in enumerate(rows)]).to(device)
    seen = replace(shared, seen=adapter.see_images(model, shared.images))

    def once(batch: Batch) -> AnsweredBatch:
        features = batch.seen or adapter.see_images(model, batch.images)
        inputs = adapter.image_inputs(features, batch.images, batch.image_of)
        return plain(checkpoint, batch, inputs, ends=answering.ends)

    def ours(batch: Batch) -> AnsweredBatch:
        found = answering.predict_step(batch, 0)
        return AnsweredBatch([row["answer"] for row in found], [row["log_prob"] for row in found])

    return {
        "plain": lambda: plain(checkpoint, apart, apart.images, ends=answering.ends),
        "plain, vision once an image": lambda: once(shared),
        "plain, images seen before": lambda: once(seen),
        "shared prefix": lambda: ours(shared),
        "shared prefix, images seen before": lambda: ours(seen),
    }


def measure(checkpoint: Checkpoint, size: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Time the loops in turns, and compare what they answer."""
    rows = rows_of(size)
    batch = checkpoint.encoder(rows)
    with torch.inference_mode():
        loops = ways(checkpoint, rows, device)
        answered = {name: loop() for name, loop in loops.items()}
        rounds = [{name: timed(loop, device) for name, loop in loops.items()} for _ in range(ROUNDS)]

    seconds = {name: min(times[name] for times in rounds) for name in loops}

    def times_as_fast(slow: str, fast: str) -> float:
        return round(seconds[slow] / seconds[fast], 2)

    expected, found = answered["plain"], answered["shared prefix"]
    return {
        "image_tokens": int(batch.image_tokens[0].sum()),
        "prompt_tokens": int(batch.text["attention_mask"].sum(1).max()),
        "questions": len(rows),
        "seconds": {name: round(least, 4) for name, least in seconds.items()},
        "times_as_fast_as": {
            "plain": times_as_fast("plain", "shared prefix"),
            "plain, vision once an image": times_as_fast("plain, vision once an image", "shared prefix"),
            "plain, both with images seen before": times_as_fast(
                "plain, images seen before", "shared prefix, images seen before"
            ),
        },
        "equal_answers": sum(one == other for one, other in zip(expected.texts, found.texts, strict=True)),
        "largest_difference_of_log_probability": max(
            abs(one - other) for one, other in zip(expected.log_probs, found.log_probs, strict=True)
        ),
    }


def timed(loop: Callable[[], Any], device: torch.device) -> float:
    """Seconds that a loop takes."""
    start = time.perf_counter()
    loop()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on, without anything that names the host."""
    cpu_info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        **({"gpu": torch.cuda.get_device_name()} if device.type == "cuda" else {}),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers")},
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu", help="torch's name of the device")
    parser.add_argument("--full-size", action="store_true", help="Qwen2-VL-7B with random weights, in bfloat16")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    key = f"{device.type}, full size" if chosen.full_size else device.type
    results = {"machine": machine(device), "bound": BOUND, "new_tokens": NEW_TOKENS, "rounds": ROUNDS}
    cases: dict[str, list[dict[str, Any]]] = {}
    for name, checkpoint, size in models(device, full_size=chosen.full_size):
        cases.setdefault(name, []).append(measure(checkpoint, size, device))
        print(json.dumps({name: cases[name][-1]}), flush=True)
    written = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    RESULTS.write_text(json.dumps({**written, key: {**results, "models": cases}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
