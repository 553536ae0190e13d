"""The service: a FastAPI application that answers questions about images, or abstains."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from reliabit.serving.bundle.description import certificate_id
from reliabit.serving.bundle.image_questions import QuestionsRefusedError
from reliabit.serving.bundle.served_model import ServedAnswer
from reliabit.serving.hosting import ModelHost, NoModelError
from reliabit.serving.http._bodies import read_request, read_requests
from reliabit.serving.http._instruments import Instruments
from reliabit.serving.http._micro_batcher import MicroBatcher
from reliabit.serving.http._pages import (
    LOCKED,
    NOT_READY,
    ONE_QUESTION,
    PAGE,
    REFUSALS,
    SEVERAL_QUESTIONS,
    name_key,
    reference_page,
)
from reliabit.serving.http.access import ApiKey, Guard
from reliabit.serving.http.intake import AdmittedRequest, Budget, Intake, count_fitting
from reliabit.serving.http.limits import Limits
from reliabit.serving.http.messages import RefusalError, Request, Response, Responses

Result = TypeVar("Result")


def create_application(
    host: ModelHost, *, limits: Limits, hosts: Sequence[str] = ("*",), key: ApiKey | None = None
) -> FastAPI:
    """The application on a host; it loads the source's model once it runs, and is not ready before.

    Args:
        host: Says what is served, and asks its source again every `limits.poll_seconds`; it may have loaded a model
            already.
        limits: What is taken.
        hosts: The names in `Host` headers that are answered.
        key: What clients must bring to ask; `None` where they need not.
    """
    service = Service(host, limits=limits, needs_key=key is not None)
    application = FastAPI(
        title="Reliabit",
        version=version("reliabit"),
        summary="Answers questions about images, and abstains where it is not sure enough.",
        lifespan=service.lifespan,
        docs_url=None,
        redoc_url=None,
    )
    service.add_routes(application)
    name_key(application, needed=key is not None)
    application.add_exception_handler(RefusalError, _refused)
    application.add_exception_handler(NoModelError, _not_ready)
    application.add_middleware(Guard, instruments=service.instruments, hosts=hosts, key=key)
    application.state.service = service
    return application


class Service:
    """The endpoints and what they share; `lifespan` starts it."""

    def __init__(self, host: ModelHost, *, limits: Limits, needs_key: bool) -> None:
        self.host = host
        self.limits = limits
        self.needs_key = needs_key
        self.bodies = Budget(limits.queue_bytes, exceeded="all requests together have too large bodies")
        self.instruments = Instruments(host)
        self._batcher: MicroBatcher[AdmittedRequest, ServedAnswer] | None = None

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer and poll while the application runs; at its end, answer what still waits."""
        async with AsyncExitStack() as stack:
            decoders = stack.enter_context(ThreadPoolExecutor(self.limits.decoders, thread_name_prefix="decoder"))
            self._intake = Intake(limits=self.limits, decoders=decoders)
            self._batcher = await stack.enter_async_context(
                MicroBatcher(
                    self._answer_batch,
                    size=lambda: self.host.batch_size,
                    fitting=lambda questions: count_fitting(questions, pixels=self.limits.batch_pixels),
                    queue=self.limits.queue,
                    gather_seconds=self.limits.gather_seconds,
                )
            )
            polling = asyncio.create_task(self._poll())
            yield
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    def waiting(self) -> int:
        """Questions that wait for the model."""
        return 0 if self._batcher is None else len(self._batcher)

    def add_routes(self, application: FastAPI) -> None:
        """Make the endpoints those of an application."""
        add = application.add_api_route
        add("/answer", self.answer, methods=["POST"], responses=REFUSALS, openapi_extra=ONE_QUESTION)
        add("/batch", self.batch, methods=["POST"], responses=REFUSALS, openapi_extra=SEVERAL_QUESTIONS)
        add("/healthz", self.healthz, methods=["GET"], responses=NOT_READY)
        add("/drift", self.drift, methods=["GET"], responses={**LOCKED, **NOT_READY})
        add("/metrics", self.metrics, methods=["GET"], response_class=HttpResponse, responses=LOCKED)
        add("/", self.page, methods=["GET"], include_in_schema=False)
        add("/docs", self.reference, methods=["GET"], include_in_schema=False)

    async def answer(self, request: HttpRequest) -> Response:
        """Answer one question about one image, or abstain."""
        with self.bodies.reserve() as take:
            asked = await read_request(request, limits=self.limits, take=take)
            [response] = await self._answers(request, [asked])
            return response

    async def batch(self, request: HttpRequest) -> Responses:
        """Answer several questions; one that cannot be answered has all of them refused, and is named."""
        with self.bodies.reserve() as take:
            asked = await read_requests(request, limits=self.limits, take=take)
            return Responses(answers=await self._answers(request, asked))

    async def healthz(self, request: HttpRequest) -> JSONResponse:
        """Whether a model is loaded, which one, what is certified, and whether its successor was refused."""
        loaded, refused = self.host.loaded, self.host.refused
        state: dict[str, Any] = {"status": "loading" if loaded is None else "ok", "needs_key": self.needs_key}
        if refused is not None:
            # It names folders of this machine.
            reason = {"reason": refused.reason} if request.state.trusted else {}
            state |= {"refused": {"version": refused.version, **reason}}
        if loaded is None:
            return JSONResponse(state, status_code=503, headers={"Retry-After": "1"})
        description = loaded.model.description
        certified = [
            {"id": certificate_id(one), **{key: one.to_dict()[key] for key in ("risk", "delta", "threshold")}}
            for one in description.certificates
        ]
        about = {"model_version": loaded.version, "name": description.name, "run_id": description.run_id}
        state |= about | {"default_risk": description.default_risk, "certificates": certified}
        return JSONResponse(state | {"drift_alarm": loaded.watch.report.alarm})

    async def drift(self) -> JSONResponse:
        """Whether answers have left the calibration sample that the certificates were made with."""
        loaded = self.host.serving()
        return JSONResponse({"model_version": loaded.version, **asdict(loaded.watch.report)})

    async def metrics(self) -> HttpResponse:
        """The state of the service in Prometheus's text format."""
        return HttpResponse(self.instruments.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def page(self) -> HTMLResponse:
        """A page to try it on."""
        return PAGE.response()

    async def reference(self, request: HttpRequest) -> HTMLResponse:
        """The endpoints, for people."""
        return reference_page(request.app.openapi()).response()

    async def _poll(self) -> None:
        while True:
            await asyncio.to_thread(self.host.refresh_quietly)
            await asyncio.sleep(self.limits.poll_seconds)

    def _answer_batch(self, questions: Sequence[AdmittedRequest]) -> list[ServedAnswer]:
        served = self.host.answer([one.asked for one in questions])
        self.instruments.observe_batch(served)
        return served

    async def _answers(self, request: HttpRequest, asked: Sequence[Request]) -> list[Response]:
        self.host.serving()
        names = [f"question {number}: " for number in range(len(asked))] if len(asked) > 1 else [""]
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                served = await _while_connected(request, self._serve(asked, names=names))
        except QuestionsRefusedError as error:
            number, reason = next(iter(error.reasons.items()))
            raise RefusalError(422, names[number] + reason) from error
        except TimeoutError as error:
            reason = f"there was no answer within {self.limits.answer_seconds:g} s; try again later"
            raise RefusalError(504, reason) from error
        return [Response.of(one) for one in served]

    async def _serve(self, asked: Sequence[Request], *, names: Sequence[str]) -> list[ServedAnswer]:
        batcher = self._batcher
        if batcher is None:
            raise NoModelError
        async with self._intake.admitted(asked, names=names, retry_after=lambda: batcher.retry_after) as admitted:
            return await batcher.submit(admitted)


async def _while_connected(request: HttpRequest, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for what a client asked for, its body read, and stop working on it when the client leaves.

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


async def _departure(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(_: HttpRequest, error: Any) -> JSONResponse:
    return RefusalError.response(error)


async def _not_ready(_: HttpRequest, _error: Exception) -> JSONResponse:
    return RefusalError(503, "no model is loaded yet; try again", retry_after=1).response()
