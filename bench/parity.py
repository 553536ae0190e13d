"""The same questions answered by us, by vLLM and by llama.cpp: how far apart, and what that does to a threshold.

    python bench/parity.py [--models qwen2_vl_tiny idefics3_tiny] [--work folder]

It needs the environments of `make vllm-env` and `make llamacpp-env`. Each model is answered as it is and exported at 8,
4, 3 and 2 bits (rounding to nearest, groups of 64, `task.format=compressed_tensors`), 300 questions of easy-VQA's test
split. Ours is transformers, loading the export, in float32. The same export is given to vLLM as it is, in bfloat16,
since its kernels take nothing longer; and, as engines take few widths on a CPU, with its weights written out in
float32, to vLLM and (as GGUF of float32) to llama.cpp's server, so that what differs is the engine alone. A threshold
is certified on our answers to other questions, and carried to each engine.

It writes `bench/results/parity.json`, of which `bench/parity_page.py` makes `docs/engines_parity.md`. What lies in
`--work` is not made again.
"""

import argparse
import json
import logging
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import real_servers

from reliabit.engines.chat import UnusableAnswerError, chat_request, read_answer
from reliabit.errors import ReliabitError
from reliabit.metrics.certify import certify_threshold
from reliabit.metrics.functional import aurc, vqa_accuracy

if TYPE_CHECKING:
    from datasets import Dataset

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "parity.json"
FAMILIES = {"qwen2_vl_tiny": "qwen2_vl", "idefics3_tiny": "idefics3", "idefics3_smollm2": "idefics3"}
WIDTHS = (None, 8, 4, 3, 2)
QUESTIONS = 300
LONGEST = 8
CERTIFIED = {"risk": 0.1, "delta": 0.1}
ASKED_TO_CERTIFY = {"val": 100, "cal": 700}
"""Images; all their questions plan the sequence of thresholds, one an image tests it."""
VLLM = {
    "max_model_len": 512,
    "max_logprobs": 20,
    "enforce_eager": True,
    "limit_mm_per_prompt": {"image": 1, "video": 0},
}


class Cell:
    """A model at a width, with the files that it needs.

    Args:
        model: Its name.
        bits: The width; `None` is the unquantized model.
        work: Where files go.
    """

    def __init__(self, model: str, bits: int | None, work: Path) -> None:
        self.model, self.bits, self.family = model, bits, FAMILIES[model]
        self.folder = work / f"{model}-{bits or 'none'}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def exported(self) -> Path:
        """The checkpoint that is measured: the model, or its export."""
        original = ROOT / "models" / self.model
        if self.bits is None:
            return original.resolve()
        place = self.folder / "exported"
        if not place.is_dir():
            arguments = [
                *("task=quantize", "task.format=compressed_tensors", f"model={self.model}", "quant=rtn"),
                *(f"quant.bits={self.bits}", f"task.checkpoint={place}", f"paths.cache={self.folder.parent / 'cache'}"),
            ]
            subprocess.run([sys.executable, str(ROOT / "src" / "run.py"), *arguments], check=True, cwd=ROOT)  # noqa: S603
        return place

    def plain(self) -> Path:
        """The same with its weights written out in float32."""
        if self.bits is None:
            return self.exported()
        place = self.folder / "plain"
        if not place.is_dir():
            import torch
            from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

            exported = self.exported()
            config = AutoConfig.from_pretrained(exported)
            config.quantization_config["dequantize"] = True
            model = AutoModelForImageTextToText.from_pretrained(exported, config=config, dtype=torch.float32)
            model.save_pretrained(place)
            if self.family == "qwen2_vl":
                for name in (
                    "chat_template.jinja",
                    "preprocessor_config.json",
                    "tokenizer.json",
                    "tokenizer_config.json",
                ):
                    (place / name).write_bytes((exported / name).read_bytes())
            else:
                AutoProcessor.from_pretrained(exported).save_pretrained(place)
        return place

    def gguf(self) -> Path:
        """That as GGUF of float32."""
        from reliabit.models.llama_cpp.writing import export_gguf

        place = self.folder / "gguf"
        if not place.is_dir():
            export_gguf(self.plain(), place, family=self.family, file_type="f32")
        return place


def ours(cell: Cell, rows: "Dataset", name: str) -> list[dict[str, Any]]:
    """Our answers, kept."""
    kept = cell.folder / f"ours_{name}.json"
    if not kept.is_file():
        import torch

        import reliabit
        from reliabit.inference.answering import answer_batches
        from reliabit.inference.prediction_loop import batches_of

        torch.set_num_threads(1)
        checkpoint = reliabit.load(cell.exported(), dtype="float32")
        found = answer_batches(
            batches_of(rows, checkpoint.encoder, batch_size=32),
            checkpoint,
            max_new_tokens=LONGEST,
            accelerator="cpu",
            progress=False,
        )
        write_json(kept, [{key: one[key] for key in ("answer", "log_prob", "n_tokens")} for one in found])
    found_before: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
    return found_before


def requests(rows: "Dataset", model: str) -> list[dict[str, Any]]:
    """The same questions as requests."""
    return [
        chat_request(row["question"], row["image"], media_type="image/png", model=model, max_tokens=LONGEST)
        for row in rows
    ]


def by_vllm(cells: Sequence[Cell], rows: "Dataset", work: Path) -> None:
    """Have vLLM answer the exports as they are and written out, all in one process; what it does not take it says."""
    asked, jobs = work / "requests.jsonl", []
    asked.write_text("".join(json.dumps(one) + "\n" for one in requests(rows, "any")), encoding="utf-8")
    for cell in cells:
        for kind, folder, dtype in (("export", cell.exported(), "bfloat16"), ("plain", cell.plain(), "float32")):
            answers = cell.folder / f"vllm_{kind}.jsonl"
            if not answers.is_file():
                job = {"folder": folder, "requests": asked, "answers": answers}
                jobs.append({**{key: str(path) for key, path in job.items()}, "settings": {"dtype": dtype, **VLLM}})
    if not jobs:
        return
    script = ROOT / "bench" / "engines" / "vllm_answers.py"
    worker = ROOT / "src" / "reliabit" / "engines" / "vllm_worker.py"
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with (work / "vllm.log").open("wb") as log:
        subprocess.run(  # noqa: S603
            [str(real_servers.vllm_environment() / "bin" / "python"), "-P", str(script), str(worker)],
            input="".join(json.dumps(job) + "\n" for job in jobs).encode(),
            env={**own, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )


def by_server(cell: Cell, rows: "Dataset", engine: str) -> None:
    """Have a real server answer, kept: vLLM's the export as it is, llama.cpp's the weights written out."""
    from reliabit.engines.endpoint import Endpoint
    from reliabit.engines.settings import EngineConfig

    kept = cell.folder / f"{engine}_server.jsonl"
    if kept.is_file():
        return
    log = cell.folder / f"{engine}.log"
    try:
        if engine == "vllm":
            dtype = "float32" if cell.bits is None else "bfloat16"
            settings = (*real_servers.VLLM_SETTINGS, f"--dtype={dtype}")
            running = real_servers.vllm_server(cell.exported(), log=log, name=cell.model, settings=settings)
        else:
            place = cell.gguf()
            running = real_servers.llamacpp_server(
                place / "model.gguf", place / "mmproj.gguf", log=log, name=cell.model
            )
        with running as server:
            endpoint = Endpoint(EngineConfig(name="openai", url=server.url, timeout=300, concurrency=4))
            name = endpoint.served_model().name
            answers: list[Mapping[str, Any]] = [{"server": engine}]
            answers += [one.response for one in endpoint.complete_all(requests(rows, name))]
    except real_servers.LateError:
        # On a busy machine; that says nothing about the engine.
        return
    except (ReliabitError, real_servers.ServerError) as error:
        answers = [{"refused": str(error)}]
    kept.write_text("".join(json.dumps(one) + "\n" for one in answers), encoding="utf-8")


def compared(cell: Cell, rows: "Dataset", kept: Path, threshold: float) -> dict[str, Any] | None:
    """What an engine's answers are beside ours; `None` where it was not asked."""
    if not kept.is_file():
        return None
    first, *responses = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    if "refused" in first:
        return {"refused": reason_of(first["refused"])}
    try:
        theirs = [read_answer(one) for one in responses]
    except UnusableAnswerError as error:
        return {"refused": str(error)}
    own = ours(cell, rows, "test")
    same = np.array([mine["answer"] == one.answer for mine, one in zip(own, theirs, strict=True)])
    differences = np.array([abs(a["log_prob"] - b.log_prob) for a, b in zip(own, theirs, strict=True)])[same]
    return {
        "equal": int(same.sum()),
        "median_difference": float(np.median(differences)) if len(differences) else None,
        "largest_difference": float(differences.max()) if len(differences) else None,
        **judged(rows, [one.answer for one in theirs], [one.log_prob for one in theirs], threshold),
        "decided_otherwise": int(
            sum((a["log_prob"] >= threshold) != (b.log_prob >= threshold) for a, b in zip(own, theirs, strict=True))
        ),
    }


def judged(rows: "Dataset", answers: Sequence[str], log_probs: Sequence[float], threshold: float) -> dict[str, Any]:
    """Accuracy, AURC, and what a threshold on the log-probability accepts and how much of that is wrong."""
    right = np.array([vqa_accuracy(one, row["answers"]) for one, row in zip(answers, rows, strict=True)])
    sure = np.array(log_probs)
    accepted = sure >= threshold
    return {
        "accuracy": float(right.mean()),
        "aurc": float(aurc(sure, right)),
        "coverage": float(accepted.mean()),
        "risk": float(1 - right[accepted].mean()) if accepted.any() else None,
    }


def certified(cell: Cell, splits: Mapping[str, "Dataset"]) -> float:
    """The log-probability from which on our answers are certified; infinite where nothing is."""
    pairs = {}
    for name in ("val", "cal"):
        found = ours(cell, splits[name], name)
        right = [vqa_accuracy(one["answer"], row["answers"]) for one, row in zip(found, splits[name], strict=True)]
        pairs[name] = ([one["log_prob"] for one in found], right)
    images = splits["cal"]["image_id"]
    return certify_threshold(*pairs["val"], *pairs["cal"], **CERTIFIED, cal_image_ids=images).threshold


def reason_of(said: str) -> str:
    """The reason of a refusal: of a server's log the last line that tells an error, anything else as it is."""
    lines = said.splitlines()
    errors = [line for line in lines if "Error" in line]
    told = errors[-1] if said.startswith("the server ") and errors else said
    # Ports differ from one server to the next.
    return re.sub(r"http://127[\w.:/]+", "", " ".join(told.split()))[:600]


def write_json(path: Path, value: Any) -> None:
    """Write a file whole."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    part.replace(path)


def questions(data: Path) -> dict[str, "Dataset"]:
    """The questions to compare on, and those to certify on."""
    from reliabit.data.prepared_table import load_split, prepare
    from reliabit.data.sources import DataConfig
    from reliabit.data.table import first_images

    splits = {"train": 2400, "dev": 600, "val": 300, "cal": 700, "test": 1000}
    table = prepare(DataConfig(name="easy_vqa", splits=splits), root=data)
    found = {name: first_images(load_split(table, name), count) for name, count in ASKED_TO_CERTIFY.items()}
    return {**found, "test": load_split(table, "test").select(range(QUESTIONS))}


def measured(cells: Iterable[Cell], splits: Mapping[str, "Dataset"]) -> dict[str, Any]:
    """All comparisons there are."""
    found = {}
    for cell in cells:
        threshold, own = certified(cell, splits), ours(cell, splits["test"], "test")
        answers, sure = [one["answer"] for one in own], [one["log_prob"] for one in own]
        beside = {
            engine: compared(cell, splits["test"], cell.folder / file, threshold)
            for engine, file in (
                ("vllm_server", "vllm_server.jsonl"),
                ("vllm_bfloat16", "vllm_export.jsonl"),
                ("vllm_float32", "vllm_plain.jsonl"),
                ("llamacpp_float32", "llamacpp_server.jsonl"),
            )
        }
        found[f"{cell.model}/{cell.bits or 'none'}"] = {
            "threshold": None if np.isinf(threshold) else threshold,
            "ours": judged(splits["test"], answers, sure, threshold),
            **{engine: one for engine, one in beside.items() if one is not None},
        }
    return found


def main() -> None:
    """Answer, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["qwen2_vl_tiny", "idefics3_tiny"], choices=list(FAMILIES))
    parser.add_argument("--work", type=Path, default=ROOT / "cache" / "parity")
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    splits = questions(given.data)
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["cells"] if RESULTS.is_file() else {}
    for model in given.models:
        cells = [Cell(model, bits, work) for bits in WIDTHS]
        for cell in cells:
            by_server(cell, splits["test"], "llamacpp")
        by_vllm(cells, splits["test"], work)
        for cell in cells:
            if cell.bits in (None, 4):
                by_server(cell, splits["test"], "vllm")
        before |= measured(cells, splits)
        record = {
            "machine": f"{platform.machine()}, {real_servers.cpu_name()}",
            "versions": {
                **{name: version(name) for name in ("torch", "transformers", "compressed-tensors")},
                **real_servers.versions(),
            },
            "questions": QUESTIONS,
            "certified": CERTIFIED,
            "cells": before,
        }
        write_json(RESULTS, record)
        print(f"{model}: {RESULTS}")


if __name__ == "__main__":
    main()
