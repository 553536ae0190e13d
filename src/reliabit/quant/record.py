"""What a checkpoint's config.json says of the model and of how it was quantized; read without torch or transformers."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from reliabit.errors import ReliabitError

CONFIG = "config.json"
KEY = "quantization_config"
OUR_FORMAT = "reliabit"
"""`quant_method` of the checkpoints that `task=quantize` writes."""

READERS: Mapping[str, tuple[str, ...]] = {
    OUR_FORMAT: (),
    "aqlm": ("aqlm", "accelerate"),
    "auto-round": ("auto-round",),
    "awq": ("gptqmodel", "accelerate"),
    "bitnet": ("accelerate",),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed-tensors",),
    "eetq": ("kernels", "accelerate"),
    "fbgemm_fp8": ("fbgemm-gpu", "accelerate"),
    "fouroversix": ("fouroversix",),
    "fp8": ("accelerate",),
    "fp_quant": ("fp_quant",),
    "gemma": (),
    "gptq": ("gptqmodel", "optimum"),
    "higgs": ("flute-kernel", "fast-hadamard-transform", "accelerate"),
    "hqq": ("hqq",),
    "metal": ("kernels",),
    "mxfp4": ("accelerate",),
    "mxfp8": ("accelerate",),
    "nvfp4": ("kernels",),
    "quanto": ("optimum-quanto", "accelerate"),
    "quark": ("amd-quark",),
    "sinq": ("sinq",),
    "spqr": ("spqr_quant", "accelerate"),
    "torchao": ("torchao",),
    "vptq": ("vptq", "accelerate"),
}
"""The formats that transformers reads from a folder, and the packages that it reads each with."""

FORMAT_VERSION = 1
"""Rises with every change that an older reader would misread."""

ZeroKind = Literal["float", "integer", "symmetric"]
"""Where a grid's zero may lie: anywhere, on a code, or fixed in the middle of the codes."""

MetadataType = Literal["float16", "bfloat16", "float32"]
"""What scales and float zeros are stored in."""

CHOICES: Mapping[str, tuple[str, ...]] = {"zero": get_args(ZeroKind), "metadata": get_args(MetadataType)}
"""What a scheme of this format may say, where its type alone does not tell."""

_FLAGS = {4: "load_in_4bit", 8: "load_in_8bit"}
"""How bitsandbytes says its width."""

_NEVER_READ = ("compression_config", "vision_config.quantization_config")
"""Where older tools wrote what transformers does not look at: it would take the packed weights for plain ones."""


@dataclass(frozen=True)
class Quantized:
    """How a checkpoint was quantized.

    Attributes:
        format: Its `quant_method`; empty where it does not tell.
        method: The method; the format where it does not tell.
        bits: Width of a weight; `None` where there are several, or it does not tell.
        group_size: Inputs that share a scale; `None` for whole rows, or where there are several.
    """

    format: str
    method: str
    bits: int | None
    group_size: int | None


def read_config(folder: Path) -> dict[str, Any]:
    """What a checkpoint's config.json says.

    Raises:
        ReliabitError: There is none, or it is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ReliabitError(f"{folder} is not a checkpoint folder (it has no {CONFIG}); correct the path")
    config = read_json(path)
    if not isinstance(config, dict):
        raise ReliabitError(f"{path} describes no model; fetch it again")
    return config


def read_json(path: Path) -> Any:
    """A file of a checkpoint."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ReliabitError(f"{path} is no JSON ({error}); fetch it again") from error
    except OSError as error:
        raise ReliabitError(f"{path} cannot be read ({error.strerror}); restore it or correct the path") from error


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint that is quantized says of it; `None` for others."""
    found = _record(read_config(folder))
    return found if isinstance(found, dict) else None


def quantized_as(folder: Path) -> Quantized | None:
    """How a checkpoint was quantized; `None` for one that is not, or that cannot be read.

    A scale search before it leaves no trace: a checkpoint of MBQ is one of the method that its weights were put on the
    grid by.

    Args:
        folder: A checkpoint folder, of this format or another one that transformers reads.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> schemes = [{"method": "hqq", "bits": 4, "group_size": 64}, {"method": "hqq", "bits": 8, "group_size": 64}]
        >>> with TemporaryDirectory() as name:
        ...     config = {"quantization_config": {"quant_method": "reliabit", "schemes": schemes}}
        ...     _ = Path(name, "config.json").write_text(json.dumps(config))
        ...     quantized_as(Path(name))
        Quantized(format='reliabit', method='hqq', bits=None, group_size=64)
    """
    try:
        record = read_record(folder)
    except ReliabitError:
        return None
    if record is None:
        return None
    schemes, name = list(_schemes(record)), str(record.get("quant_method") or "")
    group_size = _only(scheme.get("group_size") for scheme in schemes)
    return Quantized(
        format=name,
        method=_only(scheme.get("method") for scheme in schemes) or name or "quantized",
        bits=_only(_bits(scheme) for scheme in schemes),
        # Other formats write -1 for whole rows.
        group_size=group_size if isinstance(group_size, int) and group_size > 0 else None,
    )


def check_format(config: Mapping[str, Any], *, folder: Path) -> None:
    """Check that a checkpoint's weights will be read as what they are.

    transformers takes the weights of a format that it does not know for plain ones, and says so in a warning only.

    Args:
        config: What its config.json says.
        folder: The checkpoint, for messages.

    Raises:
        ReliabitError: The format is unknown, needs a package that is not installed, or is not where readers look.

    Example:
        >>> check_format({"quantization_config": {"quant_method": "exl2"}}, folder=Path("models/packed"))
        Traceback (most recent call last):
        reliabit.errors.ReliabitError: the checkpoint models/packed is in the format 'exl2', which is not read here; ...
    """
    hidden = next((key for key in _NEVER_READ if _at(config, key) is not None), None)
    if hidden is not None:
        raise ReliabitError(
            f"the checkpoint {folder} says in {hidden} that it is quantized, where no reader looks; export it anew "
            f"with a {KEY}"
        )
    record = _record(config)
    if record is None:
        return
    if not isinstance(record, dict):
        raise ReliabitError(f"the {KEY} of the checkpoint {folder} is {_kind(record)} and no mapping; fetch it again")
    name = _format(record)
    if name is None:
        raise ReliabitError(
            f"the {KEY} of the checkpoint {folder} does not say how it is quantized (its quant_method is "
            f"{record.get('quant_method')!r}); fetch it again"
        )
    if name not in READERS:
        raise ReliabitError(
            f"the checkpoint {folder} is in the format {name!r}, which is not read here; take an unquantized one, or "
            f"one in the formats {', '.join(READERS)}"
        )
    if name == OUR_FORMAT:
        check_record(record, folder=folder)
    missing = [package for package in READERS[name] if installed_version(package) is None]
    if missing:
        raise ReliabitError(
            f"the checkpoint {folder} is in the format {name}, which is read with {' and '.join(missing)}; install it "
            f"with pip install {' '.join(missing)}, or take a checkpoint in another format"
        )


def check_record(record: Mapping[str, Any], *, folder: Path | None = None) -> None:
    """Check the version and the types of what a record of this format says; what the values mean its reader checks."""
    where = "the checkpoint's quantization_config" if folder is None else f"the {KEY} of the checkpoint {folder}"
    found = record.get("format_version", FORMAT_VERSION)
    if type(found) is not int or not 1 <= found <= FORMAT_VERSION:
        raise ReliabitError(
            f"{where} is of format version {found} and this Reliabit reads up to version {FORMAT_VERSION}; update "
            "Reliabit"
        )
    schemes = record.get("schemes")
    if not isinstance(schemes, list) or not all(isinstance(scheme, dict) for scheme in schemes):
        raise ReliabitError(f"{where} has no list of schemes; quantize again or fetch it again")
    kinds: dict[str, type | tuple[type, ...]] = {"bits": int, "group_size": (int, type(None)), "modules": list}
    for scheme in schemes:
        for key in (*kinds, *CHOICES):
            if key not in scheme:
                raise ReliabitError(f"{where} lacks {key!r} in a scheme; quantize again or fetch it again")
            value = scheme[key]
            fits = value in CHOICES[key] if key in CHOICES else isinstance(value, kinds[key])
            if not fits or isinstance(value, bool) or (key == "group_size" and value is not None and value < 1):
                raise ReliabitError(f"{where} says {key!r} is {value!r} in a scheme; quantize again or fetch it again")
        strange = [name for name in scheme["modules"] if not isinstance(name, str)]
        if strange:
            raise ReliabitError(f"{where} names {strange[0]!r} as a module; quantize again or fetch it again")


def _record(config: Mapping[str, Any]) -> Any:
    """What is said of the quantization: where transformers looks, in its order."""
    found = config.get(KEY)
    return found if found is not None else _at(config, f"text_config.{KEY}")


def _at(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _format(record: Mapping[str, Any]) -> str | None:
    """The format, where it is told in a way that transformers understands."""
    if any(record.get(flag) for flag in _FLAGS.values()):
        return "bitsandbytes"
    name = record.get("quant_method")
    # Without a width, transformers does not know bitsandbytes either.
    return name if isinstance(name, str) and name not in ("", "bitsandbytes") else None


def installed_version(package: str) -> str | None:
    """The version of a package that is installed, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _kind(value: object) -> str:
    return {list: "a list", str: "a text", bool: "a truth value"}.get(type(value), "a number")


def _schemes(record: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Ours, those of compressed-tensors, or the record itself, as other formats keep it."""
    schemes, groups = record.get("schemes"), record.get("config_groups")
    found: Iterable[Any] = [record]
    if isinstance(schemes, list) and schemes:
        found = schemes
    elif isinstance(groups, dict) and groups:
        found = [group.get("weights") for group in groups.values() if isinstance(group, dict)]
    return (scheme for scheme in found if isinstance(scheme, dict))


def _bits(scheme: Mapping[str, Any]) -> int | None:
    """The width, under the name that a format has for it."""
    named = next((scheme[name] for name in ("bits", "num_bits", "nbits") if isinstance(scheme.get(name), int)), None)
    return named or next((bits for bits, flag in _FLAGS.items() if scheme.get(flag)), None)


def _only(values: Iterable[Any]) -> Any:
    found = {value for value in values if isinstance(value, str | int | None)}
    return found.pop() if len(found) == 1 else None
