"""GGUF files, which llama.cpp's server reads: the decoder in one, what sees the image in another."""

from collections.abc import Mapping

FILE_TYPES: Mapping[str, str] = {"f32": "F32", "f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k": "Q4_K"}
"""What `task.gguf` may be, and GGUF's name of the type of the decoder's matrices."""

PLAIN = ("f32", "f16")
"""Of these, the ones that quantize nothing."""
