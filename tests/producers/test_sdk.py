"""The SDK as its users write it, on a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sdk_reading import Topics, names, of_type, one, published, sdk_settings

from jobtrail import Attempt, Job, events, failures
from jobtrail.errors import UsageError
from jobtrail.producers.job import offline_job_id
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

CONNECTION = "9924bcd0-99be-453d-ba47-c2c9766f7da5"
#: A sync that commits three records and succeeds.
SUCCESS = ["JobCreated", "AttemptStarted", "StreamStats", "AttemptSucceeded"]


@pytest.fixture
def settings(kafka: str, topics: Topics, tmp_path: Path) -> Settings:
    return sdk_settings(kafka, topics, tmp_path, stats_interval=60)


def size(batch: Sequence[str]) -> int:
    return sum(len(record.encode()) for record in batch)


def write(batch: Sequence[str]) -> int:
    return len(batch)


def read() -> Iterator[list[str]]:
    yield ["a", "b"]
    yield ["ü"]


def example(
    settings: Settings,
    read: Callable[[], Iterator[list[str]]] = read,
    size: Callable[[Sequence[str]], int] = size,
    write: Callable[[Sequence[str]], int] = write,
) -> None:
    """The example that users start from, word for word but for the settings."""
    with Job.start(connection_id=CONNECTION, settings=settings) as job, job.attempt() as attempt:
        users = attempt.stream("users", namespace="public")
        for batch in attempt.source(read()):  # an error raised here is the source's
            users.emitted(records=len(batch), bytes=size(batch))  # calls add; events are cumulative
            with attempt.destination():  # an error raised here is the destination's
                users.committed(records=write(batch))
            if attempt.cancelled:  # asked for from elsewhere
                break  # ends as cancelled


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        ({"scope_type": "organisation", "scope_id": "x"}, "scope_type: .*did you mean 'organization'"),
        ({"scope_type": "workspace"}, "scope_id: which workspace is meant is not said"),
        ({"scope_type": "workspace", "scope_id": ""}, "scope_id: which workspace is meant is not said"),
        ({"scope_id": "x"}, "scope_type: the scope 'x' needs it"),
        ({"scope_type": "workspace", "scope_id": "x", "workspace_id": "y"}, "workspace_id: 'y' is not"),
    ],
)
def test_a_scope_that_is_none_is_refused_before_anything_is_published(
    settings: Settings, scope: dict[str, str], says: str
) -> None:
    with Publisher(settings) as publisher:
        with pytest.raises(UsageError, match=says):
            Job.start(connection_id=CONNECTION, publisher=publisher, **scope)  # type: ignore[arg-type]
        Job.start(connection_id=CONNECTION, publisher=publisher, scope_type="organization", scope_id="acme")
    assert names(published(settings)) == ["JobCreated"]


def test_the_example_publishes_a_whole_job(settings: Settings) -> None:
    example(settings)
    told = published(settings)
    assert names(told) == SUCCESS
    created = one(told, events.JobCreated)
    assert (created.connection_id, created.config_id, created.config_type) == (CONNECTION, CONNECTION, "sync")
    assert 2**52 <= created.job_id < 2**53
    assert one(told, events.AttemptStarted).worker == "worker-1"
    stats = one(told, events.StreamStats)
    assert (stats.stream_namespace, stats.stream_name, stats.reporter) == ("public", "users", "platform")
    assert (stats.records_emitted, stats.bytes_emitted, stats.records_committed) == (3, 4, 3)
    assert stats.bytes_committed is None, "what was never counted is not known"
    assert stats.state_messages_emitted is None
    moments = [event.occurred_at for event in told]
    assert moments == sorted(moments)


def test_an_error_is_of_the_place_where_it_was_raised(settings: Settings) -> None:
    """Source, destination, and everything in between; the caller gets the very same exception."""
    error = ConnectionResetError("lost")

    def failing(*_: object) -> int:
        raise error

    def failing_read() -> Iterator[list[str]]:
        yield ["a"]
        raise error

    for broken in ({"read": failing_read}, {"write": failing}, {"size": failing}):
        with pytest.raises(ConnectionResetError) as raised:
            example(settings, **broken)
        assert raised.value is error
    by_job: dict[int, list[events.Event]] = {}
    for event in published(settings):
        assert isinstance(event, events.JobEvent)
        by_job.setdefault(event.job_id, []).append(event)
    ends = {one(told, events.Failure).failure_origin: names(told)[-3:] for told in by_job.values()}
    failed = ["Failure", "AttemptFailed", "JobFailed"]
    assert ends == {"source": failed, "destination": failed, "replication": failed}
    failure = one(next(iter(by_job.values())), events.Failure)
    assert failure.internal_message == "ConnectionResetError: lost"
    assert "failing" in (failure.stacktrace or "")


def test_the_innermost_place_is_to_blame(settings: Settings) -> None:
    """A source that is read within the destination's block, or whose error somebody wraps, stays to blame."""

    def broken() -> Iterator[str]:
        yield "a"
        raise KeyError("page")

    def wrap(attempt: Attempt) -> None:
        try:
            list(attempt.source(broken()))
        except KeyError as error:
            raise RuntimeError("sync broke") from error

    def nest(attempt: Attempt) -> None:
        with attempt.destination():
            list(attempt.source(broken()))

    def call(attempt: Attempt) -> None:
        def unreachable() -> list[str]:
            raise RuntimeError("no such host")

        list(attempt.source(unreachable))

    with Publisher(settings) as publisher:
        for number, work in enumerate((wrap, nest, call)):
            with (
                pytest.raises((RuntimeError, KeyError)),
                Attempt.start(job_id=7, attempt_number=number, publisher=publisher) as attempt,
            ):
                work(attempt)
    told = of_type(published(settings), events.Failure)
    assert [failure.failure_origin for failure in told] == ["source"] * 3
    assert told[0].internal_message == "RuntimeError: sync broke (caused by KeyError: 'page')"


def test_a_retried_job_succeeds(settings: Settings) -> None:
    """Only the last attempt decides: no JobFailed when a later one succeeds."""
    with Job.start(connection_id=CONNECTION, settings=settings) as job:
        for _ in range(2):
            try:
                with job.attempt(source_image="source:1") as attempt:
                    assert attempt.attempt_number == 1, "the first one fails"
            except AssertionError:
                continue
    told = published(settings)
    assert names(told) == [
        "JobCreated", "AttemptStarted", "Failure", "AttemptFailed", "AttemptStarted", "AttemptSucceeded"
    ]  # fmt: skip
    assert [event.attempt_number for event in of_type(told, events.AttemptStarted)] == [0, 1]


def test_a_job_without_attempts(settings: Settings) -> None:
    """It fails by an exception, is cancelled by Ctrl-C, and is left to others when all is well."""
    ended = []
    for error in (ValueError(), KeyboardInterrupt(), None):
        job = Job.start(config_id="actor", config_type="check_connection_source", settings=settings)
        try:
            with job:
                if error is not None:
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
        ended.append(names(published(settings, job.job_id)))
    assert ended == [["JobCreated", "JobFailed"], ["JobCreated", "Cancelled"], ["JobCreated"]]


def test_an_attempt_that_was_never_ended_fails_with_its_job(settings: Settings) -> None:
    with Job.start(connection_id=CONNECTION, settings=settings) as job:
        job.attempt()
        with pytest.raises(UsageError, match="still runs"):
            job.attempt()
    told = published(settings)
    assert names(told)[-3:] == ["Failure", "AttemptFailed", "JobFailed"]
    assert "block ended before" in (one(told, events.Failure).internal_message or "")


def test_several_failures_and_an_explicit_end(settings: Settings) -> None:
    """A stream's own failure ends nothing; `fail` ends without an exception; a second end changes nothing."""
    settings = settings.model_copy(update={"stats_interval": 60.0})  # counters come with the end
    with Job.start(connection_id=CONNECTION, settings=settings) as job, job.attempt() as attempt:
        users = attempt.stream("users")
        users.state()
        attempt.failure(failures.destination("table is locked", stream="users", retryable=True))
        attempt.fail(failures.source(OSError("gone")), failures.platform("worker ran out of disk"))
        attempt.fail(failures.source("again"))
        attempt.succeed()
        attempt.cancel()
        with pytest.raises(UsageError, match=r"attempt 0 of job \d+ has ended \(failed\); start another"):
            users.emitted(records=1)
        for too_late in (attempt.heartbeat, lambda: users.status("COMPLETE"), lambda: attempt.stream("x")):
            with pytest.raises(UsageError, match="has ended"):
                too_late()
    told = published(settings)
    assert names(told)[2:] == ["Failure", "StreamStats", "Failure", "Failure", "AttemptFailed", "JobFailed"]
    streams = [failure.stream_name for failure in of_type(told, events.Failure)]
    assert streams == ["users", None, None]


def test_ends_that_are_no_errors(settings: Settings) -> None:
    """Ctrl-C cancels; a worker that is told to stop has not done its work, whatever its exit status."""
    ends = {}
    for error in (KeyboardInterrupt(), SystemExit(0), GeneratorExit()):
        with Job.start(connection_id=CONNECTION, settings=settings) as job:
            with pytest.raises(type(error)) as raised, job.attempt():
                raise error
            assert raised.value is error
        ends[type(error).__name__] = names(published(settings, job.job_id))[2:]
    failed = ["Failure", "AttemptFailed", "JobFailed"]
    assert ends == {"KeyboardInterrupt": ["Cancelled"], "SystemExit": failed, "GeneratorExit": failed}
    told = of_type(published(settings), events.Failure)
    assert {failure.failure_origin for failure in told} == {"airbyte_platform"}
    assert one(published(settings), events.Cancelled).cancelled_by == "worker-1"


def test_an_attempt_of_somebody_elses_job(settings: Settings) -> None:
    """It decides about itself alone."""
    with pytest.raises(ValueError, match="bad"), Attempt.start(job_id=5, attempt_number=3, settings=settings):
        raise ValueError("bad")
    with pytest.raises(KeyboardInterrupt), Attempt.start(job_id=5, attempt_number=4, settings=settings):
        raise KeyboardInterrupt
    told = published(settings)
    assert names(told) == ["AttemptStarted", "Failure", "AttemptFailed", "AttemptStarted", "Cancelled"]
    assert one(told, events.Cancelled).attempt_number == 4


def test_everything_a_stream_can_say(settings: Settings) -> None:
    with Job.start(connection_id=CONNECTION, settings=settings) as job, job.attempt() as attempt:
        stream = attempt.stream("users", namespace="", reporter="destination")
        assert stream is attempt.stream("users", reporter="destination")
        assert stream is not attempt.stream("users")
        stream.metadata(was_resumed=True)
        stream.status(events.RunState.RATE_LIMITED, quota_reset_at=events.utc_now())
        stream.status("INCOMPLETE", cause="FAILED")
        stream.emitted(records=1)
        stream.replace(records_emitted=100, bytes_emitted=2_000, records_committed=90)
        stream.emitted(records=1)
        stream.rejected(2)
        stream.state(3)
        stream.estimate(records=500)
        stream.estimate(bytes=600)
    told = published(settings)
    stats = one(told, events.StreamStats)
    assert stats.model_dump(exclude={"event_id", "occurred_at", "sequence"}) == {
        "job_id": job.job_id, "attempt_number": 0, "stream_namespace": None, "stream_name": "users",
        "reporter": "destination", "records_emitted": 101, "bytes_emitted": 2000, "state_messages_emitted": 3,
        "records_committed": 90, "bytes_committed": None, "records_rejected": 2, "estimated_records": 500,
        "estimated_bytes": 600,
    }  # fmt: skip
    assert one(told, events.StreamMetadata).was_resumed is True
    assert [status.run_state for status in of_type(told, events.StreamStatus)] == [
        "RATE_LIMITED",
        "INCOMPLETE",
    ]


def test_all_facts_of_a_job(settings: Settings) -> None:
    job = Job.start(
        job_id=42,
        connection_id=CONNECTION,
        config_type="refresh",
        scope_type="workspace",
        scope_id="w",
        workspace_id="w",
        streams=["users", events.ConfiguredStream(name="orders", namespace="shop", sync_mode="incremental")],
        streams_to_refresh=["users"],
        labels={"team": "sales"},
        settings=settings,
    )
    with job, job.attempt(attempt_number=9, worker="pod-3", dataplane="eu", source_version="1.2"):
        pass
    told = published(settings)
    created = one(told, events.JobCreated)
    assert [(stream.namespace, stream.name) for stream in created.streams] == [
        (None, "users"),
        ("shop", "orders"),
    ]
    assert created.labels == [events.Label(key="team", value="sales")]
    started = one(told, events.AttemptStarted)
    assert (created.job_id, started.attempt_number, started.worker, started.dataplane) == (
        42,
        9,
        "pod-3",
        "eu",
    )


def test_calls_that_make_no_sense_are_refused(settings: Settings) -> None:
    """Each says what was found, and nothing of it is published."""
    with pytest.raises(UsageError, match="connection_id="):
        Job.start(settings=settings)
    with pytest.raises(UsageError, match=r"JobCreated\.job_id: -1 is not within 0 to"):
        Job.start(connection_id=CONNECTION, job_id=-1, settings=settings)
    with Job.start(connection_id=CONNECTION, settings=settings) as job, job.attempt() as attempt:
        with pytest.raises(UsageError, match=r"StreamEvent\.stream_name: 1025 bytes"):
            attempt.stream("x" * 1025)
        stream = attempt.stream("users")
        for wrong in (-1, 1.5, "3"):
            with pytest.raises(UsageError, match="is not a whole number from 0"):
                stream.emitted(records=wrong)  # type: ignore[arg-type]  # the point of the test
        with pytest.raises(UsageError, match="no such counter: rows"):
            stream.replace(rows=3)  # type: ignore[call-arg]  # the point of the test
    assert names(published(settings)) == ["JobCreated", "AttemptStarted", "AttemptSucceeded"]


def test_stats_are_cumulative_and_only_for_what_changed(kafka: str, topics: Topics, tmp_path: Path) -> None:
    """Published while the attempt runs, from a thread of its own; the sequence only grows."""
    settings = sdk_settings(kafka, topics, tmp_path, stats_interval=0.1)
    with Job.start(connection_id=CONNECTION, settings=settings) as job, job.attempt() as attempt:
        users, orders = attempt.stream("users"), attempt.stream("orders")
        orders.emitted(records=7)
        deadline = time.monotonic() + 0.8
        while time.monotonic() < deadline:
            users.emitted(records=1)
            time.sleep(0.01)
    told = of_type(published(settings), events.StreamStats)
    assert [stats.records_emitted for stats in told if stats.stream_name == "orders"] == [7]
    users_told = [stats for stats in told if stats.stream_name == "users"]
    counts = [stats.records_emitted or 0 for stats in users_told]
    assert 3 <= len(counts) <= 12
    assert counts == sorted(set(counts))
    sequences = [stats.sequence for stats in users_told]
    assert sequences == sorted(set(sequences))
    assert abs(sequences[-1] - time.time_ns() // 1000) < 60_000_000


def test_many_threads_lose_no_count(settings: Settings) -> None:
    with Job.start(connection_id=CONNECTION, settings=settings) as job, job.attempt() as attempt:

        def work() -> None:
            for _ in range(2_000):
                attempt.stream("users").emitted(records=1, bytes=2)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = one(published(settings), events.StreamStats)
    assert (stats.records_emitted, stats.bytes_emitted) == (16_000, 32_000)


def test_a_silent_attempt_says_that_it_lives(kafka: str, topics: Topics, tmp_path: Path) -> None:
    settings = sdk_settings(kafka, topics, tmp_path, replication_status_check_interval=0.15)
    with Job.start(connection_id=CONNECTION, settings=settings) as job, job.attempt() as attempt:
        time.sleep(1)
        attempt.heartbeat()
    told = published(settings)
    assert 3 <= len(of_type(told, events.AttemptHeartbeat)) <= 9
    assert names(told)[-1] == "AttemptSucceeded"


@pytest.mark.parametrize(
    ("config_type", "beats"), [("check_connection_source", True), ("sync", False), (None, True)]
)
def test_a_silent_attempt_of_a_job_that_exists_beats_as_its_type_asks(
    kafka: str, topics: Topics, tmp_path: Path, config_type: str | None, *, beats: bool
) -> None:
    """And after the shortest time of all where the type is not known: its limit may be the shortest."""
    settings = sdk_settings(kafka, topics, tmp_path, check_status_check_interval=0.15)
    with Attempt.start(job_id=7, attempt_number=1, config_type=config_type, settings=settings):
        time.sleep(0.8)
    assert bool(of_type(published(settings), events.AttemptHeartbeat)) == beats


def test_offline_ids_are_apart() -> None:
    """In the order of time, below 2^53, above what the API gives out."""
    ids = [offline_job_id() for _ in range(200)]
    assert 2**52 <= min(ids) <= max(ids) < 2**53
    assert ids == sorted(set(ids))
