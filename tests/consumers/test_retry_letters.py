"""A dead letter that is understood later gives what it would have given in time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic, TopicPartition
from conftest import _fresh_database
from rebuild_scenes import HISTORY, contents, rebuilt
from test_registry_schemas import Registry, confluent

from jobtrail import codec
from jobtrail import events as e
from jobtrail.codec import Schemas
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.consumers.retry_letters import Outcome, Retry, run_retries
from jobtrail.errors import ServerAwayError, VersionError
from jobtrail.producers.publisher import Publisher
from jobtrail.projections import letters
from jobtrail.projections.letters import Place
from jobtrail.settings import Settings
from jobtrail.wire import MARKER

#: Its fixture `registry`.
pytest_plugins = ["test_registry_schemas"]

#: Of each table those that say where and when an event came last: a retry is one more delivery.
CAME_LAST = {"log_partition", "last_offset", "last_received_at"}


def publish(settings: Settings, events: Sequence[e.Event | tuple[bytes, bytes]]) -> None:
    """Into the log, each job's events in the partition that the SDK chooses; a tuple is a value and key."""
    with Publisher(settings) as publisher:
        for event in events:
            if isinstance(event, tuple):
                publisher.send_encoded(e.JobCreated, *event, event_id="")
            else:
                publisher.publish(event)


def without(*names: str) -> Schemas:
    """The released schemas, as a release before these event types had them."""
    texts = {file.name: file.read_text() for file in (files("jobtrail") / "avro").iterdir()}
    return Schemas({name: text for name, text in texts.items() if name.partition(".")[0] not in names})


def project_by_older(settings: Settings, older: Schemas) -> int:
    """Folds what is in the log by a release that knows these schemas; gives the number of dead letters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "released", lambda: older)
        return project_until_caught_up(settings).dead_letters


def connected(settings: Settings) -> psycopg.Connection[Any]:
    return psycopg.connect(settings.database_url or "", autocommit=True)


def retried(settings: Settings, reason: str | None = None) -> list[Outcome]:
    """Retries what is open now."""
    with connected(settings) as connection:
        keys = letters.chosen(connection, reason)
    with Retry(settings, "ada") as retry:
        return [*retry.run(keys)]


def log_of(settings: Settings, count: int) -> list[Any]:
    """The messages of the event log, as many as there must be, those of a partition in order."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "reader"})
    consumer.assign([TopicPartition(settings.events_topic, partition, 0) for partition in range(4)])
    found: list[Any] = []
    until = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < until
        found += consumer.consume(count, 0.2)
    consumer.close()
    return found


def still_open(settings: Settings) -> dict[str, int]:
    with connected(settings) as connection:
        return {one.reason: one.letters for one in letters.open_letters(connection)}


@pytest.fixture
def in_time(settings: Settings, postgres_admin_url: str, database_template: str) -> Iterator[Settings]:
    """The same log, folded into another database by who understands all of it."""
    for url in _fresh_database(postgres_admin_url, database_template):
        yield settings.model_copy(
            update={"database_url": url, "projector_group": f"{settings.projector_group}-in-time"}
        )


def test_a_newer_release_retries_by_itself_what_the_older_did_not_know(
    settings: Settings, in_time: Settings
) -> None:
    """And nothing else: what nobody knows is not published again, whoever starts."""
    nobody_knows = MARKER + b"12345678", HISTORY[0].key
    older = without("JobCreated", "StreamStats", "Failure")
    publish(settings, [*HISTORY, nobody_knows])
    lost = project_by_older(settings, older) - 1
    assert still_open(settings) == {"unknown_schema": lost + 1}
    assert project_until_caught_up(in_time).dead_letters == 1

    for _ in range(2):
        stop = threading.Event()
        starting = threading.Thread(target=run_retries, args=(settings, stop))
        starting.start()
        until = time.monotonic() + 30
        while still_open(settings) != {"unknown_schema": 1}:
            assert time.monotonic() < until
        stop.set()
        starting.join(30)
        assert not starting.is_alive()

    assert contents(settings, CAME_LAST) == contents(in_time, CAME_LAST)
    with connected(settings) as connection:
        by = connection.execute(
            "SELECT resolved_by, count(*) FROM jobtrail.dead_letters GROUP BY 1 ORDER BY 1"
        )
        assert by.fetchall() == [(f"jobtrail {version('jobtrail')}", lost), (None, 1)]
    registry = sum(type(event) in e.REGISTRY_TYPES for event in HISTORY)
    assert registry > 0
    log_of(settings, len(HISTORY) - registry + 1 + lost)


@pytest.mark.parametrize(
    "unknown",
    [
        ["JobCreated", "AttemptStarted", "Failure", "WorkspaceRegistered"],
        ["StreamStats", "StreamStatus", "AttemptSucceeded", "Cancelled", "DataplaneHeartbeat"],
        [event_type.__name__ for event_type in e.EVENT_TYPES],
    ],
    ids=["beginnings", "ends", "all"],
)
def test_a_retry_gives_the_rows_that_it_would_have_given_in_time(
    settings: Settings, in_time: Settings, unknown: list[str]
) -> None:
    """All of them but for where an event came last; and a rebuild finds nothing else."""
    publish(settings, HISTORY)
    lost = sum(type(event).__name__ in unknown for event in HISTORY)
    assert project_by_older(settings, without(*unknown)) == lost
    assert still_open(settings) == {"unknown_schema": lost}
    assert project_until_caught_up(in_time).dead_letters == 0
    understood = contents(in_time, CAME_LAST)
    assert contents(settings, CAME_LAST) != understood
    time.sleep(1.2)  # by today's time of the broker, anomalies would tell of later events

    outcomes = retried(settings)

    assert len(outcomes) == lost
    assert all(one.published for one in outcomes)
    assert still_open(settings) == {}
    assert contents(settings, CAME_LAST) == understood
    # The projector gets them once more, and nothing changes.
    assert project_until_caught_up(settings).messages == lost
    assert contents(settings, CAME_LAST) == understood
    assert [table for table in rebuilt(settings, verify_only=True).tables if table.differing] == []


def test_a_retry_publishes_the_same_bytes_under_the_same_key_and_event_id(settings: Settings) -> None:
    event = e.JobCreated(job_id=7, config_type="sync", config_id="c")
    publish(settings, [event])
    project_by_older(settings, without("JobCreated"))
    (outcome,) = retried(settings)
    first, second = log_of(settings, 2)
    assert (second.key(), second.value()) == (first.key(), first.value()) == (event.key, codec.encode(event))
    headers = dict(second.headers())
    assert headers["ce_id"].decode() == event.event_id
    assert headers["ce_type"] == b"jobtrail.JobCreated"
    assert outcome.published == Place(settings.events_topic, second.partition(), second.offset())
    with connected(settings) as connection:
        letter = letters.letter_at(connection, outcome.place)
    assert (letter.resolution, letter.resolved_by) == ("retried", "ada")
    assert letter.retried_as == str(outcome.published)


def test_one_that_was_killed_before_it_was_marked_is_retried_again(
    settings: Settings, in_time: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was published and nothing else; what that alone gave is put right by the next retry."""
    publish(settings, HISTORY)
    lost = project_by_older(settings, without("JobCreated", "AttemptSucceeded"))
    project_until_caught_up(in_time)
    time.sleep(1.2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(letters, "mark_retried", killed)
        with pytest.raises(KeyboardInterrupt):
            retried(settings)
    assert still_open(settings) == {"unknown_schema": lost}
    assert project_until_caught_up(settings).messages == lost
    # By today's time of the broker the events came later than they did.
    assert contents(settings, CAME_LAST) != contents(in_time, CAME_LAST)
    retried(settings)
    assert project_until_caught_up(settings).messages == lost
    assert still_open(settings) == {}
    assert contents(settings, CAME_LAST) == contents(in_time, CAME_LAST)


def test_a_schema_that_a_registry_tells_of_later_is_retried(settings: Settings, registry: Registry) -> None:
    """The bytes keep their framing."""
    publish(settings, [(confluent(5), b"7")])
    project_until_caught_up(settings)
    ((stay,),) = [retried(settings)]
    assert (stay.published, stay.reason) == (None, "unknown_schema")
    assert "no schema registry is set" in stay.detail
    known = settings.model_copy(update={"schema_registry_url": registry.url})
    assert [one.published is not None for one in retried(known)] == [True]
    assert project_until_caught_up(known).dead_letters == 0
    assert {message.value() for message in log_of(settings, 2)} == {confluent(5)}
    with connected(settings) as connection:
        rows = connection.execute("SELECT job_id, stream_name FROM jobtrail.stream_stats").fetchall()
    assert rows == [(7, "users")]


def test_what_is_still_no_event_stays_and_its_neighbours_go(settings: Settings) -> None:
    """It is told why by the present code, which may be another reason than the first one."""
    good = e.JobCreated(job_id=7, config_type="sync", config_id="c")
    value, key = codec.encode(good), good.key
    publish(settings, [(value, key), (value[:-3], key), (value, b"8")])
    publish(settings, [(b"no event", b"7")])
    assert project_by_older(settings, without("JobCreated")) == 4
    before = still_open(settings)
    outcomes = retried(settings)
    assert before == {"unknown_schema": 4}
    assert sorted(one.reason for one in outcomes if one.published is None) == [
        "truncated",
        "unknown_schema",
        "wrong_key",
    ]
    assert still_open(settings) == {"unknown_schema": 3}
    # Nothing of them was published.
    assert project_until_caught_up(settings).messages == 1


def test_what_postgres_refused_is_tried_against_postgres(settings: Settings, in_time: Settings) -> None:
    """It stays, unpublished, while Postgres refuses it; afterwards a rebuild reads it at its first place."""
    with connected(settings) as connection:
        connection.execute("ALTER TABLE jobtrail_g1.jobs ADD CONSTRAINT strict CHECK (job_id <> 103)")
    publish(settings, HISTORY)
    project_until_caught_up(settings)
    refused = still_open(settings)
    assert refused.keys() == {"refused_by_postgres"}
    outcomes = retried(settings)
    assert {one.reason for one in outcomes} == {"refused_by_postgres"}
    assert "violates check constraint" in outcomes[0].detail
    assert project_until_caught_up(settings).messages == 0
    assert still_open(settings) == refused
    with connected(settings) as connection:
        connection.execute("ALTER TABLE jobtrail_g1.jobs DROP CONSTRAINT strict")
    time.sleep(1.2)
    assert all(one.published for one in retried(settings))
    project_until_caught_up(in_time)
    project_until_caught_up(settings)
    assert contents(settings, CAME_LAST) == contents(in_time, CAME_LAST)
    assert [table for table in rebuilt(settings).tables if table.differing] == []
    assert contents(settings, CAME_LAST) == contents(in_time, CAME_LAST)


def test_one_that_an_older_projector_refuses_again_is_one_new_letter_at_its_new_place(
    settings: Settings,
) -> None:
    """Each retry makes at most one: what comes back is not retried by itself."""
    older = without("JobFailed")
    publish(settings, [e.JobFailed(job_id=7)])
    project_by_older(settings, older)
    for _ in range(2):
        (outcome,) = retried(settings)
        assert still_open(settings) == {}
        assert project_by_older(settings, older) == 1
        with connected(settings) as connection:
            assert [str(key[1:]) for key in letters.chosen(connection)] == [str(outcome.published[1:])]  # type: ignore[index]
    retried(settings)
    assert project_until_caught_up(settings).dead_letters == 0
    assert still_open(settings) == {}


def test_many_are_retried_in_more_than_one_go(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobtrail.consumers.retry_letters.BATCH", 7)
    publish(settings, [e.JobFailed(job_id=number) for number in range(40)])
    project_by_older(settings, without("JobFailed"))
    assert len({one.place for one in retried(settings) if one.published}) == 40
    with connected(settings) as connection:
        assert connection.execute(
            "SELECT count(*) FROM jobtrail.jobs WHERE status = 'failed'"
        ).fetchone() == (40,)


def test_two_retries_at_once_publish_each_letter_once(settings: Settings) -> None:
    """What one of them has is waited for by the other, and then passed by."""
    publish(settings, [e.JobFailed(job_id=number) for number in range(150)])
    project_by_older(settings, without("JobFailed"))
    with connected(settings) as connection:
        keys = letters.chosen(connection)
    both = threading.Barrier(2)

    def retry_all(by: str) -> list[Outcome]:
        with Retry(settings, by) as retry:
            both.wait(30)
            return [*retry.run(keys)]

    with ThreadPoolExecutor(2) as pool:
        outcomes = [one for found in pool.map(retry_all, ["ada", "bob"]) for one in found]
    assert len(outcomes) == len({one.place for one in outcomes if one.published}) == 150
    assert project_until_caught_up(settings).messages == 150


def test_a_kafka_that_is_away_leaves_all_as_it_was(settings: Settings) -> None:
    publish(settings, [e.JobFailed(job_id=7)])
    project_by_older(settings, without("JobFailed"))
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1", "flush_timeout": 1.0})
    with pytest.raises(ServerAwayError, match="JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS"):
        retried(away)
    assert still_open(settings) == {"unknown_schema": 1}
    with connected(settings) as connection:
        assert connection.execute("SELECT FROM jobtrail.jobs").fetchall() == []


def test_a_topic_that_takes_it_no_longer_keeps_it_open(settings: Settings, kafka_admin: AdminClient) -> None:
    """Of two letters the one that fits goes, and of the other no row is made."""
    publish(
        settings,
        [
            e.JobCreated(job_id=number, config_type="sync", config_id=os.urandom(size).hex())
            for number, size in ((1, 1), (2, 450))
        ],
    )
    project_by_older(settings, without("JobCreated"))
    narrow = settings.model_copy(update={"events_topic": f"{settings.events_topic}-narrow"})
    new = NewTopic(narrow.events_topic, 4, 1, config={"max.message.bytes": "700"})
    kafka_admin.create_topics([new])[new.topic].result(30)
    with connected(settings) as connection:
        keys = letters.chosen(connection)
    with Retry(narrow, "ada") as retry:
        outcomes = [*retry.run(keys)]
    assert sorted((one.reason, one.published is None) for one in outcomes) == [
        ("", False),
        ("refused_by_kafka", True),
    ]
    assert still_open(settings) == {"unknown_schema": 1}
    with connected(settings) as connection:
        # Its first place was in the other topic, and is taken for none of this one.
        rows = connection.execute("SELECT job_id, log_partition, first_offset FROM jobtrail_g1.jobs")
        assert rows.fetchall() == [(1, None, None)]


def test_read_models_of_other_rules_are_left_alone(settings: Settings) -> None:
    publish(settings, [e.JobFailed(job_id=7)])
    project_by_older(settings, without("JobFailed"))
    with connected(settings) as connection:
        connection.execute("UPDATE jobtrail.generations SET version = version + 1")
    with pytest.raises(VersionError, match="upgrade this process"):
        retried(settings)
    with connected(settings) as connection:
        assert connection.execute("SELECT FROM jobtrail.jobs").fetchall() == []
