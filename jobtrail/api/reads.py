"""Rows of the views into answers, for HTTP and the command line.

Each function runs in the caller's transaction. For an answer whose parts agree, that transaction is
REPEATABLE READ (`jobtrail.api.database`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from psycopg import Connection

from jobtrail.api.models import (
    AttemptFailureSummary,
    AttemptInfoRead,
    AttemptRead,
    AttemptStats,
    AttemptStreamStats,
    JobAggregatedStats,
    JobFailureReason,
    JobInfoLightRead,
    JobInfoRead,
    JobRead,
    LogRead,
    RefreshConfig,
    ResetConfig,
    StreamAggregatedStats,
    StreamDescriptor,
    StreamReconciliation,
)
from jobtrail.api.queries import FILTERS, query
from jobtrail.errors import NotFoundError
from jobtrail.producers.logs import read_log

Row = dict[str, Any]
Database = Connection[Row]
LIGHT: Final = query("job_light")


class JobNotFoundError(NotFoundError):
    """There is no such job: carries its id."""

    def __init__(self, job_id: int, message: str | None = None) -> None:
        super().__init__(message or f"there is no job {job_id}")
        self.job_id = job_id


def job_info(database: Database, job_id: int, home: Path | None) -> JobInfoRead:
    """A job with its attempts and, where `home` is given, their logs. Raises JobNotFoundError."""
    row = job_row(database, job_id)
    attempts = attempts_of(database, [job_id])[job_id]
    _reconcile(database, job_id, attempts)
    return JobInfoRead(
        job=full_jobs(database, [row])[0],
        attempts=[
            AttemptInfoRead(
                attempt=attempt,
                logs=LogRead(log_lines=read_log(home, job_id, attempt.attempt_number) if home else []),
            )
            for attempt in attempts
        ],
    )


def _reconcile(database: Database, job_id: int, attempts: Sequence[AttemptRead]) -> None:
    """Adds what reporters counted differently."""
    differences = {
        (row["attempt_number"], row["stream_namespace"], row["stream_name"]): row
        for row in database.execute(query("differences"), {"job_id": job_id})
    }
    for attempt in attempts:
        for stream in attempt.stream_stats:
            key = (attempt.attempt_number, stream.stream_namespace, stream.stream_name)
            if key in differences:
                stream.reconciliation = StreamReconciliation.model_validate(differences[key])


def job_light(database: Database, job_id: int) -> JobInfoLightRead:
    """A job alone, with its totals. Raises JobNotFoundError."""
    return light(job_id, database.execute(*light_query(job_id)).fetchone())


def light_query(job_id: int) -> tuple[bytes, Row]:
    """The one statement whose row is all that a light answer needs, and its values."""
    return LIGHT, {"job_id": job_id, "by_stream": False}


def light(job_id: int, row: Row | None) -> JobInfoLightRead:
    """A light answer from its row. Raises JobNotFoundError where there is none."""
    if row is None:
        raise JobNotFoundError(job_id)
    job = _job(row, [row] if row["has_totals"] else [])
    job.stream_aggregated_stats = None
    return JobInfoLightRead(job=job)


def job_row(database: Database, job_id: int) -> Row:
    """The job's row. Raises JobNotFoundError, naming the id."""
    row = database.execute(query("job"), {"job_id": job_id}).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return row


def filters(**values: Any) -> dict[str, Any]:
    """What the queries on jobs filter by (queries.FILTERS); None or an empty list does not filter."""
    unknown = values.keys() - {*FILTERS}
    if unknown:
        raise TypeError(f"jobs are not filtered by {', '.join(sorted(unknown))}")
    return {name: value for name, value in values.items() if value is not None and value != []}


def jobs_page(
    database: Database, found: dict[str, Any], order: tuple[str, str], limit: int, offset: int
) -> list[Row]:
    """Rows of a part of the jobs that match."""
    values = {**found, "limit": limit, "offset": offset}
    # Here and in the count Postgres plans for these values: a status may be rare or common.
    return database.execute(query("jobs_page", order, found), values, prepare=False).fetchall()


def jobs_count(database: Database, found: dict[str, Any]) -> int:
    """How many jobs match, exactly."""
    row = database.execute(query("jobs_count", filters=found), found, prepare=False).fetchone()
    return int(row["jobs"]) if row else 0


def full_jobs(database: Database, rows: Sequence[Row], *, by_stream: bool = True) -> list[JobRead]:
    """Jobs with their totals, per stream too unless told otherwise."""
    ids = [row["job_id"] for row in rows]
    totals = defaultdict(list)
    if ids:
        for total in database.execute(query("totals"), {"job_ids": ids, "by_stream": by_stream}).fetchall():
            totals[total["job_id"]].append(total)
    return [_job(row, totals[row["job_id"]]) for row in rows]


def attempts_of(database: Database, job_ids: Sequence[int]) -> dict[int, list[AttemptRead]]:
    """Job id → its attempts by number, with the counters of their streams."""
    attempts: dict[int, list[AttemptRead]] = {job_id: [] for job_id in job_ids}
    if not job_ids:
        return attempts
    of = {"job_ids": list(job_ids)}
    streams = defaultdict(list)
    for row in database.execute(query("streams"), of).fetchall():
        streams[row["job_id"], row["attempt_number"]].append(
            AttemptStreamStats(
                stream_name=row["stream_name"],
                stream_namespace=row["stream_namespace"],
                stats=AttemptStats.model_validate(row),
            )
        )
    for row in database.execute(query("attempts"), of).fetchall():
        attempts[row["job_id"]].append(_attempt(row, streams[row["job_id"], row["attempt_number"]]))
    return attempts


def _attempt(row: Row, streams: list[AttemptStreamStats]) -> AttemptRead:
    totals = AttemptStats.model_validate(row) if row["has_totals"] else None
    summary = row["failure_summary"]
    return AttemptRead(
        id=row["attempt_number"],
        attempt_id=str(row["attempt_id"]),
        attempt_number=row["attempt_number"],
        status=row["status"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ended_at=row["ended_at"],
        bytes_synced=_either(totals, "bytes_committed", "bytes_emitted"),
        records_synced=_either(totals, "records_committed", "records_emitted"),
        total_stats=totals,
        stream_stats=streams,
        failure_summary=AttemptFailureSummary.model_validate(summary) if summary else None,
        anomalies=row["anomalies"],
    )


def _either(totals: AttemptStats | None, name: str, otherwise: str) -> int | None:
    value: int | None = getattr(totals, name, None)
    return value if value is not None else getattr(totals, otherwise, None)


def _job(row: Row, totals: Sequence[Row]) -> JobRead:
    of_job = [total for total in totals if total["stream_name"] is None]
    of_streams = [total for total in totals if total["stream_name"] is not None]
    to_reset, to_refresh = _streams(row["streams_to_reset"]), _streams(row.get("streams_to_refresh", ()))
    return JobRead(
        id=row["job_id"],
        config_type=row["config_type"],
        config_id=row["config_id"],
        enabled_streams=_streams(row.get("streams", ())) or None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        status=row["status"],
        reset_config=ResetConfig(streams_to_reset=to_reset) if to_reset else None,
        refresh_config=RefreshConfig(streams_to_refresh=to_refresh) if to_refresh else None,
        aggregated_stats=JobAggregatedStats.model_validate(of_job[0]) if of_job else None,
        stream_aggregated_stats=[StreamAggregatedStats.model_validate(total) for total in of_streams],
        failure_reason=JobFailureReason.model_validate(row["failure_reason"])
        if row["failure_reason"]
        else None,
        anomalies=row["anomalies"],
    )


def _streams(descriptors: Iterable[Row]) -> list[StreamDescriptor]:
    return [
        StreamDescriptor(name=stream["name"], namespace=stream.get("namespace") or None)
        for stream in descriptors
    ]
