"""Whatever is wrong with a checkpoint's own files is one sentence about the checkpoint, before an image is opened."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from reliabit.errors import ReliabitError
from reliabit.models.checkpoint_folder import check_checkpoint
from reliabit.models.loading import check_loadable, load_checkpoint
from reliabit.models.settings import ModelConfig
from reliabit.quant.record import OUR_FORMAT, READERS

MODELS = Path(__file__).parents[2] / "models"
SCHEME = {"method": "hqq", "bits": 4, "group_size": 32, "zero": "float", "metadata": "float16", "modules": ["lm_head"]}
PACKED = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}
INDEX = "model.safetensors.index.json"


@pytest.fixture(params=["qwen2_vl"])
def folder(request, tmp_path):
    shutil.copytree(MODELS / f"{request.param}_tiny", tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def check(folder, family="qwen2_vl"):
    check_loadable(ModelConfig(path=str(folder), family=family, template="{question}", dtype="float32"))


def edited(name, **changes):
    """Damage: other values in a JSON file; dotted keys lie deeper, `None` leaves a key out."""

    def damage(folder):
        content = json.loads((folder / name).read_text())
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            place = content
            for parent in parents:
                place = place.setdefault(parent, {})
            if value is None:
                place.pop(leaf, None)
            else:
                place[leaf] = value
        (folder / name).write_text(json.dumps(content))

    return damage


def written(name, content):
    def damage(folder):
        (folder / name).write_bytes(content)

    return damage


def cut(name, kept):
    def damage(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:kept])

    return damage


def missing(*names):
    def damage(folder):
        for name in names:
            (folder / name).unlink()

    return damage


def indexed(*shards):
    """Damage: an index of these shards, the whole file under the name of the first that is none."""

    def damage(folder):
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        shutil.copy(folder.parent / "outside.safetensors", folder / "part.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": {f"t{i}": shard for i, shard in enumerate(shards)}}))

    return damage


def quantized(**record):
    return edited("config.json", quantization_config=record)


def ours(**changes):
    return quantized(quant_method=OUR_FORMAT, format_version=1, schemes=[{**SCHEME, **changes}])


DAMAGES = {
    "config missing": (missing("config.json"), "not a checkpoint folder"),
    "config cut": (cut("config.json", 100), "is no JSON"),
    "config is bytes": (written("config.json", b"\xff\xfe\x00"), "is no JSON"),
    "config nested without end": (written("config.json", b"[" * 200_000), "is no JSON"),
    "config is a list": (written("config.json", b"[]"), "describes no model"),
    "config is a folder": (lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()), "not a checkpoint"),
    "config of no family": (edited("config.json", model_type=None), "is of the family None"),
    "config of another type of family": (edited("config.json", model_type=["qwen2_vl"]), "is of the family"),
    "config with code": (edited("config.json", auto_map={"AutoModel": "x.Y"}), "code of its own"),
    "config names weights elsewhere": (edited("config.json", transformers_weights="../../x.bin"), "never followed"),
    "text_config is a text": (edited("config.json", text_config="large"), "the configuration"),
    "vision_config is a list": (edited("config.json", vision_config=[1]), "the configuration"),
    "hidden size is a text": (edited("config.json", **{"text_config.hidden_size": "wide"}), "the configuration"),
    "no layers at all": (edited("config.json", **{"text_config.num_hidden_layers": -1}), "the configuration|lacks"),
    "heads do not divide": (edited("config.json", **{"text_config.num_attention_heads": 0}), "the configuration"),
    "vocabulary too small": (edited("config.json", **{"text_config.vocab_size": 3}), "the model knows 3"),
    "dtype is none": (edited("config.json", dtype="float17"), "the configuration"),
    "generation_config cut": (cut("generation_config.json", 20), "generation_config.json is no JSON"),
    "generation_config is a list": (written("generation_config.json", b"[]"), "which tokens end an answer"),
    "answers end at a text": (edited("generation_config.json", eos_token_id="</s>"), "which tokens end an answer"),
    "tokenizer missing": (missing("tokenizer.json", "tokenizer_config.json"), "the processor"),
    "tokenizer cut": (cut("tokenizer.json", 500), "the processor"),
    "tokenizer is a list": (written("tokenizer.json", b"[]"), "the processor"),
    "tokenizer without vocabulary": (edited("tokenizer.json", model={"type": "BPE"}), "the processor"),
    "tokenizer of an unknown kind": (edited("tokenizer.json", **{"model.type": "Quantum"}), "the processor"),
    "tokenizer_config cut": (cut("tokenizer_config.json", 10), "the processor"),
    "tokenizer_config of wrong types": (edited("tokenizer_config.json", extra_special_tokens=5), "the processor"),
    "chat template does not parse": (written("chat_template.jinja", b"{% for %}"), "the processor"),
    "chat template fails": (written("chat_template.jinja", b"{{ messages[7].role.x.y }}"), "the processor|template"),
    "chat template counts for ever": (
        written(
            "chat_template.jinja", b"{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}"
        ),
        "the processor",
    ),
    "chat template is bytes": (written("chat_template.jinja", b"\xff\xfe\x00"), "the processor"),
    "preprocessor_config cut": (cut("preprocessor_config.json", 30), "the processor"),
    "preprocessor_config is a list": (written("preprocessor_config.json", b"[]"), "the processor"),
    "images of a size in words": (edited("preprocessor_config.json", size="large"), "the processor"),
    "images of patches in words": (edited("preprocessor_config.json", patch_size="small"), "the processor"),
    "images scaled by a word": (edited("preprocessor_config.json", rescale_factor="a"), "the processor"),
    "mean of one channel too many": (edited("preprocessor_config.json", image_mean=[0.5] * 4), "the processor"),
    "weights missing": (missing("model.safetensors"), "has no model.safetensors"),
    "weights cut": (cut("model.safetensors", -1000), "truncated or no safetensors"),
    "weights empty": (written("model.safetensors", b""), "truncated or no safetensors"),
    "weights with a huge header": (written("model.safetensors", b"\xff" * 8 + b"{}"), "truncated or no safetensors"),
    "weights with a header of no JSON": (
        written("model.safetensors", (8).to_bytes(8, "little") + b"not json"),
        "truncat",
    ),
    "weights that are a pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "has no model.safetensors",
    ),
    "index cut": (written(INDEX, b'{"weight_map": {'), "is no index of shards"),
    "index of numbers": (indexed(1, 2), "is no index of shards"),
    "index of nothing": (indexed(), "is no index of shards"),
    "index of lists": (indexed(["a"]), "is no index of shards"),
    "index beside one file": (written(INDEX, b'{"weight_map": {"a": "config.json"}}'), "both model.safetensors and"),
    "shard missing": (indexed("part.safetensors", "gone.safetensors"), "lacks 1 of the 2 shards"),
    "shard outside": (indexed("../outside.safetensors"), "does not lie in its folder"),
    "shard at an absolute path": (indexed("/etc/hostname"), "does not lie in its folder"),
    "shard with a zero byte": (indexed("a\0b"), "does not lie in its folder"),
    "shard that is another file": (indexed("config.json"), "truncated or no safetensors"),
    "quantized by a text": (edited("config.json", quantization_config="gptq"), "is a text and no mapping"),
    "quantized by a list": (edited("config.json", quantization_config=[4]), "is a list and no mapping"),
    "quantized without a word": (quantized(bits=4), "does not say how it is quantized"),
    "quantized by nothing": (edited("config.json", quantization_config={}), "does not say how it is quantized"),
    "bitsandbytes without a width": (quantized(quant_method="bitsandbytes"), "does not say how it is quantized"),
    "quantized by a number": (quantized(quant_method=4), "does not say how it is quantized"),
    "an unknown format": (quantized(quant_method="exl2", bits=4), "in the format 'exl2', which is not read here"),
    "gptq": (quantized(quant_method="gptq", bits=4, group_size=128), "pip install gptqmodel optimum"),
    "awq": (quantized(quant_method="awq", bits=4), "pip install gptqmodel"),
    "bitsandbytes": (quantized(load_in_4bit=True), "pip install bitsandbytes"),
    "auto-round": (quantized(quant_method="auto-round", bits=4), "pip install auto-round"),
    "quantized where the decoder says": (
        edited("config.json", **{"text_config.quantization_config": {"quant_method": "gptq"}}),
        "pip install gptqmodel optimum",
    ),
    "quantized where the tower says": (
        edited("config.json", **{"vision_config.quantization_config": {"quant_method": "gptq"}}),
        "where no reader looks",
    ),
    "quantized by an older key": (edited("config.json", compression_config={"a": 1}), "where no reader looks"),
    "ours of a newer version": (quantized(quant_method=OUR_FORMAT, format_version=9, schemes=[]), "update Reliabit"),
    "ours without schemes": (quantized(quant_method=OUR_FORMAT), "no list of schemes"),
    "ours with schemes of texts": (quantized(quant_method=OUR_FORMAT, schemes=["hqq"]), "no list of schemes"),
    "ours of bits in words": (ours(bits="four"), "'bits' is 'four'"),
    "ours of eleven bits": (ours(bits=11), "11 bits are not supported"),
    "ours of no groups": (ours(group_size=0), "'group_size' is 0"),
    "ours of another type": (ours(metadata="zeros"), "'metadata' is 'zeros'"),
    "ours of another module": (ours(modules=["lm_tail"]), "no such module"),
    "ours of modules by number": (ours(modules=[3]), "names 3 as a module"),
    "ours of one module twice": (ours(modules=["lm_head", "lm_head"]), "names lm_head twice"),
}
ONLY_WITH_WEIGHTS = {
    "weights of another model": (lambda f: shutil.copy(MODELS / "idefics3_tiny" / "model.safetensors", f), "lacks"),
    "fewer layers in the file": (edited("config.json", **{"text_config.num_hidden_layers": 3}), "lacks|layer_types"),
    "wider layers than in the file": (edited("config.json", **{"text_config.intermediate_size": 1024}), "the model"),
    "said to be ours and plain": (ours(), "lacks|cannot be loaded"),
    "said to be hqq and plain": (
        quantized(quant_method="hqq", quant_config={"weight_quant_params": {"nbits": 4, "group_size": 64}}),
        "checkpoint",
    ),
    "said to be compressed and plain": (
        quantized(quant_method="compressed-tensors", format="pack-quantized", config_groups={"all": PACKED}),
        "checkpoint",
    ),
}


def one_sentence(refusal, folder):
    text = str(refusal.value)
    assert "\n" not in text
    assert len(text) < 700, text
    assert str(folder) in text or "the checkpoint's" in text or "lm_" in text, text


def test_the_checkpoint_is_sound_before_it_is_damaged(folder):
    check(folder)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(name, folder):
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(ReliabitError, match=message) as refusal:
        check(folder)
    one_sentence(refusal, folder)


@pytest.mark.parametrize("name", ONLY_WITH_WEIGHTS)
def test_what_only_the_weights_tell_is_refused_when_they_are_read(name, folder):
    damage, message = ONLY_WITH_WEIGHTS[name]
    damage(folder)
    with pytest.raises(ReliabitError, match=message) as refusal:
        load_checkpoint(ModelConfig(path=str(folder), family="qwen2_vl", dtype="float32", template="{question}"))
    one_sentence(refusal, folder)


def test_every_format_that_transformers_reads_from_a_folder_is_known():
    theirs = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
    # A file of its own, which is no folder of safetensors.
    assert theirs - {"gguf", OUR_FORMAT} == READERS.keys() - {OUR_FORMAT}


def test_the_check_before_heavy_imports_takes_none(folder):
    quantized(quant_method="gptq")(folder)
    script = (
        "import sys; from pathlib import Path\n"
        "from reliabit.models.loading import check_checkpoint\n"
        "try:\n"
        f"    check_checkpoint(Path({str(folder)!r}), family='qwen2_vl')\n"
        "except Exception as error:\n"
        "    print(error)\n"
        f"check_checkpoint(Path({str(MODELS / 'qwen2_vl_tiny')!r}), family='qwen2_vl')\n"
        "print(sorted({'torch', 'transformers', 'PIL', 'pyarrow'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert "pip install gptqmodel optimum" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_check_reads_whole_shards_and_no_more(folder):
    indexed("part.safetensors")(folder)
    check_checkpoint(folder, family="qwen2_vl")
