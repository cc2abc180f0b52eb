"""Airbyte's config API for stream statuses: what each stream of an attempt is doing.

Where Airbyte overwrites a row, Jobtrail keeps the latest time at which a stream entered each run state. The
id of a status is made of the stream and the run state, so it is known before any read model shows it, and
stays the same after every rebuild.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from jobtrail.api.attempt_events import not_later
from jobtrail.api.attempt_models import AttemptRequestBody
from jobtrail.api.attempts import READ_RESPONSES, RESPONSES, answered, attempt_standing
from jobtrail.api.context import context
from jobtrail.api.decisions import IdempotencyKey, said_by
from jobtrail.api.fields import INT64, FilterText, JobId, Millis, Number
from jobtrail.api.list_models import ConnectionIdRequestBody, Pagination
from jobtrail.api.models import Exact, Model
from jobtrail.api.reads import Row
from jobtrail.errors import FieldError, NotFoundError
from jobtrail.events import ConfigType, IncompleteRunCause, RunState, StreamStatus, decision_id
from jobtrail.kinds import EPOCH, micros
from jobtrail.projections.generation import named_statements

SQL: Final = named_statements("stream_statuses.sql", "api")
#: How many of a connection's newest jobs latest_per_run_state looks at, as Airbyte does.
RECENT_JOBS: Final = 100
#: What stands for a workspace or connection that is not known: clients need a UUID there.
UNKNOWN: Final = "00000000-0000-0000-0000-000000000000"

router = APIRouter(prefix="/stream_statuses", tags=["stream statuses"])


class StreamStatusJobType(StrEnum):
    """What the job does with its streams."""

    SYNC = "SYNC"
    RESET = "RESET"


class RateLimit(Model):
    """Until when a RATE_LIMITED stream waits."""

    quota_reset: Millis | None = Field(None, description="Milliseconds since 1970 UTC.")


#: JSON Schema's way of saying that INCOMPLETE has a cause, and nothing else has one.
CAUSE_SCHEMA: Final[dict[str, Any]] = {
    "if": {"properties": {"runState": {"const": "INCOMPLETE"}}, "required": ["runState"]},
    "then": {"properties": {"incompleteRunCause": {"type": "string"}}, "required": ["incompleteRunCause"]},
    "else": {"properties": {"incompleteRunCause": {"type": "null"}}},
}


class StreamStatusCreateRequestBody(AttemptRequestBody):
    """A stream entered a run state. connectionId and jobType are those of its job, where they are known."""

    model_config = ConfigDict(json_schema_extra=CAUSE_SCHEMA)

    workspace_id: FilterText
    connection_id: FilterText
    job_type: StreamStatusJobType
    stream_name: FilterText = Field(examples=["users"])
    stream_namespace: FilterText | None = None
    run_state: RunState
    incomplete_run_cause: IncompleteRunCause | None = Field(
        None, description="With INCOMPLETE, and only there."
    )
    transitioned_at: Millis = Field(description="Milliseconds since 1970 UTC; a later time than now is now.")
    metadata: RateLimit | None = None


class StreamStatusUpdateRequestBody(StreamStatusCreateRequestBody):
    """A stream of which a status is known entered another run state."""

    id: FilterText


class StreamStatusListRequestBody(Exact):
    """Which statuses. Filters are combined."""

    workspace_id: FilterText
    pagination: Pagination = Field(default_factory=Pagination)
    connection_id: FilterText | None = None
    job_id: JobId | None = None
    attempt_number: Number | None = None
    job_type: StreamStatusJobType | None = None
    stream_name: FilterText | None = None
    stream_namespace: FilterText | None = None


class StreamStatusRead(Model):
    """The latest time that a stream of an attempt entered a run state."""

    id: str
    workspace_id: str
    connection_id: str
    job_id: int = Field(json_schema_extra=INT64)
    attempt_number: int
    job_type: StreamStatusJobType
    stream_name: str
    stream_namespace: str | None = None
    run_state: str
    incomplete_run_cause: str | None = None
    transitioned_at: int = Field(description="Milliseconds since 1970 UTC.", json_schema_extra=INT64)
    metadata: RateLimit | None = None


class StreamStatusReadList(Model):
    """Statuses of streams."""

    stream_statuses: list[StreamStatusRead]


@router.post("/create", status_code=201, response_model=StreamStatusRead, responses=RESPONSES)
def create_stream_status(
    body: StreamStatusCreateRequestBody, request: Request, key: IdempotencyKey = None
) -> JSONResponse:
    """Says that a stream of an attempt entered a run state."""
    return _write(body, request, key, status=201)


@router.post("/update", response_model=StreamStatusRead, responses=RESPONSES)
def update_stream_status(
    body: StreamStatusUpdateRequestBody, request: Request, key: IdempotencyKey = None
) -> JSONResponse:
    """Says that the stream of a status entered another run state; the answer has the id of the new status."""
    about = (body.job_id, body.attempt_number, body.stream_namespace, body.stream_name)
    if body.id not in {status_id(*about, state) for state in RunState}:
        raise NotFoundError(f"there is no status {body.id!r} of this stream of attempt {body.attempt_number}")
    return _write(body, request, key, status=200)


@router.post("/list", response_model_exclude_none=True, responses=READ_RESPONSES)
def list_stream_statuses(body: StreamStatusListRequestBody, request: Request) -> StreamStatusReadList:
    """Statuses that match, a page of them. One stream has one for each run state that it was in."""
    given = body.model_dump(exclude={"pagination"}, exclude_none=True)
    filters = b" AND ".join(SQL[f"by_{name}"] for name in given)
    statement = SQL["list"].replace(b"{filters}", filters).replace(b"{columns}", SQL["columns"])
    page = {"limit": body.pagination.page_size, "offset": body.pagination.row_offset}
    with context(request).reading() as database:
        rows = database.execute(statement, {**given, **page}).fetchall()
    return StreamStatusReadList(stream_statuses=[_read(row, body.workspace_id) for row in rows])


@router.post("/latest_per_run_state", response_model_exclude_none=True, responses=READ_RESPONSES)
def latest_per_run_state(body: ConnectionIdRequestBody, request: Request) -> StreamStatusReadList:
    """The latest status of each stream of a connection in each run state.

    When a job is over, so are its streams: one that was left running is shown as its job ended.
    """
    values = {"connection_id": body.connection_id, "jobs": RECENT_JOBS}
    with context(request).reading() as database:
        rows = database.execute(SQL["latest_per_run_state"], values).fetchall()
    return StreamStatusReadList(stream_statuses=[_read(row) for row in rows])


def status_id(job_id: int, attempt_number: int, namespace: str | None, name: str, run_state: str) -> str:
    """The id of a stream's status."""
    return decision_id("stream_status", job_id, attempt_number, namespace or "", name, run_state)


def _write(
    body: StreamStatusCreateRequestBody, request: Request, key: str | None, *, status: int
) -> JSONResponse:
    if (body.run_state == RunState.INCOMPLETE) != (body.incomplete_run_cause is not None):
        raise FieldError("incompleteRunCause", "a stream that is INCOMPLETE has one, and no other does")
    shared = context(request)
    with shared.reading() as database:
        job = attempt_standing(database, body.job_id, body.attempt_number)
    _check_job(body, job)
    said = said_by(shared, "stream_statuses", body, key)
    reset = body.metadata.quota_reset if body.metadata else None
    event = StreamStatus(
        occurred_at=not_later(body.transitioned_at, said.at),
        job_id=body.job_id,
        attempt_number=body.attempt_number,
        stream_namespace=body.stream_namespace or None,
        stream_name=body.stream_name,
        run_state=body.run_state.value,
        incomplete_run_cause=body.incomplete_run_cause and body.incomplete_run_cause.value,
        quota_reset_at=None if reset is None else EPOCH + timedelta(milliseconds=reset),
    )
    # Said again it is the same event, with a key or without.
    same = decision_id("http", "StreamStatus", event.model_dump_json(exclude={"event_id"}))
    row = {
        **job,
        **event.model_dump(),
        "shown_state": event.run_state,
        "transitioned_at": event.occurred_at,
    }
    answer = _read(row, body.workspace_id)
    return answered(shared, answer, [event.model_copy(update={"event_id": same})], said, status=status)


def _check_job(body: StreamStatusCreateRequestBody, job: Row) -> None:
    """Raises FieldError where the job is known to be another one than is said."""
    known = job["connection_id"]
    if known is not None and body.connection_id != known:
        raise FieldError("connectionId", f"job {body.job_id} is of connection {known}")
    if job["config_type"] is not None and body.job_type != (of := _job_type(job)):
        raise FieldError("jobType", f"job {body.job_id} is a {job['config_type']}, whose streams have {of}")


def _job_type(job: Row) -> StreamStatusJobType:
    resets = job["config_type"] in {ConfigType.RESET_CONNECTION, ConfigType.CLEAR}
    return StreamStatusJobType.RESET if resets else StreamStatusJobType.SYNC


def _read(row: Row, workspace_id: str = UNKNOWN) -> StreamStatusRead:
    """A row as it is answered; `workspace_id` stands where the job's is not known."""
    about = (row["job_id"], row["attempt_number"], row["stream_namespace"], row["stream_name"])
    reset = row["quota_reset_at"]
    return StreamStatusRead(
        id=status_id(*about, row["run_state"]),
        workspace_id=row["workspace_id"] or workspace_id,
        connection_id=row["connection_id"] or UNKNOWN,
        job_id=row["job_id"],
        attempt_number=row["attempt_number"],
        job_type=_job_type(row),
        stream_name=row["stream_name"],
        stream_namespace=row["stream_namespace"],
        run_state=row["shown_state"],
        incomplete_run_cause=row["incomplete_run_cause"],
        transitioned_at=micros(row["transitioned_at"]) // 1000,
        metadata=None if reset is None else RateLimit(quota_reset=micros(reset) // 1000),
    )
