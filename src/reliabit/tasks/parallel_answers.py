"""Answering on several devices: a process each, and the store of answers between them.

Each process loads the model on a device of its own and answers whichever chunks nobody else is answering, so devices of
different speed end together, and a process that dies loses one chunk. Nothing is sent from one to another.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.config import Config
from reliabit.config_errors import in_one_line
from reliabit.errors import ReliabitError
from reliabit.tasks.answered_chunks import answer_chunk
from reliabit.tasks.chunked_answers import answer_store, encoded_store

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from datasets import Dataset

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0


def answer_on_devices(config: Config, questions: "Dataset") -> None:
    """Answer what the store does not hold, on `trainer.devices` devices at once; nothing where that is one.

    To be called before this process loads a model of its own, which it needs for what comes after.

    Args:
        config: How to ask.
        questions: What is asked, see `asked_questions`.

    Raises:
        ReliabitError: There are fewer devices, or a process failed; what the others answered is kept.
    """
    if config.trainer.devices == 1:
        return
    devices, store = visible_devices(config), answer_store(config)
    missing = store.missing(questions)
    if missing:
        _run_workers(config, devices, awaited={store.place(part): len(part.questions) for part in missing})


def _run_workers(config: Config, devices: Sequence[str], *, awaited: dict[Path, int]) -> None:
    alone = replace(config, trainer=replace(config.trainer, devices=1, progress_bar=False, threads=_threads(config)))
    # A forked process could not use CUDA once its parent has.
    context = get_context("spawn")
    workers: list[BaseProcess] = [
        context.Process(target=_work, args=(alone, rank, devices, os.getpid()), name=f"answers-{rank}")
        for rank in range(len(devices))
    ]
    for worker in workers:
        worker.start()
    try:
        _watch(workers, awaited, shown=config.trainer.progress_bar)
    finally:
        for worker in workers:
            worker.terminate()
    failed = [f"{worker.name} (status {worker.exitcode})" for worker in workers if worker.exitcode]
    if failed:
        raise ReliabitError(
            f"{', '.join(failed)} of trainer.devices={len(devices)} failed, see above; what was answered is kept: mend "
            "what failed and run again"
        )


def _watch(workers: "Sequence[BaseProcess]", awaited: dict[Path, int], *, shown: bool) -> None:
    """Wait until all workers have ended, and show how much of what was missing is there."""
    from tqdm import tqdm

    left = dict(awaited)
    title = f"answer on {len(workers)} devices"
    with tqdm(total=sum(left.values()), desc=title, unit=" questions", disable=None if shown else True) as bar:
        running = True
        while running:
            running = any(worker.is_alive() for worker in workers)
            for place in [place for place in left if place.is_dir()]:
                bar.update(left.pop(place))
            if running:
                connection.wait([worker.sentinel for worker in workers if worker.is_alive()], timeout=POLL_SECONDS)


def visible_devices(config: Config) -> list[str]:
    """The devices of the processes, as `CUDA_VISIBLE_DEVICES` names them; empty names on a CPU.

    Raises:
        ReliabitError: There are not enough.
    """
    if config.trainer.accelerator == "cpu":
        return [""] * config.trainer.devices
    import torch

    named = os.environ.get(VISIBLE)
    found = named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
    if len(found) < config.trainer.devices:
        raise ReliabitError(f"trainer.devices={config.trainer.devices} and there are only {len(found)}; lower it")
    return found[: config.trainer.devices]


def _threads(config: Config) -> int | None:
    if config.trainer.threads is None:
        return max(1, (os.cpu_count() or 1) // config.trainer.devices) if config.trainer.accelerator == "cpu" else None
    return max(1, config.trainer.threads // config.trainer.devices)


def _work(config: Config, rank: int, devices: Sequence[str], parent: int) -> None:
    try:
        _fill(config, rank, devices, parent)
    except ReliabitError as error:
        sys.stderr.write(in_one_line(error))
        sys.exit(2)
    except KeyboardInterrupt:
        # The process that started this one gets the signal too, and says so.
        sys.exit(130)


def _fill(config: Config, rank: int, devices: Sequence[str], parent: int) -> None:
    if devices[rank]:
        # Read when CUDA is first used, which is later.
        os.environ[VISIBLE] = devices[rank]
    from reliabit.confidence.estimator import needs_training
    from reliabit.tasks.asked import asked_questions
    from reliabit.tasks.quantized import load_quantized
    from reliabit.tasks.runtime import set_up

    set_up(config)
    questions = asked_questions(config, training=needs_training(config.confidence), listed_in=None)
    model = load_quantized(config)
    encoded = cache(partial(encoded_store, config, model, questions=len(questions)))
    answer = partial(answer_chunk, config, model, encoded)
    for _ in answer_store(config).fill(questions, answer, share=rank / len(devices)):
        # Whoever started this is gone, and nobody waits for what is left.
        if os.getppid() != parent:
            return
