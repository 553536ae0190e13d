#!/usr/bin/env bash
# Answers that are dates: `load_dataset("json")` makes timestamps of text such as "2012-08-14" where all answers of a file
# look like that, and leaves them text where one does not. Compared with what a model says, the answer read from the first
# file is "2012-08-14 00:00:00", and right answers count as wrong.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0

cd "$WORK"
HF_HUB_OFFLINE=1 HF_HOME="$WORK/cache" "$WORK/venv/bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

import datasets

datasets.disable_progress_bars()


def read(name, answers):
    lines = [json.dumps({"question": "when was it taken?", "answer": answer}) for answer in answers]
    Path(name).write_text("\n".join(lines))
    found = datasets.load_dataset("json", data_files=name, split="train")
    return str(found.features["answer"].dtype), str(found[0]["answer"])


print("datasets", datasets.__version__)
dates = read("dates.jsonl", ["2012-08-14", "2013-01-01"])
mixed = read("mixed.jsonl", ["2012-08-14", "unknown"])
print("dates alone:          ", dates)
print("dates and another one:", mixed)
if dates != ("timestamp[s]", "2012-08-14 00:00:00") or mixed != ("string", "2012-08-14"):
    sys.exit("the behaviour has changed")
PYTHON
