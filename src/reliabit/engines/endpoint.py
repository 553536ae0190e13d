"""An endpoint that speaks OpenAI's protocol: many requests under way at once, sent again where that can help.

The official client sends, waits and repeats; what is here is how many at once, in which order, and what an error means
to whoever runs this.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reliabit.engines.engine import Completion, ServedModel
from reliabit.engines.settings import EngineConfig
from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

QUOTED = 300
"""So many characters of an endpoint's own words are shown."""


class Endpoint:
    """Sends requests; to be used from one thread.

    Args:
        settings: Where, and how patiently.
    """

    def __init__(self, settings: EngineConfig) -> None:
        self.settings = settings

    def served_model(self) -> ServedModel:
        """The model that is served under the configured name, or the only one.

        Raises:
            ReliabitError: No endpoint answers there, or it serves no such model, or several and none is named.
        """
        url, wanted = self.settings.url, self.settings.model

        async def models(client: "AsyncOpenAI") -> tuple[Any, str | None]:
            return await client.get("/models", cast_to=object), await _version(client)

        # Whoever mistyped an address is not to wait for what is tried again.
        listing, version = self._run(models, retries=0)
        entries = listing.get("data") if isinstance(listing, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(one, Mapping) and "id" in one for one in entries):
            raise ReliabitError(f"engine.url={url} answers, and not as an OpenAI-compatible endpoint lists its models")
        names = [str(one["id"]) for one in entries]
        if wanted is None and len(names) != 1:
            raise ReliabitError(f"engine.url={url} serves {', '.join(names) or 'nothing'}; name one as engine.model")
        if wanted is not None and wanted not in names:
            raise ReliabitError(f"engine.model={wanted} is not served at {url}, which has {', '.join(names)}")
        found = entries[0 if wanted is None else names.index(wanted)]
        # When a server lists its models is not what it serves.
        facts = {key: value for key, value in found.items() if key not in ("id", "created", "permission")}
        return ServedModel(str(found["id"]), facts if version is None else {**facts, "version": version})

    def complete_all(
        self,
        bodies: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
    ) -> Iterator[Completion]:
        """Send requests, `engine.concurrency` at a time in their order, and give the responses in that order.

        A request is made when its turn comes, so that not all images are encoded at once.

        Args:
            bodies: Of the requests.
            timeout: Seconds to wait for each, other than the configured ones.

        Raises:
            ReliabitError: A request was refused, or failed as often as it may; those under way are dropped.
        """
        yield from self._run(lambda client: self._all(client, bodies, timeout))

    async def _all(
        self,
        client: "AsyncOpenAI",
        bodies: Iterable[Mapping[str, Any]],
        timeout: float | None,
    ) -> list[Completion]:
        waiting, found = iter(enumerate(bodies)), {}

        async def work() -> None:
            # Each worker takes the next request when its last is answered.
            for number, body in waiting:
                found[number] = await self._one(client, body, timeout)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.settings.concurrency):
                group.create_task(work())
        return [found[number] for number in sorted(found)]

    async def _one(self, client: "AsyncOpenAI", body: Mapping[str, Any], timeout: float | None) -> Completion:
        start = time.perf_counter()
        options: Any = {} if timeout is None else {"timeout": timeout}
        response: Any = await client.post("/chat/completions", cast_to=object, body=body, options=options)
        return Completion(response=response, seconds=time.perf_counter() - start)

    def _run(self, work: "Callable[[AsyncOpenAI], Awaitable[Any]]", *, retries: int | None = None) -> Any:
        from openai import AsyncOpenAI

        # It would log every request.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        settings = self.settings if retries is None else replace(self.settings, retries=retries)

        async def with_client() -> Any:
            # An endpoint that wants no key is sent a word, since the client insists on one.
            key = os.environ.get(settings.key_variable) or "none"
            async with AsyncOpenAI(
                base_url=settings.url, api_key=key, timeout=settings.timeout, max_retries=settings.retries
            ) as client:
                return await work(client)

        with _in_our_words(settings):
            return asyncio.run(with_client())


async def _version(client: "AsyncOpenAI") -> str | None:
    """What the server says of its own version, which the protocol has no place for: vLLM's way, or llama.cpp's."""
    import openai

    root = str(client.base_url.copy_with(path="/"))
    for place, key in (("version", "version"), ("props", "build_info")):
        try:
            told: Any = await client.get(f"{root}{place}", cast_to=object)
        except openai.APIStatusError:
            continue
        if isinstance(told, Mapping) and told.get(key):
            return f"{told[key]}"
    return None


@contextmanager
def _in_our_words(settings: EngineConfig) -> Iterator[None]:
    import openai

    try:
        yield
    except BaseExceptionGroup as group:
        raise _sentence(_first(group), settings) from group
    except openai.OpenAIError as error:
        raise _sentence(error, settings) from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that is none itself."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sentence(error: BaseException, settings: EngineConfig) -> BaseException:
    """What an error means to whoever asked, where it is one of the endpoint's."""
    import openai

    where = f"the endpoint {settings.url}"
    if isinstance(error, openai.APITimeoutError):
        return ReliabitError(
            f"{where} gave no answer within {settings.timeout:g} s, {settings.retries + 1} times; look after it, or "
            "raise engine.timeout"
        )
    if isinstance(error, openai.APIConnectionError):
        reason = error.__cause__ or error
        return ReliabitError(f"{where} cannot be reached ({reason}); start the server, or correct engine.url")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ReliabitError(
            f"{where} refuses the key (status {error.status_code}); set the right one in ${settings.key_variable}"
        )
    if isinstance(error, openai.APIStatusError):
        said = " ".join(str(error.response.text).split())[:QUOTED]
        if error.status_code >= 500:
            return ReliabitError(f"{where} failed {settings.retries + 1} times (status {error.status_code}): {said}")
        hint = "no such page (engine.url ends in the version, such as /v1): " if error.status_code == 404 else ""
        return ReliabitError(f"{where} refused a request (status {error.status_code}): {hint}{said}")
    if isinstance(error, openai.OpenAIError):
        return ReliabitError(f"{where} answered what is not understood: {error}")
    return error
