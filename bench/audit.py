"""Known flaws of the locked versions, by pip-audit, told in one sentence; `make audit` runs it.

    python bench/audit.py .venv-audit/bin/pip-audit requirements.lock

Ends with 1 where a version has a known flaw, and with 2 where not every version could be looked up.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def verdict(told: Mapping[str, Any]) -> tuple[int, str]:
    """The status to end with and the sentence, from what pip-audit says as JSON.

    >>> verdict({"dependencies": [{"name": "a", "version": "1", "vulns": []}]})
    (0, 'All 1 locked versions were looked up; none has a known flaw.')
    """
    packages = told["dependencies"]
    flawed = [one for one in packages if one.get("vulns")]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    if flawed:
        listed = "; ".join(
            f"{one['name']} {one['version']} ({', '.join(flaw['id'] for flaw in one['vulns'])})" for one in flawed
        )
        return 1, f"{len(flawed)} of {len(packages)} locked versions have known flaws: {listed}."
    if unknown and len(unknown) == len(packages):
        return 2, (
            f"None of the {len(packages)} locked versions could be looked up: the index that pip uses has no "
            "advisories (a mirror rarely does); run it where the index that publishes them answers."
        )
    if unknown:
        return 2, (
            f"{len(packages) - len(unknown)} of {len(packages)} locked versions have no known flaw; these could not be "
            f"looked up: {', '.join(unknown)}."
        )
    return 0, f"All {len(packages)} locked versions were looked up; none has a known flaw."


def main() -> int:
    """Ask, and tell."""
    program, lock = sys.argv[1:]
    asked = [
        program,
        "--no-deps",
        "--disable-pip",
        "--requirement",
        lock,
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        status, sentence = verdict(json.loads(done.stdout))
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        status, sentence = 2, f"No locked version could be looked up: {reason}"
    sys.stdout.write(f"{sentence}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
