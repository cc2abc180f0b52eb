"""What is said of attempts and of the ends of jobs: requests and answers of Airbyte's config API."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from jobtrail import kinds
from jobtrail.api.fields import WHOLE, Counter, FilterText, JobId, Millis, Number
from jobtrail.api.models import Model
from jobtrail.producers.failure_reason import METADATA_LIMIT
from jobtrail.producers.safe_text import safe_json

#: Text that the events make fit: what no stage can hold is replaced, what is too long is cut.
AnyText = str


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    if problem := kinds.JSON_OBJECT.problem(safe_json(value, METADATA_LIMIT)):
        raise ValueError(problem.detail)
    return value


class NewAttemptRequestBody(Model):
    """Asks for the next attempt of a job."""

    job_id: JobId


class NewAttemptRead(Model):
    """The number of the attempt that has started."""

    attempt_number: int


class AttemptRequestBody(Model):
    """Names an attempt."""

    job_id: JobId
    attempt_number: Number


class StatsBody(Model):
    """Cumulative counters of a stream of an attempt. Absent: not known."""

    records_emitted: Counter = None
    bytes_emitted: Counter = None
    state_messages_emitted: Counter = None
    bytes_committed: Counter = None
    records_committed: Counter = None
    records_rejected: Counter = None
    estimated_records: Counter = None
    estimated_bytes: Counter = None


class StreamStatsBody(Model):
    """Counters of one stream."""

    stream_name: FilterText = Field(examples=["users"])
    stream_namespace: FilterText | None = Field(None, examples=["public"])
    stats: StatsBody


Streams = list[StreamStatsBody]
#: Counters that are no estimates.
COUNTED: Final = frozenset(StatsBody.model_fields) - {"estimated_records", "estimated_bytes"}
#: JSON Schema's way of saying that without streams nothing is counted.
NO_STREAM_SCHEMA: Final[dict[str, Any]] = {
    "if": {
        "properties": {"streamStats": {"type": "array", "minItems": 1}},
        "required": ["streamStats"],
    },
    "else": {
        "properties": {
            "stats": {"properties": {to_camel(name): {"enum": [0, None]} for name in sorted(COUNTED)}}
        },
    },
}


class SaveStatsRequestBody(AttemptRequestBody):
    """What the streams of an attempt have moved so far; a stream's newest counters replace the older."""

    model_config = ConfigDict(json_schema_extra=NO_STREAM_SCHEMA)

    stats: StatsBody = Field(
        default_factory=StatsBody,
        description="Of the whole attempt. Totals are sums over the streams, so this is not kept, and "
        "refused where it counts something and streamStats names no stream.",
    )
    stream_stats: Streams | None = None


class StreamMetadataBody(Model):
    """What is special about one stream in this attempt."""

    stream_name: FilterText = Field(examples=["users"])
    stream_namespace: FilterText | None = Field(None, examples=["public"])
    was_backfilled: bool | None = Field(None, strict=True)
    was_resumed: bool | None = Field(None, strict=True)


class SaveStreamMetadataRequestBody(AttemptRequestBody):
    """What is special about the streams of an attempt."""

    stream_metadata: list[StreamMetadataBody] = Field(default_factory=list)


class FailedStream(Model):
    """The stream that failed."""

    name: AnyText
    namespace: AnyText | None = None


class FailureBody(Model):
    """A failure reason. Unknown origins and types are kept; the names of 2022 become today's."""

    timestamp: Millis | None = Field(
        None, description="Milliseconds since 1970 UTC; absent, or later than now: now."
    )
    failure_origin: AnyText | None = Field(None, examples=["source"])
    failure_type: AnyText | None = Field(None, examples=["config_error"])
    internal_message: AnyText | None = None
    external_message: AnyText | None = None
    stacktrace: AnyText | None = None
    retryable: bool | None = Field(None, strict=True)
    from_trace_message: bool | None = Field(None, strict=True)
    stream_descriptor: FailedStream | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(_storable)] | None = None


class FailureSummaryBody(Model):
    """Why an attempt failed. Whether it was a partial success is told by its committed records, not here."""

    failures: list[FailureBody] = Field(default_factory=list)


class SyncSummary(Model):
    """What a sync moved."""

    stream_stats: Streams | None = None


class SyncOutput(Model):
    """What a sync gave. Of it only the counters of the streams are kept."""

    standard_sync_summary: SyncSummary | None = None

    @property
    def streams(self) -> list[StreamStatsBody]:
        """The counters of the streams."""
        summary = self.standard_sync_summary
        return (summary and summary.stream_stats) or []


class FailAttemptRequestBody(AttemptRequestBody):
    """The attempt has failed."""

    failure_summary: FailureSummaryBody | None = None
    standard_sync_output: SyncOutput | None = None


class JobFailureRequestBody(AttemptRequestBody):
    """The job has failed: no retry is left."""

    #: A failure is published of it, and an event holds no more.
    attempt_number: Annotated[
        int,
        Field(
            ge=0,
            le=kinds.ATTEMPT_NUMBER.maximum,
            examples=[0],
            description="From 0 within the job; not an id.",
        ),
        WHOLE,
    ]
    reason: AnyText | None = Field(None, description="Why; kept as a failure of the attempt.")


class JobSuccessRequestBody(AttemptRequestBody):
    """The attempt has done all it had to, and so has the job."""

    standard_sync_output: SyncOutput | None = None


class PersistCancellationRequestBody(AttemptRequestBody):
    """The job is cancelled."""

    attempt_failure_summary: FailureSummaryBody | None = None


class OperationResult(Model):
    """Whether it was done."""

    succeeded: bool
    message: str | None = Field(None, description="What it did not change, or that it cannot be read yet.")
