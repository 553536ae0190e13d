"""Real servers of vLLM and llama.cpp on the tiny models: what they tell passes the probes, and is what we answer.

Bounds are those of bench/results/parity.json, with some room: a machine with other kernels rounds differently.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import real_servers
from record_engines import blanked

import reliabit
from reliabit.engines import vllm_worker
from reliabit.engines.chat import chat_request, read_answer
from reliabit.engines.endpoint import Endpoint
from reliabit.engines.probing import probe
from reliabit.engines.settings import EngineConfig
from reliabit.errors import ReliabitError
from reliabit.inference.answering import answer_batches
from reliabit.inference.prediction_loop import batches_of

pytestmark = [pytest.mark.slow, pytest.mark.seconds(900)]

MODELS = real_servers.ROOT / "models"


@dataclass(frozen=True)
class Asked:
    """Questions about a few images, and what we answer."""

    rows: object
    answers: list

    def requests(self, model, **changed):
        make = partial(chat_request, media_type="image/png", model=model, max_tokens=8)
        return [{**make(row["question"], row["image"]), **changed} for row in self.rows]


@pytest.fixture(scope="module")
def asked(tables):
    """What a model answers, by its name."""

    def ask(name):
        rows = tables["easy_vqa"]["test"]
        checkpoint = reliabit.load(MODELS / name, dtype="float32")
        batches = batches_of(rows, checkpoint.encoder, batch_size=16)
        how = {"max_new_tokens": 8, "accelerator": "cpu", "progress": False}
        return Asked(rows, answer_batches(batches, checkpoint, **how))

    return ask


def endpoint_of(server):
    return Endpoint(EngineConfig(name="openai", url=server.url, timeout=300))


def check_parity(ours, responses, *, different, furthest):
    theirs = [read_answer(one) for one in responses]
    same = [mine["answer"] == one.answer for mine, one in zip(ours, theirs, strict=True)]
    assert same.count(False) <= different
    apart = [abs(mine["log_prob"] - one.log_prob) for mine, one in zip(ours, theirs, strict=True)]
    assert np.array(apart)[same].max() < furthest
    assert [mine["n_tokens"] for mine in ours] == [one.n_tokens for one in theirs]


def check_probes(endpoint, asked, name):
    """The preflight finds nothing to say, and a second request in the first one's place the same numbers."""
    question, image = asked.rows[0]["question"], asked.rows[0]["image"]

    def ask(shown, temperature):
        body = chat_request(question, shown, media_type="image/png", model=name, max_tokens=8, temperature=temperature)
        return next(endpoint.complete_all([body], timeout=600))

    seen = probe(ask, image=image, blank=blanked(image))
    assert seen.log_prob == pytest.approx(asked.answers[0]["log_prob"], abs=0.01)


@pytest.mark.parametrize("name", ["qwen2_vl_tiny", "idefics3_tiny"])
def test_vllm_serves_what_we_answer(name, vllm, asked, tmp_path):
    found = asked(name)
    with real_servers.vllm_server(MODELS / name, log=tmp_path / "log") as server:
        endpoint = endpoint_of(server)
        assert endpoint.served_model().name == name
        check_probes(endpoint, found, name)
        responses = [one.response for one in endpoint.complete_all(found.requests(name))]
        check_parity(found.answers, responses, different=0, furthest=5e-3)
        # More alternatives than it gives are refused once and for all.
        with pytest.raises(ReliabitError, match="status 400.*logprobs"):
            list(endpoint.complete_all(found.requests(name, top_logprobs=50)[:1]))


def test_llama_cpp_serves_what_we_answer(llamacpp, asked, tmp_path):
    from reliabit.models.llama_cpp.writing import export_gguf

    name = "qwen2_vl_tiny"
    export_gguf(MODELS / name, tmp_path / "gguf", family="qwen2_vl", file_type="f32")
    found = asked(name)
    files = (tmp_path / "gguf" / "model.gguf", tmp_path / "gguf" / "mmproj.gguf")
    with real_servers.llamacpp_server(*files, log=tmp_path / "log", name=name) as server:
        endpoint = endpoint_of(server)
        assert endpoint.served_model().name == name
        check_probes(endpoint, found, name)
        responses = [one.response for one in endpoint.complete_all(found.requests(name))]
        check_parity(found.answers, responses, different=len(responses) // 50 + 1, furthest=0.02)


def test_vllm_answers_without_a_server(vllm, asked, tmp_path):
    name = "qwen2_vl_tiny"
    found = asked(name)
    settings = '{"dtype": "float32", "max_model_len": 256, "enforce_eager": true}'
    lines = [*map(json.dumps, found.requests("tiny")), "", json.dumps(found.requests("tiny", top_logprobs=50)[0])]
    done = subprocess.run(
        [vllm / "bin" / "python", "-P", vllm_worker.__file__, MODELS / name, "--name=tiny", "--settings", settings],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    first, *responses = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["model"] == "tiny"
    assert first["max_logprobs"] == 20
    assert first["logprobs_mode"] == "raw_logprobs"
    check_parity(found.answers, responses[:-1], different=0, furthest=5e-3)
    assert "logprobs" in responses[-1]["error"]["message"]
