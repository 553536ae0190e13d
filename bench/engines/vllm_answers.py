"""Answers the same requests by several checkpoints, one after the other in one process; run in vLLM's environment.

    .venv-vllm/bin/python bench/engines/vllm_answers.py WORKER < jobs.jsonl

WORKER is `src/reliabit/engines/vllm_worker.py`. A job names a `folder`, the `settings` of `vllm.LLM`, a file of
`requests` and where the `answers` go, all at once: completions, a line each, or `{"refused": reason}` where vLLM does
not load or run that checkpoint. What it prints is of vLLM.
"""

import gc
import json
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

BATCH = 64


def load_module(path: str) -> ModuleType:
    """The worker, which lies in a package that this environment has not."""
    loader = SourceFileLoader("vllm_worker", path)
    module = ModuleType(loader.name)
    loader.exec_module(module)
    return module


def main() -> None:
    """Do the jobs."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    worker_module = load_module(sys.argv[1])
    for line in sys.stdin:
        job = json.loads(line)
        bodies = [json.loads(text) for text in Path(job["requests"]).read_text(encoding="utf-8").splitlines()]
        try:
            worker = worker_module.Worker(job["folder"], name=None, settings=job["settings"])
            answers = [worker.description()]
            for start in range(0, len(bodies), BATCH):
                answers += worker.answer(bodies[start : start + BATCH])
        except Exception as error:
            answers = [{"refused": f"{type(error).__name__}: {error}"}]
        worker = None
        gc.collect()
        text = "".join(json.dumps(one) + "\n" for one in answers)
        Path(job["answers"]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
