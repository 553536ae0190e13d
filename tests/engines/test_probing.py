import pytest

from engines.served import completion, token
from reliabit.engines.engine import Completion
from reliabit.engines.probing import probe
from reliabit.errors import ReliabitError

IMAGE, BLANK = b"a picture", b"a blank one"


def asking(image=None, blank=None, warm=None):
    """An endpoint that is as it should be but for what is given."""
    image = image or completion("red", [token("red", 0.8), token("</s>", 0.9)])
    blank = blank or completion("red", [token("red", 0.3), token("</s>", 0.9)])
    warm = warm or completion("blue", [token("blue", 0.1, others=[("red", 0.8)]), token("</s>", 0.9)])

    def ask(shown, temperature):
        return Completion(blank if shown == BLANK else warm if temperature else image, seconds=0.5)

    return ask


def test_what_was_seen_is_told():
    seen = probe(asking(), image=IMAGE, blank=BLANK)
    assert seen.n_tokens == 2
    assert seen.blank_log_prob < seen.log_prob
    assert seen.other_temperature_log_prob == pytest.approx(-0.2231, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({"image": completion("red", [])}, "tells no log-probabilities", id="none"),
        pytest.param({"image": completion("red", [token("red", 0.8)])}, "the end token is missing", id="no-end"),
        pytest.param(
            {"image": completion("red", [token("red", 0.3, others=[("blue", 0.6)]), token("</s>", 0.9)])},
            "token 1 of the probe's answer is not the likeliest",
            id="sampled",
        ),
        pytest.param(
            {"image": completion("red", [{**token("red", 0.8), "top_logprobs": []}, token("</s>", 0.9)])},
            "tells 0 alternatives of a token",
            id="no-alternatives",
        ),
        pytest.param(
            {"warm": completion("red", [token("red", 0.45), token("</s>", 0.9)])},
            "tells those after sampling",
            id="processed",
        ),
        pytest.param(
            {"blank": completion("red", [token("red", 0.8), token("</s>", 0.9)])}, "does not see images", id="blind"
        ),
        pytest.param({"blank": completion("red", [])}, "of a blank image: ", id="blank-unusable"),
    ],
)
def test_what_would_be_worth_nothing_is_refused(given, says):
    with pytest.raises(ReliabitError, match=says):
        probe(asking(**given), image=IMAGE, blank=BLANK)


def test_another_token_at_another_temperature_tells_nothing():
    warm = completion("blue", [token("blue", 0.1), token("</s>", 0.9)])
    assert probe(asking(warm=warm), image=IMAGE, blank=BLANK).other_temperature_log_prob is None
