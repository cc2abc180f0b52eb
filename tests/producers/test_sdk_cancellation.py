"""A cancellation that somebody else asks for reaches the attempt by way of the event log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sdk_reading import Topics, names, of_type, one, published, sdk_settings

from jobtrail import Attempt, Job, events
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings


@pytest.fixture
def settings(kafka: str, topics: Topics, tmp_path: Path) -> Settings:
    return sdk_settings(kafka, topics, tmp_path, stats_interval=60)


def becomes_true(question: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return True
        time.sleep(0.01)
    return False


def test_a_request_ends_the_job_as_cancelled(settings: Settings) -> None:
    """The loop sees it, breaks, and what was done so far is published before Cancelled."""
    with Publisher(settings) as elsewhere, Job.start(connection_id="c", publisher=elsewhere) as job:
        with job.attempt() as attempt:
            attempt.stream("users").committed(records=5)
            assert not attempt.cancelled
            elsewhere.deliver(events.CancelRequested(job_id=job.job_id + 1))
            elsewhere.deliver(events.CancelRequested(job_id=job.job_id, requested_by="alice"))
            assert becomes_true(lambda: attempt.cancelled)
        assert attempt.outcome == "cancelled"
    told = published(settings, job.job_id)
    assert names(told) == ["JobCreated", "AttemptStarted", "CancelRequested", "StreamStats", "Cancelled"]
    cancelled = one(told, events.Cancelled)
    assert (cancelled.attempt_number, cancelled.cancelled_by) == (None, "alice")


def test_an_exception_after_it_was_seen_is_no_failure(settings: Settings) -> None:
    """What breaks while work is torn down blames nobody; the exception still reaches the caller."""

    def work(attempt: Attempt) -> None:
        with attempt:
            elsewhere.deliver(events.CancelRequested(job_id=attempt.job_id))
            assert becomes_true(lambda: attempt.cancelled)
            raise BrokenPipeError

    with (
        Publisher(settings) as elsewhere,
        Job.start(connection_id="c", publisher=elsewhere) as job,
        pytest.raises(BrokenPipeError),
    ):
        work(job.attempt())
    assert names(published(settings, job.job_id))[-2:] == ["CancelRequested", "Cancelled"]
    assert one(published(settings), events.Cancelled).cancelled_by == "worker-1"


def test_work_that_never_asked_and_was_done_succeeds(settings: Settings) -> None:
    with (
        Publisher(settings) as elsewhere,
        Job.start(connection_id="c", publisher=elsewhere) as job,
        job.attempt(),
    ):
        elsewhere.deliver(events.CancelRequested(job_id=job.job_id))
    assert names(published(settings))[-1] == "AttemptSucceeded"


def test_what_was_asked_before_the_first_question_is_seen(settings: Settings) -> None:
    """Several attempts in one process, some asking late: each learns of its own job's, and of no other."""
    with Publisher(settings) as publisher:
        attempts = [
            Attempt.start(job_id=job_id, attempt_number=0, publisher=publisher) for job_id in range(20)
        ]
        publisher.flush()
        early = attempts[0]
        assert not early.cancelled
        for attempt in attempts[::2]:
            publisher.deliver(events.CancelRequested(job_id=attempt.job_id))
        assert becomes_true(lambda: early.cancelled)
        assert becomes_true(lambda: sum(attempt.cancelled for attempt in attempts) == 10)
        assert [attempt.cancelled for attempt in attempts] == [True, False] * 10
        for attempt in attempts:
            attempt.close()
    ends = of_type(published(settings), events.Cancelled)
    assert sorted(event.job_id for event in ends) == list(range(0, 20, 2))
    assert len(of_type(published(settings), events.AttemptSucceeded)) == 10


def test_somebody_else_confirmed_it(settings: Settings) -> None:
    """A job or an attempt that is cancelled already is not cancelled again; another attempt's is not ours."""
    with Publisher(settings) as publisher:
        job = Attempt.start(job_id=1, attempt_number=0, publisher=publisher)
        alone = Attempt.start(job_id=2, attempt_number=1, publisher=publisher)
        publisher.deliver(events.Cancelled(job_id=1))
        publisher.deliver(events.Cancelled(job_id=2, attempt_number=0))
        assert becomes_true(lambda: job.cancelled)
        assert not alone.cancelled
        publisher.deliver(events.Cancelled(job_id=2, attempt_number=1))
        assert becomes_true(lambda: alone.cancelled)
        job.close()
        alone.close()
    assert len(of_type(published(settings), events.Cancelled)) == 3


def test_a_watch_that_fails_breaks_nothing(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and the work goes on."""
    broken = settings.model_copy(update={"kafka_client": {"fetch.max.bytes": "1"}})
    with (
        caplog.at_level(logging.WARNING, "jobtrail"),
        Publisher(broken) as publisher,
        Attempt.start(job_id=1, attempt_number=0, config_type="sync", publisher=publisher) as attempt,
    ):
        publisher.flush()
        assert not attempt.cancelled  # begins to watch
        assert becomes_true(lambda: bool(caplog.records))
        for _ in range(5):
            assert not attempt.cancelled
            time.sleep(0.05)
    assert [record.message for record in caplog.records] == [
        "cancellations can no longer be seen by the attempts of this process"
    ]
    assert names(published(settings)) == ["AttemptStarted", "AttemptSucceeded"]


def test_what_was_asked_before_the_attempt_began_is_seen(settings: Settings) -> None:
    """A worker that takes a job after somebody cancelled it learns of it."""
    with Publisher(settings) as publisher:
        publisher.deliver(events.CancelRequested(job_id=1))
        with Attempt.start(job_id=1, attempt_number=0, publisher=publisher) as attempt:
            assert becomes_true(lambda: attempt.cancelled)
