"""The page of faults names tests that exist."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?!what happened|---)", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[[^`]*\])?`")


def test_every_fault_is_guarded_by_a_test_that_exists():
    rows = [line for line in (PROJECT / "docs" / "faults.md").read_text().splitlines() if ROW.match(line)]
    assert len(rows) > 100
    for row in rows:
        found = TEST.findall(row.rsplit(" | ", 1)[1])
        assert found, f"no test is named in: {row}"
        for path, name in found:
            defined = {node.name for node in ast.walk(ast.parse((PROJECT / path).read_text())) if hasattr(node, "name")}
            assert name in defined, f"{path} has no {name}"
