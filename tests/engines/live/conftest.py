"""Real servers of other engines, where their environments are there: `make vllm-env`, `make llamacpp-env`."""

import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
BENCH = str(PROJECT / "bench")
if BENCH not in sys.path:
    sys.path.append(BENCH)

import real_servers  # noqa: E402 - it lies there


@pytest.fixture(scope="session")
def vllm():
    """The folder of vLLM's environment."""
    found = real_servers.vllm_environment()
    if not (found / "bin" / "vllm").exists():
        pytest.skip(f"there is no environment with vLLM at {found}; make it with `make vllm-env`")
    return found


@pytest.fixture(scope="session")
def llamacpp():
    """The folder of llama.cpp's environment."""
    found = real_servers.llamacpp_environment()
    if not (found / "bin" / "python").exists():
        pytest.skip(f"there is no environment with llama.cpp at {found}; make it with `make llamacpp-env`")
    return found
