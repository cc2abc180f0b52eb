"""Airbyte's config API for how far the running job of a connection is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from fastapi import APIRouter, Request
from pydantic import Field

from jobtrail.api import reads
from jobtrail.api.attempts import READ_RESPONSES
from jobtrail.api.context import context
from jobtrail.api.fields import INT64, Count, EpochSeconds
from jobtrail.api.list_models import ConnectionIdRequestBody
from jobtrail.api.models import AttemptStats, JobRead, Model, StreamAggregatedStats
from jobtrail.api.queries import query
from jobtrail.api.reads import Database
from jobtrail.events import ConfigType, RunState
from jobtrail.projections.generation import named_statements

SQL: Final = named_statements("sync_progress.sql", "api")
#: A stream's namespace and name.
Key = tuple[str | None, str]

router = APIRouter(prefix="/connections", tags=["connections"])


class Progress(StrEnum):
    """How far a stream is."""

    QUEUED = "queued"
    RUNNING = "running"
    RATE_LIMITED = "rate_limited"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"


#: Run state → how far the stream is; a state of a newer producer counts as running.
PROGRESS: Final[Mapping[str, Progress]] = {
    RunState.PENDING: Progress.QUEUED,
    RunState.RATE_LIMITED: Progress.RATE_LIMITED,
    RunState.COMPLETE: Progress.COMPLETED,
    RunState.INCOMPLETE: Progress.INCOMPLETE,
}


class StreamSyncProgress(Model):
    """One stream. Counters are of the whole job, estimates and `status` of its last attempt."""

    stream_name: str
    stream_namespace: str | None = None
    config_type: str = Field(
        description="What the job does with the stream: of a refresh the others are synced."
    )
    status: Progress = Field(description="Jobtrail's own; queued where nothing was heard of the stream yet.")
    records_emitted: Count = None
    bytes_emitted: Count = None
    records_committed: Count = None
    bytes_committed: Count = None
    records_rejected: Count = None
    estimated_records: Count = Field(None, description="Jobtrail's own: how many the source expects to give.")
    estimated_bytes: Count = None


class ConnectionSyncProgressRead(Model):
    """How far the running job of a connection is; only `connectionId` and no streams where none runs."""

    connection_id: str
    job_id: int | None = Field(None, json_schema_extra=INT64)
    config_type: str | None = None
    sync_started_at: EpochSeconds | None = Field(None, description="When the job was made, in seconds.")
    records_emitted: Count = None
    bytes_emitted: Count = None
    records_committed: Count = None
    bytes_committed: Count = None
    records_rejected: Count = None
    streams: list[StreamSyncProgress] = Field(default_factory=list)


@router.post("/sync_progress", response_model_exclude_none=True, responses=READ_RESPONSES)
def get_sync_progress(body: ConnectionIdRequestBody, request: Request) -> ConnectionSyncProgressRead:
    """How far the job of a connection is that waits, runs or is to be tried again."""
    with context(request).reading() as database:
        row = database.execute(SQL["running_job"], {"connection_id": body.connection_id}).fetchone()
        if row is None:
            return ConnectionSyncProgressRead(connection_id=body.connection_id)
        (job,) = reads.full_jobs(database, [reads.job_row(database, row["job_id"])])
        estimates, states = _last_attempt(database, job.id)
    counters = {(one.stream_namespace, one.stream_name): one for one in job.stream_aggregated_stats or []}
    totals = job.aggregated_stats
    return ConnectionSyncProgressRead(
        connection_id=body.connection_id,
        job_id=job.id,
        config_type=job.config_type,
        sync_started_at=job.created_at,
        streams=[
            _stream(key, config_type, counters.get(key), estimates.get(key), states.get(key))
            for key, config_type in _tracked(job, counters).items()
        ],
        **(totals.model_dump(exclude={"state_messages_emitted"}) if totals else {}),
    )


def _last_attempt(database: Database, job_id: int) -> tuple[dict[Key, AttemptStats], dict[Key, str]]:
    """What the streams of the last attempt have counted, and their run states."""
    attempts = reads.attempts_of(database, [job_id])[job_id]
    if not attempts:
        return {}, {}
    rows = database.execute(query("stream_states"), {"job_id": job_id}).fetchall()
    return (
        {(one.stream_namespace, one.stream_name): one.stats for one in attempts[-1].stream_stats},
        {
            (row["stream_namespace"], row["stream_name"]): row["run_state"]
            for row in rows
            if row["attempt_number"] == attempts[-1].attempt_number
        },
    )


def _tracked(job: JobRead, counters: Mapping[Key, object]) -> dict[Key, str]:
    """Streams of the job, and what it does with each: those it names, then others that have counters."""
    named = {}
    for chosen in (
        job.reset_config.streams_to_reset if job.reset_config else [],
        job.refresh_config.streams_to_refresh if job.refresh_config else [],
    ):
        named.update({(one.namespace, one.name): job.config_type for one in chosen})
    clears = job.config_type in {ConfigType.RESET_CONNECTION, ConfigType.CLEAR}
    rest = ConfigType.SYNC.value if job.refresh_config else job.config_type
    enabled = [] if clears and named else job.enabled_streams or []
    others = [*((one.namespace, one.name) for one in enabled), *counters]
    return {**named, **{key: rest for key in others if key not in named}}


def _stream(
    key: Key,
    config_type: str,
    counted: StreamAggregatedStats | None,
    last: AttemptStats | None,
    state: str | None,
) -> StreamSyncProgress:
    namespace, name = key
    heard = Progress.RUNNING if state or last else Progress.QUEUED
    counters = counted.model_dump(include=set(StreamSyncProgress.model_fields)) if counted else {}
    return StreamSyncProgress(
        **{"stream_name": name, "stream_namespace": namespace, **counters},
        config_type=config_type,
        status=PROGRESS.get(state or "", heard),
        estimated_records=last and last.estimated_records,
        estimated_bytes=last and last.estimated_bytes,
    )
