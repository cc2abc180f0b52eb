"""From what is said over HTTP of an attempt to events. Pure: instants and ids come from what was `Said`.

An instant of the caller's that is later than ours is taken as ours: events of one job that come this way
are then in the order in which they came, and no end has something after it for the sake of a clock. A failure
is told of when the attempt ends: its event bears that instant, and its metadata when it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from jobtrail.api.attempt_models import FailureBody, FailureSummaryBody, StreamMetadataBody, StreamStatsBody
from jobtrail.api.decisions import Said
from jobtrail.events import FAILED_AT, Failure, Reporter, StreamMetadata, StreamStats, decision_id
from jobtrail.kinds import EPOCH, micros
from jobtrail.producers.failure_reason import METADATA_LIMIT, FailureReason, descriptor, reason
from jobtrail.producers.safe_text import safe_json

S = TypeVar("S", StreamStatsBody, StreamMetadataBody)
#: Characters of a failure's metadata that are kept for what is added to it.
ADDED: Final = 200


def stats_events(
    job_id: int, attempt_number: int, streams: Iterable[StreamStatsBody], said: Said
) -> list[StreamStats]:
    """The counters of each stream, as the platform sees them; of one that comes twice, the last."""
    return [
        StreamStats(
            **said.mark(StreamStats, index),
            job_id=job_id,
            attempt_number=attempt_number,
            stream_namespace=stream.stream_namespace or None,
            stream_name=stream.stream_name,
            reporter=Reporter.PLATFORM.value,
            sequence=micros(said.at),
            **stream.stats.model_dump(),
        )
        for index, stream in enumerate(_last_of_each(streams))
    ]


def metadata_events(
    job_id: int, attempt_number: int, streams: Iterable[StreamMetadataBody], said: Said
) -> list[StreamMetadata]:
    """What is special about each stream; of one that comes twice, the last."""
    return [
        StreamMetadata(
            **said.mark(StreamMetadata, index),
            job_id=job_id,
            attempt_number=attempt_number,
            stream_namespace=stream.stream_namespace or None,
            stream_name=stream.stream_name,
            was_resumed=stream.was_resumed,
            was_backfilled=stream.was_backfilled,
        )
        for index, stream in enumerate(_last_of_each(streams))
    ]


def failure_events(
    job_id: int, attempt_number: int, summary: FailureSummaryBody | None, said: Said
) -> list[Failure]:
    """The failures of a summary, with unsafe and over-long text made fit."""
    return [
        failure_event(job_id, attempt_number, _reason(failure, said))
        for failure in (summary.failures if summary else [])
    ]


def failure_event(job_id: int, attempt_number: int, why: FailureReason) -> Failure:
    """A failure whose id tells what it says: the same one said again is the same event."""
    event = why.event(job_id, attempt_number)
    said = event.model_dump_json(exclude={"event_id"})
    return event.model_copy(update={"event_id": decision_id("http", "Failure", said)})


def _reason(failure: FailureBody, said: Said) -> FailureReason:
    stream = failure.stream_descriptor
    return reason(
        failure.failure_origin,
        failure_type=failure.failure_type,
        internal_message=failure.internal_message,
        external_message=failure.external_message,
        stacktrace=failure.stacktrace,
        retryable=failure.retryable,
        from_trace_message=failure.from_trace_message,
        stream=descriptor(stream.name, stream.namespace) if stream else None,
        metadata=_metadata(failure, said),
        occurred_at=said.at,
    )


def _metadata(failure: FailureBody, said: Said) -> dict[str, Any] | None:
    """With when it was, where that was before it was told of; it is there however long the rest is."""
    if failure.timestamp is None or failure.timestamp >= micros(said.at) // 1000:
        return failure.metadata
    rest = safe_json(failure.metadata or {}, METADATA_LIMIT - ADDED)
    return {**msgspec.json.decode(rest), FAILED_AT: failure.timestamp}


def not_later(millis: int | None, now: datetime) -> datetime:
    """An instant of the caller's, in milliseconds since 1970; `now` where it is later or not told."""
    return now if millis is None else min(EPOCH + timedelta(milliseconds=millis), now)


def _last_of_each(streams: Iterable[S]) -> list[S]:
    return list(
        {(stream.stream_namespace or None, stream.stream_name): stream for stream in streams}.values()
    )
