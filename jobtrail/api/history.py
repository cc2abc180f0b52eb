"""The events of one job as they happened, and the job as of a moment, over HTTP."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Query, Request
from pydantic import AfterValidator, Field

from jobtrail.api import past, reads
from jobtrail.api.context import context
from jobtrail.api.fields import GREATEST, INT64, DateTime
from jobtrail.api.models import Exact, InvalidInput, JobInfoRead, Model, Problem
from jobtrail.settings import Settings

#: Events of one answer where the caller names no number, and the most.
DEFAULT_EVENTS: Final = 200
MOST_EVENTS: Final = 1000
#: Requests that may read the log at one time: each has a Kafka client of its own, and may take 10 s.
READERS: Final = 4
_readers = threading.BoundedSemaphore(READERS)


def _known(name: str) -> str:
    if name not in past.TYPES:
        raise ValueError(f"it is none of {', '.join(past.TYPES)}")
    return name


JobEventType = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": [*past.TYPES]})]


class HistoryQuery(Exact):
    """Which events of a job."""

    at: DateTime | None = Field(
        None,
        description="Only what had happened by then, and the job as it was: ISO 8601 with an offset.",
        examples=["2026-03-01T12:00:09Z"],
    )
    types: list[JobEventType] = Field(
        default_factory=list, description="Only these; by default all but AttemptHeartbeat."
    )
    limit: int = Field(DEFAULT_EVENTS, ge=1, le=MOST_EVENTS)
    offset: int = Field(0, ge=0, le=GREATEST, json_schema_extra=INT64)


class HistoryEvent(Model):
    """One event of a job."""

    event_id: str
    event_type: JobEventType
    occurred_at: datetime = Field(description="When it happened, by the caller's clock.")
    received_at: datetime = Field(description="When the broker took it.")
    attempt_number: int | None = Field(None, description="Absent: it is about the job.")
    body: dict[str, Any] = Field(
        description="The event, with the field names of its Avro schema; what is unset is absent, and "
        "instants are microseconds since 1970 UTC."
    )


class JobHistory(Model):
    """Events of a job in the order in which they happened, and, where a moment was named, the job at it."""

    job_id: int = Field(json_schema_extra=INT64)
    at: datetime | None = Field(None, description="The moment that was named; no event is later.")
    as_of: JobInfoRead | None = Field(
        None, description="The job at that moment, by the rules for all jobs, without logs."
    )
    events: list[HistoryEvent]
    total_event_count: int = Field(description="Events that match, on all pages.")
    next_offset: int | None = Field(
        None, description="Give it as `offset` for the next page; absent: no more.", json_schema_extra=INT64
    )
    complete: bool = Field(
        description="Whether all events of the job were looked at; false where the log could not be read, or "
        "not whole. Lifecycle events are never missing; stats, statuses and heartbeats are in the log alone."
    )
    notes: list[str] = Field(
        default_factory=list, description="Why it is not complete, and what was left out."
    )


router = APIRouter(
    prefix="/jobs",
    tags=["history"],
    responses={404: {"model": Problem}, 422: {"model": InvalidInput}, 503: {"model": Problem}},
)


@router.get("/{jobId}/history", response_model_exclude_none=True)
def get_history(
    request: Request,
    *,
    job_id: Annotated[int, Path(alias="jobId", ge=0, le=GREATEST, examples=[42], json_schema_extra=INT64)],
    wanted: Annotated[HistoryQuery, Query()],
) -> JobHistory:
    """The events of a job as they happened: lifecycle, stats, statuses; heartbeats on request.

    Stats, statuses and heartbeats are read back from the event log, which takes up to 10 s. While too many
    others do that, the answer is 503.
    """
    shared = context(request)
    if not _readers.acquire(timeout=1.0):
        raise HTTPException(503, f"{READERS} others are reading the event log; ask again in a moment")
    try:
        return history_of(shared.settings, shared.reading, job_id, wanted)
    finally:
        _readers.release()


def history_of(
    settings: Settings,
    reading: past.Reading,
    job_id: int,
    asked: HistoryQuery,
) -> JobHistory:
    """The answer. Raises JobNotFoundError, also where the job was not there yet at that moment."""
    at, as_of = asked.at, None
    wanted = frozenset(asked.types) if asked.types else past.BY_DEFAULT
    found = past.past_of(settings, reading, job_id, past.TYPES if at else wanted)
    if at is not None:
        found = found.until(at)
        with past.as_it_was(settings, found) as database:
            as_of = reads.job_info(database, job_id, None)
    return answer(found, at=at, as_of=as_of, wanted=wanted, limit=asked.limit, offset=asked.offset)


def answer(
    found: past.Past,
    *,
    at: datetime | None,
    as_of: JobInfoRead | None,
    wanted: frozenset[str],
    limit: int,
    offset: int,
) -> JobHistory:
    """A page of what was found."""
    table = found.table(wanted)
    end = min(offset + limit, table.height)
    return JobHistory(
        job_id=found.job_id,
        at=at,
        as_of=as_of,
        events=[HistoryEvent(**row) for row in past.entries(table[min(offset, end) : end])],
        total_event_count=table.height,
        next_offset=end if end < table.height else None,
        complete=found.gap is None,
        notes=[*([found.gap] if found.gap else []), *found.notes],
    )
