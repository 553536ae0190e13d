"""GGUF files where a checkpoint is expected: what they hold, and why they are not answered."""

from collections import Counter
from pathlib import Path
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.quant.checkpoint_files import GGUF, INDEX, SINGLE

_SCALING = ("rope.scaling.type", "rope.scale_linear")
_SCALED = "rope_freqs.weight"


def check_no_gguf(folder: Path) -> None:
    """Check that a folder is not one of GGUF files, which the class of a vision-language model is not loaded from.

    Raises:
        ReliabitError: It is; the sentence says what the files hold, and what to do.
    """
    if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
        return
    files = sorted(folder.glob(f"*{GGUF}")) if folder.is_dir() else []
    if files:
        held = "; ".join(f"{file.name}: {described(file)}" for file in files)
        raise ReliabitError(
            f"model.path={folder} holds GGUF files ({held}), and transformers loads decoders alone from those, never "
            "what sees the image; serve them with llama.cpp's llama-server and ask it with engine=openai, or name the "
            "checkpoint that they were made of"
        )


def described(file: Path) -> str:
    """What a GGUF file holds: its architecture, the type of its matrices, and a scaling that transformers would drop.

    transformers calls all of them quantized, and the files themselves may say nothing: types are counted in tensors.
    """
    try:
        from gguf import GGUFReader

        reader = GGUFReader(file)
        architecture = str(_value(reader, "general.architecture"))
        kinds = Counter(tensor.tensor_type.name.lower() for tensor in reader.tensors if len(tensor.shape) > 1)
    except ImportError:
        return "install gguf to see what it holds"
    except (ValueError, KeyError, IndexError, OSError) as error:
        return f"no GGUF file ({' '.join(str(error).split())})"
    found = [_value(reader, f"{architecture}.{key}") for key in _SCALING]
    scaling = next((value for value in found if value not in (None, "none")), None)
    scaled = scaling is not None or any(tensor.name == _SCALED for tensor in reader.tensors)
    dropped = f", rope scaling {scaling or 'by frequency'}, which transformers drops" if scaled else ""
    return f"{architecture} in {kinds.most_common(1)[0][0] if kinds else 'no matrices'}{dropped}"


def _value(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
