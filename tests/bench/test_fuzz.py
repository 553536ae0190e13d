"""What strangers write ends in a result or in one sentence; `make fuzz` asks more."""

import fuzz
import pytest

from reliabit.errors import ReliabitError


@pytest.mark.parametrize("surface", fuzz.SURFACES)
def test_any_input_ends_in_a_result_or_a_refusal(surface):
    counted = fuzz.fuzz(surface, inputs=15, start=0)
    assert counted.failures == []
    assert counted.inputs >= 10


def test_what_ends_otherwise_is_found(monkeypatch):
    def broken(folder, content):
        raise KeyError("a") if len(content) % 2 else ReliabitError("refused")

    monkeypatch.setitem(fuzz.SURFACES, "broken", (broken, fuzz.SURFACES["request schema"][1]))
    assert fuzz.fuzz("broken", inputs=30, start=0).failures[0].startswith(("KeyError", "ReliabitError"))
