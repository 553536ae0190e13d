"""Answering on a machine that others use too: questions a second and processor seconds by number of CPU threads.

    python bench/threads.py                 # beside whatever runs now
    python bench/threads.py --others 2      # beside two processes that compute all the time

Each way answers in a process of its own, for the same time, in turns, so that a busy moment hits all: one thread, two,
two that sleep while they wait for each other (`OMP_WAIT_POLICY=PASSIVE`), and as many as `reliabit.threads` chooses.
Whether all answers and their log-probabilities are the same is recorded, too. Adds to `bench/results/threads.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "threads.json"
WAYS = {
    "1": ("1", {}),
    "2": ("2", {}),
    "2, passive": ("2", {"OMP_WAIT_POLICY": "PASSIVE"}),
    "chosen": ("chosen", {}),
}
OWN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")


def answer(threads: str, seconds: float) -> dict[str, Any]:
    """Answer one batch again and again; what `python bench/threads.py --answer` prints."""
    import hashlib

    from answer import reference_model, rows_of

    from reliabit.threads import choose_threads

    chosen = choose_threads() if threads == "chosen" else int(threads)
    import torch

    from reliabit.inference.answering import Answering

    torch.set_num_threads(chosen)
    checkpoint = reference_model("qwen2_vl", (80, 80))
    rows = rows_of((80, 80)) * 3
    batch, answering = checkpoint.encoder(rows), Answering(checkpoint, max_new_tokens=8)
    with torch.inference_mode():
        found = answering.predict_step(batch, 0)
        before, start, answered = time.process_time(), time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            answered += len(answering.predict_step(batch, 0))
    taken = time.perf_counter() - start
    told = json.dumps([[row["answer"], row["log_prob"]] for row in found])
    return {
        "threads": chosen,
        "questions_per_second": round(answered / taken, 1),
        "cpu_seconds_per_1000": round(1000 * (time.process_time() - before) / answered, 2),
        "answers": hashlib.sha256(json.dumps([row["answer"] for row in found]).encode()).hexdigest()[:12],
        "log_probs": hashlib.sha256(told.encode()).hexdigest()[:12],
    }


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """All ways in turns."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        # Each way comes first in some round.
        names = [*WAYS][number % len(WAYS) :] + [*WAYS][: number % len(WAYS)]
        for name in names:
            threads, environment = WAYS[name]
            own = {key: value for key, value in os.environ.items() if key not in OWN}
            command = [sys.executable, __file__, "--answer", threads, "--seconds", str(seconds)]
            done = subprocess.run(command, env={**own, **environment}, capture_output=True, text=True, check=True)  # noqa: S603
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps({name: found[name][-1]}), flush=True)
    return told(found)


def told(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What all rounds come to."""
    everything = [one for all_of_them in found.values() for one in all_of_them]
    return {
        "load": [round(load, 1) for load in os.getloadavg()],
        "median_questions_per_second": {
            name: round(statistics.median(one["questions_per_second"] for one in rows), 1)
            for name, rows in found.items()
        },
        "median_cpu_seconds_per_1000": {
            name: round(statistics.median(one["cpu_seconds_per_1000"] for one in rows), 2)
            for name, rows in found.items()
        },
        "same_answers": len({one["answers"] for one in everything}) == 1,
        "same_log_probs": len({one["log_probs"] for one in everything}) == 1,
        "rounds": found,
    }


def main() -> None:
    """Measure, and add to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    parser.add_argument("--others", type=int, default=0, help="so many processes compute beside it")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0, help="so long each way answers in a round")
    parser.add_argument("--as", dest="key", help="the key of the results; by default the number of others")
    options = parser.parse_args()
    if options.answer is not None:
        print(json.dumps(answer(options.answer, options.seconds)))
        return
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.others)]
    try:
        found = measure(options.rounds, options.seconds)
    finally:
        for process in spinning:
            process.kill()
    written = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    written[options.key or f"beside {options.others}"] = {"cpus": os.cpu_count(), **found}
    RESULTS.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
