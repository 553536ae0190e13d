"""The notebook of docs/python.md: the same texts and blocks as cells, run in this process, with what they give.

`python tests/notebooks.py` writes it anew. No kernel is needed: cells are plain Python, and what they give is what a
notebook would show: what is printed, and the value of a last expression.
"""

import ast
import base64
import json
import os
import re
from contextlib import chdir, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "python.md"
NOTEBOOK = PROJECT / "docs" / "notebooks" / "first_steps.ipynb"

_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?=[\w./]+\))")

_PLACE = """\
import os
from pathlib import Path

# Paths below are those of the repository.
os.chdir(next(one for one in [Path.cwd(), *Path.cwd().parents] if (one / "docs" / "examples").is_dir()))
"""


def cells_of(page: str) -> list[tuple[str, str]]:
    """The texts and blocks of a page in order; links lead from the notebook's folder."""
    cells = [("code", _PLACE)]
    for number, part in enumerate(_BLOCK.split(page)):
        if part.strip():
            cells.append(("code", part) if number % 2 else ("markdown", _LINK.sub("](../", part)))
    # The title comes before the first block of code.
    return [cells[1], cells[0], *cells[2:]]


def run(cells: list[tuple[str, str]]) -> list[list[dict[str, Any]]]:
    """What each cell gives, in the notebook's form; nothing for texts."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with chdir(NOTEBOOK.parent):
        return [_given(source, names) if kind == "code" else [] for kind, source in cells]


def _given(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with redirect_stdout(StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    text = printed.getvalue()
    found = [{"name": "stdout", "output_type": "stream", "text": _lines(text)}] if text else []
    return found if value is None else [*found, {"data": _shown(value), "metadata": {}, "output_type": "display_data"}]


def _shown(value: Any) -> dict[str, Any]:
    """A value in the forms that a notebook can show it in."""
    if hasattr(value, "savefig"):
        file = BytesIO()
        value.savefig(file, format="png", dpi=80)
        return {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": [type(value).__name__]}
    forms = {"text/markdown": "_repr_markdown_", "text/html": "_repr_html_"}
    rich = {kind: _lines(getattr(value, name)()) for kind, name in forms.items() if hasattr(value, name)}
    return {**rich, "text/plain": _lines(str(value))}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook(cells: list[tuple[str, str]], given: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """A notebook of the format 4.5."""
    made = []
    for number, ((kind, source), outputs) in enumerate(zip(cells, given, strict=True), start=1):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": _lines(source.strip("\n"))}
        if kind == "code":
            cell |= {"execution_count": sum(one == "code" for one, _ in cells[:number]), "outputs": outputs}
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write() -> None:
    cells = cells_of(PAGE.read_text(encoding="utf-8"))
    made = json.dumps(notebook(cells, run(cells)), indent=1, ensure_ascii=False, sort_keys=True)
    NOTEBOOK.write_text(made + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    NOTEBOOK.parent.mkdir(exist_ok=True)
    write()
