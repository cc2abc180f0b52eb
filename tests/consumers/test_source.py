"""The source looks after its topics, and tells a gap in the log from an error that passes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from anew import id_of, make_anew
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from jobtrail.consumers import source as module
from jobtrail.consumers.source import Source
from jobtrail.errors import LogError
from jobtrail.settings import Settings

NEVER = 3600.0


class InMemory:
    """Checkpoints that nobody has written."""

    def __init__(self) -> None:
        self.of: dict[str, dict[int, int]] = {}

    def checkpoints(self, topic_id: str) -> Mapping[int, int]:
        return self.of.get(topic_id, {})

    def known_topic_ids(self, _topic: str) -> set[str]:
        return set()


@pytest.fixture
def source(settings: Settings) -> Iterator[Source]:
    made = Source(settings, InMemory(), threading.Event())
    yield made
    made.close()


def publish(settings: Settings, count: int) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for _ in range(count):
        producer.produce(settings.events_topic, b"value", b"7", partition=0)
    assert producer.flush(30) == 0


def read_to_the_end(source: Source) -> Iterator[Any]:
    """The iterator, after all that was there. Nothing happens in it until it is asked for more."""
    batches = iter(source)
    deadline = time.monotonic() + 30
    while not source.caught_up:
        assert time.monotonic() < deadline
        if batch := next(batches):
            source.folded(batch)
    return batches


def assert_it_ends(batches: Iterator[Any], old: str, new: str) -> None:
    deadline = time.monotonic() + 15
    with pytest.raises(LogError, match="was made anew") as raised:
        while time.monotonic() < deadline:
            assert not next(batches)
    assert old in str(raised.value)
    assert new in str(raised.value)


class Fed:
    """A consumer whose messages are these, once; all else is the real one's."""

    def __init__(self, real: Any, messages: list[Message]) -> None:
        self._real = real
        self._messages = messages

    def poll(self, timeout: float) -> Message | None:
        return self._messages.pop(0) if self._messages else self._real.poll(timeout)

    def consume(self, count: int, timeout: float) -> list[Message]:
        taken, self._messages = self._messages, []
        return taken or self._real.consume(count, timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def feed(source: Source, messages: list[Message], **methods: Callable[..., Any]) -> None:
    fed = Fed(source._consumer, messages)
    vars(fed).update(methods)
    source._consumer = fed  # type: ignore[assignment]


def failed(settings: Settings, code: int) -> Message:
    return Message(topic=settings.events_topic, partition=0, error=KafkaError(code))


def test_topics_are_looked_after_while_nothing_comes(
    settings: Settings, kafka_admin: AdminClient, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ID_CHECK", 1.0)
    publish(settings, 3)
    batches = read_to_the_end(source)
    old, new = make_anew(settings, kafka_admin)
    time.sleep(1.0)
    # No error of the client's is needed for it.
    feed(source, [], poll=time.sleep)
    assert_it_ends(batches, old, new)


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN, KafkaError.UNKNOWN_TOPIC_ID, KafkaError._MSG_TIMED_OUT])
def test_topics_are_looked_after_at_any_error(
    settings: Settings,
    kafka_admin: AdminClient,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    monkeypatch.setattr(module, "ID_CHECK", NEVER)
    batches = read_to_the_end(source)
    source._next_id_check = time.monotonic() + NEVER
    old, new = make_anew(settings, kafka_admin)
    # The error stands before messages of the new topic, which must not be taken for the old one's.
    feed(source, [failed(settings, code), Message(topic=settings.events_topic, partition=0, offset=0)])
    with pytest.raises(LogError, match=f"{re.escape(new)}.*{re.escape(old)}"):
        next(batches)


def test_topics_are_looked_after_on_assignment(
    settings: Settings, kafka_admin: AdminClient, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ID_CHECK", NEVER)
    ids: list[str] = []
    ensure = source._admin.ensure

    def ensure_and_lose() -> dict[str, str]:
        known = ensure()
        ids.extend(make_anew(settings, kafka_admin))
        publish(settings, 3)
        return known

    monkeypatch.setattr(source._admin, "ensure", ensure_and_lose)
    batches = iter(source)
    found: list[Any] = []
    with pytest.raises(LogError, match="was made anew") as raised:
        while not any(found):
            found.append(next(batches))
    assert not any(found)
    assert all(each in str(raised.value) for each in ids)


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
def test_an_offset_that_is_in_the_log_after_all_is_read_on(
    settings: Settings, source: Source, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    publish(settings, 3)
    batches = read_to_the_end(source)
    assert isinstance(source._checkpoints, InMemory)
    source._checkpoints.of[id_of(settings)] = {0: 3}
    feed(source, [failed(settings, code)])
    assert next(batches) is None
    publish(settings, 2)
    deadline = time.monotonic() + 15
    while not (batch := next(batches)):
        assert time.monotonic() < deadline
    assert batch.records[0].offsets[0] == 3
    assert "it lost events" not in caplog.text


def test_a_broker_that_goes_while_a_gap_is_looked_into_is_waited_for(
    settings: Settings, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    publish(settings, 3)
    batches = read_to_the_end(source)
    real, asked = source._consumer, list[TopicPartition]()

    def watermarks(place: TopicPartition, timeout: float = -1, *, cached: bool = False) -> tuple[int, int]:
        asked.append(place)
        if len(asked) < 3:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return real.get_watermark_offsets(place, timeout, cached)

    feed(source, [failed(settings, KafkaError._AUTO_OFFSET_RESET)], get_watermark_offsets=watermarks)
    assert next(batches) is None
    assert len(asked) == 3
    assert caplog.text.count("waiting for it") == caplog.text.count("answers again") == 1


def test_a_topic_that_goes_while_a_gap_is_looked_into_is_named(
    settings: Settings, kafka_admin: AdminClient, source: Source
) -> None:
    batches = read_to_the_end(source)

    def watermarks(*_: Any, **__: Any) -> tuple[int, int]:
        kafka_admin.delete_topics([settings.events_topic])[settings.events_topic].result(30)
        raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))

    feed(source, [failed(settings, KafkaError._AUTO_OFFSET_RESET)], get_watermark_offsets=watermarks)
    assert next(batches) is None
    with pytest.raises(LogError, match=f"{settings.events_topic} does not exist"):
        next(batches)
