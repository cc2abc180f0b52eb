"""The page of one job: the answer first, then what it rests on; now, or as of a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from jobtrail import kinds
from jobtrail.api import past, reads, verdict
from jobtrail.api.anomalies import anomaly_list
from jobtrail.api.models import ENDED, AttemptInfoRead, JobInfoRead, JobStatus
from jobtrail.api.outcomes import advice_on
from jobtrail.api.queries import query
from jobtrail.api.reads import Database, Row
from jobtrail.retry import RetryLimits
from jobtrail.settings import Settings
from jobtrail.web import charts
from jobtrail.web.jobs import trends_of
from jobtrail.web.pages import Page

PARTS: Final = ("answer", "attempts", "streams", "failures", "anomalies", "logs", "events")
MOST_ANOMALIES: Final = 100
MOST_EVENTS: Final = 500
#: Fields that are not on an event's line, and characters of it.
LONG: Final = frozenset({"stacktrace", "metadata", "internal_message", "streams"})
SHORT: Final = 110
#: Lines of each attempt's log, from its end.
LOG_LINES: Final = 200
#: Fields of an event that have columns of their own.
NOT_SHOWN: Final = frozenset({"event_id", "occurred_at", "job_id", "attempt_number", "sequence"})


@dataclass(frozen=True, slots=True)
class Moment:
    """The job as of an instant: its past up to then, and when anything at all happened to it."""

    at: datetime
    instants: Sequence[datetime]
    notes: Sequence[str]


def job_page(
    database: Database, job_id: int, home: Path | None, limits: RetryLimits, moment: Moment | None = None
) -> Page:
    """Raises JobNotFoundError. The log lines come from `home`."""
    now = moment.at if moment else datetime.now(UTC)
    rows = reads.job_rows(database, job_id)
    row, attempts, info = rows.job, rows.attempts, reads.job_info_of(database, rows, home, LOG_LINES)
    connection, events = row["connection_id"], _events(database, job_id)
    instants = moment.instants if moment else sorted({event["at"] for event in events})
    values = {
        "info": info,
        "job": info.job,
        "row": row,
        "now": now,
        "moment": moment,
        "fault": verdict.fault(row, [entry.attempt for entry in info.attempts]),
        "is_fault": info.job.status in {JobStatus.FAILED, JobStatus.INCOMPLETE, JobStatus.CANCELLED},
        "committed": verdict.committed(info),
        "partial": _partial(info),
        "seconds": verdict.duration(row, now),
        "advice": None if moment else advice_on(database, job_id, limits),
        "timeline": _timeline(info, row, attempts, now),
        "streams": _streams(database, job_id, info, attempts, now),
        "failures": _failures(info),
        "anomalies": anomaly_list(database, job_id=job_id, limit=MOST_ANOMALIES),
        "logs": [(entry.attempt.attempt_number, entry.logs.log_lines) for entry in info.attempts],
        "log_lines": LOG_LINES,
        "events": events,
        "instants": instants,
        # The handle stands at the last instant that is not later.
        "slider": max(sum(one <= now for one in instants) - 1, 0),
        "trend_runs": trends_of(database, [connection]).get(connection, [])
        if connection and not moment
        else [],
    }
    parts = {name: f"parts/job_{name}.html" for name in PARTS}
    return Page("job.html", parts, values, live=moment is None and info.job.status not in ENDED)


def job_then(
    settings: Settings, reading: past.Reading, job_id: int, at: datetime, limits: RetryLimits
) -> Page:
    """The same as of a moment, by the same rules. Raises JobNotFoundError, also before its first event."""
    found = past.past_of(settings, reading, job_id, past.TYPES)
    instants = sorted({row["occurred_at"] for row in past.entries(found.table())})
    moment = Moment(at, instants, [*([found.gap] if found.gap else []), *found.notes])
    with past.as_it_was(settings, found.until(at)) as database:
        return job_page(database, job_id, None, limits, moment)


def _partial(info: JobInfoRead) -> bool | None:
    """Whether records were committed though it failed; None: that is not known, or it did not fail."""
    said = [
        entry.attempt.failure_summary.partial_success
        for entry in info.attempts
        if entry.attempt.failure_summary
    ]
    if info.job.status == JobStatus.SUCCEEDED or not said:
        return None
    return True if True in said else False if set(said) == {False} else None


def _timeline(info: JobInfoRead, row: Row, attempts: Sequence[Row], now: datetime) -> dict[str, Any]:
    """Bars of the attempts between the job's first and last instant."""
    begin = min([one["created_at"] for one in attempts] + [row["created_at"]])
    end = max([one["ended_at"] or now for one in attempts] + [row["ended_at"] or begin, begin])
    bars = []
    for entry, one in zip(info.attempts, attempts, strict=True):
        left, right = (
            charts.moment(one["created_at"], begin, end),
            charts.moment(one["ended_at"] or now, begin, end),
        )
        bars.append(
            {
                "attempt": entry.attempt,
                "row": one,
                "x": left,
                "width": max(right - left, 3.0),
                "seconds": ((one["ended_at"] or now) - one["created_at"]).total_seconds(),
            }
        )
    return {"bars": bars, "ticks": charts.time_ticks(begin, end), "begin": begin}


def _streams(
    database: Database, job_id: int, info: JobInfoRead, attempts: Sequence[Row], now: datetime
) -> list[dict[str, Any]]:
    """By attempt, the last first: its streams with their bars."""
    states = {
        (state["attempt_number"], state["stream_namespace"], state["stream_name"]): state
        for state in database.execute(query("stream_states"), {"job_id": job_id})
    }
    found = []
    for entry, row in zip(reversed(info.attempts), reversed(attempts), strict=True):
        number = entry.attempt.attempt_number
        seconds = ((row["ended_at"] or now) - row["created_at"]).total_seconds()
        streams = entry.attempt.stream_stats
        most = max(
            (
                value or 0
                for stream in streams
                for value in (
                    stream.stats.records_emitted,
                    stream.stats.records_committed,
                    stream.stats.estimated_records,
                )
            ),
            default=0,
        )
        found.append(
            {
                "number": number,
                "most": most,
                "ticks": charts.nice_ticks(most),
                "lines": [
                    {
                        "stream": stream,
                        "stats": stream.stats,
                        "state": states.get((number, stream.stream_namespace, stream.stream_name)),
                        "emitted": charts.place(stream.stats.records_emitted or 0, most),
                        "committed": charts.place(stream.stats.records_committed or 0, most),
                        "estimate": charts.place(stream.stats.estimated_records, most)
                        if stream.stats.estimated_records
                        else None,
                        "rate": (stream.stats.records_emitted or 0) / seconds if seconds >= 1 else None,
                    }
                    for stream in streams
                ],
            }
        )
    return [one for one in found if one["lines"]]


def _failures(info: JobInfoRead) -> list[dict[str, Any]]:
    """The last attempt's first."""
    return [
        {
            "number": entry.attempt.attempt_number,
            "failure": failure,
            "said": verdict.said(failure),
            "kind": verdict.kind(failure),
        }
        for entry in reversed(info.attempts)
        for failure in _of(entry)
    ]


def _of(entry: AttemptInfoRead) -> Sequence[Any]:
    return entry.attempt.failure_summary.failures if entry.attempt.failure_summary else ()


def _events(database: Database, job_id: int) -> list[dict[str, Any]]:
    """Its events but stats, statuses and heartbeats, the last first."""
    rows = database.execute(past.QUERIES["lifecycle"], {"job_id": job_id}).fetchall()
    found = [
        {
            "type": row["event_type"],
            "at": kinds.EPOCH + timedelta(microseconds=row["body"]["occurred_at"]),
            "number": row["body"].get("attempt_number"),
            "fields": (fields := {one: value for one, value in row["body"].items() if one not in NOT_SHOWN}),
            "summary": _short(" ".join(f"{one}={value}" for one, value in fields.items() if one not in LONG)),
        }
        for row in rows
    ]
    return sorted(found, key=lambda one: one["at"], reverse=True)[:MOST_EVENTS]


def _short(text: str) -> str:
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"
