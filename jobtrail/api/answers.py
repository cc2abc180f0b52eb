"""Rows of the views into answers: structs with the fields of the models, without what is not known.

A page of a job list is a thousand small objects, and those are made and written several times faster as
structs than as models. Where models are needed they are validated from the same answers, so each field is
defined once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import msgspec
from pydantic_core import to_json

from jobtrail.api.models import (
    AttemptFailureSummary,
    AttemptRead,
    AttemptStats,
    AttemptStreamStats,
    JobAggregatedStats,
    JobFailureReason,
    JobRead,
    Model,
    RefreshConfig,
    ResetConfig,
    StreamAggregatedStats,
    StreamDescriptor,
)
from jobtrail.events import FailureType

#: Failures that an answer has of one attempt.
MOST_FAILURES: Final = 10

Row = Mapping[str, Any]
#: A struct, or a dict of such.
Answer = Any


def _struct(model: type[Model]) -> type[msgspec.Struct]:
    """Holds what the model holds; what is None is not written."""
    return msgspec.defstruct(
        model.__name__,
        [(name, Any, None) for name in model.model_fields],
        rename={name: field.alias or name for name, field in model.model_fields.items()},
        omit_defaults=True,
        gc=False,
    )


def _of_row(model: type[Model]) -> Callable[[Row], tuple[Any, ...]]:
    """The fields of a model in a row."""
    return itemgetter(*model.model_fields)


_Job: Final[Any] = _struct(JobRead)
_Attempt: Final[Any] = _struct(AttemptRead)
_Stream: Final[Any] = _struct(AttemptStreamStats)
_Stats: Final[Any] = _struct(AttemptStats)
_JobTotals: Final[Any] = _struct(JobAggregatedStats)
_StreamTotals: Final[Any] = _struct(StreamAggregatedStats)
_Descriptor: Final[Any] = _struct(StreamDescriptor)
_ResetConfig: Final[Any] = _struct(ResetConfig)
_RefreshConfig: Final[Any] = _struct(RefreshConfig)
_stats_of: Final = _of_row(AttemptStats)
_totals_of: Final = _of_row(JobAggregatedStats)
_stream_totals_of: Final = _of_row(StreamAggregatedStats)


def written(answer: Answer) -> bytes:
    """The JSON of an answer."""
    try:
        return msgspec.json.encode(answer)
    except OverflowError:  # a sum or somebody's metadata beyond 64 bits
        return to_json(plain(answer))


def plain(answer: Answer) -> Any:
    """An answer as models are validated from: dicts and lists."""
    return msgspec.to_builtins(answer)


def job(row: Row, streams: Sequence[Row]) -> Answer:
    """A job with its totals; `streams` are its rows of the query `streams`."""
    counted = [stream for stream in streams if stream["counts"]]
    by_stream = defaultdict(list)
    for stream in counted:
        by_stream[stream["stream_namespace"] or "", stream["stream_name"]].append(stream)
    return _job(
        row,
        _JobTotals(*_totals(map(_totals_of, counted))) if counted else None,
        [_stream_totals(by_stream[key]) for key in sorted(by_stream)],
    )


def light(row: Row) -> Answer:
    """A job without what may be long, from its row of the query `job_light`."""
    if row["counted_job_id"] is None:
        return _job(row, None, None)
    # SQL's sums of bigint are numeric.
    totals = [None if total is None else int(total) for total in _totals_of(row)]
    return _job(row, _JobTotals(*totals), None)


def attempt(row: Row, streams: Sequence[Row]) -> Answer:
    """An attempt with its totals; `streams` are its rows of the query `streams`."""
    stats = [_stats_of(stream) for stream in streams]
    totals = _Stats(*_totals(stats)) if streams else None
    return _Attempt(
        id=row["attempt_number"],
        attempt_id=str(row["attempt_id"]),
        attempt_number=row["attempt_number"],
        status=row["status"],
        created_at=_seconds(row["created_at"]),
        updated_at=_seconds(row["updated_at"]),
        ended_at=_seconds(row["ended_at"]),
        bytes_synced=totals and _either(totals.bytes_committed, totals.bytes_emitted),
        records_synced=totals and _either(totals.records_committed, totals.records_emitted),
        total_stats=totals,
        stream_stats=[
            _Stream(stream["stream_name"], stream["stream_namespace"], _Stats(*counters))
            for stream, counters in zip(streams, stats, strict=True)
        ],
        failure_summary=_checked(AttemptFailureSummary, _shortened(row["failure_summary"])),
        anomalies=row["anomalies"],
    )


def _job(row: Row, totals: Answer, by_stream: list[Answer] | None) -> Answer:
    to_reset, to_refresh = _streams(row["streams_to_reset"]), _streams(row.get("streams_to_refresh", ()))
    return _Job(
        id=row["job_id"],
        config_type=row["config_type"],
        config_id=row["config_id"],
        enabled_streams=_streams(row.get("streams", ())) or None,
        created_at=_seconds(row["created_at"]),
        updated_at=_seconds(row["updated_at"]),
        started_at=_seconds(row["started_at"]),
        cancel_requested_at=_seconds(row["cancel_requested_at"]),
        status=row["status"],
        reset_config=_ResetConfig(to_reset) if to_reset else None,
        refresh_config=_RefreshConfig(to_refresh) if to_refresh else None,
        aggregated_stats=totals,
        stream_aggregated_stats=by_stream,
        failure_reason=_checked(JobFailureReason, row["failure_reason"]),
        anomalies=row["anomalies"],
    )


def _stream_totals(rows: Sequence[Row]) -> Answer:
    """Of one stream over the attempts that count."""
    if len(rows) == 1:
        return _StreamTotals(*_stream_totals_of(rows[0]))
    names, namespaces, *columns = zip(*map(_stream_totals_of, rows), strict=True)
    return _StreamTotals(names[0], namespaces[0], *map(_total, columns))


def _totals(rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Of each column."""
    return [_total(column) for column in zip(*rows, strict=True)]


def _total(column: Sequence[Any]) -> Any:
    """The sum of counters; of flags, whether one is set. None: no row knows."""
    known = column if None not in column else [value for value in column if value is not None]
    if not known:
        return None
    return any(known) if isinstance(known[0], bool) else sum(known)


def _either(value: int | None, otherwise: int | None) -> int | None:
    return otherwise if value is None else value


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _checked(model: type[Model], value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of JSON that events carried: what the model knows of it."""
    if not value:
        return None
    return model.model_validate(value).model_dump(by_alias=True, exclude_none=True)


def _shortened(summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same with MOST_FAILURES: a cancellation, what ended the attempt, and what was first."""
    found = summary["failures"] if summary else []
    if summary is None or len(found) <= MOST_FAILURES:
        return summary

    def weight(at: int) -> tuple[bool, bool, int]:
        failure = found[at]
        cancelled = failure.get("failureType") == FailureType.MANUAL_CANCELLATION
        return not cancelled, "streamDescriptor" in failure, at

    kept = sorted(sorted(range(len(found)), key=weight)[:MOST_FAILURES])
    more = len(found) - MOST_FAILURES
    return {**summary, "failures": [found[at] for at in kept], "failuresLeftOut": more}


def _streams(descriptors: Iterable[Row]) -> list[Answer]:
    return [_Descriptor(stream["name"], stream.get("namespace") or None) for stream in descriptors]
