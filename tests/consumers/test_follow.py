"""`jobtrail.follow`: typed events from any point; in a group committed after the work."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anew import make_anew
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from following import add_partitions, forget_before, ids, in_a_process, job, made, put, put_at
from projecting import pair, publish
from samples import one_of_each

import jobtrail
from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers import job_connections, log_reader
from jobtrail.consumers.ends import Log
from jobtrail.errors import ConflictError, LogError, NotFoundError, ServerAwayError, UsageError
from jobtrail.producers.publisher import Publisher
from jobtrail.projections.dead_letter import DeadLetter
from jobtrail.settings import Settings


@pytest.fixture
def group() -> str:
    return f"followers-{uuid.uuid4().hex[:12]}"


def read(settings: Settings, **how: Any) -> list[e.Event]:
    """What there is now."""
    return list(jobtrail.follow(settings=settings, until="end", **how))


def committed(settings: Settings, group: str) -> int:
    """Messages that the group has done, over all partitions."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group})
    try:
        found = consumer.committed([TopicPartition(settings.events_topic, part) for part in range(4)], 30)
    finally:
        consumer.close()
    return sum(max(0, one.offset) for one in found)


# What is read.


def test_every_event_of_a_job_comes_in_order_as_it_was_published(settings: Settings) -> None:
    given = put(settings, itertools.chain.from_iterable(job(one) for one in range(20)))
    found = read(settings)
    assert ids(found) == ids(given)
    for one in range(20):
        assert [event for event in found if getattr(event, "job_id", None) == one] == given[5 * one :][:5]


def test_each_type_can_be_followed_where_it_is_published(settings: Settings) -> None:
    given = one_of_each()
    with Publisher(settings) as publisher:
        publisher.publish_all(given)
    for event in given:
        (found,) = read(settings, types=type(event))
        assert found.event_id == event.event_id


def test_places_are_those_of_the_log(settings: Settings) -> None:
    before = datetime.now(UTC)
    put_at(settings, 2, job(7))
    follower = jobtrail.follow(settings=settings, until="end")
    with pytest.raises(UsageError, match="there was no event yet"):
        _ = follower.place
    for offset, _ in enumerate(follower):
        assert str(follower.place) == f"{settings.events_topic}:2:{offset}"
        assert (
            before - timedelta(seconds=1)
            < follower.place.received_at
            < datetime.now(UTC) + timedelta(seconds=1)
        )


def test_types_and_a_job_choose(settings: Settings) -> None:
    """Types by class or name; a job's events wherever a producer has put them."""
    put(settings, [*job(1), *job(2)])
    put_at(settings, 0, [made(e.JobFailed, 9, job_id=2)])
    put_at(settings, 3, [made(e.JobFailed, 9, job_id=2)])
    assert [type(one) for one in read(settings, types=e.Failure)] == [e.Failure] * 2
    assert {type(one) for one in read(settings, types=["Failure", e.JobFailed])} == {e.Failure, e.JobFailed}
    assert len(read(settings, job_id=2)) == 7
    assert len(read(settings, job_id=2, types="JobFailed")) == 3
    assert read(settings, job_id=3) == []


def test_a_failure_is_told_without_secrets(settings: Settings) -> None:
    """As in the read models, whoever published it."""
    failure = made(e.Failure, job_id=1, attempt_number=0, internal_message="password=hunter2-hunter2")
    put(settings, [failure])
    (found,) = jobtrail.follow(settings=settings, until="end", types=e.Failure)
    assert found.internal_message is not None
    assert "hunter2" not in found.internal_message


# Where it begins.


def test_each_start(settings: Settings) -> None:
    put_at(settings, 0, job(1))
    put_at(settings, 1, job(2))
    time.sleep(0.05)
    middle = datetime.now(UTC)
    time.sleep(0.05)
    later = put_at(settings, 0, job(3))
    assert len(read(settings, start="earliest")) == 15
    assert read(settings, start="latest") == []
    assert read(settings, start=middle) == later
    assert len(read(settings, start={0: 4})) == 1 + 5 + 5
    assert read(settings, start={0: 10, 1: 5}) == []
    assert read(settings, start=datetime.now(UTC) + timedelta(hours=1)) == []


def test_what_comes_later_is_followed(settings: Settings) -> None:
    put(settings, job(1))
    found: list[e.Event] = []
    follower = jobtrail.follow(settings=settings, start="latest")
    begun = threading.Event()

    def run() -> None:
        for event in follower:
            found.append(event)
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 30
    probe = itertools.count(100)
    while not begun.is_set():  # when it has looked where the end is, it sees what comes
        put(settings, [made(e.JobFailed, job_id=next(probe))])
        begun.wait(0.1)
        assert time.monotonic() < deadline
    given = put(settings, job(2))
    while not {*ids(given)} <= {*ids(found)}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    follower.close()
    thread.join(10)
    assert not thread.is_alive()
    assert not {*ids(found)} & {event.event_id for event in job(1)}


def test_to_the_present_end_is_not_further(settings: Settings) -> None:
    """However much comes while it is read."""
    put_at(settings, 0, job(1))
    found = []
    for event in jobtrail.follow(settings=settings, until="end"):
        found.append(event)
        put_at(settings, 0, [made(e.JobFailed, job_id=2)])
    assert len(found) == 5


@pytest.mark.parametrize("in_a_group", [False, True])
def test_to_the_present_end_also_where_that_is_a_control_record(
    settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch, in_a_group: bool
) -> None:
    """A transaction's marker has an offset, and no message; behind newer ones it is not seen."""
    address = {"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 2}
    producer = Producer({**address, "transactional.id": group})
    producer.init_transactions(30)
    producer.begin_transaction()
    given = job(1)
    for key, value in map(pair, given):
        producer.produce(settings.events_topic, value, key, partition=0)
    producer.commit_transaction(30)
    deadline = time.monotonic() + 30
    while Log(settings).topic(settings.events_topic).ends[0] != 6:  # the marker is written a little later
        assert time.monotonic() < deadline
        time.sleep(0.05)
    original = log_reader.LogReader._assign

    def assign(reader: log_reader.LogReader, *first: Any) -> None:
        put_at(settings, 0, [made(e.JobFailed, job_id=2)])  # after it has looked where the end is
        original(reader, *first)

    monkeypatch.setattr(log_reader.LogReader, "_assign", assign)
    follower = jobtrail.follow(settings=settings, until="end", group=group if in_a_group else None)
    too_late = threading.Timer(20, follower.close)
    too_late.start()
    assert list(follower) == given
    assert too_late.is_alive()
    too_late.cancel()
    too_late.join()
    if in_a_group:
        assert committed(settings, group) == 6


def test_added_partitions_are_read_from_their_beginning(
    settings: Settings, kafka_admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the others go on, each event once."""
    monkeypatch.setattr(log_reader, "LOOK", 0.0)
    given = put_at(settings, 0, job(1))
    seen = []
    later: list[e.Event] = []
    for event in jobtrail.follow(settings=settings):
        seen.append(event)
        if len(seen) == 2:
            add_partitions(settings, kafka_admin, 5)
            later = put_at(settings, 4, job(2))
        if len(seen) == 10:
            break
    assert [event for event in seen if event in given] == given
    assert [event for event in seen if event in later] == later


# A connection.


def test_events_of_a_connection_are_those_of_its_jobs(settings: Settings) -> None:
    given = put(settings, [*job(1, "a"), *job(2, "b"), *job(3, "a"), *job(4)])
    assert ids(read(settings, connection_id="a")) == ids([*given[:5], *given[10:15]])
    assert len(read(settings, connection_id="a", types=[e.Failure, e.JobFailed])) == 4
    assert read(settings, connection_id="c") == []


def test_a_job_that_began_before_the_start_is_known_by_its_creation(settings: Settings) -> None:
    """Also where partitions were added in between, or the producer put it elsewhere."""
    put_at(settings, 0, [*job(1, "a")[:2], *job(2, "b")[:2]])
    time.sleep(0.05)
    middle = datetime.now(UTC)
    time.sleep(0.05)
    ours = put_at(settings, 3, job(1, "a")[2:])
    put_at(settings, 3, job(2, "b")[2:])
    assert read(settings, connection_id="a", start=middle) == ours
    assert read(settings, connection_id="a", start=middle, types="JobFailed") == ours[2:]


def test_a_creation_that_comes_late_counts_for_what_was_before(settings: Settings) -> None:
    given = job(1, "a")
    put_at(settings, 0, [*given[1:], given[0]])
    assert ids(read(settings, connection_id="a")) == ids(given)


def test_close_ends_also_the_reading_back(
    settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event whose connection is not known yet comes again."""
    put_at(settings, 0, job(1, "a"))
    monkeypatch.setattr(job_connections, "CHUNK", 1)
    original = job_connections.JobConnections._see

    def see(connections: job_connections.JobConnections, *message: Any) -> tuple[int, int]:
        follower.close()
        return original(connections, *message)

    how: dict[str, Any] = {"settings": settings, "connection_id": "a", "start": {0: 3}, "group": group}
    with monkeypatch.context() as patched:
        patched.setattr(job_connections.JobConnections, "_see", see)
        follower = jobtrail.follow(**how)
        assert list(follower) == []
    assert committed(settings, group) == 3
    assert len(read(**how)) == 2


def test_a_group_keeps_its_partitions_while_it_reads_back(
    settings: Settings, group: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For longer than Kafka allows between two questions for the next event."""
    short = {"max.poll.interval.ms": "6000", "session.timeout.ms": "6000"}
    mine = settings.model_copy(update={"kafka_client": short})
    given = put_at(settings, 0, job(1, "a"))
    monkeypatch.setattr(job_connections, "CHUNK", 1)
    original = job_connections.JobConnections._see

    def see(connections: job_connections.JobConnections, *message: Any) -> tuple[int, int]:
        time.sleep(2)
        return original(connections, *message)

    monkeypatch.setattr(job_connections.JobConnections, "_see", see)
    assert read(mine, connection_id="a", start={0: 3}, group=group) == given[3:]
    assert [line for line in caplog.messages if group in line] == []


# A Kafka that goes away.


@pytest.mark.parametrize("what", ["group", "connection"])
def test_a_kafka_that_goes_away_later_is_waited_for(
    settings: Settings,
    group: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    """Also when the group's partitions are given, or a connection is looked up."""
    given = put_at(settings, 0, job(1, "a"))
    original, looks = Log.topic, itertools.count(1)

    def topic(log: Log, name: str, **how: Any) -> Any:
        if next(looks) in {2, 3}:  # the first is at the beginning
            raise ServerAwayError("Kafka", "there", "THIS_SETTING", "no answer in time")
        return original(log, name, **how)

    monkeypatch.setattr(Log, "topic", topic)
    how = {"group": group} if what == "group" else {"connection_id": "a"}
    assert read(settings, start={0: 3}, **how) == given[3:]
    said = [line for line in caplog.messages if "Kafka" in line]
    assert ["waiting for it" in line for line in said] == [True, False], said


# Dead letters.


def test_what_is_no_event_is_kept_apart(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    good = made(e.JobFailed, job_id=1)
    key, value = pair(good)
    assert value is not None
    bad = [(key, None), (key, b"garbage"), (key, value[:-1]), (b"2", value), (key, value + b"\0")]
    publish(settings, [*bad, (key, value)])
    letters: list[DeadLetter] = []
    follower = jobtrail.follow(settings=settings, until="end", on_dead_letter=letters.append)
    with caplog.at_level(logging.WARNING):
        assert list(follower) == [good]
    assert follower.dead_letters == 5
    assert {letter.reason for letter in letters} == {
        *("null_value", "unknown_schema", "truncated", "wrong_key", "trailing_bytes")
    }
    assert all(letter.topic == settings.events_topic for letter in letters)
    assert len([line for line in caplog.messages if "is no event" in line]) == 1


def test_what_a_callback_raises_ends_the_loop(settings: Settings, group: str) -> None:
    """In a group the letter comes again, for it was not kept."""
    put_at(settings, 0, [made(e.JobFailed, job_id=1)])
    publish(settings, [(b"1", b"garbage")])

    def refuse(_letter: DeadLetter) -> None:
        raise RuntimeError("the disk is full")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="the disk is full"):
            read(settings, group=group, on_dead_letter=refuse)
    letters: list[DeadLetter] = []
    read(settings, group=group, on_dead_letter=letters.append)
    assert len(letters) == 1


# A group.


def test_a_group_goes_on_where_it_ended(settings: Settings, group: str) -> None:
    put(settings, job(1))
    assert len(read(settings, group=group)) == 5
    assert read(settings, group=group, start="earliest") == []
    later = put(settings, job(2))
    assert read(settings, group=group, start="latest") == later


def test_a_new_group_that_saw_nothing_still_began(settings: Settings, group: str) -> None:
    """What comes after its first start at the latest is not missed, though it had nothing to commit then."""
    put(settings, job(1))
    assert read(settings, group=group, start="latest") == []
    later = put(settings, job(2))
    assert read(settings, group=group, start="latest") == later


def test_what_raised_comes_again(settings: Settings, group: str) -> None:
    given = put_at(settings, 0, job(1))
    with pytest.raises(RuntimeError):
        for event in jobtrail.follow(settings=settings, group=group, until="end"):
            if event == given[2]:
                raise RuntimeError
    assert committed(settings, group) == 2
    assert read(settings, group=group) == given[2:]


def test_a_break_leaves_the_event_unless_in_a_with(settings: Settings, group: str) -> None:
    given = put_at(settings, 0, job(1))
    for event in jobtrail.follow(settings=settings, group=group):
        if event == given[1]:
            break
    assert committed(settings, group) == 1
    with jobtrail.follow(settings=settings, group=group) as events:
        for event in events:
            if event == given[1]:
                break
    assert committed(settings, group) == 2
    with pytest.raises(RuntimeError), jobtrail.follow(settings=settings, group=group) as events:
        for _ in events:
            raise RuntimeError
    assert committed(settings, group) == 2


def test_close_ends_it_with_the_work_done(settings: Settings, group: str) -> None:
    given = put_at(settings, 0, job(1))
    follower = jobtrail.follow(settings=settings, group=group)
    for event in follower:
        if event == given[2]:
            follower.close()
    assert committed(settings, group) == 3


def test_close_before_the_first_event_counts(settings: Settings) -> None:
    """And once only: the next loop reads."""
    given = put_at(settings, 0, job(1))
    follower = jobtrail.follow(settings=settings, until="end")
    follower.close()
    assert list(follower) == []
    assert list(follower) == given


def test_what_the_filters_pass_over_is_done_too(settings: Settings, group: str) -> None:
    put_at(settings, 0, [*job(1), *job(2)])
    assert len(read(settings, group=group, types=e.Failure)) == 2
    assert committed(settings, group) == 10


WORKER = """
import sys, time
import jobtrail
for event in jobtrail.follow(group=sys.argv[1]):
    print("began", event.event_id, flush=True)
    time.sleep(float(sys.argv[2]))
    print("done", event.event_id, flush=True)
"""


def said(process: Any) -> Iterator[tuple[str, str]]:
    for line in process.stdout:
        if line.endswith("\n"):  # who is killed may say half a line
            word, event_id = line.split()
            yield word, event_id


def test_work_that_was_killed_in_the_middle_comes_again(settings: Settings, group: str) -> None:
    """And what had been done before it does not."""
    given = put_at(settings, 0, job(1))
    process = in_a_process(settings, WORKER, group, "0.3")
    try:
        last = ("began", given[3].event_id)
        told = list(itertools.takewhile(lambda line: line != last, said(process)))
        time.sleep(0.15)
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
    assert [event_id for word, event_id in told if word == "done"] == [one.event_id for one in given[:3]]
    assert read(settings, group=group) == given[3:]


def test_two_share_the_partitions_and_lose_nothing(settings: Settings, group: str) -> None:
    """One is killed on the way, one joins: each event is worked at, and few are twice."""
    given = put(settings, itertools.chain.from_iterable(job(one) for one in range(120)))
    done: list[str] = []

    def listen(process: Any) -> None:
        done.extend(event_id for word, event_id in said(process) if word == "done")

    processes = [in_a_process(settings, WORKER, group, "0.005")]
    threads = [threading.Thread(target=listen, args=(processes[0],))]
    threads[0].start()
    deadline = time.monotonic() + 90
    try:
        for wanted in (50, 150):
            while len(done) < wanted:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            if wanted == 150:
                processes[0].kill()
            processes.append(in_a_process(settings, WORKER, group, "0.005"))
            threads.append(threading.Thread(target=listen, args=(processes[-1],)))
            threads[-1].start()
        while len({*done}) < len(given):
            assert time.monotonic() < deadline, f"{len({*done})} of {len(given)}"
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
        for thread in threads:
            thread.join(10)
        for process in processes:
            assert process.stdout is not None
            process.stdout.close()
    assert {*done} == {*ids(given)}
    assert len(done) - len(given) < 100


def test_a_group_reads_added_partitions_from_their_beginning(
    settings: Settings, group: str, kafka_admin: AdminClient
) -> None:
    """Also one that began at the latest: what is in them came after its beginning."""
    put_at(settings, 0, job(1))
    assert read(settings, group=group, start="latest") == []
    add_partitions(settings, kafka_admin, 5)
    later = put_at(settings, 4, job(2))
    assert read(settings, group=group, start="latest") == later


# Bad input.


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"types": "Failed"}, "types: 'Failed' is none of JobCreated.*did you mean 'JobFailed'"),
        ({"types": []}, "types: it is empty"),
        ({"types": [str]}, "is no event type"),
        ({"types": "DataplaneHeartbeat", "job_id": 1}, "DataplaneHeartbeat is about no job"),
        (
            {"types": "WorkspaceRegistered", "connection_id": "a"},
            "WorkspaceRegistered is about no connection",
        ),
        ({"job_id": "7"}, "job_id: '7' is a str, not int"),
        ({"job_id": -1}, "job_id: -1 is not within 0 to"),
        ({"connection_id": ""}, "connection_id: it is empty"),
        ({"start": datetime(2026, 3, 1)}, "start: 2026-03-01T00:00:00 has no offset from UTC"),  # noqa: DTZ001
        ({"start": 17}, "start: 17 alone names no place"),
        ({"start": "first"}, "start: 'first' is none of 'earliest'"),
        ({"start": {0: -1}}, "start: 0: -1 is no partition and offset"),
        ({"start": {0: 1}, "types": ["Failure", "DataplaneHeartbeat"]}, "offsets are of one topic"),
        ({"until": "now"}, "until: 'now' is neither"),
        ({"group": ""}, "group: '' is no name"),
        ({"group": "jobtrail-projector"}, "is one of Jobtrail's own"),
    ],
)
def test_each_wrong_call_is_refused_at_once(settings: Settings, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        jobtrail.follow(settings=settings, **how)


def test_the_projectors_group_is_refused_whatever_it_is_called(settings: Settings) -> None:
    with pytest.raises(UsageError, match="is one of Jobtrail's own"):
        jobtrail.follow(settings=settings, group=settings.projector_group)


def test_an_unknown_topic_is_named(settings: Settings, group: str) -> None:
    elsewhere = settings.model_copy(update={"events_topic": "jobtrail.evnets"})
    for how in ({}, {"group": group}):
        with pytest.raises(NotFoundError, match=r"has no topic jobtrail\.evnets"):
            read(elsewhere, **how)


def test_a_kafka_that_is_away_is_named(settings: Settings) -> None:
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(ServerAwayError, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        read(away)


def test_offsets_that_the_log_does_not_have_are_named(settings: Settings, kafka_admin: AdminClient) -> None:
    put_at(settings, 0, job(1))
    with pytest.raises(UsageError, match="has 4 partitions from 0 on, no 9"):
        read(settings, start={9: 0})
    with pytest.raises(
        UsageError, match=r"start: offset 6 of topic .*, partition 0, is behind the log.s end, 5"
    ):
        read(settings, start={0: 6})
    forget_before(settings, kafka_admin, 0, 3)
    assert len(read(settings)) == 2
    with pytest.raises(LogError, match="start=1 needs offsets 1 to 2, which are no longer in the log"):
        read(settings, start={0: 1})


def test_a_gap_before_what_a_group_reads_next_is_loud(
    settings: Settings, group: str, kafka_admin: AdminClient
) -> None:
    put_at(settings, 0, job(1))
    for _ in itertools.islice(jobtrail.follow(settings=settings, group=group), 2):
        pass
    forget_before(settings, kafka_admin, 0, 4)
    with pytest.raises(LogError, match=f"partition 0: group {group} needs offsets 1 to 3"):
        read(settings, group=group)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"types": "Failure"}, {}, "it reads types Failure, and this is every event"),
        ({}, {"job_id": 7}, "it reads every event, and this is job 7"),
        ({"connection_id": "a"}, {"connection_id": "b"}, "it reads connection a, and this is connection b"),
    ],
)
def test_a_group_with_other_filters_is_refused(
    settings: Settings, group: str, first: dict[str, Any], second: dict[str, Any], message: str
) -> None:
    """Naming both; the same filters in another order are the same."""
    put(settings, job(7, "a"))
    read(settings, group=group, **first)
    with pytest.raises(ConflictError, match=message) as raised:
        read(settings, group=group, **second)
    assert "take a group of another name" in str(raised.value)
    assert read(settings, group=group, **first) == []


def test_the_order_of_types_makes_no_other_filter(settings: Settings, group: str) -> None:
    put(settings, job(7))
    assert len(read(settings, group=group, types=["Failure", "JobFailed"])) == 2
    assert read(settings, group=group, types=[e.JobFailed, e.Failure, "Failure"]) == []


def test_offsets_that_kafkas_tools_have_set_are_taken(settings: Settings, group: str) -> None:
    put_at(settings, 0, job(7))
    read(settings, group=group)
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(settings.events_topic, 0, 3)], asynchronous=False)
    consumer.close()
    assert len(read(settings, group=group)) == 2


def test_a_group_of_another_program_is_refused(settings: Settings, group: str) -> None:
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group})
    consumer.commit(
        offsets=[TopicPartition(settings.events_topic, 0, 0, metadata="AgAAAZ")], asynchronous=False
    )
    consumer.close()
    with pytest.raises(ConflictError, match="is used by another program, which keeps 'AgAAAZ'"):
        read(settings, group=group)


# The log made anew.


def test_a_log_made_anew_is_not_read_on(
    settings: Settings, kafka_admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "LOOK", 0.2)
    put_at(settings, 0, job(1))
    with pytest.raises(LogError, match="was made anew") as raised:
        for count, _ in enumerate(jobtrail.follow(settings=settings)):
            if count == 4:
                old, new = make_anew(settings, kafka_admin)
                put_at(settings, 0, job(2))
    assert old in str(raised.value)
    assert new in str(raised.value)


def test_a_group_knows_the_log_that_it_has_read(
    settings: Settings, group: str, kafka_admin: AdminClient
) -> None:
    """Kafka forgets a group's commits with the topic unless they come after it: so they are put back here."""
    put_at(settings, 0, job(1))
    read(settings, group=group)
    kept = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group})
    (commit,) = kept.committed([TopicPartition(settings.events_topic, 0)], 30)
    make_anew(settings, kafka_admin)
    put_at(settings, 0, job(2))
    kept.commit(offsets=[TopicPartition(commit.topic, 0, 2, metadata=commit.metadata)], asynchronous=False)
    kept.close()
    with pytest.raises(LogError, match="was made anew: its id is"):
        read(settings, group=group)


def test_the_codec_is_the_projectors(settings: Settings) -> None:
    """A message in the Confluent framing is no event without a registry, as there."""
    follower = jobtrail.follow(settings=settings, until="end")
    event = made(e.JobFailed, job_id=1)
    publish(settings, [(event.key, b"\0\0\0\0\1" + codec.encode(event)[10:])])
    assert list(follower) == []
    assert follower.dead_letters == 1
