"""Answers chat requests with `vllm.LLM`; a script for the interpreter of another environment, which has vLLM.

    .venv-vllm/bin/python -P vllm_worker.py FOLDER [--name NAME] [--batch N] [--settings JSON]

Reads the bodies of chat requests from standard input, JSON lines as `reliabit.engines.chat.chat_request` makes them,
and writes a chat completion for each in their order to standard output, of the shape that vLLM's server gives. They are
answered `--batch` at a time; an empty line has those that came so far answered at once, and the input's end too. In the
place of an answer that is refused stands `{"error": {"message": ...}}`. The first line says what answers: the model's
name, vLLM's version, the largest `top_logprobs`, and whether log-probabilities are raw. What vLLM prints itself goes to
standard error.

It imports nothing of Reliabit, which that environment has not.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

ASKED = {"model", "messages", "max_tokens", "temperature", "logprobs", "top_logprobs"}
"""What of a request is understood; anything else would be left out without a word."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer until the input ends."""
    given = _parser().parse_args(arguments)
    with _taken_output() as output:
        # One process: nothing is left behind when it ends, and OpenMP's threads are as the environment says.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        # It may not call home.
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        worker = Worker(given.folder, name=given.name, settings=json.loads(given.settings))
        _write(output, worker.description())
        for bodies in batches(sys.stdin, size=given.batch):
            for response in worker.answer(bodies):
                _write(output, response)


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises where a request is at fault; versions before 0.32 raise a `ValueError` alone."""
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:
        return (ValueError,)
    return ValueError, VLLMClientError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Answers chat requests with vllm.LLM.")
    parser.add_argument("folder", help="the checkpoint")
    parser.add_argument("--name", help="what requests call it; its folder where nothing is said")
    parser.add_argument("--batch", type=int, default=64, help="requests that are answered at once")
    parser.add_argument("--settings", default="{}", help="arguments of vllm.LLM, as JSON")
    return parser


def _taken_output() -> TextIO:
    """Standard output, for answers alone: whatever else is written there, by libraries too, goes to standard error."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


def _write(output: TextIO, value: Mapping[str, Any]) -> None:
    output.write(json.dumps(value) + "\n")
    output.flush()


def batches(lines: TextIO, *, size: int) -> Iterator[list[dict[str, Any]]]:
    """Bodies as they come, at most so many at once, fewer before an empty line and at the end."""
    waiting: list[dict[str, Any]] = []
    for line in lines:
        if line.strip():
            waiting.append(json.loads(line))
        if waiting and (not line.strip() or len(waiting) == size):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


class Worker:
    """A model that vLLM has loaded.

    Args:
        folder: The checkpoint.
        name: What requests call it.
        settings: Arguments of `vllm.LLM`.
    """

    def __init__(self, folder: str, *, name: str | None, settings: Mapping[str, Any]) -> None:
        from vllm import LLM

        self.name = name or folder
        # The checkpoint's own settings of sampling are none of these answers' (`temperature` is always said).
        self.llm = LLM(model=folder, **{"generation_config": "vllm", **settings})
        self.refusals = _refusals()

    def description(self) -> dict[str, Any]:
        """What answers."""
        import vllm

        config = self.llm.llm_engine.model_config
        return {
            "model": self.name,
            "vllm": vllm.__version__,
            "max_logprobs": config.max_logprobs,
            "logprobs_mode": str(config.logprobs_mode),
            "dtype": str(config.dtype).removeprefix("torch."),
            "quantization": config.quantization,
            "max_model_len": config.max_model_len,
        }

    def answer(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A completion for each body, or why there is none."""
        asked, responses = [], {}
        for number, body in enumerate(bodies):
            try:
                asked.append((number, body["messages"], self._sampling(body)))
            except (KeyError, TypeError, ValueError) as error:
                responses[number] = _refusal(error)
        try:
            found = self._chat(asked)
        except self.refusals:
            # vLLM refuses all of a batch for one of it: each by itself, to tell which. Anything else is no refusal, and
            # an engine that failed is not asked again: it would wait for ever for what was under way.
            found = [self._alone(one) for one in asked]
        responses.update(zip([number for number, *_ in asked], found, strict=True))
        return [responses[number] for number in range(len(bodies))]

    def _alone(self, one: tuple[int, Any, Any]) -> dict[str, Any]:
        try:
            return self._chat([one])[0]
        except self.refusals as error:
            return _refusal(error)

    def _chat(self, asked: Sequence[tuple[int, Any, Any]]) -> list[dict[str, Any]]:
        if not asked:
            return []
        found = self.llm.chat(
            [messages for _, messages, _ in asked], [sampling for *_, sampling in asked], use_tqdm=False
        )
        return [self._completion(one) for one in found]

    @staticmethod
    def _sampling(body: Mapping[str, Any]) -> Any:
        from vllm import SamplingParams

        unknown = sorted(body.keys() - ASKED)
        if unknown:
            raise ValueError(f"{', '.join(unknown)} of the request is not understood here")
        alternatives = body.get("top_logprobs") if body.get("logprobs") else None
        return SamplingParams(temperature=body["temperature"], max_tokens=body["max_tokens"], logprobs=alternatives)

    def _completion(self, found: Any) -> dict[str, Any]:
        """As vLLM's server writes it."""
        [output] = found.outputs
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": output.text},
            "finish_reason": output.finish_reason,
            "logprobs": None if output.logprobs is None else {"content": self._tokens(output)},
        }
        usage = {"prompt_tokens": len(found.prompt_token_ids), "completion_tokens": len(output.token_ids)}
        return {
            "id": found.request_id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.name,
            "choices": [choice],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }

    def _tokens(self, output: Any) -> list[dict[str, Any]]:
        return [
            {
                **self._token(token, told[token]),
                # The token itself is told too where it is none of the most probable.
                "top_logprobs": [self._token(*one) for one in sorted(told.items(), key=lambda one: one[1].rank)],
            }
            for token, told in zip(output.token_ids, output.logprobs, strict=True)
        ]

    def _token(self, token: int, told: Any) -> dict[str, Any]:
        text = self.llm.get_tokenizer().decode([token]) if told.decoded_token is None else told.decoded_token
        # JSON has no infinity.
        return {
            "token": text,
            "bytes": list(text.encode("utf-8", errors="replace")),
            "logprob": max(told.logprob, -9999.0),
        }


def _refusal(error: BaseException) -> dict[str, Any]:
    return {"error": {"message": f"{error}", "type": type(error).__name__}}


if __name__ == "__main__":
    main()
