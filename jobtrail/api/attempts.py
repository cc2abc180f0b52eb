"""Airbyte's config API for attempts, and for the ends of jobs: what workers say over HTTP becomes events.

An end is said once: who says it again, with or without a key, publishes the same event, so that a repeated
request is no contradiction. What does contradict, like a success after a cancellation, is published and shows
as an anomaly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from jobtrail.api import attempt_events, reads
from jobtrail.api.attempt_models import (
    COUNTED,
    AttemptRequestBody,
    FailAttemptRequestBody,
    JobFailureRequestBody,
    JobSuccessRequestBody,
    NewAttemptRead,
    NewAttemptRequestBody,
    OperationResult,
    PersistCancellationRequestBody,
    SaveStatsRequestBody,
    SaveStreamMetadataRequestBody,
)
from jobtrail.api.attempt_numbers import start_attempt
from jobtrail.api.context import Context, NotYetReadableError, context
from jobtrail.api.decisions import SQL, IdempotencyKey, Said, first_said, publish, said_by
from jobtrail.api.models import (
    AttemptInfoRead,
    AttemptRead,
    AttemptStats,
    InvalidInput,
    JobStatus,
    LogRead,
    Model,
    Problem,
)
from jobtrail.api.reads import Database, JobNotFoundError, Row
from jobtrail.errors import FieldError
from jobtrail.events import (
    AttemptFailed,
    AttemptHeartbeat,
    AttemptStarted,
    AttemptSucceeded,
    Cancelled,
    Event,
    JobFailed,
)
from jobtrail.producers import failures
from jobtrail.producers.logs import read_log

READ_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "No such job, or no such attempt of it."},
    422: {"model": InvalidInput},
    503: {"model": Problem, "description": "Kafka or Postgres does not answer. A write may be repeated."},
}
LATER: Final = "Durable in Kafka, and not to be read yet; the answer has a message beside its other fields."
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **READ_RESPONSES,
    202: {"description": LATER},
    409: {"model": Problem, "description": "The Idempotency-Key belongs to another request."},
}

#: Why counters are refused.
NO_STREAM: Final = "totals are sums over the streams, and streamStats names none: these could not be kept"

router = APIRouter(prefix="/attempt", tags=["attempts"])
ends = APIRouter(prefix="/jobs", tags=["attempts"])


def answered(
    shared: Context, answer: Model, events: Sequence[Event], *said: Said, status: int = 200
) -> JSONResponse:
    """Publishes the events of what was said; answers with `status` once they can be read, else with 202."""
    body = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        if events:
            shared.await_readable(type(events[-1]), publish(shared, events, *said))
    except NotYetReadableError as error:
        return JSONResponse({**body, "message": str(error)}, 202)
    return JSONResponse(body, status)


@router.post(
    "/create_new_attempt_number",
    response_model=NewAttemptRead,
    responses={
        **RESPONSES,
        409: {"model": Problem, "description": "The job is over or to be cancelled, or an attempt runs."},
    },
)
def create_new_attempt_number(
    body: NewAttemptRequestBody, request: Request, key: IdempotencyKey = None
) -> JSONResponse:
    """Starts the next attempt of a job. Of several callers at a time one gets the number, the others 409."""
    shared = context(request)
    number, receipt = start_attempt(shared, body.job_id, key)
    try:
        if receipt is not None:
            shared.await_readable(AttemptStarted, receipt)
    except NotYetReadableError as error:
        return JSONResponse({"attemptNumber": number, "message": str(error)}, 202)
    return JSONResponse({"attemptNumber": number})


@router.post("/save_stats", response_model=OperationResult, responses=RESPONSES)
def save_stats(body: SaveStatsRequestBody, request: Request, key: IdempotencyKey = None) -> JSONResponse:
    """Keeps the counters of an attempt's streams.

    Totals are sums over the streams. Counters of the whole attempt without any stream (`stats` alone) could
    not be kept, and are refused where they count something. Without any the attempt is known to be alive.
    What comes after its end counts as of its end.
    """
    if not body.stream_stats and any(body.stats.model_dump(include={*COUNTED}).values()):
        raise FieldError("stats", NO_STREAM)
    shared = context(request)
    with shared.reading() as database:
        standing = attempt_standing(database, body.job_id, body.attempt_number)
    said = said_by(shared, "attempt/save_stats", body, key)
    events = attempt_events.stats_events(body.job_id, body.attempt_number, body.stream_stats or [], said)
    if events:
        return answered(shared, OperationResult(succeeded=True), _no_later(standing, events), said)
    alive = AttemptHeartbeat(
        job_id=body.job_id, attempt_number=body.attempt_number, **said.mark(AttemptHeartbeat)
    )
    return answered(shared, OperationResult(succeeded=True), _no_later(standing, [alive]), said)


@router.post("/save_stream_metadata", response_model=OperationResult, responses=RESPONSES)
def save_stream_metadata(
    body: SaveStreamMetadataRequestBody, request: Request, key: IdempotencyKey = None
) -> JSONResponse:
    """Keeps what is special about an attempt's streams: resumed, backfilled."""
    shared = context(request)
    with shared.reading() as database:
        standing = attempt_standing(database, body.job_id, body.attempt_number)
    said = said_by(shared, "attempt/save_stream_metadata", body, key)
    events = attempt_events.metadata_events(body.job_id, body.attempt_number, body.stream_metadata, said)
    return answered(shared, OperationResult(succeeded=True), _no_later(standing, events), said)


@router.post("/fail", status_code=204, response_class=Response, responses=RESPONSES)
def fail_attempt(body: FailAttemptRequestBody, request: Request, _key: IdempotencyKey = None) -> Response:
    """Ends an attempt as failed, with its failures. Said again, it adds the failures that are new."""
    shared, about = context(request), _about(body)
    with shared.writing() as database:
        standing = attempt_standing(database, **about)
        said = first_said(database, "AttemptFailed", *about.values())
    told = _by_the_end(standing, said)
    events: list[Event] = [
        *attempt_events.stats_events(**about, streams=_streams(body), said=said),
        *attempt_events.failure_events(**about, summary=body.failure_summary, said=told),
    ]
    if "AttemptFailed" not in standing["said"]:
        events.append(AttemptFailed(**about, **said.mark(AttemptFailed)))
    return _done(shared, events, said)


@router.post("/get_for_job", response_model_exclude_none=True, responses=READ_RESPONSES)
def get_attempt_for_job(body: AttemptRequestBody, request: Request) -> AttemptInfoRead:
    """One attempt with its streams, failures and log."""
    with context(request).reading() as database:
        attempt = _attempt(database, body)
    lines = read_log(context(request).settings.home, body.job_id, body.attempt_number)
    return AttemptInfoRead(attempt=attempt, logs=LogRead(log_lines=lines))


@router.post("/get_combined_stats", response_model_exclude_none=True, responses=READ_RESPONSES)
def get_attempt_combined_stats(body: AttemptRequestBody, request: Request) -> AttemptStats:
    """The totals of one attempt over its streams; empty where nobody counted."""
    with context(request).reading() as database:
        return _attempt(database, body).total_stats or AttemptStats()


@ends.post("/job_failure", response_model=OperationResult, responses=RESPONSES)
def job_failure(body: JobFailureRequestBody, request: Request, _key: IdempotencyKey = None) -> JSONResponse:
    """Ends a job as failed; an attempt that still runs fails with it.

    A reason is kept as a failure of the attempt, and there is such an attempt from then on. A job that had
    ended before stays as it was; `message` says so.
    """
    shared, about = context(request), _about(body)
    with shared.writing() as database:
        standing = attempt_standing(database, **about, or_none=True)
        # The attempt's end first: it must not come after the job's.
        ended = first_said(database, "AttemptFailed", *about.values()) if runs(standing) else None
        said = first_said(database, "JobFailed", body.job_id)
    events: list[Event] = []
    if body.reason:
        why = replace(failures.platform(body.reason), occurred_at=_by_the_end(standing, ended or said).at)
        events.append(attempt_events.failure_event(**about, why=why))
    if ended:
        events.append(AttemptFailed(**about, **ended.mark(AttemptFailed)))
    if "JobFailed" not in standing["said"]:
        events.append(JobFailed(job_id=body.job_id, **said.mark(JobFailed)))
    before, message = standing["job_status"], None
    if before in {JobStatus.SUCCEEDED, JobStatus.CANCELLED}:
        message = f"job {body.job_id} was {before} before, and stays so"
    result = OperationResult(succeeded=True, message=message)
    return answered(shared, result, events, *([ended] if ended else []), said)


@ends.post("/job_success_with_attempt_number", response_model=OperationResult, responses=RESPONSES)
def job_success(body: JobSuccessRequestBody, request: Request, _key: IdempotencyKey = None) -> JSONResponse:
    """Ends an attempt as succeeded, and with it the job."""
    shared, about = context(request), _about(body)
    with shared.writing() as database:
        standing = attempt_standing(database, **about)
        said = first_said(database, "AttemptSucceeded", *about.values())
    events: list[Event] = []
    if "AttemptSucceeded" not in standing["said"]:
        events += attempt_events.stats_events(**about, streams=_streams(body), said=said)
        events.append(AttemptSucceeded(**about, **said.mark(AttemptSucceeded)))
    return answered(shared, OperationResult(succeeded=True), events, said)


@ends.post("/persist_cancellation", status_code=204, response_class=Response, responses=RESPONSES)
def persist_cancellation(
    body: PersistCancellationRequestBody, request: Request, _key: IdempotencyKey = None
) -> Response:
    """Ends a job as cancelled; an attempt that still runs is cancelled with it, its failures kept."""
    shared, about = context(request), _about(body)
    with shared.writing() as database:
        standing = attempt_standing(database, **about, or_none=True)
        said = first_said(database, "Cancelled", body.job_id)
    by = standing["cancel_requested_by"]
    events: list[Event] = []
    if runs(standing):
        summary = body.attempt_failure_summary
        events += attempt_events.failure_events(**about, summary=summary, said=said)
        events.append(Cancelled(**about, cancelled_by=by, **said.mark(Cancelled, 1)))
    if "Cancelled" not in standing["said"]:
        events.append(Cancelled(job_id=body.job_id, cancelled_by=by, **said.mark(Cancelled)))
    return _done(shared, events, said)


def attempt_standing(database: Database, job_id: int, attempt_number: int, *, or_none: bool = False) -> Row:
    """How an attempt stands: see attempts.sql. One that is only reserved is known too, unless `or_none`.

    Raises JobNotFoundError, unless `or_none` also where there is no such attempt.
    """
    about = {"job_id": job_id, "attempt_number": attempt_number}
    row = database.execute(SQL["attempt_standing"], about).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    if not or_none and row["status"] is None and not row["reserved"]:
        raise JobNotFoundError(job_id, f"there is no attempt {attempt_number} of job {job_id}")
    return row


def runs(standing: Row) -> bool:
    """Whether an attempt has no end yet, as far as is known."""
    return standing["status"] == "running" or (standing["status"] is None and standing["reserved"])


def _attempt(database: Database, body: AttemptRequestBody) -> AttemptRead:
    reads.job_row(database, body.job_id)
    for attempt in reads.attempts_of(database, [body.job_id])[body.job_id]:
        if attempt.attempt_number == body.attempt_number:
            return attempt
    raise JobNotFoundError(body.job_id, f"there is no attempt {body.attempt_number} of job {body.job_id}")


def _about(body: AttemptRequestBody) -> dict[str, Any]:
    return {"job_id": body.job_id, "attempt_number": body.attempt_number}


def _streams(body: FailAttemptRequestBody | JobSuccessRequestBody) -> list[Any]:
    return body.standard_sync_output.streams if body.standard_sync_output else []


def _no_later(standing: Row, events: Sequence[Event]) -> list[Event]:
    """The events, not after the end of their attempt: Airbyte's requests tell no instant of their own."""
    end = standing["ended_at"]
    return [
        one if end is None else one.model_copy(update={"occurred_at": min(one.occurred_at, end)})
        for one in events
    ]


def _by_the_end(standing: Row, said: Said) -> Said:
    """The same, not after the end of the attempt or, where there is no attempt, of the job."""
    end = standing["job_ended_at"] if standing["status"] is None else standing["ended_at"]
    return said if end is None else replace(said, at=min(said.at, end.astimezone(UTC)))


def _done(shared: Context, events: Sequence[Event], said: Said) -> Response:
    if events:
        shared.await_readable(type(events[-1]), publish(shared, events, said))
    return Response(status_code=204)
