"""A quantization job: its key, the folder it works in, its progress."""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from reliabit.errors import ReliabitError
from reliabit.files import replacing, take_place
from reliabit.progress import is_watched, step
from reliabit.quant.mbq.scaling import Calibration
from reliabit.quant.mbq.statistics_key import LIBRARIES, batch_digest, code_digest
from reliabit.quant.plan import Scheme
from reliabit.quant.quantized_prefix import InputCalibration

QUANTIZING = ("reliabit.quant.streaming.quantize_checkpoint",)
"""The module that writes quantized checkpoints."""

_JOB = "job.json"
_WHOLE, _OLD = "whole", "old"
_LOG = logging.getLogger(__name__)
_REPORTED_SECONDS = 15.0
"""Where no bar is shown, a line in the log at most this often."""


def job_key(
    *,
    source: str,
    schemes: Mapping[str, Scheme],
    decoder_layers: str,
    calibration: Calibration | None,
    inputs: InputCalibration | None = None,
    dtype: torch.dtype,
    shard_bytes: int,
) -> str:
    """The key of the checkpoint that a model becomes under a plan, by this code and these libraries."""
    record = {
        "source": source,
        "schemes": {name: scheme.record() for name, scheme in schemes.items()},
        "decoder_layers": decoder_layers,
        "calibration": None if calibration is None else _calibration_record(calibration),
        "inputs": None if inputs is None else _inputs_record(inputs),
        "dtype": str(dtype),
        "shard_bytes": shard_bytes,
        "code": code_digest(QUANTIZING),
        "libraries": {name: version(name) for name in (*LIBRARIES, "safetensors", "hqq")},
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _calibration_record(calibration: Calibration) -> dict[str, object]:
    return {
        "statistics": calibration.statistics.key,
        "settings": asdict(calibration.settings),
        "batches": [batch_digest(batch) for batch in calibration.batches],
    }


def _inputs_record(inputs: InputCalibration) -> dict[str, object]:
    return {
        "path": inputs.path,
        "batches": [batch_digest(batch) for batch in inputs.batches],
        "statistics": None if inputs.statistics is None else inputs.statistics.key,
        "dtype": str(inputs.dtype),
    }


def unfinished_name(destination: Path) -> Path:
    """Where the work for a folder is kept until it is done.

    Example:
        >>> unfinished_name(Path("checkpoints/qwen")).as_posix()
        'checkpoints/.qwen.unfinished'
    """
    return destination.parent / f".{destination.name}.unfinished"


@contextmanager
def unfinished_folder(destination: Path, *, job: str) -> Iterator[Path]:
    """Hold the folder of the work for a destination, with what an earlier process left there of the same job.

    When the block ends well the folder goes. When it does not, it stays for the next call, unless it holds nothing.
    What is left of another job is thrown away; where another process holds it, it is refused.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     with unfinished_folder(Path(parent, "checkpoint"), job="a") as folder:
        ...         folder.name
        '.checkpoint.unfinished'
    """
    folder = unfinished_name(destination)
    with _held(folder, destination):
        _keep_only(folder, job)
        try:
            yield folder
        except BaseException:
            if {path.name for path in folder.iterdir()} <= {_JOB}:
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


@contextmanager
def whole_folder(work: Path, destination: Path) -> Iterator[Path]:
    """An empty folder inside the work's that takes the destination's place when the block ends well."""
    whole = work / _WHOLE
    if whole.exists():
        shutil.rmtree(whole)
    whole.mkdir()
    yield whole
    old = work / _OLD
    if old.exists():
        shutil.rmtree(old)
    take_place(whole, destination, aside=old)


@contextmanager
def _held(folder: Path, destination: Path) -> Iterator[None]:
    """Lock the folder itself, which leaves no lock file behind; the system lets go of it when the process dies."""
    while (opened := _try_lock(folder, destination)) is None:
        pass
    try:
        yield
    finally:
        os.close(opened)


def _try_lock(folder: Path, destination: Path) -> int | None:
    """The locked folder's descriptor; None if whoever held it finished and removed it just then."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = folder.is_dir() and os.fstat(opened).st_ino == folder.stat().st_ino
    except BlockingIOError as error:
        os.close(opened)
        raise ReliabitError(f"another process is writing {destination}; wait for it, or name another folder") from error
    if not held:
        os.close(opened)
        return None
    return opened


def _keep_only(folder: Path, job: str) -> None:
    found = list(folder.iterdir())
    if _job_of(folder) != job:
        if any(path.name != _JOB for path in found):
            _LOG.warning("%s is left from another model, plan or version of this code; starting over", folder)
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with replacing(folder / _JOB) as unfinished:
            unfinished.write_text(json.dumps({"job": job}) + "\n", encoding="utf-8")


def _job_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _JOB).read_text(encoding="utf-8"))["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Progress:
    """Counts weights: a bar in a terminal, lines in the log elsewhere."""

    def __init__(self, weights: Mapping[str, int], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin; `weights` says how many weights each unit of the work has, by its name, and `clock` gives seconds."""
        self._weights, self._clock = weights, clock
        self._ended = ExitStack()
        self._watched, total = is_watched(), sum(weights.values())
        self._shown = self._ended.enter_context(step("quantizing", total=total, unit="weights", shown=self._watched))
        self._passed = self._worked = 0
        self._start = self._reported = clock()

    def skip(self, unit: str) -> None:
        """A unit was done before; it says nothing of how fast the work goes."""
        self._passed += self._weights[unit]
        self._shown.advance(self._weights[unit])

    def advance(self, unit: str) -> None:
        """A unit is done now."""
        self._passed += self._weights[unit]
        self._worked += self._weights[unit]
        self._shown.advance(self._weights[unit])
        if not self._watched and self._clock() - self._reported >= _REPORTED_SECONDS:
            self._reported = self._clock()
            _LOG.info("quantize: %s is done, %s", unit, self.state())

    def state(self) -> str:
        """How far it is, in words."""
        total = sum(self._weights.values())
        left = (total - self._passed) * (self._clock() - self._start) / max(self._worked, 1)
        return f"{self._passed / max(total, 1):.0%} of the weights, {left / 60:.1f} min left"

    def close(self) -> None:
        """End what is shown of it."""
        self._ended.close()
