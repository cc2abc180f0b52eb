"""What the tests of the SDK share: settings without a database, and reading back what was published."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobtrail import codec
from jobtrail.events import Event
from jobtrail.settings import Settings

E = TypeVar("E", bound=Event)
_JUST_MADE = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
}


class Topics(Protocol):
    """The topics of one test."""

    events: str
    registry: str


def sdk_settings(kafka: str, topics: Topics, home: Path, **more: Any) -> Settings:
    return Settings(
        home=home,
        kafka_bootstrap_servers=kafka,
        events_topic=topics.events,
        registry_topic=topics.registry,
        worker="worker-1",
        **more,
    )


def messages(settings: Settings, topic: str | None = None) -> Iterator[Message]:
    """All messages of a topic (default: of the events), each partition in its order."""
    topic = topic or settings.events_topic
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "tests",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
            "log_level": 2,
        }
    )
    try:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            begin, end = _extent(consumer, TopicPartition(topic, partition))
            consumer.assign([TopicPartition(topic, partition, begin)])
            while begin < end:
                message = consumer.poll(10)
                assert message is not None, f"no more of {topic} after offset {begin} of {end}"
                assert message.error() is None
                begin = (message.offset() or 0) + 1
                yield message
    finally:
        consumer.close()


def _extent(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """Its first and its next offset. A broker takes a moment to know that it leads a partition just made."""
    until = time.monotonic() + 10
    while True:
        try:
            begin, end = consumer.get_watermark_offsets(partition, timeout=10)
        except KafkaException as error:
            if error.args[0].code() not in _JUST_MADE or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return begin, end


def published(settings: Settings, job_id: int | None = None) -> list[Event]:
    """The events of a job, or of all, in the order of their partition."""
    events = [codec.decode(value_of(message)) for message in messages(settings)]
    return [event for event in events if job_id in {None, getattr(event, "job_id", None)}]


def value_of(message: Message) -> bytes:
    value = message.value()
    assert isinstance(value, bytes)
    return value


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def one(events: list[Event], event_type: type[E]) -> E:
    """The only event of a type."""
    (event,) = of_type(events, event_type)
    return event


def of_type(events: list[Event], event_type: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, event_type)]
