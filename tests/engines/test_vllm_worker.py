"""The script that answers with vLLM, beside a stand-in for vLLM: the real one is asked in tests/engines/live."""

import json
import os
import subprocess
import sys

import pytest

from reliabit.engines import vllm_worker
from reliabit.engines.chat import chat_request, read_answer

STAND_IN = """
import sys
from types import SimpleNamespace as Some

try:
    from vllm import exceptions
except ImportError:
    exceptions = None

__version__ = "9.9"
INF = float("inf")
print("a library says something")


class SamplingParams(Some):
    pass


class LLM:
    def __init__(self, model, **settings):
        config = Some(max_logprobs=20, logprobs_mode="raw_logprobs", dtype="torch.float32", quantization=None)
        config.max_model_len = settings["max_model_len"]
        self.llm_engine = Some(model_config=config)
        self.calls = 0

    def get_tokenizer(self):
        return Some(decode=lambda tokens: "?")

    def chat(self, conversations, sampling, use_tqdm):
        assert len(conversations) == len(sampling) and not use_tqdm
        self.calls += 1
        print("batch of", len(conversations))
        texts = [one[0]["content"][1]["text"] for one in conversations]
        if any(len(text) > 50 for text in texts):
            raise (exceptions.VLLMValidationError if exceptions else ValueError)("the prompt is too long")
        if "broken" in texts:
            raise NotImplementedError("no such kernel")
        return [self.found(text, one) for text, one in zip(texts, sampling)]

    def found(self, text, sampling):
        told = [
            {7: Some(logprob=-0.5, rank=1, decoded_token=text), 8: Some(logprob=-1.5, rank=2, decoded_token=None)},
            {8: Some(logprob=-INF, rank=2, decoded_token="x"), 2: Some(logprob=-0.25, rank=1, decoded_token="e")},
        ]
        output = Some(text=text, token_ids=[7, 2], logprobs=told if sampling.logprobs else None, finish_reason="stop")
        return Some(outputs=[output], prompt_token_ids=[1] * 30, request_id=str(self.calls))
"""


def request(text, **changed):
    return {**chat_request(text, b"png", media_type="image/png", model="tiny", max_tokens=8), **changed}


EXCEPTIONS = """
class VLLMClientError(Exception):
    pass


class VLLMValidationError(VLLMClientError):
    pass
"""
"""As vLLM 0.32 has them: no longer errors of value."""


@pytest.fixture
def work(tmp_path):
    """Starts the worker; gives its first line, its answers and what it wrote besides."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text(STAND_IN, encoding="utf-8")

    def start(*lines, arguments=(), status=0):
        done = subprocess.run(
            [sys.executable, "-P", vllm_worker.__file__, "folder", "--settings", '{"max_model_len": 64}', *arguments],
            input="\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines),
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        first, *answers = [json.loads(line) for line in done.stdout.splitlines()]
        return first, answers, done.stderr

    return start


def test_answers_come_in_order_as_a_server_writes_them(work):
    first, answers, said = work(request("red"), request("blue"), arguments=["--name", "tiny"])
    assert first == {
        "model": "tiny",
        "vllm": "9.9",
        "max_logprobs": 20,
        "logprobs_mode": "raw_logprobs",
        "dtype": "float32",
        "quantization": None,
        "max_model_len": 64,
    }
    assert [read_answer(one).answer for one in answers] == ["red", "blue"]
    assert read_answer(answers[0]).log_prob == pytest.approx(-0.75)
    assert answers[0]["usage"] == {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32}
    last = answers[0]["choices"][0]["logprobs"]["content"][-1]
    assert [(one["token"], one["logprob"]) for one in last["top_logprobs"]] == [("e", -0.25), ("x", -9999.0)]
    # Nothing that a library prints comes between answers.
    assert "a library says something" in said
    assert "batch of 2" in said


def test_an_empty_line_has_what_came_answered_at_once(work):
    _, answers, said = work(request("red"), "", *[request("blue")] * 3, arguments=["--batch", "2"])
    assert len(answers) == 4
    assert [line for line in said.splitlines() if line.startswith("batch")] == [
        "batch of 1",
        "batch of 2",
        "batch of 1",
    ]


@pytest.mark.parametrize("kind", ["ValueError", "VLLMValidationError"])
def test_what_is_refused_is_told_in_its_place(work, tmp_path, kind):
    if kind != "ValueError":
        (tmp_path / "vllm" / "exceptions.py").write_text(EXCEPTIONS, encoding="utf-8")
    _, answers, _ = work(request("red"), request("l" + "o" * 50 + "ng"), request("x", stop=["."]), {"model": "tiny"})
    assert read_answer(answers[0]).answer == "red"
    assert answers[1]["error"] == {"message": "the prompt is too long", "type": kind}
    assert "stop of the request is not understood" in answers[2]["error"]["message"]
    assert answers[3]["error"]["type"] == "KeyError"


def test_an_engine_that_fails_ends_it(work):
    _, answers, said = work(request("red"), "", request("broken"), request("blue"), status=1)
    assert [read_answer(one).answer for one in answers] == ["red"]
    assert "no such kernel" in said


def test_log_probabilities_that_are_not_asked_for_are_not_told(work):
    _, answers, _ = work(request("red", logprobs=False))
    assert answers[0]["choices"][0]["logprobs"] is None
