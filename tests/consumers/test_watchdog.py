"""Whoever falls silent is failed by an event, once; whoever only cannot be heard is not."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_scenes import COMMAND, environment
from cli_service import started
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but its types do not say so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from conftest import CACHE, _fresh_database
from embedded_commands import kill, new_home, pid
from sdk_reading import of_type, one, published

from jobtrail import Attempt, embedded
from jobtrail import events as e
from jobtrail.cli.service import RoleThread
from jobtrail.consumers.projector import project_until_caught_up, run_projector
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.consumers.watchdog import run_watchdog
from jobtrail.job_types import JobType, silence_limit
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.pulse import pulse
from jobtrail.settings import Settings

#: Seconds for whatever must come, on a machine that has other things to do.
PATIENCE = 60.0
#: Seconds of silence that are allowed here.
LIMIT = 3.0
JOB = 48879


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with short limits, in which nobody is failed for not being picked up."""
    intervals = {f"{one}_status_check_interval": LIMIT / 10 for one in JobType}
    return settings.model_copy(update={**intervals, "stats_interval": LIMIT / 10, "pickup_limit": 3600.0})


@pytest.fixture
def another_database(postgres_admin_url: str, database_template: str) -> Iterator[str]:
    """A second database, for a projection from scratch."""
    yield from _fresh_database(postgres_admin_url, database_template)


@contextmanager
def role(name: str, work: Callable[..., None], settings: Settings) -> Iterator[None]:
    """A role in a thread, until the block ends."""
    thread = RoleThread(name, partial(work, settings))
    thread.start()
    try:
        yield
        thread.check()
    finally:
        thread.stop.set()
        thread.join(PATIENCE)


@contextmanager
def service(settings: Settings, watchdogs: int = 1) -> Iterator[None]:
    """A projector and watchdogs."""
    with ExitStack() as stack:
        stack.enter_context(role("projector", run_projector, settings))
        for _ in range(watchdogs):
            stack.enter_context(role("watchdog", run_watchdog, settings))
        yield


def query(database: str | None, text: str) -> list[tuple[Any, ...]]:
    assert database is not None
    with psycopg.connect(database) as connection:
        return connection.execute(text.encode()).fetchall()


def statuses(settings: Settings) -> list[tuple[Any, ...]]:
    """(job's status, attempt's number and status), by job and attempt."""
    return query(
        settings.database_url,
        "SELECT j.status, a.attempt_number, a.status FROM jobtrail.jobs j"
        " LEFT JOIN jobtrail.attempts a USING (job_id) ORDER BY job_id, attempt_number",
    )


def anomalies(settings: Settings) -> set[str]:
    return {kind for (kind,) in query(settings.database_url, "SELECT kind FROM jobtrail.anomalies")}


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_for(settings: Settings, *expected: tuple[Any, ...]) -> None:
    wait_until(lambda: statuses(settings) == [*expected])


RUNNING = ("running", 0, "running")
INCOMPLETE = ("incomplete", 0, "failed")
CANCELLED = ("cancelled", 0, "failed")


def created(job_id: int = JOB) -> e.JobCreated:
    return e.JobCreated(job_id=job_id, config_type="sync", config_id="c", connection_id="c")


def taken(job_id: int = JOB, number: int = 0) -> e.AttemptStarted:
    """A worker's start of an attempt."""
    return e.AttemptStarted(job_id=job_id, attempt_number=number, worker="worker-1")


@contextmanager
def worker(settings: Settings) -> Iterator[Attempt]:
    """A live attempt of a job, which says nothing but that it lives; the job is left undecided."""
    with Publisher(settings) as publisher:
        publisher.publish(created())
        attempt = Attempt.start(job_id=JOB, attempt_number=0, config_type="sync", publisher=publisher)
        try:
            yield attempt
        finally:
            pulse.remove(attempt)


def decisions(settings: Settings) -> tuple[e.Failure, e.AttemptFailed]:
    """The one failure and the one end in the log, however often they were published."""
    told = published(settings)
    failures = {event.event_id: event for event in of_type(told, e.Failure)}
    ends = {event.event_id: event for event in of_type(told, e.AttemptFailed)}
    return one([*failures.values()], e.Failure), one([*ends.values()], e.AttemptFailed)


BUSY = """
from jobtrail import Job
with Job.start(connection_id="c") as job, job.attempt() as attempt:
    attempt.stream("users").emitted(records=10, bytes=100)
    while True:
        pass
"""
#: A worker whose main thread never pauses, one whose connector says nothing, and one whose pipe stays empty.
WORKERS = {
    "sdk": [sys.executable, "-c", BUSY],
    "run": [*COMMAND, "run", "--connection", "c", "--source", "sleep 30", "--quiet"],
    "tap": [*COMMAND, "tap", "--connection", "c"],
}


@pytest.mark.parametrize("kind", WORKERS)
def test_a_killed_worker_does_not_run_for_ever_48879_45591(
    kind: str, quick: Settings, another_database: str
) -> None:
    """Kill -9 in the middle of an attempt: within the limit the job says so, by one event, also rebuilt."""
    with service(quick, watchdogs=2):
        with subprocess.Popen(
            WORKERS[kind], env=environment(quick), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            wait_for(quick, RUNNING)
            time.sleep(2 * LIMIT)  # it lives, though it has nothing to say
            assert statuses(quick) == [RUNNING]
            process.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        wait_for(quick, INCOMPLETE)
        assert time.monotonic() - killed_at < 3 * LIMIT
        time.sleep(LIMIT)  # enough for a second decision
    failure, end = decisions(quick)
    assert (failure.failure_origin, failure.failure_type) == ("airbyte_platform", "heartbeat_timeout")
    assert failure.retryable
    heard = max(
        event.occurred_at
        for event in published(quick)
        if isinstance(event, e.AttemptStarted | e.AttemptHeartbeat | e.StreamStats)
    )
    assert (failure.occurred_at - heard).total_seconds() == LIMIT
    assert end.occurred_at == failure.occurred_at
    ((summary, ended_at),) = query(
        quick.database_url, "SELECT failure_summary, ended_at FROM jobtrail.attempts"
    )
    assert [reason["externalMessage"] for reason in summary["failures"]] == [failure.external_message]
    assert ended_at == end.occurred_at
    assert anomalies(quick) == set()

    project_until_caught_up(
        quick.model_copy(update={"database_url": another_database, "projector_group": "from-scratch"})
    )
    for view in ("jobs", "attempts", "job_events", "stream_stats", "anomalies"):
        rows = f"TABLE jobtrail.{view}"
        assert sorted(map(str, query(quick.database_url, rows))) == sorted(
            map(str, query(another_database, rows))
        )


@contextmanager
def paused(home: Path) -> Iterator[None]:
    """The broker neither answers nor breaks its connections, and goes on."""
    os.kill(pid(home, "kafka"), signal.SIGSTOP)
    time.sleep(2.5 * LIMIT)
    os.kill(pid(home, "kafka"), signal.SIGCONT)
    yield


@contextmanager
def restarted(home: Path) -> Iterator[None]:
    """The broker is gone, and is started again on the same log."""
    kill(home, "kafka")
    time.sleep(2.5 * LIMIT)
    with embedded.servers(home, postgres=False, cache=CACHE, on_progress=lambda _: None):
        yield


@pytest.mark.parametrize("outage", [paused, restarted])
def test_an_outage_of_the_broker_longer_than_every_limit_fails_nobody(
    outage: Callable[[Path], Any], quick: Settings
) -> None:
    with (
        new_home() as home,
        embedded.servers(home, postgres=False, cache=CACHE, on_progress=lambda _: None) as servers,
    ):
        mine = quick.model_copy(update={"kafka_bootstrap_servers": servers.kafka_bootstrap_servers})
        TopicAdmin(mine).ensure()
        with service(mine, watchdogs=2), worker(mine) as attempt:
            wait_for(mine, RUNNING)
            time.sleep(LIMIT)
            pulse.remove(attempt)  # nobody can hear it anyway
            with outage(home):
                time.sleep(2 * LIMIT)  # its client needs longer to come back than the watchdogs'
                pulse.add(attempt)
                time.sleep(3 * LIMIT)
                assert of_type(published(mine), e.Failure) == []
                assert statuses(mine) == [RUNNING]
                pulse.remove(attempt)  # and yet the watchdogs watch
                wait_for(mine, INCOMPLETE)
                decisions(mine)


def test_a_broker_that_refuses_events_fails_nobody_who_lives(
    quick: Settings, kafka_admin: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    """While it refuses events a dead worker and a living one are alike; afterwards they are not."""

    def take(largest: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(largest), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, quick.events_topic, incremental_configs=[entry])
        for altered in kafka_admin.incremental_alter_configs([resource]).values():
            altered.result(PATIENCE)

    def said() -> bool:
        return any("events of the watchdog" in record.getMessage() for record in caplog.records)

    with caplog.at_level(logging.WARNING, "jobtrail"), service(quick), worker(quick) as attempt:
        wait_for(quick, RUNNING)
        dead = JOB + 1
        attempt._publisher.publish(created(dead))
        attempt._publisher.deliver(taken(dead))
        take(1)
        wait_until(said)
        assert of_type(published(quick), e.Failure) == []
        take(1_048_588)
        wait_for(quick, RUNNING, INCOMPLETE)
        time.sleep(LIMIT)
        assert statuses(quick) == [RUNNING, INCOMPLETE]
    failure, _ = decisions(quick)
    assert failure.job_id == dead


def test_a_projector_that_lags_fails_nobody(quick: Settings) -> None:
    with role("watchdog", run_watchdog, quick), worker(quick) as attempt:
        with role("projector", run_projector, quick):
            wait_for(quick, RUNNING)
        time.sleep(3 * LIMIT)
        assert of_type(published(quick), e.Failure) == []
        with role("projector", run_projector, quick):
            time.sleep(2 * LIMIT)
            assert of_type(published(quick), e.Failure) == []
            pulse.remove(attempt)
            wait_for(quick, INCOMPLETE)
        decisions(quick)


def test_a_worker_that_comes_back_is_an_anomaly_and_a_retry_may_start(quick: Settings) -> None:
    about: dict[str, Any] = {"job_id": JOB, "attempt_number": 0}
    with service(quick), Publisher(quick) as publisher:
        publisher.publish_all([created(), taken()])
        wait_for(quick, INCOMPLETE)
        assert anomalies(quick) == set()
        publisher.publish(e.AttemptHeartbeat(**about))
        wait_until(lambda: anomalies(quick) == {"activity_after_end"})
        publisher.publish(e.AttemptSucceeded(**about))
        wait_until(lambda: anomalies(quick) >= {"activity_after_end", "success_not_deciding"})
        assert statuses(quick) == [INCOMPLETE]
        retry = Attempt.start(job_id=JOB, attempt_number=1, config_type="sync", publisher=publisher)
        wait_for(quick, ("running", 0, "failed"), ("running", 1, "running"))
        time.sleep(2 * LIMIT)
        assert statuses(quick) == [("running", 0, "failed"), ("running", 1, "running")]
        retry.succeed()
        wait_for(quick, ("succeeded", 0, "failed"), ("succeeded", 1, "succeeded"))
    decisions(quick)


def cancels(settings: Settings) -> list[e.Cancelled]:
    """Those in the log, however often they were published."""
    return [*{event.event_id: event for event in of_type(published(settings), e.Cancelled)}.values()]


def test_a_cancel_that_a_living_worker_never_confirms_cancels_the_job(quick: Settings) -> None:
    """Its attempt fails, and the job is cancelled by who asked, at the same instant; nobody retries it."""
    with service(quick, watchdogs=2), worker(quick) as attempt:
        wait_for(quick, RUNNING)
        request = e.CancelRequested(job_id=JOB, requested_by="ann")
        attempt._publisher.publish(request)
        wait_for(quick, CANCELLED)
        time.sleep(2 * LIMIT)  # it beats on, and is not failed again
        failure, end = decisions(quick)
        assert (failure.occurred_at - request.occurred_at).total_seconds() == LIMIT
        assert "cancel" in (failure.internal_message or "")
        assert failure.retryable is None
        (cancel,) = cancels(quick)
        assert (cancel.attempt_number, cancel.cancelled_by) == (None, "ann")
        assert cancel.occurred_at == failure.occurred_at == end.occurred_at
        assert statuses(quick) == [CANCELLED]
        wait_until(lambda: anomalies(quick) == {"activity_after_end"})
    reasons = query(quick.database_url, "SELECT failure_reason ->> 'failureType' FROM jobtrail.jobs")
    assert reasons == [("manual_cancellation",)]


def test_a_cancel_of_a_worker_that_is_dead_cancels_the_job(quick: Settings) -> None:
    """Nothing is heard after the request: the attempt fails for its silence, the job by the cancel."""
    with service(quick), Publisher(quick) as publisher:
        publisher.publish_all([created(), taken(), e.CancelRequested(job_id=JOB, requested_by="ann")])
        wait_for(quick, CANCELLED)
        decisions(quick)
        assert [cancel.cancelled_by for cancel in cancels(quick)] == ["ann"]
        assert anomalies(quick) == set()


def test_a_cancel_of_a_job_that_nobody_runs_does_not_wait_for_ever(quick: Settings) -> None:
    """It is cancelled, without an attempt that never was."""
    with service(quick), Publisher(quick) as publisher:
        publisher.publish_all([created(), e.CancelRequested(job_id=JOB)])
        wait_for(quick, ("cancelled", None, None))
    assert len(cancels(quick)) == 1
    assert of_type(published(quick), e.Failure) == []


def test_a_job_that_no_worker_takes_is_failed_55812(quick: Settings) -> None:
    waiting = created()
    with service(quick.model_copy(update={"pickup_limit": LIMIT}), 2), Publisher(quick) as publisher:
        publisher.publish(waiting)
        wait_for(quick, ("pending", None, None))
        wait_for(quick, INCOMPLETE)
    failure, _ = decisions(quick)
    assert (failure.occurred_at - waiting.occurred_at).total_seconds() == LIMIT
    assert failure.external_message == "No worker picked up this job in time"


def test_a_cancelled_job_needs_no_watchdog_but_an_attempt_begun_after_it_does(quick: Settings) -> None:
    with service(quick), Publisher(quick) as publisher:
        publisher.publish_all(
            [
                created(),
                taken(),
                e.Cancelled(job_id=JOB),
                taken(number=1),
            ]
        )
        wait_for(quick, ("cancelled", 0, "failed"), ("cancelled", 1, "running"))
        wait_for(quick, ("cancelled", 0, "failed"), ("cancelled", 1, "failed"))
        assert anomalies(quick) == {"start_after_decision"}
    failure, _ = decisions(quick)
    assert failure.attempt_number == 1


def test_the_limit_is_that_of_the_job_type(quick: Settings) -> None:
    """A connection check falls silent beside a sync, whose limit is not over yet.

    And beside a check that was started over HTTP, of whose client nothing has to be heard until it is done.
    """
    slower = quick.model_copy(update={"replication_status_check_interval": 30.0})
    assert silence_limit(slower, JobType.REPLICATION) == 300
    with service(slower), Publisher(slower) as publisher:
        publisher.publish_all([created(), taken()])
        check = e.JobCreated(job_id=JOB + 1, config_type="check_connection_source", config_id="a")
        over_http: dict[str, Any] = {"job_id": JOB + 2, "attempt_number": 0}
        publisher.publish_all([check.model_copy(update={"job_id": JOB + 2, "event_id": e.new_event_id()})])
        publisher.publish_all([e.AttemptStarted(**over_http), check, taken(JOB + 1)])
        wait_until(lambda: INCOMPLETE in statuses(slower))
        time.sleep(LIMIT / 2)
        assert statuses(slower) == [RUNNING, INCOMPLETE, RUNNING]
        publisher.publish(e.AttemptSucceeded(**over_http))
        wait_for(slower, RUNNING, INCOMPLETE, ("succeeded", 0, "succeeded"))
    failure, _ = decisions(slower)
    assert failure.job_id == JOB + 1


def test_an_attempt_that_no_worker_takes_ends_in_time_and_so_does_its_cancel(quick: Settings) -> None:
    """The one after as long as a job may wait for a worker, the other within its job type's limit."""
    patient = quick.model_copy(update={"pickup_limit": 1.5 * LIMIT})
    started_at = {job_id: e.AttemptStarted(job_id=job_id, attempt_number=0) for job_id in (JOB, JOB + 1)}
    with service(patient, 2), Publisher(patient) as publisher:
        publisher.publish_all([*(created(job_id) for job_id in started_at), *started_at.values()])
        request = e.CancelRequested(job_id=JOB + 1)
        publisher.publish(request)
        wait_for(patient, INCOMPLETE, CANCELLED)
    failures = {failure.job_id: failure for failure in of_type(published(patient), e.Failure)}
    assert (failures[JOB].occurred_at - started_at[JOB].occurred_at).total_seconds() == 1.5 * LIMIT
    assert failures[JOB].external_message == "Nobody reported on this attempt in time"
    assert (failures[JOB + 1].occurred_at - request.occurred_at).total_seconds() == LIMIT


def test_the_role_watches_until_it_is_told_to_end(quick: Settings) -> None:
    with (
        role("projector", run_projector, quick),
        Publisher(quick) as publisher,
        started(quick, "watchdog") as process,
    ):
        process.await_line("watching")
        publisher.publish_all([created(), taken()])
        process.await_line(f"job {JOB}, attempt 0 is failed: silent for 3 s")
        wait_for(quick, INCOMPLETE)
        assert process.end(signal.SIGINT) == 0
    decisions(quick)
