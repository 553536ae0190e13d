"""What `make audit` says of what pip-audit found."""

import audit
import pytest

FINE, UNKNOWN = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
FLAWED = {"name": "c", "version": "2", "vulns": [{"id": "GHSA-1"}, {"id": "PYSEC-2"}]}


@pytest.mark.parametrize(
    ("packages", "status", "sentence"),
    [
        ([FINE, FINE], 0, "All 2 locked versions were looked up; none has a known flaw."),
        ([FINE, UNKNOWN], 2, "1 of 2 locked versions have no known flaw; these could not be looked up: b."),
        ([FINE, UNKNOWN, FLAWED], 1, "1 of 3 locked versions have known flaws: c 2 (GHSA-1, PYSEC-2)."),
        ([UNKNOWN], 2, "None of the 1 locked versions could be looked up: the index that pip uses has no advisories"),
    ],
)
def test_one_sentence_says_what_was_found(packages, status, sentence):
    found = audit.verdict({"dependencies": packages})
    assert found[0] == status
    assert found[1].startswith(sentence)


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ("echo '{\"dependencies\": []}'", "All 0 locked"),
        (
            "echo 'first' >&2; echo 'no route to host' >&2; exit 1",
            "No locked version could be looked up: no route to host",
        ),
    ],
)
def test_a_program_that_fails_is_told_in_its_last_words(says, sentence, tmp_path, monkeypatch, capsys):
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", ["audit.py", str(program), "requirements.lock"])
    assert audit.main() == (0 if says.startswith("echo '{") else 2)
    assert capsys.readouterr().out.startswith(sentence)
