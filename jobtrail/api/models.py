"""What the HTTP interface takes and gives: names, units and enums of Airbyte's config API.

Integers are int64; `createdAt`, `updatedAt`, `startedAt` and `endedAt` are whole seconds since 1970 UTC, a
failure's `timestamp` milliseconds. What is not known is absent. `attemptId` and `attemptNumber` are
Jobtrail's own additions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)
from pydantic.alias_generators import to_camel

from jobtrail.api.fields import INT64, Count, EpochSeconds, JobId

Old = Annotated[Count, Field(deprecated=True)]


class Model(BaseModel):
    """Camel case outside, snake case inside; unknown fields of a request are passed over, as Airbyte does.

    `Exact` refuses them.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Exact(Model):
    """A request in which an unknown field is refused: passed over, a misspelt filter would show more."""

    model_config = ConfigDict(extra="forbid")


class JobStatus(StrEnum):
    """State of a job. `queued` is known to filters; no event of Jobtrail leads to it."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"


#: Those of a job to which nothing more is to come.
ENDED: Final = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class AttemptStatus(StrEnum):
    """State of an attempt; a cancelled one is failed, with a failure of type manual_cancellation."""

    RUNNING = "running"
    FAILED = "failed"
    SUCCEEDED = "succeeded"


class StreamDescriptor(Model):
    """A stream's identity."""

    name: str
    namespace: str | None = None


class JobAggregatedStats(Model):
    """Totals of a job over its attempts. Absent: not known.

    Of an incremental stream all attempts count; of a full refresh its last one and those before it that each
    next one resumed.
    """

    records_emitted: Count = None
    bytes_emitted: Count = Field(
        None, description="UTF-8 length of the records' data, as the source gave it."
    )
    state_messages_emitted: Count = None
    records_committed: Count = Field(None, description="Records that the destination confirmed.")
    bytes_committed: Count = None
    records_rejected: Count = None


class StreamAggregatedStats(Model):
    """The same for one stream."""

    stream_name: str
    stream_namespace: str | None = None
    records_emitted: Count = None
    bytes_emitted: Count = None
    records_committed: Count = None
    bytes_committed: Count = None
    records_rejected: Count = None
    was_backfilled: bool | None = None
    was_resumed: bool | None = None


class AttemptStats(Model):
    """Counters of an attempt or of one of its streams. Absent: not known."""

    records_emitted: Count = None
    bytes_emitted: Count = None
    state_messages_emitted: Count = None
    bytes_committed: Count = None
    records_committed: Count = None
    records_rejected: Count = None
    estimated_records: Count = None
    estimated_bytes: Count = None


class StreamReconciliation(Model):
    """What each reporter counted of a stream. Absent: it did not say."""

    source_records_emitted: Count = None
    platform_records_emitted: Count = None
    platform_records_committed: Count = None
    destination_records_committed: Count = None


class AttemptStreamStats(Model):
    """Counters of one stream of an attempt."""

    stream_name: str
    stream_namespace: str | None = None
    stats: AttemptStats
    reconciliation: StreamReconciliation | None = Field(
        None,
        description="Only in jobs/get and where they differ: source, platform and destination, each its own.",
    )


class FailureReason(Model):
    """Why something failed. `failureOrigin` says whose fault it is; it is absent for a cancellation."""

    timestamp: int = Field(description="Milliseconds since 1970 UTC.", json_schema_extra=INT64)
    failure_origin: str | None = Field(
        None,
        description="source, destination, replication, persistence, airbyte_platform, normalization, dbt or "
        "unknown.",
    )
    failure_type: str | None = Field(
        None,
        description="config_error, system_error, manual_cancellation, refresh_schema, heartbeat_timeout, "
        "destination_timeout or transient_error.",
    )
    internal_message: str | None = Field(None, description="For operators.")
    external_message: str | None = Field(None, description="For users.")
    stacktrace: str | None = None
    retryable: bool | None = Field(None, description="Whether another attempt may help; absent: not known.")
    from_trace_message: bool | None = Field(None, description="The connector itself reported it.")
    stream_descriptor: StreamDescriptor | None = None
    metadata: dict[str, Any] | None = None


class AttemptFailureSummary(Model):
    """The failures of an attempt, by their timestamps: ten at most, its own before those of its streams."""

    failures: list[FailureReason]
    failures_left_out: int | None = Field(
        None, description="How many more there are; the job's history has them. Absent: none."
    )
    partial_success: bool | None = Field(
        None, description="Whether records were committed before the attempt failed; absent: not known."
    )


class JobFailureReason(Model):
    """Why a job is failed, incomplete or cancelled: of its last failed attempt, its text cut short."""

    attempt_number: int | None = Field(None, description="Absent: no attempt says why; the job itself ended.")
    timestamp: int = Field(description="Milliseconds since 1970 UTC.", json_schema_extra=INT64)
    failure_origin: str | None = None
    failure_type: str | None = None
    external_message: str | None = None
    retryable: bool | None = None


#: Names of contradictions; GET /v1/anomalies tells them in full.
Anomalies = Annotated[
    list[str] | None,
    Field(
        description="What contradicts itself or lacks its evidence; GET /v1/anomalies tells more.",
        examples=[["success_without_evidence"]],
    ),
]


class AttemptRead(Model):
    """One attempt of a job."""

    id: int = Field(description="The attempt's number within the job, as Airbyte has it.")
    attempt_id: str = Field(description="Unique over all jobs; a decimal number, as text.")
    attempt_number: int = Field(description="From 0 within the job.")
    status: AttemptStatus
    created_at: EpochSeconds
    updated_at: EpochSeconds
    ended_at: EpochSeconds | None = None
    bytes_synced: Old = Field(None, description="Committed bytes, else emitted ones. Use totalStats.")
    records_synced: Old = Field(None, description="Committed records, else emitted ones. Use totalStats.")
    total_stats: AttemptStats | None = None
    stream_stats: list[AttemptStreamStats] = Field(default_factory=list)
    failure_summary: AttemptFailureSummary | None = None
    anomalies: Anomalies = None


class ResetConfig(Model):
    """What a reset or clear is to clear."""

    streams_to_reset: list[StreamDescriptor]


class RefreshConfig(Model):
    """What a refresh is to read anew."""

    streams_to_refresh: list[StreamDescriptor]


class JobRead(Model):
    """A job."""

    id: int = Field(json_schema_extra=INT64)
    config_type: str = Field(
        description="check_connection_source, check_connection_destination, discover_schema, get_spec, sync, "
        "reset_connection, refresh or clear; sync where the job's creation was never heard of."
    )
    config_id: str = Field(description="The connection for sync, reset_connection, refresh and clear.")
    enabled_streams: list[StreamDescriptor] | None = None
    created_at: EpochSeconds
    updated_at: EpochSeconds
    started_at: EpochSeconds | None = None
    cancel_requested_at: EpochSeconds | None = Field(
        None, description="When a cancel was asked for that whoever runs the job is to confirm."
    )
    status: JobStatus
    reset_config: ResetConfig | None = None
    refresh_config: RefreshConfig | None = None
    aggregated_stats: JobAggregatedStats | None = None
    stream_aggregated_stats: list[StreamAggregatedStats] | None = None
    failure_reason: JobFailureReason | None = None
    anomalies: Anomalies = None


class LogRead(Model):
    """Lines that the connectors wrote, oldest first; in the middle a line in brackets says what was cut."""

    log_lines: list[str]


class AttemptInfoRead(Model):
    """An attempt with its log."""

    attempt: AttemptRead
    log_type: Literal["formatted"] = "formatted"
    logs: LogRead


class JobInfoRead(Model):
    """A job with all its attempts."""

    job: JobRead
    attempts: list[AttemptInfoRead]


class JobInfoLightRead(Model):
    """A job alone: under 1 KB, whatever its attempts and logs weigh."""

    job: JobRead


class JobIdRequestBody(Model):
    """Names a job."""

    id: JobId


class Problem(Model):
    """Why a request was not answered."""

    message: str
    id: int | None = Field(None, description="The job that it is about.")


class FieldProblem(Model):
    """What is wrong with one field."""

    property_path: str
    message: str


class InvalidInput(Model):
    """Which fields of a request do not fit."""

    message: str
    validation_errors: list[FieldProblem]


class Health(Model):
    """The process is alive."""

    available: bool = True


class Readiness(Model):
    """Whether answers are up to date."""

    ready: bool
    reasons: list[str] = Field(default_factory=list, description="Why it is not ready.")
    degraded: bool = Field(
        default=False,
        description="Somebody should look, though answers are up to date: messages could not become events "
        "in the last hour.",
    )
    warnings: list[str] = Field(default_factory=list, description="Why it is degraded.")
    behind: int | None = Field(None, description="Messages of the event log that are not folded yet.")
    dead_letters: int | None = Field(
        None, description="Messages that could not become events, and were neither retried nor dropped."
    )
