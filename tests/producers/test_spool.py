"""The disk spool: what was accepted arrives, whatever becomes of Kafka and of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sdk_reading import Topics, published, sdk_settings

from jobtrail import Job, events
from jobtrail.errors import EmbeddedError, PublishError
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.shared import shared_publisher
from jobtrail.producers.spool import SUFFIX, Record, Spool, SpoolError, folder_of, records
from jobtrail.producers.spool_send import send, spooled
from jobtrail.settings import Settings


@pytest.fixture
def settings(kafka: str, topics: Topics, tmp_path: Path) -> Settings:
    return sdk_settings(kafka, topics, tmp_path)


def away(settings: Settings, **more: object) -> Settings:
    """The same, but nobody listens where Kafka should be."""
    return settings.model_copy(
        update={"kafka_bootstrap_servers": "127.0.0.1:1", "flush_timeout": 0.5, **more}
    )


def status(number: int, job_id: int = 1) -> events.StreamStatus:
    return events.StreamStatus(
        job_id=job_id, attempt_number=0, stream_name="s", stream_namespace="", run_state=str(number)
    )


def states(settings: Settings) -> list[int]:
    return [int(event.run_state) for event in published(settings) if isinstance(event, events.StreamStatus)]


def record(number: int) -> Record:
    return "t", b"1", str(number).encode() * 50, [("ce_id", "x"), ("n", b"\0\xff"), ("none", None)]


def test_what_is_written_is_read_up_to_what_a_crash_has_torn(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000_000)
    wanted = [record(number) for number in range(20)]
    for one in wanted:
        spool.write(one)
    spool.leave()
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    whole = path.read_bytes()
    with path.open("rb") as file:
        found = list(records(file))
    assert [one for one, _ in found] == wanted
    for cut in range(found[-2][1], len(whole)):
        path.write_bytes(whole[:cut])
        with path.open("rb") as file:
            assert [one for one, _ in records(file)] == wanted[:-1], cut
    for at in range(found[-2][1], len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with path.open("rb") as file:
            assert [one for one, _ in records(file)] == wanted[:-1], at


def test_a_spool_is_bounded_and_says_which_setting(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1_000)
    with pytest.raises(SpoolError, match=r"is full: \d+ of 1,000 bytes \(JOBTRAIL_SPOOL_LIMIT\)"):
        for number in range(100):
            spool.write(record(number))
    spool.drop_all()
    spool.write(record(1))
    spool.leave()


def test_who_lists_the_spool_is_in_nobodys_way(settings: Settings) -> None:
    """A listing locks a file for a moment; one that is just being made is not left behind by that."""
    folder, done = folder_of(settings.home), threading.Event()
    folder.mkdir(parents=True)

    def look() -> None:
        while not done.is_set():
            spooled(settings)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for one in lookers:
        one.start()
    try:
        for number in range(1_000):
            spool = Spool(folder, 10_000)
            spool.write(record(number))
            spool.drop_all()
    finally:
        done.set()
        for one in lookers:
            one.join()
    assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_takes_records_whole_or_not_at_all(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from jobtrail.producers.spool import Spool, SpoolError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
spool, taken = Spool(Path({str(tmp_path)!r}), 10**6), 0
try:
    while True:
        spool.write(("t", b"1", b"v" * 90, [])); taken += 1
except SpoolError as error:
    print(taken, error)
spool.leave()
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    taken, _, error = told.partition(" ")
    assert "takes nothing: " in error
    (path,) = tmp_path.glob(f"*{SUFFIX}")
    with path.open("rb") as file:
        assert len(list(records(file))) == int(taken) > 5


def test_a_running_process_keeps_its_segments(settings: Settings) -> None:
    with Publisher(away(settings, spool="always")) as publisher:
        publisher.publish(status(1))
        assert [left.in_use for left in spooled(settings)] == [True]
        assert send(settings).events == 0


def test_kafka_that_answers_leaves_no_file(settings: Settings) -> None:
    always = settings.model_copy(update={"spool": "always"})
    with Publisher(always) as publisher:
        publisher.publish_all(map(status, range(2_000)))
        assert publisher.counts.accepted == 2_000
    assert states(settings) == list(range(2_000))
    assert spooled(settings) == []


def test_more_than_the_queue_holds_waits_on_the_disk_in_order(settings: Settings) -> None:
    """And receipts come for what waited there."""
    narrow = {"queue.buffering.max.messages": "20", "linger.ms": "5"}
    small = settings.model_copy(update={"spool": "always", "kafka_client": narrow})
    with Publisher(small) as publisher:
        receipts = [publisher.send(status(number)) for number in range(3_000)]
        publisher.flush()
        assert all(receipt.done and receipt.error is None for receipt in receipts)
        assert [receipt.offset for receipt in receipts] == list(range(3_000))
    assert states(settings) == list(range(3_000))


def test_a_spool_that_cannot_be_written_is_said_once_and_work_goes_on(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    folder_of(settings.home).parent.mkdir(parents=True, exist_ok=True)
    folder_of(settings.home).write_text("a file where the folder should be")
    with Publisher(settings.model_copy(update={"spool": "always"})) as publisher:
        publisher.publish_all(map(status, range(100)))
    assert states(settings) == list(range(100))
    (said,) = [record.message for record in caplog.records if "spool" in record.message]
    assert "JOBTRAIL_HOME" in said


def test_a_full_spool_and_queue_make_the_caller_wait_as_long_as_it_is_set(settings: Settings) -> None:
    narrow = {"queue.buffering.max.messages": "10"}
    small = away(settings, spool="always", spool_limit=1_000_000, flush_timeout=0.5, kafka_client=narrow)
    publisher = Publisher(small)
    taken = 0
    with pytest.raises(PublishError, match="has been full"):
        while True:
            begun = time.monotonic()
            publisher.publish(status(taken))
            taken += 1
    assert 0.5 <= time.monotonic() - begun < 2
    publisher.close()
    assert sum(left.events for left in spooled(settings)) == taken


WORKER = """
import os, sys, time
from jobtrail import events
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings
publisher = Publisher(Settings.from_env())
ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(int(sys.argv[2])):
    publisher.publish(events.StreamStatus(
        job_id=1, attempt_number=0, stream_name="s", stream_namespace="", run_state=str(number)))
    os.write(ledger, b"%d\\n" % number)
    time.sleep(float(sys.argv[3]))
"""


def test_spool_always_loses_nothing_to_kill_9_at_any_time(settings: Settings, tmp_path: Path) -> None:
    """The ledger holds what the worker was told is accepted."""
    ledger = tmp_path / "ledger"
    environment = {
        **os.environ,
        "JOBTRAIL_HOME": str(settings.home),
        "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "JOBTRAIL_EVENTS_TOPIC": settings.events_topic,
        "JOBTRAIL_SPOOL": "always",
    }
    for round_number in range(4):
        ledger.unlink(missing_ok=True)
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(ledger), "1000000", "0.0002"], env=environment
        )
        while not ledger.exists() or not ledger.stat().st_size:
            time.sleep(0.01)
        time.sleep(0.1 + 0.17 * round_number)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        send(settings)
        accepted = Counter(map(int, ledger.read_text().split()))
        assert accepted
        assert not accepted - Counter(states(settings))
        assert spooled(settings) == []


def test_a_forked_child_leaves_the_parents_spool_alone(settings: Settings) -> None:
    code = """
import os, sys
from jobtrail import events
from jobtrail.errors import UsageError
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings
publisher = Publisher(Settings.from_env())
beat = events.AttemptHeartbeat(job_id=1, attempt_number=0)
publisher.publish(beat)
if os.fork() == 0:
    try:
        publisher.publish(beat)
    except UsageError as error:
        print(error, flush=True)
    with Publisher(Settings.from_env()) as own:
        own.publish(beat)
    os._exit(0)
os.wait()
publisher.publish(beat)
publisher.close()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "JOBTRAIL_HOME": str(settings.home),
            "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
            "JOBTRAIL_EVENTS_TOPIC": settings.events_topic,
            "JOBTRAIL_SPOOL": "always",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "after a fork, make a new one" in ended.stdout
    assert len(published(settings)) == 3
    assert spooled(settings) == []


def test_a_disk_that_fills_up_is_written_to_again_once_there_is_room(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came meanwhile waits in memory, and is on the disk when the process ends."""
    taken = Spool.write
    full = [True]

    def write(spool: Spool, record: Record) -> object:
        if full[0]:
            raise SpoolError("the disk is full")
        return taken(spool, record)

    monkeypatch.setattr(Spool, "write", write)
    publisher = Publisher(away(settings, spool="always"))
    publisher.publish_all(map(status, range(50)))
    assert spooled(settings) == []
    full[0] = False
    publisher.publish_all(map(status, range(50, 100)))
    publisher.close()
    send(settings)
    assert states(settings) == list(range(100))


def test_what_kafka_refuses_for_a_while_is_kept_for_later(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A topic that nobody may make is not there yet."""
    missing = settings.model_copy(update={"kafka_client": {"topic.metadata.propagation.max.ms": "200"}})
    other = missing.model_copy(update={"events_topic": f"{settings.events_topic}-later"})
    with Publisher(other) as publisher:
        publisher.publish(status(7))
    assert "jobtrail spool send" in caplog.text
    (left,) = spooled(settings)
    assert (left.in_use, left.events) == (False, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="embedded servers do not run there")
class TestWithoutSettings:
    """No Kafka is set, and none runs under the home."""

    @pytest.fixture
    def homeless(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"kafka_bootstrap_servers": None})

    def test_all_goes_to_the_spool_at_once_and_that_is_said_once(
        self, homeless: Settings, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody waits for flush_timeout: there is nothing to wait for."""
        began = time.monotonic()
        with Job.start(connection_id="c", settings=homeless) as job, job.attempt() as attempt:
            attempt.stream("users").emitted(records=3)
            assert not attempt.cancelled
        shared_publisher(homeless).close()
        assert time.monotonic() - began < 5 < homeless.flush_timeout
        said = [record.getMessage() for record in caplog.records]
        assert len([one for one in said if "no Kafka runs under" in one]) == 1
        assert "events wait in" in said[0]
        assert "`jobtrail spool send` delivers them" in said[-1]
        (left,) = spooled(homeless)
        sent = send(settings)
        assert sent.events == left.events >= 4
        kinds = [type(event) for event in published(settings)]
        assert kinds[0] is events.JobCreated
        assert {events.AttemptStarted, events.StreamStats, events.AttemptSucceeded} <= set(kinds)

    def test_a_kafka_that_starts_later_gets_all_in_order(self, homeless: Settings, kafka: str) -> None:
        """As soon as it runs under the home: what waited, then what comes."""
        run = homeless.home / "run"
        run.mkdir(parents=True)
        with Publisher(homeless) as publisher:
            publisher.publish_all(map(status, range(500)))
            time.sleep(2)  # longer than a spool stays in use without a reason
            publisher.publish_all(map(status, range(500, 600)))
            (run / "kafka.address").write_text(kafka)
            with _held(run / "kafka.lock"):
                receipt = publisher.send(status(600))
                publisher.flush(30)
                assert (receipt.error, receipt.offset) == (None, 600)
                publisher.deliver(status(601))
        assert states(homeless.model_copy(update={"kafka_bootstrap_servers": kafka})) == list(range(602))
        assert spooled(homeless) == []

    def test_who_must_know_that_it_is_durable_hears_at_once_that_it_is_not(self, homeless: Settings) -> None:
        with Publisher(homeless) as publisher:
            with pytest.raises(EmbeddedError, match="no Kafka runs under"):
                publisher.deliver(status(1))
            with pytest.raises(EmbeddedError, match="no Kafka runs under"):
                publisher.reach(1)
            assert publisher.counts.accepted == 0
        assert spooled(homeless) == []

    def test_where_the_spool_takes_nothing_either_an_event_is_refused_at_once(
        self, homeless: Settings
    ) -> None:
        folder_of(homeless.home).parent.mkdir(parents=True, exist_ok=True)
        folder_of(homeless.home).write_text("a file where the folder should be")
        began = time.monotonic()
        with Publisher(homeless) as publisher, pytest.raises(PublishError, match="no Kafka runs under"):
            publisher.publish(status(1))
        assert time.monotonic() - began < 5


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """As a running embedded server holds it."""
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
