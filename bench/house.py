"""The house in figures: files, lines, imports, circles, and how many files a configuration and a question pass through.

    python bench/house.py                       # this checkout
    python bench/house.py --checkout ../before  # another one, with the Python environment of this one

What is read from the source: every module below `src`. What is run, in a process of its own: one small pipeline
(`qwen2_vl_tiny`, HQQ at 4 bits, a Selector, a few questions) with a profiler that notes each function that is handed
the composed configuration or a group of it ("configuration"), and each that is handed what an answer is made of:
questions, predictions, scored answers, a report ("question"). Files are counted once; a turn back is a step from one
such file to one on a higher floor, floors being the longest way down by imports. The figures are kept in
`bench/results/house.json`, under `now` or what `--as` says.
"""

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "house.json"

Graph = Mapping[str, set[str]]

RUN = """
import json, sys
from pathlib import Path
folder, src = sys.argv[1:]
from hydra import compose, initialize_config_dir
from reliabit.composition import register, to_config
from reliabit.tasks.pipeline import pipeline

register()
images = "{dev: 12, val: 12, cal: 12, test: 12}"
places = {"paths.data": "data", "paths.cache": "cache", "paths.output": "output", "tracking.artifacts": "artifacts"}
overrides = [f"{key}={folder}/{place}" for key, place in places.items()]
overrides += [f"tracking.uri=sqlite:///{folder}/mlflow.db", f"data.splits={images}", f"data.ask={images}"]
overrides += ["evaluation.resamples=20", "confidence.selector.epochs=2", "quant.bits=4", "trainer.threads=1"]
overrides += ["trainer.progress_bar=false"]
with initialize_config_dir(str(Path(src).parent / "conf"), version_base="1.3"):
    config = to_config(compose("config", overrides=overrides))
groups = {id(value) for value in vars(config).values() if hasattr(value, "__dataclass_fields__")} | {id(config)}
HANDED = {"datasets.arrow_dataset.Dataset", "pyarrow.lib.Table"}
OWN = {"Report", "Judged", "ScoredAnswers", "Predictions", "Cell", "AnsweredCell", "Chunk", "StoredChunk", "Answered",
    "AnsweredChunk", "TimedPredictions", "CellRecord", "CellMeasurement", "Measured", "Examples"}
configuration, question = [], []

def note(frame, event, _):
    file = frame.f_code.co_filename
    if event != "call" or not file.startswith(src) or frame.f_code.co_name.startswith("<"):
        return
    name = file[len(src) + 1:]
    for value in frame.f_locals.values():
        if id(value) in groups and configuration[-1:] != [name]:
            configuration.append(name)
        kind = type(value)
        ours = kind.__module__.startswith("reliabit") and kind.__name__ in OWN
        if (ours or f"{kind.__module__}.{kind.__qualname__}" in HANDED) and question[-1:] != [name]:
            question.append(name)

sys.setprofile(note)
pipeline(config)
sys.setprofile(None)
Path(folder, "found.json").write_text(json.dumps({"configuration": configuration, "question": question}))
"""


def modules_of(src: Path) -> dict[str, Path]:
    """The modules below a source folder by dotted name."""
    return {
        ".".join(path.relative_to(src).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(src.rglob("*.py"))
        if "__pycache__" not in path.parts
    }


def imports_of(tree: ast.Module, modules: Mapping[str, Path]) -> set[str]:
    """The modules of the checkout that one imports, at the top or within functions, for type checkers alone or not."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & {*modules} or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in modules}
    return found


def circles(graph: Graph) -> list[list[str]]:
    """The groups of modules that import each other (Tarjan's strongly connected components)."""
    import networkx

    directed = networkx.DiGraph([(module, other) for module, others in graph.items() for other in others])
    return [sorted(group) for group in networkx.strongly_connected_components(directed) if len(group) > 1]


def floors(graph: Graph) -> dict[str, int]:
    """The longest way down from each module; members of a circle share a floor."""
    import networkx

    directed = networkx.DiGraph([(module, other) for module, others in graph.items() for other in others])
    directed.add_nodes_from(graph)
    condensed = networkx.condensation(directed)
    height: dict[int, int] = {}
    for node in reversed(list(networkx.topological_sort(condensed))):
        height[node] = 1 + max((height[below] for below in condensed.successors(node)), default=-1)
    return {module: height[condensed.graph["mapping"][module]] for module in graph}


def lines_of(path: Path, tree: ast.Module) -> dict[str, int]:
    """The lines of a file, of its docstrings, and of its imports."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = sum(
        node.body[0].end_lineno - node.body[0].lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    )
    imported = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return {
        "lines": path.read_text().count("\n"),
        "docstrings": docs,
        "imports": sum(node.end_lineno - node.lineno + 1 for node in imported),
    }


def source_figures(src: Path) -> dict[str, object]:
    """What is counted without running anything."""
    modules = modules_of(src)
    trees = {name: ast.parse(path.read_text()) for name, path in modules.items()}
    graph = {name: imports_of(tree, modules) - {name} for name, tree in trees.items()}
    counted = {name: lines_of(modules[name], trees[name]) for name in modules}
    total = {key: sum(count[key] for count in counted.values()) for key in ("lines", "docstrings", "imports")}
    sizes = [count["lines"] for name, count in counted.items() if modules[name].name != "__init__.py"]
    importers = {name: [other for other, found in graph.items() if name in found] for name in modules}
    own = {name: importers[name] for name in modules if modules[name].name != "__init__.py"}
    return {
        "files": len(modules),
        **total,
        "imports_share": round(total["imports"] / total["lines"], 3),
        "median_lines": statistics.median(sizes),
        "above_320": {name: count["lines"] for name, count in counted.items() if count["lines"] > 320},
        "one_importer": sum(len(found) == 1 for found in own.values()),
        "circles": circles(graph),
    }


def passed_through(checkout: Path) -> dict[str, dict[str, int]]:
    """Files and turns back of the configuration and of a question, in one small pipeline."""
    src = checkout / "src"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(src), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", RUN, folder, str(src)], check=True, cwd=folder, env=environment)  # noqa: S603
        found = json.loads(Path(folder, "found.json").read_text())
    modules = modules_of(src)
    graph = {name: imports_of(ast.parse(path.read_text()), modules) - {name} for name, path in modules.items()}
    height = floors(graph)
    floor = {path.relative_to(src).as_posix(): height[name] for name, path in modules.items()}
    return {name: {"files": len(set(way)), "turns_back": sum(_turns(way, floor))} for name, way in found.items()}


def _turns(way: list[str], floor: Mapping[str, int]) -> Iterator[bool]:
    steps = list(dict.fromkeys(pairwise(way)))
    yield from (floor[after] > floor[before] for before, after in steps)


ROWS = {
    "files": "files",
    "lines": "lines",
    "of these, docstrings": "docstrings",
    "imports, share of lines": "imports_share",
    "median lines of a file": "median_lines",
    "files of one importer": "one_importer",
}
COUNTED = {"files above 320 lines": "above_320", "circles of imports": "circles"}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as the page on the architecture shows them."""
    before, now = results["before"], results["now"]
    lines = ["| | before | now |", "| --- | --- | --- |"]
    lines += [f"| {heading} | {before[key]:g} | {now[key]:g} |" for heading, key in ROWS.items()]
    lines += [f"| {heading} | {len(before[key])} | {len(now[key])} |" for heading, key in COUNTED.items()]
    for thing in ("configuration", "question"):
        ways = (results[name][thing] for name in ("before", "now"))
        cells = " | ".join(f"{way['files']} files, {way['turns_back']} turns back" for way in ways)
        lines.append(f"| a {thing}, from `pipeline` to MLflow | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=ROOT)
    parser.add_argument("--as", dest="name", default="now")
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    figures = {**source_figures(checkout / "src"), **passed_through(checkout)}
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results[options.name] = figures
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results) if {"before", "now"} <= {*results} else json.dumps(figures))


if __name__ == "__main__":
    main()
