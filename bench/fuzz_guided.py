"""The surfaces of `fuzz.py` by coverage: atheris keeps the inputs that reach new code, and changes those.

    RELIABIT_FUZZ_ENV=.venv-fuzz python bench/fuzz_guided.py --inputs 100000

A process for each surface, since libFuzzer ends the one that it runs in. Adds what was counted to
`bench/results/fuzz.json`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import fuzz

READERS = (
    *("reliabit.evaluation.own_answers", "reliabit.data", "reliabit.quant.checkpoint_files", "reliabit.quant.record"),
    *("reliabit.serving.bundle", "reliabit.serving.http.messages", "reliabit.files"),
)
"""What is watched for new code; importing it that way takes some seconds."""

SEEDS = 50
LONGEST = 4096
LAST = re.compile(r"#(?P<inputs>\d+)\s+DONE\s+cov: (?P<edges>\d+)")


def seeds(surface: str, folder: Path) -> None:
    """Write inputs to begin with."""
    found: list[bytes] = []
    _, strategy = fuzz.SURFACES[surface]
    fuzz.SURFACES["seeds"] = (lambda _, content: found.append(content), strategy)
    fuzz.fuzz("seeds", inputs=SEEDS * (1 + fuzz.VARIANTS), start=0)
    for number, content in enumerate(found[:: 1 + fuzz.VARIANTS]):
        (folder / str(number)).write_bytes(content)


def run_guided(surface: str, options: list[str]) -> None:
    """Fuzz a surface in this process, which ends with that."""
    environment = Path(os.environ["RELIABIT_FUZZ_ENV"]).resolve()
    # Behind all others: what both have is the project's own.
    sys.path += [str(path) for path in environment.glob("lib/python3*/site-packages")]
    import atheris

    # Imported a second time, with every branch noted.
    for name in [*(one for one in sys.modules if one.startswith("reliabit")), "fuzz"]:
        del sys.modules[name]
    with atheris.instrument_imports(include=list(READERS)):
        import fuzz as watched
    consume, _ = watched.SURFACES[surface]
    place = Path(tempfile.mkdtemp(dir=os.environ["RELIABIT_FUZZ_PLACE"]))
    atheris.Setup([sys.argv[0], *options], lambda content: consume(place, content))
    atheris.Fuzz()


def guided(surface: str, *, inputs: int, seconds: int) -> dict[str, Any]:
    """Fuzz a surface in a process of its own; what was counted."""
    with tempfile.TemporaryDirectory(prefix="reliabit-fuzz-") as temporary:
        corpus = Path(temporary) / "corpus"
        corpus.mkdir()
        seeds(surface, corpus)
        options = [f"-runs={inputs}", f"-max_len={LONGEST}", f"-max_total_time={seconds}", "-timeout=10", str(corpus)]
        done = subprocess.run(  # noqa: S603
            [sys.executable, __file__, "--surface", surface, "--", *options],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=temporary,
            env={**os.environ, "RELIABIT_FUZZ_ENV": str(Path(os.environ["RELIABIT_FUZZ_ENV"]).resolve())}
            | {"RELIABIT_FUZZ_PLACE": temporary},
            check=False,
        )
    found = LAST.search(done.stderr)
    counted = {key: int(value) for key, value in found.groupdict().items()} if found else {"inputs": 0, "edges": 0}
    return {**counted, "failures": [] if done.returncode == 0 and found else [(done.stdout + done.stderr)[-2000:]]}


def main() -> None:
    """Fuzz all surfaces, or one in this process."""
    if "--" in sys.argv:
        run_guided(sys.argv[2], sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="of each surface")
    parser.add_argument("--seconds", type=int, default=86_400, help="after which a surface has had enough")
    parser.add_argument("--surface", choices=sorted(fuzz.SURFACES), action="append", help="only these")
    asked = parser.parse_args()
    for surface in asked.surface or list(fuzz.SURFACES):
        found = guided(surface, inputs=asked.inputs, seconds=asked.seconds)
        sys.stdout.write(f"{surface}: {found}\n")
        sys.stdout.flush()
        results = json.loads(fuzz.RESULTS.read_text(encoding="utf-8"))
        results.setdefault("guided", {})[surface] = found
        fuzz.RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
