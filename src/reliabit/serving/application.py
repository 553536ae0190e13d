"""The service: a FastAPI application that answers questions about images, or abstains."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from reliabit.serving.api_key import ApiKey
from reliabit.serving.batching import MicroBatcher, OverloadedError
from reliabit.serving.bodies import Room, read_request, read_requests
from reliabit.serving.connection import while_connected
from reliabit.serving.description import certificate_id
from reliabit.serving.guard import Guard
from reliabit.serving.hosting import ModelHost, NoModelError, Served, Source
from reliabit.serving.instruments import Instruments
from reliabit.serving.intake import Intake, Measured, fitting
from reliabit.serving.limits import Limits
from reliabit.serving.messages import Request, Response, Responses
from reliabit.serving.openapi import LOCKED, NOT_READY, ONE_QUESTION, REFUSALS, SEVERAL_QUESTIONS, name_key
from reliabit.serving.page import PAGE, Page, page_of
from reliabit.serving.questions import QuestionsRefusedError
from reliabit.serving.reference_page import reference_page
from reliabit.serving.refusals import RefusalError, refusal_response


def create_application(
    source: Source,
    *,
    limits: Limits | None = None,
    accelerator: str = "cpu",
    hosts: Sequence[str] = ("*",),
    key: ApiKey | None = None,
) -> FastAPI:
    """The application; it loads the source's model once it runs, and is not ready before.

    Args:
        source: Says what is to be served, and is asked again every `limits.poll_seconds`.
        limits: What it takes; the defaults of `Limits` where it is `None`.
        accelerator: `cpu`, `gpu` or `auto`.
        hosts: The names in `Host` headers that are answered.
        key: What clients must bring to ask; `None` where they need not.
    """
    return application_of(ModelHost(source, accelerator=accelerator), limits=limits or Limits(), hosts=hosts, key=key)


def application_of(
    host: ModelHost, *, limits: Limits, hosts: Sequence[str] = ("*",), key: ApiKey | None = None
) -> FastAPI:
    """The application on a host, which may have loaded a model already; see `create_application`."""
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
    application.add_middleware(Guard, instruments=service.instruments, hosts=hosts, key=key)
    application.state.service = service
    return application


@dataclass(frozen=True)
class Running:
    """What lives as long as the application does."""

    batcher: MicroBatcher[Measured, Served]
    intake: Intake


class Service:
    """The endpoints and what they share."""

    def __init__(self, host: ModelHost, *, limits: Limits, needs_key: bool) -> None:
        """Set up; `lifespan` starts it.

        Args:
            host: Holds the model.
            limits: What is taken.
            needs_key: Whether clients are told to bring a key.
        """
        self.host = host
        self.limits = limits
        self.needs_key = needs_key
        self.room = Room(limits.queue_bytes)
        self.instruments = Instruments(host)
        self._running: Running | None = None

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer and poll while the application runs; at its end, answer what still waits."""
        async with AsyncExitStack() as stack:
            decoders = stack.enter_context(ThreadPoolExecutor(self.limits.decoders, thread_name_prefix="decoder"))
            batcher = await stack.enter_async_context(
                MicroBatcher(
                    self._answer_batch,
                    size=lambda: self.host.batch_size,
                    fitting=lambda questions: fitting(questions, pixels=self.limits.batch_pixels),
                    queue=self.limits.queue,
                    gather_seconds=self.limits.gather_seconds,
                )
            )
            self._running = Running(batcher, Intake(limits=self.limits, decoders=decoders))
            polling = asyncio.create_task(self._poll())
            yield
            polling.cancel()
            with suppress(asyncio.CancelledError):
                await polling

    def waiting(self) -> int:
        """Questions that wait for the model."""
        return 0 if self._running is None else len(self._running.batcher)

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
        with self.room.held() as take:
            asked = await read_request(request, limits=self.limits, take=take)
            [response] = await self._answers(request, [asked])
            return response

    async def batch(self, request: HttpRequest) -> Responses:
        """Answer several questions; one that cannot be answered has all of them refused, and is named."""
        with self.room.held() as take:
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
        loaded = self.host.loaded
        if loaded is None:
            raise RefusalError(503, "no model is loaded yet; try again", retry_after=1)
        return JSONResponse({"model_version": loaded.version, **loaded.watch.report.to_dict()})

    async def metrics(self) -> HttpResponse:
        """The state of the service in Prometheus's text format."""
        return HttpResponse(self.instruments.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def page(self) -> HTMLResponse:
        """A page to try it on."""
        return _html(PAGE)

    async def reference(self, request: HttpRequest) -> HTMLResponse:
        """The endpoints, for people."""
        return _html(page_of(reference_page(request.app.openapi())))

    async def _poll(self) -> None:
        while True:
            await asyncio.to_thread(self.host.refresh_quietly)
            await asyncio.sleep(self.limits.poll_seconds)

    def _answer_batch(self, questions: Sequence[Measured]) -> list[Served]:
        served = self.host.answer([one.asked for one in questions])
        self.instruments.observe_batch(served)
        return served

    async def _answers(self, request: HttpRequest, asked: Sequence[Request]) -> list[Response]:
        running = self._running
        if running is None or self.host.loaded is None:
            raise RefusalError(503, "no model is loaded yet; try again", retry_after=1)
        names = [f"question {number}: " for number in range(len(asked))] if len(asked) > 1 else [""]
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                served = await while_connected(request, self._serve(asked, running, names=names))
        except QuestionsRefusedError as error:
            number, reason = next(iter(error.reasons.items()))
            raise RefusalError(422, names[number] + reason) from error
        except OverloadedError as error:
            raise RefusalError(503, str(error), retry_after=error.retry_after) from error
        except NoModelError as error:
            raise RefusalError(503, "no model is loaded yet; try again", retry_after=1) from error
        except TimeoutError as error:
            reason = f"there was no answer within {self.limits.answer_seconds:g} s; try again later"
            raise RefusalError(504, reason) from error
        return [Response.of(one.answered, version=one.version) for one in served]

    async def _serve(self, asked: Sequence[Request], running: Running, *, names: Sequence[str]) -> list[Served]:
        batcher = running.batcher
        async with running.intake.admitted(asked, names=names, retry_after=lambda: batcher.retry_after) as measured:
            return await batcher.submit(measured)


def _html(page: Page) -> HTMLResponse:
    return HTMLResponse(page.html, headers={"Content-Security-Policy": page.policy})


async def _refused(_: HttpRequest, error: Any) -> JSONResponse:
    return refusal_response(error)
