#!/usr/bin/env bash
# `from_pretrained(gguf_file=...)` of transformers dequantizes a GGUF file: every layer is an ordinary `torch.nn.Linear`
# and every weight float32. The model still says that it is quantized, so `save_pretrained` refuses it as "not
# serializable", and code that asks `is_quantized` treats plain weights as packed ones. Whoever converts a GGUF file to
# safetensors this way has to drop the `hf_quantizer` and the `quantization_config` by hand.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0

cd "$WORK"
"$WORK/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import gguf
import numpy as np
import torch
import transformers

transformers.logging.disable_progress_bar()
writer, rng = gguf.GGUFWriter("tiny.gguf", "llama"), np.random.default_rng(0)
writer.add_context_length(64)
writer.add_embedding_length(64)
writer.add_block_count(1)
writer.add_feed_forward_length(128)
writer.add_head_count(2)
writer.add_head_count_kv(2)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_freq_base(10000.0)
writer.add_vocab_size(32)
kind = gguf.GGMLQuantizationType.Q4_1
matrices = {"attn_q": (64, 64), "attn_k": (64, 64), "attn_v": (64, 64), "attn_output": (64, 64)}
matrices |= {"ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128)}
matrices = {f"blk.0.{name}.weight": shape for name, shape in matrices.items()} | {"token_embd.weight": (32, 64)}
for name, shape in matrices.items():
    values = rng.normal(size=shape).astype(np.float32)
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
    writer.add_tensor(name, np.ones(64, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

model = transformers.AutoModelForCausalLM.from_pretrained(".", gguf_file="tiny.gguf")
layer = model.model.layers[0].mlp.up_proj
plain = type(layer) is torch.nn.Linear and {weight.dtype for weight in model.parameters()} == {torch.float32}
print("transformers", transformers.__version__, "gguf 0.19.0")
print("layers are", type(layer).__name__, layer.weight.dtype, "and is_quantized is", model.is_quantized)
try:
    model.save_pretrained("saved")
    refused = None
except ValueError as error:
    refused = str(error)
print("save_pretrained:", refused or "saved")
if not (plain and model.is_quantized and refused and "not serializable" in refused):
    sys.exit("the behaviour has changed")
PYTHON
