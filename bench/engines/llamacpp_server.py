"""llama.cpp's server from the package xllamacpp, which has no command for it; run with its environment's interpreter.

    .venv-llamacpp/bin/python bench/engines/llamacpp_server.py model.gguf mmproj.gguf --name NAME --port 8102 \
        --set n_ctx=2048 --set image_min_tokens=1

`--set` takes any number of xllamacpp's `CommonParams`, by its name there; `llama-server` calls them with dashes. It
serves until it is stopped.
"""

import argparse
import signal

import xllamacpp

DEFAULTS = {"n_ctx": 2048, "n_parallel": 4, "image_min_tokens": 1, "image_max_tokens": 1024}
"""By default Qwen2-VL's images become at least eight tokens, whatever the checkpoint says."""


def parameters(given: argparse.Namespace) -> xllamacpp.CommonParams:
    """What the server is told."""
    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = given.model, given.mmproj
    params.model_alias, params.port = {given.name}, given.port
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = given.threads
    settings = DEFAULTS | {key: int(value) for key, value in (one.split("=") for one in given.set)}
    for name, value in settings.items():
        # Enumerations are told by their numbers.
        setattr(params, name, type(getattr(params, name))(value))
    return params


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description="Serves a model with llama.cpp.")
    parser.add_argument("model")
    parser.add_argument("mmproj")
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER")
    server = xllamacpp.Server(parameters(parser.parse_args()))
    print(f"listening on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
