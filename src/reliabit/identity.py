"""The identity of a run: a versioned fingerprint of everything that decides its numbers.

A fingerprint is computed from plain data (the composed configuration as `to_mapping` gives it, digests, versions), so a
run that is about to start and the record of a finished one give the same. It has four parts:

* the configuration, without the keys that say where and how a run is carried out (`TRANSPORT`);
* the contents of its inputs, by name, whatever folder they lie in;
* the code that computes the numbers: every module of this package that `reliabit.tasks._measurement` imports, itself or
  through others (`reliabit.code_graph`); what draws figures or records runs is not among them;
* the versions of the libraries that compute, and of Python.

The device is part of it only as the configuration names it: `trainer.accelerator=auto` on two machines is one identity.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from reliabit.digests import code_digests, library_versions
from reliabit.errors import ReliabitError

FINGERPRINT_VERSION = 2
"""To be counted up when the same run would get another fingerprint."""

FINGERPRINT = "fingerprint.json"
"""The artifact that holds a run's fingerprint."""

TAG = "fingerprint"
"""The tag that finished runs are found by; its parts are `fingerprint.config` and so on."""

CELL_TAG = "cell"
"""The tag that all attempts at one cell of a sweep share, those that failed before they had a fingerprint as well."""

CARRIED_OUT = (
    "hydra",
    "tracking",
    "paths",
    "sweep",
    # Which configuration goes live is decided after it was measured.
    "registry",
    "trainer.progress_bar",
    "trainer.threads",
    "trainer.devices",
    "trainer.device_memory",
    "trainer.host_memory",
    "engine.key_variable",
    "engine.concurrency",
    "engine.timeout",
    "engine.warm_up_timeout",
    "engine.retries",
)
"""Keys of the configuration that say how and where a run is carried out."""

TRANSPORT = (
    *CARRIED_OUT,
    # Where inputs lie, and where outputs go; inputs are identified by their contents.
    "model.path",
    "model.download",
    "model.parts",
    "data.root",
    "data.split_ids",
    "other_data.*.root",
    "other_data.*.split_ids",
    "task.checkpoint",
    "task.predictions",
    "task.baseline",
    "task.results",
    "task.recipe.data.*.root",
    # The model behind it is known by what it says of itself, and by an answer of it.
    "engine.url",
    "engine.python",
    # What it says stands in the rules.
    "quant.plan",
    "quant.calibration.chat",
    "quant.calibration.chat_images",
)
"""Keys of the configuration that do not decide a result; a `*` stands for one or more names."""

MEASURING = ("reliabit.tasks._measurement",)
"""The module that computes all numbers of a run."""

PARTS = ("config", "inputs", "code", "libraries")

CODE_SHOWN = 5
"""Changed modules that are named one by one."""

_ABSENT = object()


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a run.

    Attributes:
        config: The configuration without its transport keys, nested.
        inputs: SHA-256 of each input, by name.
        code: SHA-256 of each module that the numbers depend on, by path within the package.
        libraries: Versions, by name.
        version: `FINGERPRINT_VERSION` of the code that computed it.
    """

    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    code: Mapping[str, str]
    libraries: Mapping[str, str]
    version: int = FINGERPRINT_VERSION

    @property
    def hex(self) -> str:
        """The whole fingerprint as one SHA-256."""
        return _digest(asdict(self))

    def to_tags(self) -> dict[str, str]:
        """The fingerprint as tags of a run: the digests of the whole and of each part, and the version."""
        parts = {f"{TAG}.{part}": _digest(getattr(self, part)) for part in PARTS}
        return {TAG: self.hex, f"{TAG}.version": str(self.version), **parts}

    def to_json(self) -> str:
        """The fingerprint as the text of the artifact `FINGERPRINT`."""
        return json.dumps({"hex": self.hex, **asdict(self)}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Fingerprint":
        """Read a fingerprint back from a run's artifact.

        Raises:
            ReliabitError: It is of another version, or is not what was written.
        """
        with _wellformed():
            fields = json.loads(text)
            written, found = fields.pop("hex"), fields["version"]
            if found != FINGERPRINT_VERSION:
                raise ReliabitError(
                    f"the fingerprint is of version {found} and this Reliabit computes version {FINGERPRINT_VERSION}; "
                    "run it again to compare"
                )
            fingerprint = cls(**fields)
        _check_hex(fields, written)
        return fingerprint


def written_hex(text: str) -> str:
    """The hex of a fingerprint that any version wrote, checked against what it is made of.

    Raises:
        ReliabitError: It is no fingerprint, or was changed after it was written.

    >>> fingerprint = Fingerprint({"seed": 0}, {}, {}, {})
    >>> written_hex(fingerprint.to_json()) == fingerprint.hex
    True
    """
    with _wellformed():
        fields = json.loads(text)
        written = fields.pop("hex")
    _check_hex(fields, written)
    return str(written)


@contextmanager
def _wellformed() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReliabitError(f"{FINGERPRINT} is no fingerprint ({error}); the run must be repeated") from error


def _check_hex(fields: Mapping[str, Any], written: str) -> None:
    if _digest(fields) != written:
        raise ReliabitError(f"{FINGERPRINT} was changed after it was written; the run must be repeated")


def identify(config: Mapping[str, Any], *, inputs: Mapping[str, str]) -> Fingerprint:
    """The fingerprint of a run of this code with these libraries; `hex` is equal for runs that must agree.

    Args:
        config: The composed configuration as nested mappings, from `to_mapping` or a run's `config.yaml`.
        inputs: SHA-256 of each input by name; see `reliabit.digests`.
    """
    return Fingerprint(
        config=without_transport(config),
        inputs=dict(inputs),
        code=code_digests(MEASURING),
        libraries=library_versions(),
    )


def cell_digest(config: Mapping[str, Any]) -> str:
    """What tells the cells of a sweep apart, whatever their files hold: the configuration without `CARRIED_OUT`.

    >>> first, second = {"model": {"path": "a"}, "paths": {"root": "x"}}, {"model": {"path": "b"}}
    >>> cell_digest(first) == cell_digest(first | {"paths": {"root": "y"}}), cell_digest(first) == cell_digest(second)
    (True, False)
    """
    return _digest(_kept(config, CARRIED_OUT, prefix=""))


def without_transport(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it is compared: without `TRANSPORT`, and without groups that hold nothing.

    >>> without_transport({"seed": 0, "paths": {"root": "/x"}, "trainer": {"threads": 2, "batch_size": 8}})
    {'seed': 0, 'trainer': {'batch_size': 8}}
    """
    return _kept(config, TRANSPORT, prefix="")


def is_transport(key: str) -> bool:
    """Whether a dotted key says where or how a run is carried out, and not what it measures.

    >>> is_transport("paths.root"), is_transport("trainer.threads"), is_transport("trainer.batch_size")
    (True, True, False)
    """
    names = key.split(".")
    above = [".".join(names[: depth + 1]) for depth in range(len(names))]
    return any(fnmatchcase(name, pattern) for name in above for pattern in TRANSPORT)


def explain(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Say in words what differs between two fingerprints; empty where they are equal.

    Returns:
        One phrase for each difference: keys and libraries with both values, inputs and modules by name.
    """
    versions = [] if old.version == new.version else [f"fingerprint version: {old.version} -> {new.version}"]
    config = [f"{key}: {_shown(a)} -> {_shown(b)}" for key, a, b in _differences(old.config, new.config)]
    inputs = [f"input {name} {_change(a, b)}" for name, a, b in _differences(old.inputs, new.inputs)]
    code = [f"source of {module} {_change(a, b)}" for module, a, b in _differences(old.code, new.code)]
    if len(code) > CODE_SHOWN:
        code = [*code[:CODE_SHOWN], f"and that of {len(code) - CODE_SHOWN} more modules"]
    found = _differences(old.libraries, new.libraries)
    return [*versions, *config, *inputs, *code, *(f"{name}: {_shown(a)} -> {_shown(b)}" for name, a, b in found)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _kept(config: Mapping[str, Any], left_out: Sequence[str], *, prefix: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if any(fnmatchcase(name, pattern) for pattern in left_out):
            continue
        found = _kept(value, left_out, prefix=f"{name}.") if isinstance(value, Mapping) else value
        if found != {}:
            kept[str(key)] = found
    return kept


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    for key in sorted({*old, *new}):
        a, b = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differences(a, b, f"{prefix}{key}.")
        elif a is _ABSENT or b is _ABSENT or _digest(a) != _digest(b):
            yield f"{prefix}{key}", a, b


def _shown(value: object) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, ensure_ascii=False)


def _change(old: object, new: object) -> str:
    if old is _ABSENT:
        return "is new"
    return "is gone" if new is _ABSENT else "changed"
