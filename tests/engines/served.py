"""A server that speaks OpenAI's protocol as vLLM and llama.cpp do, in a thread; what it answers a test decides."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answerer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


def token(text: str, probability: float, *, others: Sequence[tuple[str, float]] = (("?", 1e-3),)) -> dict[str, Any]:
    """A generated token with its alternatives."""
    entries = [
        {"token": name, "bytes": list(name.encode()), "logprob": math.log(share)}
        for name, share in ((text, probability), *others)
    ]
    return {**entries[0], "top_logprobs": entries}


def completion(text: str, tokens: Sequence[dict[str, Any]], *, finish: str = "stop") -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"id": "x", "model": "tiny", "choices": [{**choice, "logprobs": {"content": list(tokens)}}]}


def sees(body: dict[str, Any]) -> str:
    """The data of the image that a request is about."""
    [image, _] = body["messages"][0]["content"]
    return str(image["image_url"]["url"].partition("base64,")[2])


@contextmanager
def served(answer: Answerer, *, models: Sequence[str] = ("tiny",)) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve; gives the address and the bodies that came, in order."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def reply(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            # Sent again at once: nobody waits in a test.
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.reply(200, {"object": "list", "data": [{"id": name, "created": time.time()} for name in models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append({**body, "authorization": self.headers.get("Authorization")})
            self.reply(*answer(body))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
