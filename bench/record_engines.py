"""Records what real servers of vLLM and llama.cpp say to a few questions, for the tests that have none.

    python bench/record_engines.py

It needs the environments of `make vllm-env` and `make llamacpp-env`, serves `models/qwen2_vl_tiny` in float32 with
each, and writes `tests/engines/recorded/vllm.json` and `llamacpp.json`: the listing of models, completions to the first
questions of a small table (`QUESTIONS`), and to the first of them at another temperature and of a blank image.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import real_servers
from PIL import Image

from reliabit.data.corruptions import blank
from reliabit.data.prepared_table import load_split, prepare
from reliabit.data.sources import DataConfig
from reliabit.engines.chat import chat_request
from reliabit.engines.endpoint import Endpoint
from reliabit.engines.probing import WARM
from reliabit.engines.settings import EngineConfig

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests" / "engines" / "recorded"
MODEL = "qwen2_vl_tiny"
TABLE = DataConfig(name="easy_vqa", splits={"train": 6, "val": 3, "test": 4})
"""That of the tests."""
QUESTIONS = 6
ALTERNATIVES = 5
"""Fewer than a run asks for: files stay small."""


def blanked(image: bytes) -> bytes:
    """A blank image of the same size, as a file."""
    held = io.BytesIO()
    blank(Image.open(io.BytesIO(image)).convert("RGB")).save(held, format="PNG")
    return held.getvalue()


def recorded(url: str, rows: Any) -> dict[str, Any]:
    """What an endpoint says."""
    endpoint = Endpoint(EngineConfig(name="openai", url=url, timeout=600, concurrency=1))

    def say(row: Any, **changed: Any) -> dict[str, Any]:
        how = {"image": row["image"], "media_type": "image/png", "model": MODEL, "max_tokens": 8} | changed
        body = chat_request(row["question"], alternatives=ALTERNATIVES, **how)
        response = next(endpoint.complete_all([body])).response
        return without_times(response)

    return {
        "model": vars(endpoint.served_model()),
        "questions": [row["question_id"] for row in rows],
        "responses": [say(row) for row in rows],
        "warm": say(rows[0], temperature=WARM),
        "blank": say(rows[0], image=blanked(rows[0]["image"])),
    }


def without_times(response: dict[str, Any]) -> dict[str, Any]:
    """A response without what differs each time."""
    return {key: value for key, value in response.items() if key not in ("id", "created", "timings")}


@contextmanager
def servers(engine: str, work: Path) -> Iterator[real_servers.Server]:
    """A server of the engine."""
    folder, log = ROOT / "models" / MODEL, work / "log"
    if engine == "vllm":
        with real_servers.vllm_server(folder, log=log) as server:
            yield server
        return
    from reliabit.models.llama_cpp.writing import export_gguf

    export_gguf(folder, work / "gguf", family="qwen2_vl", file_type="f32")
    files = (work / "gguf" / "model.gguf", work / "gguf" / "mmproj.gguf")
    with real_servers.llamacpp_server(*files, log=log, name=MODEL) as server:
        yield server


def main() -> None:
    """Record both."""
    RECORDED.mkdir(exist_ok=True)
    for engine in ("llamacpp", "vllm"):
        with TemporaryDirectory() as work:
            rows = load_split(prepare(TABLE, root=Path(work) / "data"), "test").select(range(QUESTIONS))
            with servers(engine, Path(work)) as server:
                found = {"versions": real_servers.versions(), **recorded(server.url, list(rows))}
        found["model"]["facts"].pop("root", None)
        path = RECORDED / f"{engine}.json"
        path.write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
