"""`engine`: who answers the questions."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from reliabit.errors import ReliabitError
from reliabit.settings import choice, positive

FEWEST_ALTERNATIVES, MOST_ALTERNATIVES = 2, 20
"""How many `top_logprobs` may be asked for; the protocol has no more than the latter."""

OWN = "transformers"
"""The engine that loads the model in this process."""


@dataclass
class EngineConfig:
    """`engine`: who answers.

    Attributes:
        name: `transformers`, in this process; `openai`, an endpoint that speaks OpenAI's protocol; `vllm`, vLLM in an
            environment of its own.
        url: Where the endpoint is, up to and including its version, such as `http://127.0.0.1:8000/v1`.
        model: What the endpoint calls the model; null where it serves one alone.
        key_variable: The environment variable that holds the endpoint's key; where it is not set, none is sent.
        python: For `vllm`, the interpreter of its environment.
        options: For `vllm`, keywords of its `LLM`, such as `max_model_len`.
        stored_mib: What the served weights take, in MiB, where the engine does not say; costs are compared by it.
        top_logprobs: Tokens whose log-probability is asked for at each place, 2 to 20.
        concurrency: Requests under way at once, at most.
        timeout: Seconds that an answer may take.
        warm_up_timeout: Seconds that the first answer may take: an engine compiles what it needs then.
        retries: How often a request is sent again after a timeout or an error of the server, later each time.
    """

    name: str = choice(OWN, "openai", "vllm", default=OWN)
    url: str | None = None
    model: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    python: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    stored_mib: float | None = positive(default=None)
    top_logprobs: int = 20
    concurrency: int = positive(default=8)
    timeout: float = positive(default=60.0)
    warm_up_timeout: float = positive(default=600.0)
    retries: int = 4

    @property
    def is_remote(self) -> bool:
        """Whether another process answers, which tells no hidden states."""
        return self.name != OWN

    @property
    def loads_checkpoint(self) -> bool:
        """Whether what answers is the checkpoint `model.path`."""
        return self.name != "openai"

    def check(self, key: str) -> None:
        """Check that what answers is named, and how it is asked.

        Raises:
            ReliabitError: It is not, or a value is out of its range.
        """
        if self.url is not None and self.name != "openai":
            raise ReliabitError(f"{key}.url={self.url} is asked with {key}=openai, and {key}={self.name}")
        if self.name == "openai":
            _check_address(self.url, key=key, variable=self.key_variable)
        if self.name == "vllm" and self.python is None:
            raise ReliabitError(
                f"{key}=vllm needs {key}.python, the interpreter of an environment with it (make vllm-env)"
            )
        if self.retries < 0:
            raise ReliabitError(f"{key}.retries={self.retries} must be at least 0")
        if not FEWEST_ALTERNATIVES <= self.top_logprobs <= MOST_ALTERNATIVES:
            raise ReliabitError(
                f"{key}.top_logprobs={self.top_logprobs} must lie in {FEWEST_ALTERNATIVES} to {MOST_ALTERNATIVES}: "
                "fewer tell no margin; more are refused by some engines, and others tell none at all then"
            )


def _check_address(url: str | None, *, key: str, variable: str) -> None:
    if url is None:
        raise ReliabitError(f"{key}=openai needs {key}.url, the endpoint's address such as http://127.0.0.1:8000/v1")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ReliabitError(f"{key}.url={url} is no address; write it as http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise ReliabitError(f"{key}.url holds a password; leave it out, and give the key in ${variable}")
