"""Rows of the views into answers: plain values, named as the models name them, without what is not known.

A page of a job list is a thousand small objects, and those are made several times faster as dicts than as
models. Where models are needed they are validated from the same dicts, so each field is defined once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from jobtrail.api.models import (
    AttemptFailureSummary,
    AttemptRead,
    AttemptStats,
    AttemptStreamStats,
    JobAggregatedStats,
    JobFailureReason,
    JobRead,
    Model,
    StreamAggregatedStats,
    StreamDescriptor,
)

Row = Mapping[str, Any]
Answer = dict[str, Any]
Names = Sequence[tuple[str, str]]


def _names(model: type[Model]) -> Names:
    """What each field of a model is called in a row, and outside."""
    return [(name, field.alias or name) for name, field in model.model_fields.items()]


JOB: Final = _names(JobRead)
ATTEMPT: Final = _names(AttemptRead)
STREAM: Final = _names(AttemptStreamStats)
STATS: Final = _names(AttemptStats)
JOB_TOTALS: Final = _names(JobAggregatedStats)
STREAM_TOTALS: Final = _names(StreamAggregatedStats)
DESCRIPTOR: Final = _names(StreamDescriptor)


def job(row: Row, streams: Sequence[Row]) -> Answer:
    """A job with its totals; `streams` are its rows of the query `streams`."""
    counted = [stream for stream in streams if stream["counts"]]
    by_stream = defaultdict(list)
    for stream in counted:
        by_stream[stream["stream_namespace"] or "", stream["stream_name"]].append(stream)
    return _job(
        row,
        _sums(JOB_TOTALS, counted) if counted else None,
        [_named(STREAM_TOTALS, _stream_totals(by_stream[key])) for key in sorted(by_stream)],
    )


def light(row: Row) -> Answer:
    """A job without what may be long, from its row of the query `job_light`."""
    totals = None if row["counted_job_id"] is None else _named(JOB_TOTALS, row)
    # SQL's sums of bigint are numeric.
    return _job(row, totals and {alias: int(total) for alias, total in totals.items()}, None)


def attempt(row: Row, streams: Sequence[Row]) -> Answer:
    """An attempt with its totals; `streams` are its rows of the query `streams`."""
    totals = _sums(STATS, streams) if streams else {}
    summary = row["failure_summary"]
    return _named(
        ATTEMPT,
        {
            **row,
            "id": row["attempt_number"],
            "attempt_id": str(row["attempt_id"]),
            "created_at": _seconds(row["created_at"]),
            "updated_at": _seconds(row["updated_at"]),
            "ended_at": _seconds(row["ended_at"]),
            "bytes_synced": totals.get("bytesCommitted", totals.get("bytesEmitted")),
            "records_synced": totals.get("recordsCommitted", totals.get("recordsEmitted")),
            "total_stats": totals if streams else None,
            "stream_stats": [
                _named(STREAM, {**stream, "stats": _named(STATS, stream)}) for stream in streams
            ],
            "failure_summary": _checked(AttemptFailureSummary, summary),
        },
    )


def _job(row: Row, totals: Answer | None, by_stream: list[Answer] | None) -> Answer:
    to_reset, to_refresh = _streams(row["streams_to_reset"]), _streams(row.get("streams_to_refresh", ()))
    return _named(
        JOB,
        {
            **row,
            "id": row["job_id"],
            "enabled_streams": _streams(row.get("streams", ())) or None,
            "created_at": _seconds(row["created_at"]),
            "updated_at": _seconds(row["updated_at"]),
            "started_at": _seconds(row["started_at"]),
            "reset_config": {"streamsToReset": to_reset} if to_reset else None,
            "refresh_config": {"streamsToRefresh": to_refresh} if to_refresh else None,
            "aggregated_stats": totals,
            "stream_aggregated_stats": by_stream,
            "failure_reason": _checked(JobFailureReason, row["failure_reason"]),
        },
    )


def _stream_totals(rows: Sequence[Row]) -> Row:
    """Of one stream over the attempts that count."""
    return {
        **rows[0],
        **{name: _sum(name, rows) for name, _ in JOB_TOTALS},
        "was_resumed": _any("was_resumed", rows),
        "was_backfilled": _any("was_backfilled", rows),
    }


def _named(names: Names, values: Row) -> Answer:
    get = values.get
    return {alias: value for name, alias in names if (value := get(name)) is not None}


def _sums(names: Names, rows: Sequence[Row]) -> Answer:
    return {alias: total for name, alias in names if (total := _sum(name, rows)) is not None}


def _sum(name: str, rows: Sequence[Row]) -> int | None:
    """None: no row knows."""
    known = [value for row in rows if (value := row[name]) is not None]
    return sum(known) if known else None


def _any(name: str, rows: Sequence[Row]) -> bool | None:
    known = [row[name] for row in rows if row[name] is not None]
    return any(known) if known else None


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _checked(model: type[Model], value: Answer | None) -> Answer | None:
    """Of JSON that events carried: what the model knows of it."""
    if not value:
        return None
    return model.model_validate(value).model_dump(by_alias=True, exclude_none=True)


def _streams(descriptors: Iterable[Row]) -> list[Answer]:
    return [
        _named(DESCRIPTOR, {"name": stream["name"], "namespace": stream.get("namespace") or None})
        for stream in descriptors
    ]
