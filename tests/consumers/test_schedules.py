"""Schedules run at their times, in one process at a time, and every run is on record."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from jobtrail.consumers import schedules
from jobtrail.consumers.crontab import Crontab
from jobtrail.consumers.report import Report
from jobtrail.consumers.schedules import (
    KEPT_RUNS,
    SCHEDULES,
    RunningElsewhereError,
    Schedule,
    check_schedules,
    look,
    run_due,
    run_now,
    run_schedules,
    state,
)
from jobtrail.consumers.waiting import StoppedError
from jobtrail.errors import SettingError
from jobtrail.settings import Settings

#: A Tuesday.
NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
NEVER = threading.Event()


@pytest.mark.parametrize(
    ("text", "next_time"),
    [
        ("0 2 * * *", datetime(2026, 11, 25, 2, tzinfo=UTC)),
        ("0 3 * * *", datetime(2026, 11, 25, 3, tzinfo=UTC)),  # after, not at
        ("*/20 * * * *", datetime(2026, 11, 24, 3, 20, tzinfo=UTC)),
        ("0 2 1 * *", datetime(2026, 12, 1, 2, tzinfo=UTC)),
        ("0 2 * * 0", datetime(2026, 11, 29, 2, tzinfo=UTC)),  # a Sunday
        ("0 2 * * 7", datetime(2026, 11, 29, 2, tzinfo=UTC)),
        ("0 2 * * SUN", datetime(2026, 11, 29, 2, tzinfo=UTC)),
        ("0 2 * * 1,5-6", datetime(2026, 11, 27, 2, tzinfo=UTC)),
        ("0 2 * * sun-mon", datetime(2026, 11, 29, 2, tzinfo=UTC)),
        ("0 2 * * */3", datetime(2026, 11, 25, 2, tzinfo=UTC)),  # Sunday, Wednesday, Saturday
        ("0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_cron_expressions_mean_what_crontab_says(text: str, next_time: datetime) -> None:
    """In UTC, weekdays counted from Sunday."""
    assert Crontab("heartbeat_cleanup_cron", text).after(NOW) == next_time


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("daily", "1 fields, not 5"),
        ("0 2 * *", "4 fields, not 5"),
        ("0 2 * * * *", "6 fields, not 5"),
        ("60 2 * * *", "higher than the maximum value"),
        ("0 2 * * 8", "'8' is no weekday"),
        ("0 2 * * fri-mon", "'fri-mon' goes backwards"),
        ("0 2 1 * 1", "leave one of them"),
        ("0 2 30 2 *", "never comes"),
        ("é 2 * * *", "JOBTRAIL_HEARTBEAT_CLEANUP_CRON"),
    ],
)
def test_what_is_no_time_names_the_variable(text: str, says: str) -> None:
    settings = Settings.from_env({"JOBTRAIL_HEARTBEAT_CLEANUP_CRON": text})
    with pytest.raises(SettingError, match=r"^JOBTRAIL_HEARTBEAT_CLEANUP_CRON: ") as caught:
        check_schedules(settings)
    assert says in str(caught.value)


@pytest.mark.parametrize("days", ["0", "-1", "nan", "inf", "week"])
def test_a_retention_that_does_not_fit_names_the_variable(days: str) -> None:
    with pytest.raises(SettingError, match=r"^JOBTRAIL_HEARTBEAT_RETENTION_DAYS: "):
        Settings.from_env({"JOBTRAIL_HEARTBEAT_RETENTION_DAYS": days})


def test_the_cleanup_runs_at_two_every_day_and_keeps_a_week() -> None:
    settings = Settings.from_env({})
    assert [schedule.name for schedule in SCHEDULES] == ["heartbeat-cleanup", "request-cleanup"]
    assert {schedule.crontab(settings).text for schedule in SCHEDULES} == {"0 2 * * *"}
    assert settings.heartbeat_retention_days == 7


@pytest.fixture
def connection(database: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


@pytest.fixture
def elsewhere(database: str) -> Iterator[Connection[Any]]:
    """Another process' connection."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


def counting(done: list[bool], then: Callable[[threading.Event], None] = lambda _: None) -> Schedule:
    """A schedule, hourly, that counts its runs."""

    def work(
        connection: Connection[Any],  # noqa: ARG001  # as a schedule's work is called
        settings: Settings,  # noqa: ARG001  # as above
        stop: threading.Event,
        *,
        dry_run: bool,
    ) -> Report:
        done.append(dry_run)
        then(stop)
        return Report(f"ran {len(done)}", {"runs": len(done)})

    return Schedule("counting", "counts", "heartbeat_cleanup_cron", work)


@pytest.fixture
def hourly(settings: Settings) -> Settings:
    return settings.model_copy(update={"heartbeat_cleanup_cron": "0 * * * *"})


def set_back(connection: Connection[Any], hours: float) -> None:
    """As if the runs on record had been so many hours earlier."""
    connection.execute(
        "UPDATE jobtrail.schedule_runs SET started_at = started_at - %(h)s * interval '1 hour',"
        " finished_at = finished_at - %(h)s * interval '1 hour'",
        {"h": hours},
    )


def test_it_runs_when_it_is_due_and_not_again(connection: Connection[Any], hourly: Settings) -> None:
    """A missed run, or several, is made up for once; then it is due at the next full hour."""
    done: list[bool] = []
    schedule = counting(done)
    run_due(connection, hourly, schedule, NEVER)
    seconds = run_due(connection, hourly, schedule, NEVER)
    assert done == [False]
    assert 0 < seconds <= 3600
    set_back(connection, 5.5)
    run_due(connection, hourly, schedule, NEVER)
    run_due(connection, hourly, schedule, NEVER)
    assert done == [False, False]
    found = state(connection, hourly, schedule)
    assert (found.result, found.detail) == ("done", "ran 2")
    assert found.started_at is not None
    assert found.finished_at is not None
    assert found.started_at <= found.finished_at < found.next_at
    assert (found.next_at.minute, found.next_at.second) == (0, 0)


def test_of_two_processes_one_runs_it(
    connection: Connection[Any], elsewhere: Connection[Any], hourly: Settings
) -> None:
    """While it runs, the other passes by; afterwards, it is done."""
    done: list[bool] = []
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: threading.Event) -> None:
        begun.set()
        assert go_on.wait(30)

    schedule = counting(done, wait)
    thread = threading.Thread(target=run_due, args=(connection, hourly, schedule, NEVER))
    thread.start()
    assert begun.wait(30)
    run_due(elsewhere, hourly, schedule, NEVER)
    assert state(elsewhere, hourly, schedule).result == "running"
    with pytest.raises(RunningElsewhereError, match="schedules list"):
        run_now(elsewhere, hourly, schedule, dry_run=False)
    go_on.set()
    thread.join(30)
    run_due(elsewhere, hourly, schedule, NEVER)
    assert done == [False]
    assert state(elsewhere, hourly, schedule).result == "done"


def test_a_killed_run_shows_as_such_and_is_made_up_for(
    connection: Connection[Any], elsewhere: Connection[Any], hourly: Settings
) -> None:
    """Who is killed loses the lock with its connection, and cannot say how the run ended."""
    done: list[bool] = []

    def lose_connection(_: threading.Event) -> None:
        elsewhere.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        connection.execute("SELECT 1")

    with pytest.raises(psycopg.OperationalError):
        run_due(connection, hourly, counting(done, lose_connection), NEVER)
    schedule = counting(done)
    killed = state(elsewhere, hourly, schedule)
    assert (killed.result, killed.finished_at) == ("interrupted", None)
    run_due(elsewhere, hourly, schedule, NEVER)
    assert state(elsewhere, hourly, schedule).result == "done"
    assert done == [False, False]


def test_a_run_that_was_told_to_stop_is_made_up_for(connection: Connection[Any], hourly: Settings) -> None:
    done: list[bool] = []

    def stopped(_: threading.Event) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        run_due(connection, hourly, counting(done, stopped), NEVER)
    assert state(connection, hourly, counting(done)).result == "interrupted"
    run_due(connection, hourly, counting(done), NEVER)
    assert done == [False, False]


def test_a_run_that_fails_is_recorded_and_said_and_tried_at_the_next_time(
    connection: Connection[Any], hourly: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[bool] = []

    def fail(_: threading.Event) -> None:
        raise ZeroDivisionError("no\nluck")

    schedule = counting(done, fail)
    with caplog.at_level(logging.INFO, "jobtrail.schedules"):
        logging.getLogger("jobtrail.schedules").addHandler(caplog.handler)
        run_due(connection, hourly, schedule, NEVER)
        run_due(connection, hourly, schedule, NEVER)
        logging.getLogger("jobtrail.schedules").removeHandler(caplog.handler)
    found = state(connection, hourly, schedule)
    assert (found.result, found.detail, done) == ("failed", "no luck", [False])
    assert "counting failed; its next run is at" in caplog.text
    set_back(connection, 1)
    run_due(connection, hourly, schedule, NEVER)
    assert len(done) == 2


def test_run_now_does_not_wait_for_the_time_and_a_dry_run_leaves_no_trace(
    connection: Connection[Any], hourly: Settings
) -> None:
    done: list[bool] = []
    schedule = counting(done)
    assert run_now(connection, hourly, schedule, dry_run=True).text == "ran 1"
    assert state(connection, hourly, schedule).result == "never"
    run_now(connection, hourly, schedule, dry_run=False)
    run_now(connection, hourly, schedule, dry_run=False)
    assert done == [True, False, False]
    assert state(connection, hourly, schedule).detail == "ran 3"


def test_the_last_thousand_runs_are_kept(connection: Connection[Any], hourly: Settings) -> None:
    schedule = counting([])
    connection.execute(
        "INSERT INTO jobtrail.schedule_runs SELECT name, now() - n * interval '1 minute', now(), 'done', ''"
        " FROM generate_series(1, %s) n, (VALUES ('counting'), ('other')) names (name)",
        (KEPT_RUNS + 5,),
    )
    run_now(connection, hourly, schedule, dry_run=False)
    left = connection.execute(
        "SELECT schedule, count(*), max(detail) FROM jobtrail.schedule_runs GROUP BY schedule ORDER BY 1"
    ).fetchall()
    assert left == [("counting", KEPT_RUNS, "ran 1"), ("other", KEPT_RUNS + 5, "")]


def test_the_thread_runs_what_is_due_and_ends_when_told(
    hourly: Settings, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at least once a minute, and at the due time: a schedule that is due in a second runs then."""
    done: list[bool] = []
    schedule = counting(done)
    monkeypatch.setattr(schedules, "SCHEDULES", (schedule, replace(schedule, name="another")))
    monkeypatch.setattr(schedules, "LOOK", 0.05)
    assert look(hourly, NEVER) <= 0.05
    assert len(done) == 2
    set_back(connection, 1)
    stop = threading.Event()
    thread = threading.Thread(target=run_schedules, args=(hourly, stop))
    thread.start()
    until = time.monotonic() + 30
    while len(done) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert len(done) == 4


def test_without_postgres_the_thread_waits_and_ends_when_told(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://somebody@127.0.0.1:9/jobtrail"})
    stop = threading.Event()
    thread = threading.Thread(target=run_schedules, args=(away, stop))
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_where_it_was_never_run_it_is_due(connection: Connection[Any], hourly: Settings) -> None:
    found = state(connection, hourly, counting([]))
    assert (found.result, found.started_at) == ("never", None)
    assert found.next_at <= datetime.now(UTC) + timedelta(seconds=1)
