"""The events: what can happen to a job, as past facts. Their names and fields are a storage format.

A field may be added with a default (and `version` raised); nothing is ever renamed, removed or retyped.
After a change run `make schemas`. Every job event is keyed by its job id, so that one job's events stay
in order in one partition. Counters are cumulative; instants are UTC with microseconds.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from uuid_utils import uuid7

from jobtrail import kinds
from jobtrail.kinds import Kind
from jobtrail.quick_checks import quick_checks


def _checked_by(kind: Kind) -> AfterValidator:
    def check(value: object) -> object:
        if problem := kind.problem(value):
            # The text is passed as data: a brace in it must not be taken for a placeholder.
            raise PydanticCustomError(problem.reason, "{detail}", {"detail": problem.detail})
        return value

    return AfterValidator(check)


def _from_micros(value: object) -> object:
    """On the wire an instant is microseconds since 1970."""
    if not isinstance(value, int):
        return value
    if problem := kinds.INSTANT.problem(value):
        raise PydanticCustomError(problem.reason, "{detail}", {"detail": problem.detail})
    return kinds.EPOCH + timedelta(microseconds=value)


EventId = Annotated[str, kinds.EVENT_ID_KIND, _checked_by(kinds.EVENT_ID_KIND)]
Instant = Annotated[AwareDatetime, kinds.INSTANT, BeforeValidator(_from_micros), _checked_by(kinds.INSTANT)]
JobId = Annotated[int, kinds.JOB_ID, _checked_by(kinds.JOB_ID)]
AttemptNumber = Annotated[int, kinds.ATTEMPT_NUMBER, _checked_by(kinds.ATTEMPT_NUMBER)]
Count = Annotated[int, kinds.COUNT, _checked_by(kinds.COUNT)]
Change = Annotated[int, kinds.CHANGE, _checked_by(kinds.CHANGE)]
Name = Annotated[str, kinds.NAME, _checked_by(kinds.NAME)]
Word = Annotated[str, kinds.WORD, _checked_by(kinds.WORD)]
Text = Annotated[str, kinds.TEXT, _checked_by(kinds.TEXT)]
JsonObject = Annotated[str, kinds.JSON_OBJECT, _checked_by(kinds.JSON_OBJECT)]
Flag = Annotated[bool, kinds.FLAG]


class ConfigType(StrEnum):
    """Kinds of job (Airbyte's JobConfigType)."""

    CHECK_CONNECTION_SOURCE = "check_connection_source"
    CHECK_CONNECTION_DESTINATION = "check_connection_destination"
    DISCOVER_SCHEMA = "discover_schema"
    GET_SPEC = "get_spec"
    SYNC = "sync"
    RESET_CONNECTION = "reset_connection"
    REFRESH = "refresh"
    CLEAR = "clear"


class ScopeType(StrEnum):
    """What a job belongs to."""

    WORKSPACE = "workspace"
    ORGANIZATION = "organization"


class FailureOrigin(StrEnum):
    """Whose fault a failure is; unset for a cancellation (Airbyte's FailureOrigin)."""

    SOURCE = "source"
    DESTINATION = "destination"
    REPLICATION = "replication"
    PERSISTENCE = "persistence"
    AIRBYTE_PLATFORM = "airbyte_platform"
    NORMALIZATION = "normalization"
    DBT = "dbt"
    UNKNOWN = "unknown"


class FailureType(StrEnum):
    """What kind of failure it is (Airbyte's FailureType)."""

    CONFIG_ERROR = "config_error"
    SYSTEM_ERROR = "system_error"
    MANUAL_CANCELLATION = "manual_cancellation"
    REFRESH_SCHEMA = "refresh_schema"
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    DESTINATION_TIMEOUT = "destination_timeout"
    TRANSIENT_ERROR = "transient_error"


#: What the failure summary says of an attempt that was cancelled (Airbyte's words).
CANCELLED_INTERNAL_MESSAGE: Final = "Setting attempt to FAILED because the job was cancelled"
CANCELLED_EXTERNAL_MESSAGE: Final = "This attempt was cancelled"
#: What is said of a job that ended without a word from any attempt on why.
CANCELLED_JOB_MESSAGE: Final = "This job was cancelled"
FAILED_JOB_MESSAGE: Final = "This job failed, and nobody said why"
#: In a failure's metadata: when it was, in milliseconds since 1970 UTC, if it was told later than that.
FAILED_AT: Final = "failedAt"


class Reporter(StrEnum):
    """Who counted: the source itself, the platform between the two, or the destination itself."""

    SOURCE = "source"
    PLATFORM = "platform"
    DESTINATION = "destination"


class RunState(StrEnum):
    """What a stream is doing."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RATE_LIMITED = "RATE_LIMITED"
    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"


class IncompleteRunCause(StrEnum):
    """Why a stream is INCOMPLETE."""

    FAILED = "FAILED"
    CANCELED = "CANCELED"


class SyncMode(StrEnum):
    """How a source reads a stream."""

    FULL_REFRESH = "full_refresh"
    INCREMENTAL = "incremental"


def new_event_id() -> str:
    """A UUIDv7: made when the caller emits, kept through spool and resend."""
    return str(uuid7())


def decision_id(*decided: str | int) -> str:
    """A UUIDv8 of what was decided, so that two deciders publish the same event (RFC 9562, 5.8)."""
    digest = bytearray(hashlib.sha256("\x1f".join(map(str, decided)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def attempt_id(job_id: int, attempt_number: int) -> int:
    """The attempt's id, unique over all jobs and the same after every rebuild. Shown as a decimal string."""
    return job_id * 1024 + attempt_number


def utc_now() -> datetime:
    """The time of day for `occurred_at`."""
    return datetime.now(UTC)


@lru_cache(1024)
def _key(value: str | int) -> bytes:
    return str(value).encode()


class Record(BaseModel):
    """A part of an event that repeats; an Avro record."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class StreamDescriptor(Record):
    """A stream's identity. An empty namespace is no namespace."""

    namespace: Name | None = None
    name: Name


class ConfiguredStream(Record):
    """A stream that the job is to move."""

    namespace: Name | None = None
    name: Name
    sync_mode: Name | None = None
    """full_refresh or incremental; decides how totals add up over attempts."""
    destination_sync_mode: Name | None = None
    """append, overwrite, append_dedup, …"""


class Label(Record):
    """A caller's own key and value."""

    key: Name
    value: Text


class Event(BaseModel):
    """What every event has."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    #: Raised when a field is added.
    version: ClassVar[int] = 1
    #: The field whose text is the Kafka key.
    key_field: ClassVar[str] = "job_id"

    event_id: EventId = Field(default_factory=new_event_id)
    """One event has one id, however often it is sent; one id has one body."""
    occurred_at: Instant = Field(default_factory=utc_now)
    """When it happened, by the caller's clock."""

    def __init__(self, /, **facts: Any) -> None:
        """Raises ValidationError, which names each field that does not fit."""
        try:
            quick_checks(type(self)).validate_python(facts, self_instance=self)
        except ValidationError:
            super().__init__(**facts)

    # Else pydantic takes it for one of another meaning, and reads messages through it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @property
    def key(self) -> bytes:
        """The Kafka key: keeps what belongs together in one partition, in order."""
        return _key(getattr(self, self.key_field))


class JobEvent(Event):
    """About a job."""

    job_id: JobId
    """The job."""


class AttemptEvent(JobEvent):
    """About one attempt of a job."""

    attempt_number: AttemptNumber
    """From 0 within the job; not the attempt id."""


class StreamEvent(AttemptEvent):
    """About one stream of an attempt."""

    stream_namespace: Name | None = None
    """Namespace of the stream; null and empty mean the same."""
    stream_name: Name
    """Name of the stream."""


class JobCreated(JobEvent):
    """A job was asked for."""

    config_type: Name
    """Kind of job: a ConfigType."""
    config_id: Name
    """What is to be run: the connection for sync, reset, refresh and clear, else the actor or definition."""
    connection_id: Name | None = None
    """The connection, where the job has one."""
    scope_type: Name | None = None
    """workspace or organization."""
    scope_id: Name | None = None
    """Id of the workspace or organization."""
    workspace_id: Name | None = None
    """The workspace, where the caller resolved it."""
    streams: list[ConfiguredStream] = Field(default_factory=list)
    """Streams that the job is to move."""
    streams_to_reset: list[StreamDescriptor] = Field(default_factory=list)
    """Streams to clear."""
    streams_to_refresh: list[StreamDescriptor] = Field(default_factory=list)
    """Streams to read anew."""
    labels: list[Label] = Field(default_factory=list)
    """The caller's own keys and values."""


class CancelRequested(JobEvent):
    """Somebody asked that the job be cancelled; whoever runs it confirms with Cancelled."""

    requested_by: Name | None = None
    """Who asked."""


class Cancelled(JobEvent):
    """The job was cancelled, or, with an attempt number, that attempt alone."""

    attempt_number: AttemptNumber | None = None
    """None: the whole job."""
    cancelled_by: Name | None = None
    """Who cancelled."""


class JobFailed(JobEvent):
    """The job failed for good: no retry is left."""


class AttemptStarted(AttemptEvent):
    """A worker took the attempt."""

    worker: Name | None = None
    """Host, pod or process that runs it."""
    dataplane: Name | None = None
    """Dataplane that the worker belongs to."""
    source_image: Name | None = None
    """Image or command of the source connector."""
    source_version: Name | None = None
    """Version of the source connector."""
    destination_image: Name | None = None
    """Image or command of the destination connector."""
    destination_version: Name | None = None
    """Version of the destination connector."""


class AttemptSucceeded(AttemptEvent):
    """The attempt did all it had to; this ends the job as well."""


class AttemptFailed(AttemptEvent):
    """The attempt ended without success; Failure events say why."""


class AttemptHeartbeat(AttemptEvent):
    """The attempt is alive though it has nothing to say."""


class Failure(AttemptEvent):
    """A failure reason. With a stream it is that stream's alone and ends nothing."""

    stream_namespace: Name | None = None
    """Namespace of the stream that failed."""
    stream_name: Name | None = None
    """Stream that failed; none: the attempt did."""
    failure_origin: Name | None = None
    """Whose fault: a FailureOrigin; unset for a cancellation."""
    failure_type: Name | None = None
    """What kind: a FailureType."""
    internal_message: Text | None = None
    """For operators."""
    external_message: Text | None = None
    """For users."""
    stacktrace: Text | None = None
    """As the failing program printed it."""
    retryable: Flag | None = None
    """Whether another attempt may help; unset: not known."""
    from_trace_message: Flag | None = None
    """Whether the connector itself reported it, by an Airbyte trace message."""
    metadata: JsonObject | None = None
    """More, as the text of a JSON object."""


class StreamStats(StreamEvent):
    """Cumulative counters of one stream as one reporter sees it; unset: not known.

    The one with the highest (sequence, event_id) is valid, so a lost, late or repeated one does no harm.
    """

    reporter: Word
    """Who counted: a Reporter."""
    sequence: Count
    """Only grows for one stream and reporter: max(previous + 1, now in microseconds)."""
    records_emitted: Count | None = None
    """Records that the source gave."""
    bytes_emitted: Count | None = None
    """UTF-8 length of those records' data."""
    state_messages_emitted: Count | None = None
    """STATE messages that the source gave."""
    records_committed: Count | None = None
    """Records that the destination confirmed."""
    bytes_committed: Count | None = None
    """UTF-8 length of those records' data."""
    records_rejected: Count | None = None
    """Records that the destination refused."""
    estimated_records: Count | None = None
    """How many records the source expects to give."""
    estimated_bytes: Count | None = None
    """How many bytes the source expects to give."""


class StreamStatus(StreamEvent):
    """A stream changed its run state."""

    run_state: Word
    """A RunState."""
    incomplete_run_cause: Name | None = None
    """Why it is INCOMPLETE: an IncompleteRunCause."""
    quota_reset_at: Instant | None = None
    """When a RATE_LIMITED stream may go on."""


class StreamMetadata(StreamEvent):
    """What is special about a stream in this attempt."""

    was_resumed: Flag | None = None
    """The full refresh went on where the attempt before had ended."""
    was_backfilled: Flag | None = None
    """New columns were filled for old records."""


class WorkspaceRegistered(Event):
    """A workspace exists, or its facts changed."""

    key_field: ClassVar[str] = "workspace_id"

    workspace_id: Name
    """The workspace."""
    organization_id: Name | None = None
    """The organization that it belongs to."""
    is_default: Flag = False
    """Whether a job scoped to the organization belongs here."""
    name: Text | None = None
    """For people."""


class DataplaneHeartbeat(Event):
    """A dataplane is alive."""

    key_field: ClassVar[str] = "dataplane_id"

    dataplane_id: Name
    """The dataplane."""
    dataplane_version: Name | None = None
    """The version that it runs."""


class WindowComputed(Event):
    """What the events of one partition of the log come to within one window of event time, so far.

    Of one window_id the one with the highest sequence is valid. A window of the whole log is the sum over its
    partitions. Counts that are not of this measure are unset.
    """

    key_field: ClassVar[str] = "window_id"

    window_id: Word
    """A UUIDv8 of measure, window, partition and what it is about."""
    measure: Word
    """What is counted: attempts, connectors, failures, streams or refused (jobtrail.consumers.windows)."""
    window_type: Word
    """tumbling or hopping."""
    window_start: Instant
    """The first instant of it."""
    window_end: Instant
    """The first instant behind it."""
    log_partition: Count
    """Partition of the event log that it is of."""
    sequence: Count
    """Offset in that partition up to which events count."""
    connection_id: Name | None = None
    """Measures attempts and streams; unset: no JobCreated told."""
    connector_role: Name | None = None
    """Measures connectors and failures: source or destination."""
    connector: Name | None = None
    """Measures connectors and failures: image or command; unset: no AttemptStarted told."""
    failure_origin: Name | None = None
    """Measure failures: a FailureOrigin; unset: not known."""
    failure_type: Name | None = None
    """Measure failures: a FailureType; unset: not known."""
    stream_namespace: Name | None = None
    """Measure streams."""
    stream_name: Name | None = None
    """Measure streams."""
    attempts_succeeded: Count | None = None
    """Attempts that ended in it with success."""
    attempts_failed: Count | None = None
    """Attempts that ended in it without; cancelled ones are no failures."""
    attempts_cancelled: Count | None = None
    """Attempts that ended in it by a cancellation."""
    attempts_timed: Count | None = None
    """Measure attempts: those of them whose start is known."""
    duration_ms: Count | None = None
    """Measure attempts: from start to end, all of those together, in milliseconds."""
    longest_ms: Count | None = None
    """Measure attempts: the longest of those, in milliseconds."""
    records_emitted: Change | None = None
    """Measure streams: by how much the counter rose in it."""
    bytes_emitted: Change | None = None
    """Measure streams: likewise."""
    records_committed: Change | None = None
    """Measure streams: likewise."""
    bytes_committed: Change | None = None
    """Measure streams: likewise."""
    streams_stalled: Count | None = None
    """Measure streams: how often it ran through all of it, in an attempt that went on, and did not move."""
    messages_refused: Count | None = None
    """Measure refused: messages of job events that came too late, or were dated ahead, to count anywhere."""


class AlertEvent(Event):
    """About an alert."""

    key_field: ClassVar[str] = "alert_id"

    alert_id: Word
    """A hash of rule, version, subject and window; a UUID."""
    rule: Name
    """Name of the rule."""
    rule_version: Word
    """A hash of what decides when the rule triggers."""
    kind: Name
    """What the rule looks for: failure_rate, no_success, …"""
    severity: Name
    """info, warning or critical."""
    subject: Name
    """The connection, or `all`: the installation."""
    connection_id: Name | None = None
    """The connection, where the rule judges connections."""
    workspace_id: Name | None = None
    """The connection's workspace, where it is known."""
    window_began_at: Instant
    """Begin of what the alert is about."""
    window_ended_at: Instant
    """Its end."""
    detail: Text
    """Why, for a person."""


class AlertTriggered(AlertEvent):
    """A rule began to hold for a subject, at `occurred_at`."""


class AlertResolved(AlertEvent):
    """It no longer does."""

    triggered_at: Instant
    """When the alert triggered."""


#: All event types, in the order of a job's life.
EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    JobCreated,
    AttemptStarted,
    StreamMetadata,
    StreamStatus,
    StreamStats,
    AttemptHeartbeat,
    Failure,
    AttemptFailed,
    AttemptSucceeded,
    CancelRequested,
    Cancelled,
    JobFailed,
    WorkspaceRegistered,
    DataplaneHeartbeat,
    WindowComputed,
    AlertTriggered,
    AlertResolved,
)
#: Those of the registry topic and of the analytics topic. With those of alerts, all that is no job event.
REGISTRY_TYPES: Final = frozenset({WorkspaceRegistered, DataplaneHeartbeat})
ANALYTICS_TYPES: Final = frozenset({WindowComputed})
#: Those of the topic of alerts. No read model holds them: their state is in tables of the alerter's own.
ALERT_TYPES: Final = frozenset({AlertTriggered, AlertResolved})
