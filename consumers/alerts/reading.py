"""The facts as the read models have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import Connection
from psycopg.rows import args_row, tuple_row

from jobtrail.consumers.alerts.facts import Facts, Lag, Letter, Run, histories
from jobtrail.kinds import EPOCH
from jobtrail.projections.generation import named_statements

SQL: Final = named_statements("facts.sql", "consumers/alerts")
#: Rows that a cursor fetches at a time.
AT_ONCE: Final = 5_000
#: What differs between two errors that are the same: ids and numbers.
_VARIES: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|0x[0-9a-fA-F]+|\d+")
#: Characters of a config error that count.
ERROR_LENGTH: Final = 200


def from_micros(micros: int) -> datetime:
    """An instant of the engine as a datetime, UTC."""
    return EPOCH + timedelta(microseconds=micros)


def same_error(text: str) -> str:
    """What an error has in common with itself at another time."""
    return _VARIES.sub("#", " ".join(text.split()))[:ERROR_LENGTH]


def facts_of(
    connection: Connection[Any],
    since: datetime,
    until: datetime,
    retry_wait: float,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Facts:
    """All facts of a stretch of time. `retry_wait`: seconds that a failed attempt may wait for the next."""
    runs = read_runs(connection, since, until, retry_wait, progress)
    return Facts(histories(runs), letters(connection, since, until), lags(connection, since, until))


def read_runs(
    connection: Connection[Any],
    since: datetime,
    until: datetime,
    retry_wait: float,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Iterator[Run]:
    """Runs that changed since a moment, in no order. `progress` hears how many were read, of how many."""
    values = {"since": since, "until": until, "retry_wait": retry_wait}
    with connection.cursor(row_factory=tuple_row) as counting:
        counted = counting.execute(SQL["extent"], values).fetchone()
    about = counted[0] if counted else 0
    with connection.cursor("alert_runs", row_factory=args_row(_run)) as cursor:
        cursor.itersize = AT_ONCE
        cursor.execute(SQL["runs"], values)
        for done, run in enumerate(cursor):
            if done % 1_000 == 0:
                progress(done, max(done, about))
            yield run


def _run(connection_id: str, job_id: int, workspace_id: str | None, *rest: Any) -> Run:
    began, ended, outcome, records, error = rest
    # A job whose clock went backwards ended when it began, at the earliest.
    ended = max(began, ended)
    return Run(
        connection_id, job_id, workspace_id, began, ended, outcome, records, error and same_error(error)
    )


def undecided(connection: Connection[Any], since: datetime) -> set[int]:
    """Jobs that changed since a moment and have not ended."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        return {job_id for (job_id,) in cursor.execute(SQL["undecided"], {"since": since})}


def letters(connection: Connection[Any], since: datetime, until: datetime) -> list[Letter]:
    """Dead letters in the order in which the broker took them."""
    return _rows(connection, "letters", since, until, Letter)


def lags(connection: Connection[Any], since: datetime, until: datetime) -> list[Lag]:
    """What alerters saw of the lag."""
    return _rows(connection, "lags", since, until, Lag)


def _rows(connection: Connection[Any], name: str, since: datetime, until: datetime, kind: Any) -> list[Any]:
    with connection.cursor(row_factory=args_row(kind)) as cursor:
        return cursor.execute(SQL[name], {"since": since, "until": until}).fetchall()


def first_run(connection: Connection[Any]) -> datetime | None:
    """When the first job of a connection was created."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(SQL["first"]).fetchone()
    return row[0] if row else None


def now(connection: Connection[Any]) -> datetime:
    """What time it is, by Postgres' clock."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101  # it has one row
    found: datetime = row[0]
    return found.astimezone(UTC)


def replaced(runs: Iterable[Run], by: Iterable[Run], gone: set[int]) -> dict[int, Run]:
    """Runs by job id, with newer readings in place of older ones, and without those that no longer ended."""
    found = {run.job_id: run for run in runs if run.job_id not in gone}
    found.update((run.job_id, run) for run in by)
    return found
