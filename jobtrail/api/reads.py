"""Rows of the views into answers, for HTTP and the command line.

Each function runs in the caller's transaction. For an answer whose parts agree, that transaction is
REPEATABLE READ (`jobtrail.api.database`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from psycopg import Connection

from jobtrail.api import answers
from jobtrail.api.answers import Answer
from jobtrail.api.models import (
    AttemptInfoRead,
    AttemptRead,
    JobInfoLightRead,
    JobInfoRead,
    JobRead,
    LogRead,
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


@dataclass(frozen=True, slots=True)
class JobRows:
    """What is read of one job: its row, those of its attempts by number, and their streams' counters."""

    job: Row
    attempts: Sequence[Row]
    streams: Sequence[Row]


def job_rows(database: Database, job_id: int) -> JobRows:
    """Raises JobNotFoundError."""
    return JobRows(
        job_row(database, job_id),
        attempt_rows(database, [job_id]),
        streams_of(database, [job_id])[job_id],
    )


def job_info(database: Database, job_id: int, home: Path | None, log_lines: int | None = None) -> JobInfoRead:
    """A job with its attempts and, where `home` is given, their logs. Raises JobNotFoundError.

    `log_lines`: at most so many of each log, from its end.
    """
    return job_info_of(database, job_rows(database, job_id), home, log_lines)


def job_info_of(
    database: Database, rows: JobRows, home: Path | None, log_lines: int | None = None
) -> JobInfoRead:
    """The same from its rows."""
    job_id = rows.job["job_id"]
    attempts = _models(_attempts(rows.attempts, {job_id: rows.streams})[job_id])
    _reconcile(database, job_id, attempts)
    return JobInfoRead(
        job=job_of(rows.job, rows.streams),
        attempts=[
            AttemptInfoRead(
                attempt=attempt,
                logs=LogRead(
                    log_lines=read_log(home, job_id, attempt.attempt_number, log_lines) if home else []
                ),
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
    return LIGHT, {"job_id": job_id}


def light(job_id: int, row: Row | None) -> JobInfoLightRead:
    """A light answer from its row. Raises JobNotFoundError where there is none."""
    return JobInfoLightRead.model_validate(answers.plain(light_answer(job_id, row)))


def light_answer(job_id: int, row: Row | None) -> Answer:
    """The same, not as a model."""
    if row is None:
        raise JobNotFoundError(job_id)
    return {"job": answers.light(row)}


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


def full_jobs(database: Database, rows: Sequence[Row]) -> list[JobRead]:
    """Jobs with their totals, per stream too."""
    streams = streams_of(database, [row["job_id"] for row in rows])
    return [job_of(row, streams[row["job_id"]]) for row in rows]


def job_of(row: Row, streams: Sequence[Row]) -> JobRead:
    """A job with its totals, from its row and the counters of its streams."""
    return JobRead.model_validate(answers.plain(answers.job(row, streams)))


def attempts_of(database: Database, job_ids: Sequence[int]) -> dict[int, list[AttemptRead]]:
    """Job id → its attempts by number, with the counters of their streams."""
    found = _attempts(attempt_rows(database, job_ids), streams_of(database, job_ids))
    return {job_id: _models(found[job_id]) for job_id in job_ids}


def _models(attempts: Sequence[Answer]) -> list[AttemptRead]:
    return [AttemptRead.model_validate(answers.plain(attempt)) for attempt in attempts]


def with_attempts(database: Database, rows: Sequence[Row]) -> list[Answer]:
    """Both of each job, JobWithAttemptsRead."""
    job_ids = [row["job_id"] for row in rows]
    streams = streams_of(database, job_ids)
    attempts = _attempts(attempt_rows(database, job_ids), streams)
    return [
        {"job": answers.job(row, streams[row["job_id"]]), "attempts": attempts[row["job_id"]]} for row in rows
    ]


def streams_of(database: Database, job_ids: Sequence[int]) -> dict[int, list[Row]]:
    """Job id → the counters of its streams, by attempt."""
    streams = defaultdict(list)
    if job_ids:
        for row in database.execute(query("streams"), {"job_ids": list(job_ids)}).fetchall():
            streams[row["job_id"]].append(row)
    return streams


def attempt_rows(database: Database, job_ids: Sequence[int]) -> list[Row]:
    """The attempts of some jobs, by job and number."""
    if not job_ids:
        return []
    return database.execute(query("attempts"), {"job_ids": list(job_ids)}).fetchall()


def _attempts(rows: Sequence[Row], streams: Mapping[int, Sequence[Row]]) -> dict[int, list[Answer]]:
    attempts = defaultdict(list)
    for row in rows:
        number = row["attempt_number"]
        of_attempt = [stream for stream in streams[row["job_id"]] if stream["attempt_number"] == number]
        attempts[row["job_id"]].append(answers.attempt(row, of_attempt))
    return attempts
