"""The relay publishes each dead letter, at least once, and several relays share the work."""

from __future__ import annotations

import os
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic, TopicPartition
from giving_up import WHERE, give_up

from jobtrail.consumers import dead_letters
from jobtrail.consumers.batch import Batch
from jobtrail.consumers.dead_letters import Relay, relay_once, relaying
from jobtrail.consumers.records import Records
from jobtrail.errors import PublishError, ServerAwayError
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.store import Move, Store
from jobtrail.settings import Settings

AT = datetime(2026, 1, 1, tzinfo=UTC)


def put(settings: Settings, count: int, value: bytes | None = b"\0") -> None:
    put_letters(
        settings,
        [DeadLetter("events", "id", 3, at, AT, b"7", value, "malformed", "why €") for at in range(count)],
    )


def put_letters(settings: Settings, letters: list[DeadLetter]) -> None:
    assert settings.database_url is not None
    store = Store.open(settings.database_url)
    with store.transaction() as tx:
        tx.dead_letters(letters)
    store.close()


def published(settings: Settings) -> list[tuple[dict[str, str], bytes | None]]:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
        }
    )
    place = TopicPartition(settings.dead_letters_topic, 0, 0)
    _, end = consumer.get_watermark_offsets(place, 10)
    consumer.assign([place])
    found: list[Any] = []
    while len(found) < end:
        found += consumer.consume(end - len(found), 10)
    consumer.close()
    return [({name: text.decode() for name, text in m.headers()}, m.value()) for m in found]


def test_headers_say_why_and_where_from(settings: Settings) -> None:
    put(settings, 1, value=None)
    assert relay_once(settings) == 1
    assert published(settings) == [
        (
            {
                "jobtrail_reason": "malformed",
                "jobtrail_detail": "why €",
                "jobtrail_topic": "events",
                "jobtrail_topic_id": "id",
                "jobtrail_partition": "3",
                "jobtrail_offset": "0",
                "jobtrail_broker_at": "2026-01-01T00:00:00.000+00:00",
            },
            None,
        )
    ]


def test_relays_at_the_same_time_publish_each_letter_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "BATCH", 20)
    put(settings, 400)
    done: list[int] = []
    relays = [threading.Thread(target=lambda: done.append(relay_once(settings))) for _ in range(3)]
    for relay in relays:
        relay.start()
    for relay in relays:
        relay.join()
    while waiting := relay_once(settings):
        done.append(waiting)
    assert sum(done) == 400
    told = Counter(headers["jobtrail_offset"] for headers, _ in published(settings))
    assert told == Counter(map(str, range(400)))


def test_a_letter_that_outgrew_the_topic_is_told_without_its_value(
    settings: Settings, kafka_admin: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = settings.model_copy(update={"dead_letters_topic": f"{settings.dead_letters_topic}-narrow"})
    topic = NewTopic(narrow.dead_letters_topic, 1, 1, config={"max.message.bytes": "2000"})
    kafka_admin.create_topics([topic])[topic.topic].result(30)
    large = os.urandom(51_200)  # which no compression makes small
    put(narrow, 3, value=b"small")
    put(narrow, 5, value=large)
    assert relay_once(narrow) == 5
    told = {
        headers["jobtrail_offset"]: (headers.get("jobtrail_value_bytes"), value)
        for headers, value in published(narrow)
    }
    assert told == {**dict.fromkeys("012", (None, b"small")), **dict.fromkeys("34", ("51200", None))}
    assert caplog.text.count("without its value") == 2


def test_letters_whose_key_or_headers_are_too_large_do_not_hold_back_newer_ones(
    settings: Settings,
    kafka_admin: AdminClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letters, "BATCH", 4)
    narrow = settings.model_copy(update={"dead_letters_topic": f"{settings.dead_letters_topic}-narrow"})
    topic = NewTopic(narrow.dead_letters_topic, 1, 1, config={"max.message.bytes": "2000"})
    kafka_admin.create_topics([topic])[topic.topic].result(30)
    large = os.urandom(51_200)  # which no compression makes small
    detail = "".join(chr(0x4E00 + byte) for byte in large[:3_000])
    rest = (b"7", b"small", "malformed", "why")
    put_letters(
        narrow,
        [
            *[DeadLetter("events", "id", 3, at, AT, large, b"v", "wrong_key", "why") for at in (0, 1)],
            DeadLetter("events", "id", 3, 2, AT, large, None, "null_value", "why"),
            DeadLetter("events", "id", 3, 3, AT, b"7", b"v", "malformed", detail),
            *[DeadLetter("events", "id", 3, at, AT + timedelta(1), *rest) for at in (4, 5)],
        ],
    )
    assert relay_once(narrow) == 6
    told = {
        headers["jobtrail_offset"]: (
            headers.get("jobtrail_key_bytes"),
            headers.get("jobtrail_value_bytes"),
            value,
        )
        for headers, value in published(narrow)
    }
    assert told == {
        **dict.fromkeys("01", ("51200", "1", None)),
        "2": ("51200", None, None),
        "3": ("1", "1", None),
        **dict.fromkeys("45", (None, None, b"small")),
    }
    assert caplog.text.count("without its value and key") == 4
    assert relay_once(narrow) == 0


def test_what_kafka_did_not_confirm_stays_to_be_published(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "CONFIRM_TIMEOUT", 1.0)
    put(settings, 3)
    with pytest.raises(PublishError, match="3 dead letters were not confirmed"):
        relay_once(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))
    assert relay_once(settings) == 3
    assert relay_once(settings) == 0


def test_a_postgres_that_is_away_is_named_without_its_password(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://me:secret@127.0.0.1:1/there"})
    with pytest.raises(ServerAwayError, match=r"127\.0\.0\.1:1/there .* JOBTRAIL_DATABASE_URL") as raised:
        relay_once(away)
    assert "secret" not in str(raised.value)


def test_a_relay_in_a_thread_publishes_when_it_is_woken(settings: Settings) -> None:
    with relaying(settings) as wake:
        put(settings, 1)
        wake()
        assert settings.database_url is not None
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            for _ in range(100):
                (left,) = connection.execute(
                    "SELECT count(*) FROM jobtrail.dead_letters WHERE published_at IS NULL"
                ).fetchone() or (1,)
                if left == 0:
                    break
                threading.Event().wait(0.05)
    assert left == 0


def test_halves_of_a_batch_move_the_same_checkpoints_as_the_whole() -> None:
    events = Records.from_rows("events", "e", [(p, o, 0, b"", b"") for o in (4, 5, 7) for p in (0, 1)])
    registry = Records.from_rows("registry", "r", [(0, 9, 0, b"", b"")])
    moves = (Move("e", "events", 0, 4, 8), Move("e", "events", 1, 3, 12), Move("r", "registry", 0, 9, 10))

    def singles(batch: Batch) -> list[Batch]:
        return [batch] if len(batch) == 1 else [part for half in batch.halves() for part in singles(half)]

    reached = {(move.topic, move.partition): move.expected for move in moves}
    parts = singles(Batch((events, registry), moves))
    assert len(parts) == 7
    for part in parts:
        for move in part.moves:
            assert move.expected == reached[move.topic, move.partition] < move.next
            reached[move.topic, move.partition] = move.next
    assert reached == {("events", 0): 8, ("events", 1): 12, ("registry", 0): 10}


@WHERE
def test_a_client_that_gave_up_is_replaced(settings: Settings) -> None:
    """Before the first letter, and between two times."""
    relay = Relay(settings)
    for count in (3, 4):
        give_up(relay._producer)
        put(settings, count)
        relay.publish()
        assert len(published(settings)) == count
