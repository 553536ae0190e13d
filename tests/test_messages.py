"""What several tests look for in messages is written down once."""

import ast
from collections import Counter
from pathlib import Path

import messages

TESTS = Path(__file__).parent
SEVERAL = 3
"""So many places have a name for their fragment in common."""


def fragments() -> list[str]:
    """What `pytest.raises` and its like match, where it is a plain text."""
    calls = [
        node
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    values = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "match"]
    return [value.value for value in values if isinstance(value, ast.Constant)]


def test_a_fragment_that_several_tests_match_has_a_name():
    found = fragments()
    assert len(found) > 100
    assert [text for text, count in Counter(found).items() if count >= SEVERAL] == []
    named = [text for name, text in vars(messages).items() if name.isupper()]
    assert [text for text in found for part in named if part in text] == []
