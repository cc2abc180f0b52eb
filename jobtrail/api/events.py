"""The changes of one job as server-sent events: who waits for it need not poll."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Request
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from jobtrail.api import reads
from jobtrail.api.context import context
from jobtrail.api.fields import GREATEST, INT64
from jobtrail.api.models import InvalidInput, Problem
from jobtrail.api.watcher import State, Watcher, news

#: Streams of one server at one time.
MOST_STREAMS: Final = 1000
#: Seconds between two comments, so that no proxy takes the stream for dead.
PING: Final = 15.0
#: Seconds that a client may leave what it was sent unread.
UNREAD: Final = 30.0

#: One event of the stream, as tools that know streams read it.
EVENT: Final = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["job", "end"]},
        "id": {"type": "string", "description": "For Last-Event-ID."},
        "data": {"type": "string", "description": "JSON: what jobs/get_light answers."},
        "retry": {"type": "integer", "description": "Milliseconds."},
    },
}
EXAMPLE: Final = (
    "event: job\r\nid: 5f1e0c2ab94d7730\r\nretry: 1000\r\n"
    'data: {"job":{"id":42,"configType":"sync","configId":"c","createdAt":1767225600,"updatedAt":1767225600,'
    '"status":"running"}}\r\n\r\n'
)

router = APIRouter(prefix="/jobs", tags=["jobs"])


class JobStream(EventSourceResponse):
    """The stream of one job; counted from its first byte to its end, however it ends."""

    def __init__(self, watcher: Watcher, job_id: int, first: State, seen: str | None) -> None:
        super().__init__(told(watcher, job_id, first, seen), ping=PING, send_timeout=UNREAD)
        self._watcher = watcher
        self._job_id = job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if self._watcher.streams >= MOST_STREAMS:
            said = f"{MOST_STREAMS:,} streams are open, more than this server has; ask jobs/get_light instead"
            await JSONResponse({"message": said}, 503, {"Retry-After": "10"})(scope, receive, send)
            return
        # A client that does not read is left, as one that has gone.
        with self._watcher.watching(self._job_id), suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)


async def told(
    watcher: Watcher, job_id: int, state: State, seen: str | None
) -> AsyncIterator[ServerSentEvent]:
    """What is new to a client that has seen the event of that id, until the job is decided or gone."""
    for event in news(seen, state):
        yield event
    if state.decided:
        return
    seen, away = state.id, False
    async with aclosing(watcher.looks()) as looks:
        async for look in looks:
            if look.away is not None:
                if not away:
                    yield ServerSentEvent(comment=f"nothing is seen for now: {look.away}")
                away = True
                continue
            away = False
            found = look.states.get(job_id)
            if found is None:
                return
            for event in news(seen, found):
                yield event
            if found.decided:
                return
            seen = found.id


@router.get(
    "/{jobId}/events",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Event `job` with what jobs/get_light answers, at once and whenever it changes "
            "(status, totals, failure, anomalies); event `end` once the job is decided, and the stream "
            "closes. Comments keep the connection open.",
            "content": {"text/event-stream": {"schema": EVENT, "example": EXAMPLE}},
        },
        204: {"description": "The client has seen the end: an EventSource does not come back."},
        404: {"model": Problem},
        422: {"model": InvalidInput},
        503: {"model": Problem, "description": "Postgres does not answer, or too many streams are open."},
    },
)
def get_events(
    request: Request,
    job_id: Annotated[int, Path(alias="jobId", ge=0, le=GREATEST, examples=[42], json_schema_extra=INT64)],
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event that the client has; it is not sent again.")
    ] = None,
) -> Any:
    """Streams the changes of a job as server-sent events, until it is decided.

    What changes between two looks of the server, 0.25 s apart, is told as one change.
    """
    with context(request).reading() as connection:
        first = State.of(reads.job_light(connection, job_id))
    if first.decided and not news(last_event_id, first):
        return Response(status_code=204)
    return JobStream(request.app.state.watcher, job_id, first, last_event_id)
