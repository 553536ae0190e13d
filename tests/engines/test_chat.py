import math

import pytest
from scipy.stats import entropy

from engines.served import completion, token
from reliabit.engines.chat import UnusableAnswerError, chat_request, read_answer, top_entropy


def test_a_request_says_all_that_servers_decide_otherwise():
    body = chat_request("what?", b"\x89PNG", media_type="image/png", model="m", max_tokens=4, alternatives=5)
    [image, text] = body["messages"][0]["content"]
    assert image["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert text == {"type": "text", "text": "what?"}
    told = {key: body[key] for key in ("temperature", "logprobs", "top_logprobs", "max_tokens")}
    assert told == {"temperature": 0, "logprobs": True, "top_logprobs": 5, "max_tokens": 4}


@pytest.mark.parametrize(
    ("end", "name"),
    [
        pytest.param(token("<|im_end|>", 0.9), "vLLM names the end token", id="named"),
        pytest.param({**token("x", 0.9), "token": "", "bytes": None}, "llama.cpp gives an empty string", id="empty"),
    ],
)
def test_the_end_token_counts_whatever_it_is_called(end, name):
    read = read_answer(completion("dark red", [token(" dark", 0.5), token(" red", 0.8), end]))
    assert read.answer == "dark red"
    assert read.log_prob == pytest.approx(math.log(0.5 * 0.8 * 0.9)), name
    assert (read.n_tokens, read.truncated) == (3, False)
    assert read.first_token_prob == pytest.approx(0.5)
    assert read.min_token_prob == pytest.approx(0.5)
    assert read.first_token_margin == pytest.approx(0.5 - 1e-3)


def test_bytes_of_half_a_character_are_put_together():
    halves = [{**token("a", 0.5), "token": "\ufffd", "bytes": [byte]} for byte in "é".encode()]
    assert read_answer(completion("é", [*halves, token("</s>", 0.5)])).n_tokens == 3


def test_an_answer_that_is_cut_off_has_no_end_token():
    read = read_answer(completion("dark", [token("dark", 0.5)], finish="length"))
    assert (read.truncated, read.n_tokens) == (True, 1)


@pytest.mark.parametrize(
    ("response", "says"),
    [
        pytest.param({"error": "no"}, "is no chat completion", id="something-else"),
        pytest.param(completion("red", []), "tells no log-probabilities", id="none"),
        pytest.param({"choices": [{**completion("red", [])["choices"][0], "logprobs": None}]}, "tells no", id="null"),
        pytest.param(completion("red", [token("red", 0.5)]), "the end token is missing", id="without-end"),
        pytest.param(completion("", [token("x", 0.5)], finish="tool_calls"), "for the reason 'tool_calls'", id="tools"),
    ],
)
def test_what_tells_no_confidence_is_refused(response, says):
    with pytest.raises(UnusableAnswerError, match=says):
        read_answer(response)


def test_a_log_probability_above_zero_is_refused():
    odd = {**token("red", 0.5), "logprob": 0.3}
    with pytest.raises(UnusableAnswerError, match="which is none"):
        read_answer(completion("red", [odd, token("</s>", 0.5)]))


@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.2], [1.0], [0.9, 0.05]])
def test_entropy_is_that_of_the_known_shares_and_one_rest(shares):
    assert top_entropy(shares) == pytest.approx(entropy([*shares, 1 - sum(shares)]), abs=1e-12)


def test_entropy_of_the_top_is_never_more_than_that_of_all():
    shares = [0.4, 0.3, 0.1, 0.1, 0.05, 0.05]
    for known in range(1, len(shares) + 1):
        assert top_entropy(shares[:known]) <= entropy(shares) + 1e-12
