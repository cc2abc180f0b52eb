"""What a page says where it cannot be shown: what was asked, why not, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from jobtrail.api import misfits
from jobtrail.errors import (
    ConflictError,
    FieldError,
    JobtrailError,
    NotFoundError,
    PublishError,
    ServerAwayError,
    SettingError,
    UsageError,
)
from jobtrail.web.pages import Page, render


class PageRoute(APIRoute):
    """A route whose errors are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, but for errors."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                fields = [
                    f"{_field(found['loc'])}: {misfits.said(found, self.endpoint)}"
                    for found in error.errors()
                ]
                return failed(422, "This address does not fit", "; ".join(fields))
            except (FieldError, HTTPException, JobtrailError) as error:
                return told(error)

        return answer


def _field(place: Sequence[str | int]) -> str:
    """What a field is called; of several values of one, it is that field."""
    names = [part for part in place if isinstance(part, str)]
    return names[-1].replace("_", " ")


def told(error: Exception) -> HTMLResponse:
    """The page for an error."""
    match error:
        case NotFoundError():
            return failed(404, "There is no such thing here", str(error))
        case FieldError() | UsageError() if not isinstance(error, SettingError):
            return failed(422, "This address does not fit", str(error))
        case ConflictError():
            return failed(409, "Nothing was done", str(error))
        case ServerAwayError() | PublishError():
            return failed(503, "A server is away", str(error))
        case HTTPException():
            return failed(error.status_code, "This cannot be shown", str(error.detail))
        case _:
            return failed(500, "This cannot be shown", str(error))


def failed(status: int, title: str, why: str) -> HTMLResponse:
    """A page that says why there is none."""
    page = Page("error.html", {}, {"title": title, "why": why, "status": status}, live=False)
    return HTMLResponse(render(page), status)
