"""Prepare a set and read it once; print by how much the process grew, in MiB, each time."""

import json
import re
import sys
from pathlib import Path

import datasets
import pyarrow.parquet
from PIL import Image

from data.vqa_files import hub_spec, vqa_spec
from reliabit.data.prepared_table import load_split, prepare

SPECS = {"official": vqa_spec, "hub": hub_spec}


def peak() -> float:
    # The `ru_maxrss` of a new process starts from that of the process it was forked from.
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


if __name__ == "__main__":
    layout, root, tables = sys.argv[1:]
    loaded = datasets, pyarrow.parquet, Image.init()
    start = peak()
    folder = prepare(SPECS[layout](Path(root), splits={"test": 1.0}), root=Path(tables))
    prepared = peak()
    count = sum(len(row["image"]) > 0 for row in load_split(folder, "test"))
    found = {"questions": count, "preparing": prepared - start, "reading": peak() - prepared}
    sys.stdout.write(json.dumps(found))
