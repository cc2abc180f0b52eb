"""The publisher on a real broker, and without one."""

from __future__ import annotations

import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from giving_up import WHERE, give_up
from sdk_reading import Topics, messages, names, published, sdk_settings, value_of

from jobtrail import codec, events
from jobtrail.errors import EmbeddedError, PublishError, SettingError, UsageError
from jobtrail.producers.facts import make
from jobtrail.producers.lasting import LastingProducer
from jobtrail.producers.publisher import Publisher
from jobtrail.running import address, kafka_address
from jobtrail.settings import Settings


@pytest.fixture
def settings(kafka: str, topics: Topics, tmp_path: Path) -> Settings:
    return sdk_settings(kafka, topics, tmp_path)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address where nothing listens, and nothing will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def heartbeat(number: int = 0) -> events.AttemptHeartbeat:
    return events.AttemptHeartbeat(job_id=1, attempt_number=number)


def test_a_message_is_a_cloud_event(settings: Settings) -> None:
    """Key, value, headers, and the topic by type."""
    heard = events.DataplaneHeartbeat(dataplane_id="eu-1")
    with Publisher(settings) as publisher:
        publisher.publish_all([heartbeat(), heard])
    (job_message,), (registry_message,) = messages(settings), messages(settings, settings.registry_topic)
    event = codec.decode(value_of(job_message))
    assert dict(job_message.headers() or []) == {
        "ce_specversion": b"1.0",
        "ce_id": event.event_id.encode(),
        "ce_type": b"jobtrail.AttemptHeartbeat",
        "ce_source": b"/jobtrail/worker-1",
        "content-type": b"application/avro",
    }
    assert job_message.key() == b"1"
    assert registry_message.key() == b"eu-1"
    assert codec.decode(value_of(registry_message)) == heard


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_closed_publisher_leaves_no_thread(settings: Settings, nowhere: str) -> None:
    """At once, and not when Python happens to look for cycles: whoever makes one for each job has many."""

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    away = settings.model_copy(update={"kafka_bootstrap_servers": nowhere, "flush_timeout": 0.1})
    gc.collect()
    gc.disable()
    try:
        before = threads()
        for each in [settings] * 3 + [away] * 3:
            with Publisher(each) as publisher:
                publisher.publish(heartbeat())
        until = time.monotonic() + 30
        while threads() > before:
            assert time.monotonic() < until, f"{threads()} threads, {before} before"
            time.sleep(0.05)
    finally:
        gc.enable()


def test_a_closed_client_that_had_given_up_keeps_nobody_waiting(nowhere: str) -> None:
    """What it had not delivered cannot be sent again: whoever was in the middle of a poll comes back."""
    producer = LastingProducer(lambda: Producer({"bootstrap.servers": nowhere, "log_level": 0}))

    def answer(error: KafkaError | None, message: Message) -> None:
        assert error is not None
        assert producer.is_undelivered(error, message, answer, [])

    producer.produce("topic", b"value", None, answer, [])
    assert isinstance(producer.now, Producer)
    producer.now.purge()
    producer.now.poll(1)
    producer.close()
    polling = threading.Thread(target=producer.poll, args=[0.0], daemon=True)
    polling.start()
    polling.join(5)
    assert not polling.is_alive()
    assert len(producer) == 1


def test_delivery_is_counted_and_can_be_awaited(settings: Settings) -> None:
    with Publisher(settings) as publisher:
        receipt = publisher.deliver(heartbeat())
        assert (receipt.done, receipt.error, receipt.offset) == (True, None, 0)
        for number in range(500):
            publisher.publish(heartbeat(number))
        publisher.flush()
        counts = publisher.counts
        assert (counts.accepted, counts.delivered, counts.failed, counts.waiting) == (501, 501, 0, 0)
    with pytest.raises(UsageError, match="closed"):
        publisher.publish(heartbeat())
    publisher.close()


def test_callbacks_run_while_the_caller_does_nothing(settings: Settings) -> None:
    with Publisher(settings) as publisher:
        publisher.publish(heartbeat())
        deadline = time.monotonic() + 10
        while publisher.counts.delivered == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert publisher.counts.delivered == 1


def test_a_full_queue_makes_callers_wait(kafka: str, topics: Topics, tmp_path: Path) -> None:
    """Several threads push through room for five; nothing is lost, and each thread's order is kept."""
    environment = {"JOBTRAIL_KAFKA_QUEUE_BUFFERING_MAX_MESSAGES": "5"}
    client = Settings.from_env(environment).kafka_client
    settings = sdk_settings(kafka, topics, tmp_path, kafka_client=client)

    with Publisher(settings) as publisher:

        def work(attempt: int) -> None:
            for sequence in range(100):
                status = {"stream_name": "s", "run_state": str(sequence)}
                publisher.publish(make(events.StreamStatus, job_id=1, attempt_number=attempt, **status))

        threads = [threading.Thread(target=work, args=[attempt]) for attempt in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        publisher.flush()
        assert publisher.counts.delivered == 400
    told = [event for event in published(settings) if isinstance(event, events.StreamStatus)]
    for attempt in range(4):
        states = [int(event.run_state) for event in told if event.attempt_number == attempt]
        assert states == list(range(100))


def test_a_queue_that_stays_full_is_an_error(nowhere: str, tmp_path: Path) -> None:
    """It says how many wait; and after the limit has passed once, nobody waits again."""
    settings = Settings(
        home=tmp_path,
        kafka_bootstrap_servers=nowhere,
        spool="off",
        flush_timeout=0.3,
        kafka_client={"queue.buffering.max.messages": "5"},
    )
    publisher = Publisher(settings)
    publisher.publish_all(map(heartbeat, range(5)))
    begin = time.monotonic()
    with pytest.raises(PublishError, match=r"AttemptHeartbeat was not taken.*5 events were not confirmed"):
        publisher.publish(heartbeat(5))
    assert 0.3 <= time.monotonic() - begin < 2
    begin = time.monotonic()
    for _ in range(10):
        with pytest.raises(PublishError, match="has been full for"):
            publisher.publish(heartbeat(6))
    assert time.monotonic() - begin < 0.3
    assert (publisher.counts.accepted, publisher.counts.refused) == (5, 11)
    with pytest.raises(PublishError, match=f"5 events were not confirmed by Kafka at {nowhere}"):
        publisher.flush(0.1)
    publisher.close()


def test_an_event_that_is_too_large_is_refused(settings: Settings) -> None:
    small = settings.model_copy(update={"kafka_client": {"message.max.bytes": "1000"}})
    with Publisher(small) as publisher:
        large = events.Failure(job_id=1, attempt_number=0, internal_message="x" * 2_000)
        with pytest.raises(PublishError, match=r"Failure \(2,\d\d\d bytes\)"):
            publisher.publish(large)
        assert publisher.counts.refused == 1


def test_an_error_of_delivery_is_said_once(
    settings: Settings, kafka_admin: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker takes no message of that size: counted for each, logged once, reported by flush."""
    narrow = f"{settings.events_topic}-narrow"
    for made in kafka_admin.create_topics(
        [NewTopic(narrow, 1, 1, config={"max.message.bytes": "500"})]
    ).values():
        made.result(30)
    settings = settings.model_copy(update={"events_topic": narrow})
    with caplog.at_level(logging.INFO, "jobtrail"), Publisher(settings) as publisher:
        for _ in range(3):
            large = events.Failure(job_id=1, attempt_number=0, internal_message=os.urandom(2_000).hex())
            with pytest.raises(PublishError, match="refuses it"):
                publisher.deliver(large)
        with pytest.raises(PublishError, match="refused 3 events"):
            publisher.flush()
        publisher.flush()
        assert publisher.counts.failed == 3
        publisher.deliver(heartbeat())
    kafka_admin.delete_topics([narrow])
    (record,) = caplog.records
    assert "refuses events for topic" in record.message


def test_no_address_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS is not set.*jobtrail up"):
        Publisher(Settings(home=tmp_path, spool="off"))


@pytest.mark.skipif(sys.platform == "win32", reason="embedded servers do not run there")
def test_without_settings_the_servers_under_home_are_used(nowhere: str, tmp_path: Path) -> None:
    """Only while they live: the lock says so, and the kernel frees it whatever happens to them."""
    import fcntl

    run = tmp_path / "run"
    run.mkdir()
    (run / "kafka.address").write_text(nowhere)
    with (run / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert kafka_address(Settings(home=tmp_path)) == nowhere
        assert kafka_address(Settings(home=tmp_path, kafka_bootstrap_servers="k:1")) == "k:1"
        assert address(tmp_path, "postgres") is None
    with pytest.raises(EmbeddedError, match="no Kafka runs under"):
        kafka_address(Settings(home=tmp_path))


def test_a_client_setting_that_does_not_fit_is_named(nowhere: str, tmp_path: Path) -> None:
    wrong = Settings(
        home=tmp_path, kafka_bootstrap_servers=nowhere, kafka_client={"socket.timeout.ms": "soon"}
    )
    with pytest.raises(SettingError, match=r"socket\.timeout\.ms"):
        Publisher(wrong)


def run(code: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Runs a program of its own with settings from the environment; and how many seconds it took."""
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **{f"JOBTRAIL_{name}": value for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ended, time.monotonic() - begin


SYNC = """
import time
from jobtrail import Job
begin = time.monotonic()
with Job.start(connection_id="c") as job, job.attempt() as attempt:
    users = attempt.stream("users")
    for _ in range(1000):
        users.emitted(records=1)
        attempt.cancelled
    print(f"work {time.monotonic() - begin:.2f}")
    time.sleep(1)
print(f"left {time.monotonic() - begin:.2f}")
"""


def test_work_goes_on_without_a_broker(nowhere: str, tmp_path: Path) -> None:
    """Nobody is blocked, one warning names address and setting, and the exit waits once, for the time set."""
    ended, seconds = run(SYNC, KAFKA_BOOTSTRAP_SERVERS=nowhere, HOME=str(tmp_path), FLUSH_TIMEOUT="2")
    assert ended.returncode == 0, ended.stderr
    work, left = (float(line.split()[1]) for line in ended.stdout.splitlines())
    assert work < 1
    assert left < 1 + work + 2 + 1
    assert seconds < 8
    away, lost = ended.stderr.splitlines()
    assert away.startswith(f"Kafka at {nowhere} does not answer")
    assert "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in away
    assert lost.startswith(f"4 events were not confirmed by Kafka at {nowhere}")
    assert lost.endswith(f"they are in {tmp_path / 'spool'}, and `jobtrail spool send` delivers them")


def test_what_was_counted_is_published_when_the_program_ends(settings: Settings) -> None:
    """An attempt that was never ended: its numbers get out, and nobody claims that it ended."""
    code = """
from jobtrail import Attempt
attempt = Attempt.start(job_id=1, attempt_number=0, config_type="sync")
attempt.stream("users").committed(records=3)
"""
    ended, _ = run(
        code,
        KAFKA_BOOTSTRAP_SERVERS=settings.kafka_bootstrap_servers or "",
        EVENTS_TOPIC=settings.events_topic,
        STATS_INTERVAL="60",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert names(published(settings)) == ["AttemptStarted", "StreamStats"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_has_its_own(settings: Settings) -> None:
    """The parent's publisher refuses to serve it; a new job of its own works; both end in time."""
    code = """
import os, time
from jobtrail import Job
from jobtrail.errors import UsageError
job = Job.start(connection_id="parent")
attempt = job.attempt()
child = os.fork()
if child == 0:
    try:
        attempt.heartbeat()
    except UsageError as error:
        print(error, flush=True)
    with Job.start(connection_id="child") as mine, mine.attempt() as attempt:
        attempt.stream("s").emitted(records=1)
        attempt.cancelled
else:
    assert os.waitpid(child, 0)[1] == 0
    with job, attempt:
        pass
"""
    ended, _ = run(
        code,
        KAFKA_BOOTSTRAP_SERVERS=settings.kafka_bootstrap_servers or "",
        EVENTS_TOPIC=settings.events_topic,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "belongs to process" in ended.stdout
    assert "after a fork" in ended.stdout
    told = names(published(settings))
    assert sorted(told) == sorted(
        ["JobCreated", "AttemptStarted", "AttemptSucceeded"] * 2 + ["StreamStats"],
    )


def test_importing_is_light() -> None:
    """A connector that imports the SDK loads neither dataframes nor a database driver nor a web stack."""
    code = """
import sys, time
begin = time.perf_counter()
import jobtrail
print(time.perf_counter() - begin)
from jobtrail import Attempt, Job, Publisher, StreamReporter, errors, events, failures
assert jobtrail.__version__ and "Job" in dir(jobtrail)
heavy = {"polars", "psycopg", "psycopg_pool", "fastapi", "starlette", "uvicorn", "rich", "tenacity", "yoyo"}
print(sorted(heavy & sys.modules.keys()))
try:
    jobtrail.nothing
except AttributeError as error:
    print(error)
"""
    ended, _ = run(code)
    assert ended.returncode == 0, ended.stderr
    seconds, heavy, unknown = ended.stdout.splitlines()
    assert float(seconds) < 0.25
    assert heavy == "[]"
    assert unknown == "module 'jobtrail' has no attribute 'nothing'"


def test_a_burst_is_delivered_and_counted_whoever_takes_in_the_answers(settings: Settings) -> None:
    """Several threads that publish without a pause; then one that waits, at once."""
    with Publisher(settings) as publisher:

        def burst(number: int) -> None:
            for at in range(5000):
                publisher.publish(events.AttemptHeartbeat(job_id=number, attempt_number=at % 1024))

        threads = [threading.Thread(target=burst, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        receipts = [publisher.send(heartbeat(number)) for number in range(600)]
        for thread in threads:
            thread.join()
        last = publisher.deliver(heartbeat())
        publisher.flush()
        counts = publisher.counts
        assert (counts.accepted, counts.delivered, counts.failed, counts.waiting) == (15_601, 15_601, 0, 0)
        assert all(receipt.done and receipt.offset >= 0 for receipt in [*receipts, last])
    told: dict[bytes, list[int]] = {}
    for message in messages(settings):
        event = codec.decode(value_of(message))
        assert isinstance(event, events.AttemptHeartbeat)
        told.setdefault(message.key() or b"", []).append(event.attempt_number)
    for number in (0, 2):  # 1 is also the key of the others
        assert told[str(number).encode()] == [at % 1024 for at in range(5000)]


def test_who_waits_without_a_broker_in_a_burst_is_told(nowhere: str, tmp_path: Path) -> None:
    """The queue is full, callers wait for room, and the one warning still comes."""
    code = """
from jobtrail import Publisher, events
from jobtrail.errors import PublishError
publisher = Publisher()
try:
    for number in range(5000):
        publisher.publish(events.AttemptHeartbeat(job_id=1, attempt_number=0))
except PublishError as error:
    print(error)
"""
    ended, _ = run(
        code,
        KAFKA_BOOTSTRAP_SERVERS=nowhere,
        HOME=str(tmp_path),
        FLUSH_TIMEOUT="2",
        KAFKA_QUEUE_BUFFERING_MAX_MESSAGES="1000",
        SPOOL="off",
    )
    assert "the queue has been full for 2 s" in ended.stdout, ended.stderr
    assert ended.stderr.startswith(f"Kafka at {nowhere} does not answer")


@WHERE
@pytest.mark.parametrize("ended_by", ["flush", "close", "receipts"])
def test_a_client_that_gave_up_is_replaced_and_nothing_is_lost(
    settings: Settings, caplog: pytest.LogCaptureFixture, ended_by: str
) -> None:
    """It happens when a connection breaks while the broker restarts, and refuses all that waits and comes."""
    sent = [heartbeat(number % 1024) for number in range(3_000)]
    with Publisher(settings) as publisher:
        receipts = []
        for at, event in enumerate(sent):
            if at in {1_000, 2_000}:
                give_up(publisher._producer)
            if at % 2:
                receipts.append(publisher.send(event))
            else:
                publisher.publish(event)
        if ended_by == "flush":
            publisher.flush()
        elif ended_by == "receipts":
            assert all(receipt.wait(30) for receipt in receipts)
    assert all(receipt.done and receipt.error is None for receipt in receipts)
    counts = publisher.counts
    assert (counts.accepted, counts.delivered, counts.failed) == (3_000, 3_000, 0)
    told = messages(settings)
    found = {codec.decode(value_of(message)).event_id for message in told}
    assert found == {event.event_id for event in sent}
    for message in told:  # also what the next client sent again
        assert dict(message.headers() or [])["ce_id"] == codec.decode(value_of(message)).event_id.encode()
    assert caplog.text.count("gave up") == 2
