"""GGUF files where a checkpoint is expected: one sentence says what they hold and what to do."""

import shutil

import numpy as np
import pytest

from reliabit.errors import ReliabitError
from reliabit.models.checkpoint_folder import check_checkpoint
from reliabit.models.llama_cpp.found import check_no_gguf, described
from reliabit.quant.checkpoint_files import check_destination

gguf = pytest.importorskip("gguf", reason="the packages of requirements-dev.lock are not installed")


def write(path, *, architecture="llama", kind="F32", values=None, tensors=("blk.0.ffn_up.weight",)):
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (values or {}).items():
        writer.add_key_value(f"{architecture}.{key}", value, gguf.GGUFValueType.get_type(value))
    for name in tensors:
        rows = gguf.quantize(np.ones((2, 64), dtype=np.float32), gguf.GGMLQuantizationType[kind])
        writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("values", "tensors", "kind", "said"),
    [
        ({}, ["blk.0.ffn_up.weight"], "F32", "llama in f32"),
        ({}, ["blk.0.ffn_up.weight"], "Q4_0", "llama in q4_0"),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0},
            ["blk.0.ffn_up.weight"],
            "Q8_0",
            "llama in q8_0, rope scaling yarn, which transformers drops",
        ),
        ({"rope.scaling.type": "none"}, ["blk.0.ffn_up.weight"], "Q8_0", "llama in q8_0"),
        (
            {},
            ["blk.0.ffn_up.weight", "rope_freqs.weight"],
            "F32",
            "llama in f32, rope scaling by frequency, which transformers drops",
        ),
    ],
)
def test_a_file_is_named_by_its_tensors(values, tensors, kind, said, tmp_path):
    assert described(write(tmp_path / "a.gguf", values=values, tensors=tensors, kind=kind)) == said


def test_a_folder_of_gguf_files_ends_in_a_sentence(tmp_path):
    write(tmp_path / "model-q4_0.gguf", kind="Q4_0")
    (tmp_path / "mmproj.gguf").write_bytes(b"no GGUF")
    message = (
        r"holds GGUF files \(mmproj.gguf: no GGUF file .*; model-q4_0.gguf: llama in q4_0\), and transformers loads "
        r"decoders alone .*; serve them with llama.cpp's llama-server and ask it with engine=openai, or name"
    )
    with pytest.raises(ReliabitError, match=message):
        check_checkpoint(tmp_path, family="idefics3")


def test_a_checkpoint_with_gguf_files_beside_its_weights_is_none_of_them(untrained, tmp_path):
    shutil.copytree(untrained, tmp_path / "both")
    write(tmp_path / "both" / "model.gguf")
    check_no_gguf(tmp_path / "both")
    (tmp_path / "both" / "model.safetensors").unlink()
    with pytest.raises(ReliabitError, match="holds GGUF files"):
        check_no_gguf(tmp_path / "both")


def test_an_export_may_be_written_again(untrained, tmp_path):
    write(tmp_path / "model.gguf")
    check_destination(tmp_path, source=untrained)
