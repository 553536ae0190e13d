"""GGUF files as llama.cpp takes them: read by transformers, by the `gguf` package, and served where it is installed."""

import json
import shutil
from base64 import b64encode
from collections.abc import Iterator
from importlib.util import find_spec
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

from conftest import save_untrained
from reliabit.errors import ReliabitError
from reliabit.models.llama_cpp import blocks
from reliabit.models.llama_cpp.blocks import blocks_of, plan_of_blocks, quantize_rows
from reliabit.models.llama_cpp.headers import FAMILIES
from reliabit.models.llama_cpp.tensors import canonical, pairs_side_by_side
from reliabit.models.llama_cpp.vocabulary import PRE_TOKENIZERS
from reliabit.models.llama_cpp.writing import DECODER, VISION, export_gguf
from reliabit.models.loading import load_checkpoint as load_whole
from reliabit.models.pretrained.decoder import rotary_halves
from reliabit.models.settings import ModelConfig
from reliabit.paths import models_folder
from reliabit.quant import Scheme, default_plan, packed_modules, quantize_model
from reliabit.quant.checkpoint_io import load_checkpoint, save_checkpoint
from reliabit.quant.packed import PackedWeight

gguf = pytest.importorskip("gguf", reason="the packages of requirements-dev.lock are not installed")


@pytest.fixture(scope="module")
def sources(tables, tmp_path_factory):
    """An untrained checkpoint of each family."""
    folders = {family: tmp_path_factory.mktemp(family) / family for family in ("qwen2_vl", "idefics3")}
    for family, folder in folders.items():
        save_untrained(family, tables, folder)
    return folders


def read(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def fields(path):
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.medium
def test_transformers_reads_the_decoder_as_the_one_that_was_written(sources, tmp_path):
    """transformers turns queries and keys back by code of its own, and takes sizes from what the file says."""
    from transformers import AutoModelForCausalLM

    export_gguf(sources["idefics3"], tmp_path / "out", family="idefics3", file_type="f32")
    ours = load_checkpoint(sources["idefics3"], dtype=torch.float32)
    # Without this, transformers takes the decoder's dtype from its environment.
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file=DECODER, dtype=torch.float32)
    ids = torch.tensor([[40, 41, 42, 43, 44]])
    with torch.inference_mode():
        expected = ours(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        found = peer(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3"])
def test_every_tensor_is_written_and_none_is_made_up(family, sources, tmp_path):
    report = export_gguf(sources[family], tmp_path / "out", family=family, file_type="f32")
    decoder, vision = read(tmp_path / "out" / DECODER), read(tmp_path / "out" / VISION)
    model = load_checkpoint(sources[family], dtype=torch.float32)
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert sum(int(tensor.n_elements) for tensor in (*decoder.values(), *vision.values())) == weights
    assert report.types == {"F32": len(list(model.parameters()))}
    said = fields(tmp_path / "out" / DECODER)
    assert said["general.architecture"] == FAMILIES[family].architecture
    assert said["tokenizer.ggml.pre"] == "gpt-2"
    assert said["tokenizer.ggml.add_bos_token"] is False
    assert len(said["tokenizer.ggml.tokens"]) == model.config.get_text_config().vocab_size
    assert fields(tmp_path / "out" / VISION)["general.type"] == "mmproj"


def test_fused_projections_are_split_and_the_two_frames_told_apart(sources, tmp_path):
    export_gguf(sources["qwen2_vl"], tmp_path / "out", family="qwen2_vl", file_type="f32")
    vision = read(tmp_path / "out" / VISION)
    model = load_checkpoint(sources["qwen2_vl"], dtype=torch.float32).state_dict()
    model = {canonical(name): tensor.numpy() for name, tensor in model.items()}
    parts = [vision[f"v.blk.0.attn_{part}.weight"].data for part in "qkv"]
    assert np.array_equal(np.concatenate(parts), model["visual.blocks.0.attn.qkv.weight"])
    kernel = model["visual.patch_embed.proj.weight"]
    assert np.array_equal(vision["v.patch_embd.weight"].data, kernel[:, :, 0])
    assert np.array_equal(vision["v.patch_embd.weight.1"].data, kernel[:, :, 1])


def test_rows_of_a_rotary_projection_come_back():
    rows = np.arange(64, dtype=np.float32).reshape(16, 4)
    assert np.array_equal(rotary_halves(pairs_side_by_side(rows, heads=2), heads=2), rows)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3"])
def test_what_was_quantized_is_written_code_by_code(family, bits, sources, tmp_path):
    """The `gguf` package dequantizes to the weights that the quantized model has, bit for bit."""
    model = load_checkpoint(sources[family], dtype=torch.bfloat16)
    quantize_model(model, plan_of_blocks(default_plan(Scheme("hqq", bits))))
    save_checkpoint(model, tmp_path / "packed", processor_from=sources[family])
    report = export_gguf(tmp_path / "packed", tmp_path / "out", family=family)
    assert report.types[blocks.WIDTHS[bits]] == 14
    written = read(tmp_path / "out" / DECODER)
    layers = {name.partition(".layers.")[2]: layer for name, layer in packed_modules(model).items()}
    tensor, ours, query = written["blk.1.ffn_down.weight"], layers["1.mlp.down_proj"], layers["0.self_attn.q_proj"]
    assert tensor.tensor_type.name == blocks.WIDTHS[bits]
    assert np.array_equal(gguf.dequantize(tensor.data, tensor.tensor_type), ours.dequantize().numpy())
    found = gguf.dequantize(written["blk.0.attn_q.weight"].data, tensor.tensor_type)
    expected = query.dequantize().numpy()
    if FAMILIES[family].pairs_side_by_side:
        expected = pairs_side_by_side(expected, heads=4)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("file_type", "kind"), [("q8_0", "Q8_0"), ("q4_0", "Q4_0"), ("f16", "F16")])
def test_llama_cpps_own_types_are_what_its_package_makes_of_the_weights(file_type, kind, sources, tmp_path):
    export_gguf(sources["qwen2_vl"], tmp_path / "out", family="qwen2_vl", file_type=file_type)
    written = read(tmp_path / "out" / DECODER)
    weight = load_checkpoint(sources["qwen2_vl"], dtype=torch.float32).model.language_model.layers[0].mlp.up_proj.weight
    expected = gguf.quantize(weight.detach().numpy(), gguf.GGMLQuantizationType[kind])
    assert written["blk.0.ffn_up.weight"].tensor_type.name == kind
    assert np.array_equal(written["blk.0.ffn_up.weight"].data, expected)
    assert written["token_embd.weight"].tensor_type.name == ("F16" if kind == "F16" else "Q8_0")
    assert written["blk.0.attn_norm.weight"].tensor_type.name == "F32"


def test_rows_that_blocks_do_not_divide_get_the_nearest_type():
    packed, kind = quantize_rows(np.ones((2, 48), dtype=np.float32), "Q4_0")
    assert (packed.dtype, kind.name) == (np.float16, "F16")


def test_k_quants_need_llama_cpps_own_quantizer(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "_library", lambda: None)
    with pytest.raises(ReliabitError, match=r"Q4_K is written by llama.cpp's own quantizer.*pip install xllamacpp"):
        export_gguf(sources["qwen2_vl"], tmp_path / "out", family="qwen2_vl", file_type="q4_k")
    monkeypatch.setattr(blocks, "find_spec", lambda _: None)
    with pytest.raises(ReliabitError, match="GGUF files are written with the package gguf"):
        export_gguf(sources["qwen2_vl"], tmp_path / "out", family="qwen2_vl")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="xllamacpp is not installed: pip install xllamacpp")
def test_k_quants_are_those_of_llama_cpp():
    rows = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
    packed, kind = quantize_rows(rows, "Q4_K")
    error = np.abs(gguf.dequantize(packed, kind) - rows).max()
    assert kind.name == "Q4_K"
    assert 0.01 < error < 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bits": 3, "zero": "symmetric", "group_size": 32},
            r"q_proj.weight has 3 bits, symmetric zeros, groups of 32",
        ),
        ({"bits": 4, "zero": "integer", "group_size": 32}, "has 4 bits, integer zeros"),
        ({"bits": 4, "zero": "symmetric", "group_size": 64}, "groups of 64 and float16 scales, and GGUF has symmetric"),
    ],
)
def test_grids_that_gguf_has_not_are_refused_and_nothing_written(change, message, sources, tmp_path):
    model = load_checkpoint(sources["qwen2_vl"], dtype=torch.bfloat16)
    quantize_model(model, default_plan(Scheme("rtn", metadata="float16", **change)))
    module = model.model.language_model.layers[0].self_attn.q_proj
    assert isinstance(module, PackedWeight)
    with pytest.raises(ReliabitError, match=message):
        blocks_of(module, name="q_proj.weight")
    save_checkpoint(model, tmp_path / "packed", processor_from=sources["qwen2_vl"])
    with pytest.raises(ReliabitError, match="and GGUF has symmetric grids of 4 or 8 bits in groups of 32"):
        export_gguf(tmp_path / "packed", tmp_path / "out", family="qwen2_vl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_how_text_is_cut_is_told_by_its_steps(name, sources, tmp_path):
    shutil.copytree(sources["qwen2_vl"], tmp_path / "in")
    steps = [{**step, "trim_offsets": False} if step["type"] == "ByteLevel" else step for step in PRE_TOKENIZERS[name]]
    found = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    edit(tmp_path / "in" / "tokenizer.json", pre_tokenizer=found)
    export_gguf(tmp_path / "in", tmp_path / "out", family="qwen2_vl", file_type="f32")
    assert fields(tmp_path / "out" / DECODER)["tokenizer.ggml.pre"] == name


def test_a_tokenizer_that_cuts_otherwise_needs_a_name(sources, tmp_path):
    shutil.copytree(sources["qwen2_vl"], tmp_path / "in")
    edit(tmp_path / "in" / "tokenizer.json", pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(ReliabitError, match=r"cuts text in a way .*Whitespace.* set task.pre_tokenizer to its name"):
        export_gguf(tmp_path / "in", tmp_path / "out", family="qwen2_vl")
    export_gguf(tmp_path / "in", tmp_path / "out", family="qwen2_vl", pre_tokenizer="viking")
    assert fields(tmp_path / "out" / DECODER)["tokenizer.ggml.pre"] == "viking"


@pytest.mark.parametrize(
    ("file", "change", "family", "message"),
    [
        (
            "tokenizer.json",
            {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}},
            "qwen2_vl",
            "no byte-lev",
        ),
        ("config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "qwen2_vl", "in the format gptq"),
    ],
)
def test_what_gguf_has_no_place_for_is_refused(file, change, family, message, sources, tmp_path):
    shutil.copytree(sources[family], tmp_path / "in")
    edit(tmp_path / "in" / file, **change)
    with pytest.raises(ReliabitError, match=message):
        export_gguf(tmp_path / "in", tmp_path / "out", family=family)
    assert not (tmp_path / "out").exists()


def test_scaled_rotary_positions_are_refused(sources, tmp_path):
    shutil.copytree(sources["idefics3"], tmp_path / "in")
    text = json.loads((tmp_path / "in" / "config.json").read_text())["text_config"]
    rotary = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    edit(tmp_path / "in" / "config.json", text_config={**text, "rope_parameters": rotary})
    with pytest.raises(ReliabitError, match=r"scales its rotary positions \(linear\)"):
        export_gguf(tmp_path / "in", tmp_path / "out", family="idefics3")


def test_a_token_around_images_that_a_vocabulary_lacks_takes_a_spare_row(sources, tmp_path):
    export_gguf(sources["idefics3"], tmp_path / "out", family="idefics3", file_type="f32")
    said, written = fields(tmp_path / "out" / DECODER), read(tmp_path / "out" / DECODER)
    tokens = said["tokenizer.ggml.tokens"]
    embedding = written["token_embd.weight"].data
    assert np.array_equal(embedding[tokens.index("ĊĊ")], embedding[tokens.index("Ċ")])


def test_the_server_is_told_how_many_tokens_an_image_has(sources, tmp_path):
    """llama.cpp gives an image of Qwen2-VL 8 tokens or more, whatever its checkpoint says."""
    advice = export_gguf(sources["qwen2_vl"], tmp_path / "out", family="qwen2_vl").advice
    assert advice.options[0] == "--image-min-tokens 1"
    assert advice.options[1].startswith("--image-max-tokens ")
    advice = export_gguf(sources["idefics3"], tmp_path / "out", family="idefics3").advice
    assert "llama.cpp always shows Idefics3 an image as tiles and as a whole" in advice.warnings[0]


@pytest.fixture
def served(tmp_path) -> Iterator[str]:
    """The address of llama.cpp's server with the tiny Qwen2-VL."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: pip install xllamacpp")
    export_gguf(models_folder() / "qwen2_vl_tiny", tmp_path / "out", family="qwen2_vl", file_type="f32")
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.mmproj.path = str(tmp_path / "out" / DECODER), str(tmp_path / "out" / VISION)
    settings.port, settings.n_ctx, settings.n_parallel, settings.n_gpu_layers = 0, 512, 1, 0
    settings.image_min_tokens, settings.image_max_tokens = 1, 100
    server = xllamacpp.Server(settings)
    yield server.listening_address
    del server


@pytest.mark.slow
def test_llama_cpp_answers_as_the_checkpoint(served, tables):
    """The questions of easy-VQA: the same answers, and log-probabilities within a fiftieth."""
    model = ModelConfig(
        "tiny", "qwen2_vl", str(models_folder() / "qwen2_vl_tiny"), template="{question}", dtype="float32"
    )
    checkpoint = load_whole(model)
    rows = tables["easy_vqa"]["test"].select(range(12))
    for row in rows:
        text, logarithm = asked(checkpoint, row)
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64encode(row['image']).decode()}"}},
            {"type": "text", "text": row["question"]},
        ]
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "logprobs": True}
        request = Request(f"{served}/v1/chat/completions", json.dumps(body).encode())
        with urlopen(request, timeout=60) as answered:
            choice = json.load(answered)["choices"][0]
        assert choice["message"]["content"] == text
        assert sum(token["logprob"] for token in choice["logprobs"]["content"]) == pytest.approx(logarithm, abs=0.02)


def asked(checkpoint, row):
    """The greedy answer of our own model to one question, and its log-probability, the end included."""
    batch = checkpoint.encoder([row])
    images = checkpoint.encoder.adapter.shared_images(checkpoint.model, batch.images, batch.image_of)
    made = checkpoint.model.generate(
        **batch.text, **images, max_new_tokens=8, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    tokens = made.sequences[0, batch.text["input_ids"].shape[1] :]
    logarithms = [scores[0].log_softmax(-1)[token] for token, scores in zip(tokens, made.logits, strict=True)]
    text = checkpoint.processor.tokenizer.decode(tokens, skip_special_tokens=True)
    return text, float(torch.stack(logarithms).sum())
