"""Answers for a client that may leave before they are there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for what a client asked for, and stop working on it when the client leaves.

    Args:
        request: The request, its body read.
        work: Gives the answer.

    Raises:
        ClientDisconnect: It has left.
    """
    answers, gone = asyncio.ensure_future(work), asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait((answers, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ClientDisconnect
        return answers.result()
    finally:
        for task in (answers, gone):
            task.cancel()
        await asyncio.gather(answers, gone, return_exceptions=True)


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
