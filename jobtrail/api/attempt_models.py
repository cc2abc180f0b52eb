"""What is said of attempts and of the ends of jobs: requests and answers of Airbyte's config API."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from jobtrail import kinds
from jobtrail.api.models import FilterText, Model
from jobtrail.producers.failure_reason import METADATA_LIMIT
from jobtrail.producers.safe_text import safe_json

INT64: Final[dict[str, Any]] = {"format": "int64"}
#: Text that the events make fit: what no stage can hold is replaced, what is too long is cut.
AnyText = str

#: An int64 that OpenAPI, whose bounds are floats, tells exactly; the greatest of all it cannot.
GREATEST: Final = 9 * 10**18


def _whole(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("it is no whole number")  # noqa: TRY004  # pydantic's word for what does not fit
    return value


#: JSON knows no difference between 7 and 7.0. Stands last: what stands behind it is not in the document.
WHOLE: Final = BeforeValidator(_whole)
JobId = Annotated[int, Field(ge=0, le=GREATEST, examples=[42], json_schema_extra=INT64), WHOLE]
Number = Annotated[
    int,
    Field(ge=0, le=2**31 - 1, examples=[0], description="From 0 within the job; not an id."),
    WHOLE,
]
Counter = Annotated[int, Field(ge=0, le=GREATEST, json_schema_extra=INT64), WHOLE] | None
#: Milliseconds since 1970 UTC.
Millis = Annotated[
    int,
    Field(
        ge=(kinds.INSTANT.minimum or 0) // 1000,
        le=(kinds.INSTANT.maximum or 0) // 1000,
        examples=[1_767_225_600_000],
        json_schema_extra=INT64,
    ),
    WHOLE,
]


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


class SaveStatsRequestBody(AttemptRequestBody):
    """What the streams of an attempt have moved so far; a stream's newest counters replace the older."""

    stats: StatsBody = Field(
        default_factory=StatsBody,
        description="Of the whole attempt. Totals are sums over the streams, so this is not kept.",
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

    timestamp: Millis | None = Field(None, description="Milliseconds since 1970 UTC; absent: now.")
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

    reason: AnyText | None = Field(None, description="Why; kept where the attempt has no end of its own.")


class JobSuccessRequestBody(AttemptRequestBody):
    """The attempt has done all it had to, and so has the job."""

    standard_sync_output: SyncOutput | None = None


class PersistCancellationRequestBody(AttemptRequestBody):
    """The job is cancelled."""

    attempt_failure_summary: FailureSummaryBody | None = None


class OperationResult(Model):
    """Whether it was done."""

    succeeded: bool
