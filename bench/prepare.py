"""Memory and time of preparing a set in the layout of VQAv2, and of reading the prepared table back.

Run as `python bench/prepare.py` from the repository's root. It writes sets of 20 000 and of 200 000 questions, five an
image, into a temporary folder (some 3 GB), prepares each in a process of its own, reads it in another, and writes
`bench/results/prepare.json`. Memory is what a process takes at most beyond what it had with its libraries loaded.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "prepare.json"
SIZES = (20_000, 200_000)
QUESTIONS_PER_IMAGE, ANNOTATORS = 5, 10
WIDTH, HEIGHT = 640, 480
FILES = {"questions": "questions.json", "annotations": "annotations.json", "images": "images/{image_id:012d}.jpg"}
MIB = 2**20


def picture() -> bytes:
    """A JPEG file of the size that pictures of COCO have in pixels, smooth but for some noise."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(256, size=(HEIGHT // 80, WIDTH // 80, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = smooth + generator.integers(-8, 9, size=smooth.shape)
    file = BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, format="JPEG", quality=90)
    return file.getvalue()


def generate(folder: Path, *, questions: int) -> None:
    """Write a set: one picture under many names, questions in order, annotations in none."""
    (folder / "images").mkdir(parents=True)
    images = range(1, questions // QUESTIONS_PER_IMAGE + 1)
    first = folder / FILES["images"].format(image_id=1)
    first.write_bytes(picture())
    for image in images[1:]:
        os.link(first, folder / FILES["images"].format(image_id=image))
    keys = [
        {"image_id": image, "question_id": 1000 * image + number}
        for image in images
        for number in range(QUESTIONS_PER_IMAGE)
    ]
    with (folder / FILES["questions"]).open("w") as file:
        json.dump(
            {"questions": [{**key, "question": f"What is behind object {key['image_id']}?"} for key in keys]}, file
        )
    random.Random(0).shuffle(keys)
    answers = [{"answer": "yes", "answer_confidence": "maybe", "answer_id": n + 1} for n in range(ANNOTATORS)]
    kinds = {"question_type": "what is", "answer_type": "yes/no", "multiple_choice_answer": "yes"}
    with (folder / FILES["annotations"]).open("w") as file:
        json.dump({"annotations": [{**key, **kinds, "answers": answers} for key in keys]}, file)


def spec(folder: Path) -> DataConfig:
    """What reads such a set."""
    return DataConfig(name="vqav2", splits={"test": 1.0}, root=str(folder / "set"), files=FILES)


def status(key: str) -> float:
    """A memory figure of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def preparing(folder: Path) -> None:
    """Prepare the table."""
    prepare(spec(folder), root=folder / "tables")


def reading(folder: Path) -> None:
    """Read every row of the prepared table with its image, one at a time."""
    table = load_split(prepare(spec(folder), root=folder / "tables"), "test")
    if not all(row["image"] for row in table):
        raise ValueError("a row came without its image")


WORK = {"preparing": preparing, "reading": reading}


def measured(name: str, folder: Path) -> dict[str, float]:
    """What one kind of work takes in this process."""
    import datasets
    import filelock
    import pyarrow.parquet
    import tqdm

    import reliabit.data._image_store

    loaded = datasets, filelock, pyarrow.parquet, tqdm, reliabit.data._image_store, Image.init()
    # The highest figure so far is forgotten.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    WORK[name](folder)
    seconds = time.perf_counter() - start
    del loaded
    return {f"{name}_mib": round(status("VmHWM") - before, 1), f"{name}_seconds": round(seconds, 1)}


def row(questions: int) -> dict[str, Any]:
    """Generate a set of one size, prepare and read it."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        generate(folder / "set", questions=questions)
        found: dict[str, Any] = {
            "questions": questions,
            "images": questions // QUESTIONS_PER_IMAGE,
            "question_files_mib": sum((folder / "set" / FILES[n]).stat().st_size for n in ("questions", "annotations"))
            // MIB,
        }
        for name in WORK:
            command = [sys.executable, __file__, "--work", name, "--folder", made]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this very file
            found |= json.loads(done.stdout.splitlines()[-1])
        [store] = (folder / "tables").glob("*/test.images.tar")
        return found | {"image_store_mib": store.stat().st_size // MIB}


def machine() -> dict[str, Any]:
    """What the numbers were measured on, without anything that names the host."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{package: version(package) for package in ("datasets", "pillow", "pyarrow")},
    }


def main() -> None:
    """Measure each size in processes of its own, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", choices=WORK, help="measure this in this process, and print")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(measured(given.work, given.folder)))
        return
    results = {"machine": machine(), "image": [WIDTH, HEIGHT], "sets": [row(size) for size in SIZES]}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
