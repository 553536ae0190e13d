"""What asking an endpoint costs beside answering: our client against vLLM's and llama.cpp's servers.

    python bench/client.py [--model qwen2_vl_tiny] [--questions 1000]

It needs the environments of `make vllm-env` and `make llamacpp-env`, and writes `bench/results/client.json`:

- processor seconds of our client, from rows of a table to answers with probabilities, against the server's;
- prompt tokens that a server computes where questions about an image come in a row, and where they come in any order;
- requests a second against vLLM's own benchmark client (`vllm bench serve`) on the same requests, one after the other
  against the same warm server, eight at a time.
"""

import argparse
import json
import platform
import random
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import real_servers
from parity import FAMILIES, LONGEST, write_json

from reliabit.engines.asking import in_image_order
from reliabit.engines.chat import chat_request, read_answer
from reliabit.engines.endpoint import Endpoint
from reliabit.engines.settings import EngineConfig

if TYPE_CHECKING:
    from datasets import Dataset

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "client.json"
AT_ONCE = 8
PER_IMAGE = 5
REPEATED = 2
BLOCK = 16
"""Tokens of a block of vLLM's prefix cache, which shares whole blocks: on a CPU it has 128 by default, more than these
prompts."""


def questions(data: Path, count: int) -> "Dataset":
    """Five questions an image."""
    from reliabit.data.prepared_table import load_split, prepare
    from reliabit.data.sources import DataConfig

    splits = {"train": 2400, "dev": 600, "val": 300, "cal": 700, "test": 1000}
    table = load_split(prepare(DataConfig(name="easy_vqa", splits=splits), root=data), "test")
    seen: dict[str, int] = {}
    kept = []
    for row, image in enumerate(table["image_id"]):
        seen[image] = seen.get(image, 0) + 1
        if seen[image] <= PER_IMAGE:
            kept.append(row)
    return table.select(kept[:count])


def asked(
    endpoint: Endpoint, rows: Sequence[dict[str, Any]], model: str, server: real_servers.Server
) -> dict[str, Any]:
    """Ask everything, and read it; what that took."""
    before, own, start = server.cpu_seconds(), real_servers.own_cpu_seconds(), time.perf_counter()
    bodies = (
        chat_request(row["question"], row["image"], media_type="image/png", model=model, max_tokens=LONGEST)
        for row in rows
    )
    found = list(endpoint.complete_all(bodies))
    tokens = sum(read_answer(one.response).n_tokens for one in found)
    seconds, own = time.perf_counter() - start, real_servers.own_cpu_seconds() - own
    served = server.cpu_seconds() - before
    return {
        "requests": len(rows),
        "tokens": tokens,
        "seconds": seconds,
        "requests_a_second": len(rows) / seconds,
        "client_cpu_seconds": own,
        "server_cpu_seconds": served,
        "share": own / served,
        "computed_prompt_tokens": sum(_computed(one.response) or 0 for one in found) or None,
    }


def _computed(response: dict[str, Any]) -> int | None:
    """Prompt tokens that were computed, and not found in a cache; told by llama.cpp."""
    number: int | None = response.get("timings", {}).get("prompt_n")
    return number


def cached_share(server: real_servers.Server) -> tuple[float, float]:
    """Prompt tokens that vLLM's prefix cache was asked for so far, and those that it had."""
    with urllib.request.urlopen(server.url.removesuffix("/v1") + "/metrics") as response:  # noqa: S310 - it runs here
        lines = response.read().decode().splitlines()
    return tuple(  # type: ignore[return-value]
        sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:prefix_cache_{what}_total"))
        for what in ("queries", "hits")
    )


def by_their_client(
    server: real_servers.Server, rows: Sequence[dict[str, Any]], model: str, work: Path
) -> dict[str, float]:
    """Requests a second of `vllm bench serve`."""
    bodies = (
        chat_request(row["question"], row["image"], media_type="image/png", model="", max_tokens=1) for row in rows
    )
    lines = [json.dumps({"content": body["messages"][0]["content"]}) for body in bodies]
    (work / "requests.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = {
        "backend": "openai-chat",
        "base-url": server.url.removesuffix("/v1"),
        "endpoint": "/v1/chat/completions",
        "model": str(ROOT / "models" / model),
        "served-model-name": model,
        "dataset-name": "custom_image",
        "dataset-path": str(work / "requests.jsonl"),
        "custom-output-len": LONGEST,
        "num-prompts": len(rows),
        "max-concurrency": AT_ONCE,
        "extra-body": json.dumps({"logprobs": True, "top_logprobs": 20, "temperature": 0}),
        "result-dir": str(work),
        "result-filename": "theirs.json",
    }
    command = [str(real_servers.vllm_environment() / "bin" / "vllm"), "bench", "serve", "--save-result"]
    command += ["--disable-shuffle", "--disable-tqdm", *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads((work / "theirs.json").read_text(encoding="utf-8"))
    # Those that it failed to send are told: it does not send again where a kept connection was closed.
    return {"requests_a_second": found["request_throughput"], "failed": found["failed"]}


@contextmanager
def running(engine: str, model: str, work: Path) -> Iterator[real_servers.Server]:
    """A server of the engine."""
    folder = ROOT / "models" / model
    if engine == "vllm":
        settings = (*real_servers.VLLM_SETTINGS, f"--block-size={BLOCK}")
        with real_servers.vllm_server(folder, log=work / "vllm.log", name=model, settings=settings) as server:
            yield server
        return
    from reliabit.models.llama_cpp.writing import export_gguf

    export_gguf(folder.resolve(), work / "gguf", family=FAMILIES[model], file_type="f32")
    files = (work / "gguf" / "model.gguf", work / "gguf" / "mmproj.gguf")
    with real_servers.llamacpp_server(*files, log=work / "llamacpp.log", name=model) as server:
        yield server


def measured(engine: str, model: str, rows: Sequence[dict[str, Any]], *, compare: bool) -> dict[str, Any]:
    """Everything about a server."""
    ordered = [rows[number] for number in in_image_order([row["image_id"] for row in rows])]
    mixed = random.Random(0).sample(ordered, len(ordered))
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder, running(engine, model, Path(folder)) as server:
        endpoint = Endpoint(EngineConfig(name="openai", url=server.url, timeout=600, concurrency=AT_ONCE))
        # What is loaded and compiled at the first request is no part of it.
        asked(endpoint, ordered[:2], model, server)
        for name, order in (("in_any_order", mixed), ("in_image_order", ordered)):
            before = cached_share(server) if engine == "vllm" else None
            found[name] = asked(endpoint, order, model, server)
            if before is not None:
                queried, hit = (b - a for a, b in zip(before, cached_share(server), strict=True))
                found[name] |= {"computed_prompt_tokens": queried - hit, "prompt_tokens": queried}
        if compare:
            pairs = [
                (asked(endpoint, ordered, model, server), by_their_client(server, ordered, model, Path(folder)))
                for _ in range(REPEATED)
            ]
            found["requests_a_second"] = [own["requests_a_second"] for own, _ in pairs]
            found["of_their_client"] = [theirs for _, theirs in pairs]
            found["of_their_rate"] = max(found["requests_a_second"]) / max(
                one["requests_a_second"] for one in found["of_their_client"]
            )
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2_vl_tiny", choices=list(FAMILIES))
    parser.add_argument("--engines", nargs="+", default=["llamacpp", "vllm"], choices=["llamacpp", "vllm"])
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--alone", action="store_true", help="leave out vLLM's benchmark client")
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    given = parser.parse_args()
    rows = list(questions(given.data, given.questions))
    record = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"servers": {}}
    record |= {"machine": f"{platform.machine()}, {real_servers.cpu_name()}", "versions": real_servers.versions()}
    for engine in given.engines:
        found = measured(engine, given.model, rows, compare=not given.alone)
        record["servers"][f"{engine}/{given.model}"] = found
        write_json(RESULTS, record)
        print(engine, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
