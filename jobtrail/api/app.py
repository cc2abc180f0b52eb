"""The HTTP interface: the routers, whether all is up to date, and errors as answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Route, compile_path

from jobtrail.api import metrics, misfits
from jobtrail.api.access import TOKEN_PATH, TOKEN_PATHS, BodyLimit, LocalHosts, Tokens, is_loopback
from jobtrail.api.context import Context, NotYetReadableError
from jobtrail.api.document import document
from jobtrail.api.models import FieldProblem, Health, InvalidInput, Readiness
from jobtrail.api.public import token_router
from jobtrail.api.readiness import Readings
from jobtrail.api.routers import CONFIG_ROUTERS, PUBLIC_ROUTERS
from jobtrail.api.watcher import Watcher
from jobtrail.errors import (
    ConflictError,
    FieldError,
    JobtrailError,
    NotFoundError,
    PublishError,
    ServerAwayError,
)
from jobtrail.retry import RetryLimits
from jobtrail.settings import Settings

PREFIXES: Final = ("/api/v1", "/v1")
PUBLIC_PREFIXES: Final = ("/v1", "/public/v1", "/api/public/v1")
#: Of a job in the public API.
JOB_PATH: Final = re.compile(rf"({'|'.join(PUBLIC_PREFIXES)})/jobs/[^/]+")

probes = APIRouter(tags=["service"])


@probes.get("/health")
async def health() -> Health:
    """The process is alive."""
    return Health()


@probes.get(
    "/ready",
    response_model_exclude_none=True,
    response_model=Readiness,
    responses={503: {"model": Readiness}},
)
def ready(request: Request) -> JSONResponse:
    """Whether answers are up to date: Postgres and Kafka answer, and the projector has caught up.

    Messages that could not become events make it `degraded` for an hour, never unready.
    """
    found: Readiness = request.app.state.readings.take().readiness
    return JSONResponse(
        found.model_dump(mode="json", by_alias=True, exclude_none=True), 200 if found.ready else 503
    )


@probes.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": metrics.EXAMPLE}}}},
)
def measured(request: Request) -> Response:
    """The same in numbers, in the text format of Prometheus: lag by partition, open dead letters by reason.

    What a server that is away would tell is left out.
    """
    return Response(metrics.rendered(request.app.state.readings.take()), media_type=metrics.CONTENT_TYPE)


def create_app(
    settings: Settings,
    tokens: Sequence[str] = (),
    *,
    insecure: bool = False,
    also_open: re.Pattern[str] | None = None,
) -> FastAPI:
    """The application over the Postgres of `settings`, or the one that runs under its home.

    `also_open`: paths that need no token, beside those of probes. Without tokens on a loopback address it
    answers to this machine's own names alone, unless `insecure`.

    Raises EmbeddedError where there is neither, SettingError for a SYNC_JOB_RETRIES_* that does not fit.
    Postgres need not answer yet: requests get 503 until it does.
    """
    shared = Context(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        shared.open()
        await shared.quick.open()
        yield
        await shared.quick.close()
        shared.close()

    app = FastAPIOffline(  # /docs must not need another host
        redoc_url=None,
        title="Jobtrail",
        description="What data-sync jobs did, whose fault a failure is, and what was committed. "
        "Partial success: an attempt failed after records were committed.",
        version=_version(),
        lifespan=lifespan,
    )
    app.state.context = shared
    app.state.tokens = tokens
    app.state.retry_limits = RetryLimits.from_env()
    app.state.readings = Readings(settings, shared.reading)
    app.state.watcher = Watcher(shared.reading)
    #: What is to be closed before the server can stop.
    app.state.streams = [app.state.watcher]
    for prefix in PREFIXES:
        for router in CONFIG_ROUTERS:
            app.include_router(router, prefix=prefix)
    for prefix in PUBLIC_PREFIXES:
        for router in PUBLIC_ROUTERS:
            app.include_router(router, prefix=prefix)
    for path in TOKEN_PATHS:
        app.include_router(token_router, prefix=path.removesuffix(TOKEN_PATH))
    app.include_router(probes)
    app.add_middleware(BodyLimit)
    app.add_middleware(Tokens, tokens=tokens, also_open=also_open)
    if not tokens and not insecure and is_loopback(settings.api_host):
        app.add_middleware(LocalHosts)
    app.openapi = partial(document, app.openapi, bool(tokens))  # type: ignore[method-assign]
    app.router.routes.insert(0, Route(app.openapi_url or "", _described(app)))  # before FastAPI's own
    app.add_exception_handler(NotFoundError, _not_found)
    app.add_exception_handler(ConflictError, _conflict)
    app.add_exception_handler(FieldError, _misfit)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(NotYetReadableError, _accepted)
    app.add_exception_handler(JobtrailError, _unanswered)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    return app


def _described(app: FastAPI) -> Callable[[Request], Awaitable[Response]]:
    """The description of the interface, rendered once: anybody may ask for its quarter of a megabyte."""
    rendered = cache(lambda: JSONResponse(app.openapi()).body)

    async def described(_: Request) -> Response:
        return Response(rendered(), media_type="application/json")

    return described


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jobtrail")
    except PackageNotFoundError:
        return "0"


async def _not_found(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"message": str(error), "id": getattr(error, "job_id", None)}, 404)


async def _conflict(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"message": str(error), "id": getattr(error, "job_id", None)}, 409)


async def _accepted(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NotYetReadableError)  # noqa: S101  # registered for it
    about = {} if error.job_id is None else {"id": error.job_id}
    return JSONResponse({"message": str(error), **about}, 202)


async def _unanswered(_: Request, error: Exception) -> JSONResponse:
    away = isinstance(error, ServerAwayError | PublishError)
    return JSONResponse({"message": str(error)}, 503 if away else 500)


async def _broken(_: Request, _error: Exception) -> JSONResponse:
    """A mistake of ours. The server's log has it whole; nothing of it is for the outside."""
    return JSONResponse({"message": "the server could not make this answer; its log says why"}, 500)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """No such path, wrong method, a body that cannot be read."""
    assert isinstance(error, StarletteHTTPException)  # noqa: S101  # registered for it
    if error.status_code == 400:  # the one of FastAPI's own: a body that is no UTF-8
        return _invalid_input([FieldProblem(property_path="body", message=str(error.detail))])
    message, path = str(error.detail), request.url.path
    if error.status_code == 404 and JOB_PATH.fullmatch(path):
        return _invalid_input([FieldProblem(property_path="jobId", message="it is no whole number from 0")])
    if error.status_code == 404 and message == HTTPStatus.NOT_FOUND.phrase:
        message = f"there is no {path}; /docs shows what there is"
    headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
    return JSONResponse({"message": message}, error.status_code, headers)


def _allowed(request: Request) -> str:
    """The methods of a path; Starlette tells those of the first of its routes only."""
    paths: dict[str, Iterable[str]] = request.app.openapi()["paths"]
    path = request.url.path
    found = (
        [paths[path]] if path in paths else [paths[one] for one in paths if compile_path(one)[0].match(path)]
    )
    return ", ".join(sorted({method.upper() for methods in found for method in methods}))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Names each field; never repeats what was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it
    endpoint = getattr(request.scope.get("route"), "endpoint", None)
    problems = []
    for found in error.errors():
        field = "" if found["type"] == "json_invalid" else ".".join(map(str, found["loc"][1:]))
        message = misfits.said(found, endpoint)
        if not field and isinstance(error.body, bytes):  # FastAPI reads nothing else as JSON
            message = "it is not said to be JSON; send it with content-type: application/json"
        problems.append(FieldProblem(property_path=field or "body", message=message))
    return _invalid_input(problems)


async def _misfit(_: Request, error: Exception) -> JSONResponse:
    """A field that fits its type, and not what is known."""
    assert isinstance(error, FieldError)  # noqa: S101  # registered for it
    return _invalid_input([FieldProblem(property_path=error.field, message=error.found)])


def _invalid_input(problems: list[FieldProblem]) -> JSONResponse:
    said = "; ".join(f"{problem.property_path}: {problem.message}" for problem in problems)
    body = InvalidInput(message=said, validation_errors=problems)
    return JSONResponse(body.model_dump(by_alias=True), 422)
