#!/usr/bin/env bash
# GPTQModel loads no model on a machine with one or two cores: its pool gives the CPU half as many workers as there are
# cores, and always wants two of them for loading models. GPTQMODEL_CPU_WORKERS=2 in the environment mends it; with more
# cores, GPTQMODEL_CPU_WORKERS=1, which is what two cores give, shows the same. GPTQModel asks for torch 2.14, which on
# PyPI is for CUDA; what is shown here is Python alone.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 torchao==0.18.0 pillow==13.0.0 \
  protobuf==7.36.2 pyarrow==26.0.0 setuptools==80.9.0 wheel==0.45.1 packaging==26.3 pypcre tokenicer logbar device-smi \
  defuser dill threadpoolctl filelock jinja2 requests ninja maturin
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation gptqmodel==7.7.0

cd "$WORK"
cat >load.py <<'PYTHON'
import os
from importlib.metadata import version

import torch
from gptqmodel import GPTQModel, QuantizeConfig
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
LlamaForCausalLM(LlamaConfig(vocab_size=64, num_hidden_layers=2, **sizes)).save_pretrained("model")
words = {str(number): number for number in range(64)}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="0"))
PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="0", eos_token="1").save_pretrained("model")
print("gptqmodel", version("gptqmodel"), "torch", torch.__version__, "cores", os.cpu_count())
try:
    GPTQModel.load("model", QuantizeConfig(bits=4, group_size=32, device="cpu"))
    print("FOUND loaded")
except ValueError as error:
    print("FOUND ValueError:", error)
PYTHON
CORES=$(python3 -c 'import os; print(os.cpu_count())')
if [ "$CORES" -gt 2 ]; then export GPTQMODEL_CPU_WORKERS=1; fi
"$WORK/venv/bin/python" -W ignore load.py >first 2>log || { cat log; exit 1; }
grep '^gptqmodel ' first
grep '^FOUND' first | sed 's/^FOUND/as it is:/'
GPTQMODEL_CPU_WORKERS=2 "$WORK/venv/bin/python" -W ignore load.py >second 2>log || { cat log; exit 1; }
grep '^FOUND' second | sed 's/^FOUND/with two workers:/'
if ! grep -q "requests 2 workers but parent 'cpu' only has 1" first || ! grep -q '^FOUND loaded' second; then
  echo "the behaviour has changed"
  exit 1
fi
