"""What runs at set times, in one process at a time, and what came of it.

A schedule is due when none of its runs that came to an end began since its latest due time. Whoever looks
finds that out from `jobtrail.schedule_runs` and Postgres' clock. So a run that was missed while nothing was
up, or that was killed, is made up for once, at the next look; and of several processes the one that gets the
schedule's advisory lock runs it. The lock belongs to the connection that the run works on: who loses the one
has lost the other.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import psycopg
from psycopg import Connection
from psycopg.rows import dict_row

from jobtrail.consumers.crontab import Crontab
from jobtrail.consumers.heartbeat_cleanup import clean_heartbeats
from jobtrail.consumers.report import Report
from jobtrail.consumers.request_cleanup import RETENTION, clean_requests
from jobtrail.consumers.waiting import (
    Away,
    StoppedError,
    database_address,
    database_away,
    until_it_answers,
)
from jobtrail.errors import JobtrailError
from jobtrail.producers.client import PLAIN
from jobtrail.projections.generation import named_statements
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail.schedules")
log.addFilter(PLAIN)

#: Most seconds between two looks at what is due: so late a killed or missed run may be made up for.
LOOK: Final = 60.0
#: Class of the schedules' advisory locks; the number within it is of the schedule's name.
LOCK_CLASS: Final = 0x6A6F63
#: Runs of a schedule that are kept on record.
KEPT_RUNS: Final = 1_000
SQL: Final = named_statements("schedules.sql", "consumers")

Result = Literal["never", "running", "done", "failed", "interrupted"]


class Work(Protocol):
    """What a schedule does, on a connection in autocommit; StoppedError once `stop` is set."""

    def __call__(
        self, connection: Connection[Any], settings: Settings, stop: threading.Event, *, dry_run: bool
    ) -> Report:
        """Does it, or with `dry_run` only says what it would do."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Work at set times."""

    name: str
    #: What it is for, for people.
    purpose: str
    #: The field of `Settings` with its cron expression.
    cron_setting: str
    work: Work

    def crontab(self, settings: Settings) -> Crontab:
        """When it runs. Raises SettingError."""
        return Crontab(self.cron_setting, getattr(settings, self.cron_setting))

    @property
    def lock(self) -> tuple[int, int]:
        """Its advisory lock."""
        return LOCK_CLASS, zlib.crc32(self.name.encode()) & 0x7FFFFFFF


SCHEDULES: Final = (
    Schedule(
        "heartbeat-cleanup",
        "deletes heartbeats of dataplanes older than JOBTRAIL_HEARTBEAT_RETENTION_DAYS",
        "heartbeat_cleanup_cron",
        clean_heartbeats,
    ),
    Schedule(
        "request-cleanup",
        f"deletes what is kept of requests and schedules' runs for longer than {RETENTION} days",
        "heartbeat_cleanup_cron",
        clean_requests,
    ),
)


class RunningElsewhereError(JobtrailError):
    """Another process runs the schedule at this moment."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a schedule."""

    schedule: Schedule
    cron: str
    started_at: datetime | None
    finished_at: datetime | None
    #: Of the last run; `interrupted`: its process was ended before the run was.
    result: Result
    detail: str | None
    #: Its next due time; in the past, or now, where the next look of a running service runs it.
    next_at: datetime


def check_schedules(settings: Settings) -> None:
    """Raises SettingError for a schedule whose time is none."""
    for schedule in SCHEDULES:
        schedule.crontab(settings)


def state(connection: Connection[Any], settings: Settings, schedule: Schedule) -> State:
    """What is known of a schedule.

    On a connection of which each statement sees what was committed before it, as `rebuild.state`.
    """
    found = _state(connection, settings, schedule)
    before: datetime | None = None
    # It may have ended between the look at the record and that at the lock, or another run begun.
    while found.result == "interrupted" and found.started_at != before:
        before = found.started_at
        found = _state(connection, settings, schedule)
    return found


def _state(connection: Connection[Any], settings: Settings, schedule: Schedule) -> State:
    assert connection.isolation_level is None  # noqa: S101  # a snapshot may be older than the lock
    lock_class, lock = schedule.lock
    values = {"schedule": schedule.name, "lock_class": lock_class, "lock": lock}
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(SQL["state"], values).fetchone()
    assert row is not None  # noqa: S101  # VALUES has one
    crontab = schedule.crontab(settings)
    result: Result | None = row["outcome"]
    next_at = crontab.after(row["now"])
    if result is None:
        result = "never" if row["started_at"] is None else "running" if row["held"] else "interrupted"
    if result in {"done", "failed"}:
        next_at = crontab.after(row["started_at"])
    elif result != "running":
        next_at = row["now"]
    return State(
        schedule, crontab.text, row["started_at"], row["finished_at"], result, row["detail"], next_at
    )


def run_now(connection: Connection[Any], settings: Settings, schedule: Schedule, *, dry_run: bool) -> Report:
    """Runs a schedule, due or not, and records that; a dry run is not recorded.

    The connection is in autocommit. Raises RunningElsewhereError, and what the work raises.
    """
    never = threading.Event()
    if dry_run:
        return schedule.work(connection, settings, never, dry_run=True)
    with _alone(connection, schedule) as alone:
        if not alone:
            raise RunningElsewhereError(
                f"{schedule.name} runs in another process just now; see `jobtrail schedules list`"
            )
        return _recorded(connection, settings, schedule, never)


def run_due(
    connection: Connection[Any], settings: Settings, schedule: Schedule, stop: threading.Event
) -> float:
    """Runs a schedule where it is due and nobody else runs it; gives the seconds until it is due again.

    A run that fails is recorded and logged, and that is it until the next due time. Raises StoppedError when
    told to stop, and what lost the connection.
    """
    crontab = schedule.crontab(settings)
    with _alone(connection, schedule) as alone:
        last, now = _last_run(connection, schedule)
        if alone and (last is None or crontab.after(last) <= now):
            try:
                log.info("%s: %s", schedule.name, _recorded(connection, settings, schedule, stop).text)
            except StoppedError:
                raise
            except Exception:
                if connection.closed:
                    raise
                log.exception("%s failed; its next run is at %s", schedule.name, crontab.after(now))
            _, now = _last_run(connection, schedule)
    return (crontab.after(now) - now).total_seconds()


@contextmanager
def _alone(connection: Connection[Any], schedule: Schedule) -> Iterator[bool]:
    """Whether the schedule's lock could be had; it is given back at the end."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", schedule.lock).fetchone()
    alone = row is not None and bool(row[0])
    try:
        yield alone
    finally:
        if alone and not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", schedule.lock)


def _last_run(connection: Connection[Any], schedule: Schedule) -> tuple[datetime | None, datetime]:
    """When the last run began that came to an end, and what time it is."""
    row = connection.execute(SQL["due"], {"schedule": schedule.name}).fetchone()
    assert row is not None  # noqa: S101  # an aggregate
    return row[0], row[1]


def _recorded(
    connection: Connection[Any], settings: Settings, schedule: Schedule, stop: threading.Event
) -> Report:
    """Runs it, between its beginning and its end on record. Killed or stopped, it has no end."""
    about = {"schedule": schedule.name}
    row = connection.execute(SQL["begin"], about).fetchone()
    assert row is not None  # noqa: S101  # RETURNING
    begun = {**about, "started_at": row[0]}
    try:
        report = schedule.work(connection, settings, stop, dry_run=False)
    except StoppedError:
        raise
    except Exception as error:
        if not connection.closed:
            detail = " ".join(str(error).split()) or type(error).__name__
            connection.execute(SQL["end"], {**begun, "outcome": "failed", "detail": detail})
        raise
    connection.execute(SQL["end"], {**begun, "outcome": "done", "detail": report.text})
    connection.execute(SQL["forget"], {**about, "keep": KEPT_RUNS})
    return report


@contextmanager
def connected(settings: Settings) -> Iterator[Connection[Any]]:
    """A connection to run schedules on. Raises ServerAwayError for whatever Postgres refuses."""
    url = database_address(settings)
    try:
        with psycopg.connect(
            url, autocommit=True, connect_timeout=10, application_name="jobtrail-schedules"
        ) as connection:
            yield connection
    except psycopg.Error as error:
        raise database_away(url, error) from error


def look(settings: Settings, stop: threading.Event) -> float:
    """Runs what is due; gives the seconds until the next look. Raises ServerAwayError and StoppedError."""
    with connected(settings) as connection:
        return min(LOOK, *(run_due(connection, settings, schedule, stop) for schedule in SCHEDULES))


def run_schedules(settings: Settings, stop: threading.Event) -> None:
    """Looks again and again until `stop` is set, waiting for a Postgres that is away."""
    # Whoever this works beside says that Postgres is away.
    away = Away("Postgres", logging.DEBUG)
    try:
        while not stop.wait(until_it_answers(away, stop, lambda: look(settings, stop))):
            pass
    except StoppedError:
        return
