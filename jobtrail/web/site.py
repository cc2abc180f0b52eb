"""The pages over the HTTP interface: their addresses, who may see them, and their streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import field_validator
from starlette.staticfiles import StaticFiles

from jobtrail.api.access import is_known
from jobtrail.api.app import create_app
from jobtrail.api.cancellation import cancellable
from jobtrail.api.commands import cancel_job
from jobtrail.api.context import context
from jobtrail.api.fields import GREATEST, FilterText
from jobtrail.api.models import Exact
from jobtrail.api.reads import Database
from jobtrail.settings import Settings
from jobtrail.web.connection import connection_page
from jobtrail.web.connectors import Asked, connectors_page
from jobtrail.web.errors import PageRoute
from jobtrail.web.forms import confirmed, form_of, name_in
from jobtrail.web.guard import COOKIE, LOGIN, LOGOUT, OPEN, Guard, inside
from jobtrail.web.job import job_page, job_then
from jobtrail.web.jobs import Wanted, job_number, jobs_page
from jobtrail.web.live import LivePages, Look, Stream
from jobtrail.web.operations import router as operations
from jobtrail.web.pages import Page, render
from jobtrail.web.service import dataplanes_page

#: Where each page is also streamed from.
LIVE: Final = "/live"
#: Years between which events are.
EARLIEST: Final = 2000
LATEST: Final = 2200

router = APIRouter(include_in_schema=False, route_class=PageRoute)
JobId = Annotated[int, Path(ge=0, le=GREATEST)]
Make = Callable[[Database], Page]


class Then(Exact):
    """As of when a job is looked at: an instant, which is UTC unless it says otherwise."""

    at: datetime | None = None

    @field_validator("at", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("at")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if not EARLIEST < value.year < LATEST:
            raise ValueError(f"it is no instant between {EARLIEST} and {LATEST}")
        return value if value.tzinfo else value.replace(tzinfo=UTC)


def create_site(settings: Settings, tokens: Sequence[str] = (), *, insecure: bool = False) -> FastAPI:
    """The HTTP interface with the pages at `/`. Raises as `create_app` does."""
    app = create_app(settings, tokens, insecure=insecure, also_open=OPEN)
    app.state.pages = LivePages()
    app.state.streams.append(app.state.pages)
    app.mount("/static", StaticFiles(directory=str(files("jobtrail.web") / "static")), name="static")
    app.include_router(router)
    app.include_router(operations)
    app.add_middleware(Guard, tokens=tokens)
    return app


def _looking(request: Request, make: Make) -> Look:
    def look() -> Page:
        with context(request).reading() as database:
            return make(database)

    return look


def _answer(request: Request, make: Make) -> Response:
    return HTMLResponse(render(_looking(request, make)()))


def _stream(request: Request, make: Make) -> Response:
    return Stream(request.app.state.pages, str(request.url), _looking(request, make))


@router.get("/")
def home() -> Response:
    """The first page."""
    return RedirectResponse("/jobs")


@router.get("/jobs")
def jobs(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
    """Jobs, newest first; a search for a job's number leads to it."""
    number = job_number(wanted.text)
    if number is not None:
        return RedirectResponse(f"/jobs/{number}", 303)
    return _answer(request, lambda database: jobs_page(database, wanted))


@router.get(f"{LIVE}/jobs")
def live_jobs(request: Request, wanted: Annotated[Wanted, Query()]) -> Any:
    """The same as it changes."""
    return _stream(request, lambda database: jobs_page(database, wanted, counted=False))


@router.get("/jobs/{job_id}")
def job(request: Request, job_id: JobId, wanted: Annotated[Then, Query()]) -> Response:
    """One job, now or as of a moment."""
    if wanted.at is not None:
        shared, limits = context(request), request.app.state.retry_limits
        return HTMLResponse(render(job_then(shared.settings, shared.reading, job_id, wanted.at, limits)))
    return _answer(request, _job(request, job_id))


@router.get(LIVE + "/jobs/{job_id}")
def live_job(request: Request, job_id: JobId) -> Any:
    """The same as it changes."""
    return _stream(request, _job(request, job_id))


def _job(request: Request, job_id: int) -> Make:
    home, limits = context(request).settings.home, request.app.state.retry_limits
    return lambda database: job_page(database, job_id, home, limits)


@router.get("/jobs/{job_id}/cancel")
def confirm_cancel(request: Request, job_id: JobId) -> Response:
    """Asks whether it is meant."""
    with context(request).reading() as database:
        row = cancellable(database, job_id)
    what = "A worker runs it. It is asked to stop, and may take a moment to obey."
    if not row["runs"]:
        what = "Nobody runs it, so it is cancelled at once."
    return confirmed(
        f"Cancel job {job_id}",
        [what],
        {"/jobs": "Jobs", f"/jobs/{job_id}": str(job_id)},
        button="Cancel the job",
        leave="Leave it running",
    )


@router.post("/jobs/{job_id}/cancel")
async def cancel(request: Request, job_id: JobId) -> Response:
    """Cancels it, and says who did."""
    by = name_in(await form_of(request), "cancels the job")
    await run_in_threadpool(cancel_job, context(request), job_id, by)
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.get("/connections/{connection_id:path}")
def connection(request: Request, connection_id: FilterText) -> Response:
    """One connection."""
    return _answer(request, lambda database: connection_page(database, connection_id))


@router.get(LIVE + "/connections/{connection_id:path}")
def live_connection(request: Request, connection_id: FilterText) -> Any:
    """The same as it changes."""
    before: Page | None = None

    def make(database: Database) -> Page:
        nonlocal before
        before = connection_page(database, connection_id, before)
        return before

    return _stream(request, make)


@router.get("/connectors")
def connectors(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """The connectors, the least reliable first."""
    return _answer(request, lambda database: connectors_page(database, asked))


@router.get(f"{LIVE}/connectors")
def live_connectors(request: Request, asked: Annotated[Asked, Query()]) -> Any:
    """The same as they change."""
    return _stream(request, lambda database: connectors_page(database, asked))


@router.get("/dataplanes")
def dataplanes(request: Request) -> Response:
    """The dataplanes."""
    return _answer(request, dataplanes_page)


@router.get(f"{LIVE}/dataplanes")
def live_dataplanes(request: Request) -> Any:
    """The same as they change."""
    return _stream(request, dataplanes_page)


@router.get(LOGIN)
def ask_for_token(request: Request) -> Response:
    """Asks for a token; leads on where none is needed."""
    back = inside(request.query_params.get("next", "/"))
    if not request.app.state.tokens:
        return RedirectResponse(back, 303)
    return HTMLResponse(render(Page("login.html", {}, {"back": back, "wrong": False}, live=False)))


@router.post(LOGIN)
async def take_token(request: Request) -> Response:
    """Keeps a token that is one of ours."""
    form = await form_of(request)
    back, token = inside(form.get("next", "/")), form.get("token", "")
    if not is_known(token.encode(), request.app.state.tokens):
        page = Page("login.html", {}, {"back": back, "wrong": True}, live=False)
        return HTMLResponse(render(page), 401)
    answer = RedirectResponse(quote(back, safe="/?&=%"), 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post(LOGOUT)
def forget_token(request: Request) -> Response:
    """Has the browser forget its token."""
    answer = RedirectResponse(LOGIN, 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer
