"""What real servers of vLLM and llama.cpp said (bench/record_engines.py) is read rightly: beside what we answer."""

import json
import math
from pathlib import Path

import pytest

import reliabit
from reliabit.engines.chat import read_answer
from reliabit.engines.endpoint import Completion
from reliabit.engines.probing import probe
from reliabit.inference.answering import answer_batches
from reliabit.inference.prediction_loop import batches_of

RECORDED = Path(__file__).parent / "recorded"
MODEL = Path(__file__).parents[2] / "models" / "qwen2_vl_tiny"

FURTHEST = {"vllm": 1e-4, "llamacpp": 0.02}
"""By how much log-probabilities of the same answer may differ from ours (docs/engines_parity.md)."""


@pytest.fixture(scope="module", params=sorted(FURTHEST))
def recorded(request):
    said = json.loads((RECORDED / f"{request.param}.json").read_text(encoding="utf-8"))
    return request.param, said


@pytest.fixture(scope="module")
def ours(tables):
    rows = tables["easy_vqa"]["test"].select(range(6))
    checkpoint = reliabit.load(MODEL, dtype="float32")
    return answer_batches(
        batches_of(rows, checkpoint.encoder, batch_size=6),
        checkpoint,
        max_new_tokens=8,
        accelerator="cpu",
        progress=False,
    )


def test_what_was_said_is_what_we_answer(recorded, ours):
    engine, said = recorded
    assert said["questions"] == [one["question_id"] for one in ours]
    for mine, response in zip(ours, said["responses"], strict=True):
        theirs = read_answer(response)
        assert (theirs.answer, theirs.n_tokens, theirs.truncated) == (mine["answer"], mine["n_tokens"], False)
        near = pytest.approx
        assert theirs.log_prob == near(mine["log_prob"], abs=FURTHEST[engine])
        assert theirs.first_token_prob == near(mine["first_token_prob"], abs=FURTHEST[engine])
        assert theirs.min_token_prob == near(mine["min_token_prob"], abs=FURTHEST[engine])
        assert theirs.first_token_margin == near(mine["first_token_margin"], abs=2 * FURTHEST[engine])
        # Over the most probable tokens and the rest as one: never more than over all of them.
        assert theirs.top_entropy <= mine["first_token_entropy"] + FURTHEST[engine]
        assert theirs.top_entropy == near(mine["first_token_entropy"], abs=0.05)


def test_the_end_is_told_as_each_engine_tells_it(recorded):
    engine, said = recorded
    ends = {response["choices"][0]["logprobs"]["content"][-1]["token"] for response in said["responses"]}
    assert ends == {{"vllm": "<|im_end|>", "llamacpp": ""}[engine]}


def test_the_probes_find_nothing_to_say(recorded):
    _, said = recorded
    image, blank = b"the picture", b"a blank one"

    def ask(shown, temperature):
        return Completion(said["warm"] if temperature else said["blank" if shown == blank else "responses"], 1.0)

    said = {**said, "responses": said["responses"][0]}
    seen = probe(ask, image=image, blank=blank)
    assert seen.log_prob == pytest.approx(read_answer(said["responses"]).log_prob)
    assert not math.isclose(seen.blank_log_prob, seen.log_prob, abs_tol=1e-3)
    # Raw log-probabilities do not depend on the temperature, whichever token was drawn.
    assert seen.other_temperature_log_prob == pytest.approx(
        said["responses"]["choices"][0]["logprobs"]["content"][0]["logprob"], abs=1e-3
    )
