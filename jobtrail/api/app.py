"""The HTTP interface: Airbyte's config API for reading jobs, and whether all is up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout
from starlette.exceptions import HTTPException as StarletteHTTPException

from jobtrail.api import database, reads
from jobtrail.api.access import BodyLimit, Tokens
from jobtrail.api.models import (
    FieldProblem,
    Health,
    InvalidInput,
    JobIdRequestBody,
    JobInfoLightRead,
    JobInfoRead,
    JobListRequestBody,
    JobReadList,
    Problem,
    Readiness,
)
from jobtrail.api.readiness import Readings
from jobtrail.api.reads import Database, JobNotFoundError
from jobtrail.consumers.waiting import database_address, database_away
from jobtrail.errors import JobtrailError, ServerAwayError
from jobtrail.settings import Settings

#: Connections to Postgres: reads are short, and the projector needs the processors too.
POOL_SIZE: Final = 8
#: Seconds for which a request waits for a connection.
ANSWER_WITHIN: Final = 2.0
PREFIXES: Final = ("/api/v1", "/v1")

jobs = APIRouter(
    prefix="/jobs",
    tags=["jobs"],
    responses={404: {"model": Problem}, 422: {"model": InvalidInput}, 503: {"model": Problem}},
)


def _reads(request: Request) -> AbstractContextManager[Database]:
    """A connection for one answer. Not a dependency: each of those costs two changes of thread."""
    reading: Callable[[], AbstractContextManager[Database]] = request.app.state.reading
    return reading()


@jobs.post("/get", response_model_exclude_none=True)
def get_job(body: JobIdRequestBody, request: Request) -> JobInfoRead:
    """A job with its attempts, their streams, failures and logs."""
    with _reads(request) as connection:
        return reads.job_info(connection, body.id, request.app.state.settings.home)


@jobs.post("/get_without_logs", response_model_exclude_none=True)
def get_job_without_logs(body: JobIdRequestBody, request: Request) -> JobInfoRead:
    """The same with empty logs."""
    with _reads(request) as connection:
        return reads.job_info(connection, body.id, None)


@jobs.post("/get_light", response_model_exclude_none=True)
def get_job_light(body: JobIdRequestBody, request: Request) -> JobInfoLightRead:
    """The job alone, with its totals: under 1 KB, whatever its attempts and logs weigh."""
    with _reads(request) as connection:
        return reads.job_light(connection, body.id)


@jobs.post("/list", response_model_exclude_none=True)
def list_jobs(body: JobListRequestBody, request: Request) -> JobReadList:
    """Jobs with their attempts, newest first unless asked otherwise, and how many match in all."""
    with _reads(request) as connection:
        return reads.job_list(connection, body)


probes = APIRouter(tags=["service"])


@probes.get("/health")
def health() -> Health:
    """The process is alive."""
    return Health()


@probes.get(
    "/ready",
    response_model_exclude_none=True,
    response_model=Readiness,
    responses={503: {"model": Readiness}},
)
def ready(request: Request) -> JSONResponse:
    """Whether answers are up to date: Postgres and Kafka answer, and the projector has caught up."""
    found: Readiness = request.app.state.readings.take()
    return JSONResponse(
        found.model_dump(mode="json", by_alias=True, exclude_none=True), 200 if found.ready else 503
    )


def create_app(settings: Settings, tokens: Sequence[str] = ()) -> FastAPI:
    """The application over the Postgres of `settings`, or the one that runs under its home.

    Raises EmbeddedError where there is neither. Postgres need not answer yet: requests get 503 until it does.
    """
    url = database_address(settings)
    pool: ConnectionPool[Database] = ConnectionPool(
        url,
        min_size=1,
        max_size=POOL_SIZE,
        open=False,
        timeout=ANSWER_WITHIN,
        # A lost connection is not waited for with ever longer pauses: the next request makes a new one.
        reconnect_timeout=database.CONNECT_TIMEOUT,
        configure=_configure,
        check=ConnectionPool.check_connection,
        kwargs={
            "row_factory": dict_row,
            "application_name": "jobtrail-api",
            "connect_timeout": database.CONNECT_TIMEOUT,
        },
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pool.open()
        yield
        pool.close()

    app = FastAPIOffline(  # /docs must not need another host
        redoc_url=None,
        title="Jobtrail",
        description="What data-sync jobs did, whose fault a failure is, and what was committed. "
        "Partial success: an attempt failed after records were committed.",
        version=_version(),
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.reading = _reading(pool, url)
    app.state.readings = Readings(settings, app.state.reading)
    for prefix in PREFIXES:
        app.include_router(jobs, prefix=prefix)
    app.include_router(probes)
    app.add_middleware(BodyLimit)
    app.add_middleware(Tokens, tokens=tokens)
    app.add_exception_handler(JobNotFoundError, _not_found)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(JobtrailError, _unanswered)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    return app


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jobtrail")
    except PackageNotFoundError:
        return "0"


def _configure(connection: Database) -> None:
    database.configure(connection)


def _reading(pool: ConnectionPool[Database], url: str) -> Callable[[], Any]:
    @contextmanager
    def reading() -> Iterator[Database]:
        with database.translated(url):
            try:
                with pool.connection() as connection:
                    yield connection
            except PoolTimeout as error:
                raise database_away(url, psycopg.OperationalError("no connection in time")) from error

    return reading


async def _not_found(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"message": str(error), "id": getattr(error, "job_id", None)}, 404)


async def _unanswered(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"message": str(error)}, 503 if isinstance(error, ServerAwayError) else 500)


async def _broken(_: Request, _error: Exception) -> JSONResponse:
    """A mistake of ours. The server's log has it whole; nothing of it is for the outside."""
    return JSONResponse({"message": "the server could not make this answer; its log says why"}, 500)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    """No such path, wrong method, a body that cannot be read."""
    assert isinstance(error, StarletteHTTPException)  # noqa: S101  # registered for it
    return JSONResponse({"message": str(error.detail)}, error.status_code, error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Names each field; never repeats what was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for it
    problems = []
    for found in error.errors():
        field = "" if found["type"] == "json_invalid" else ".".join(map(str, found["loc"][1:]))
        problems.append(FieldProblem(property_path=field or "body", message=found["msg"]))
    said = "; ".join(f"{problem.property_path}: {problem.message}" for problem in problems)
    body = InvalidInput(message=said, validation_errors=problems)
    return JSONResponse(body.model_dump(by_alias=True), 422)
