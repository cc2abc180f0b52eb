"""Messages in the log, and what an archive gives back of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition

from jobtrail.consumers.archive import Archive
from jobtrail.consumers.archive_copy import Copied, copy_log
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.settings import Settings


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it is given to Kafka."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def publish(
    settings: Settings, messages: Iterable[Sent], partition: int = 0, topic: str | None = None
) -> None:
    """To one partition of the events topic, or another one, in order."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "linger.ms": 5})
    for one in messages:
        headers: list[tuple[str, str | bytes | None]] = [*one.headers]
        producer.produce(
            topic or settings.events_topic, one.value, one.key, partition=partition, headers=headers
        )
    assert producer.flush(60) == 0


def some(count: int, start: int = 0) -> list[Sent]:
    """Messages that can be told apart."""
    return [
        Sent(b"%d" % (at % 7), b"value %d" % at, (("ce_id", b"%d" % at),))
        for at in range(start, start + count)
    ]


def copy(settings: Settings, address: Path | str, **options: Any) -> Copied:
    """The events topic."""
    return copy_log(settings, str(address), [settings.events_topic], **options)


def events_id(settings: Settings) -> str:
    return TopicAdmin(settings).ids([settings.events_topic])[settings.events_topic]


def in_log(settings: Settings, partition: int = 0) -> list[tuple[Any, ...]]:
    """All messages of a partition, as a consumer of its own sees them: offset, time, key, value, headers."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "test",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    low, _ = consumer.get_watermark_offsets(TopicPartition(settings.events_topic, partition), 30)
    consumer.assign([TopicPartition(settings.events_topic, partition, low)])
    found: list[tuple[Any, ...]] = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None
            if message.error():
                return found
            headers = message.headers() or []
            found.append((message.offset(), message.timestamp()[1], message.key(), message.value(), headers))
    finally:
        consumer.close()


def in_archive(
    settings: Settings, address: Path | str, partition: int = 0, most: int = 1_000
) -> list[tuple[Any, ...]]:
    """What the reading side gives of a partition of the topic as it is now, without headers."""
    archive = Archive.open(str(address))
    topic_id = events_id(settings)
    first, end = archive.extent(topic_id, accepted_gaps=True).get(partition, (0, 0))
    return [*rows(archive.read(settings.events_topic, topic_id, partition, first, end, most), most)]


def rows(pieces: Iterable[Any], most: int) -> Iterator[tuple[Any, ...]]:
    for piece in pieces:
        assert 0 < len(piece) <= most
        yield from zip(piece.offsets, piece.broker_ms, piece.keys, piece.values, strict=True)


def without_headers(messages: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [one[:4] for one in messages]


def by_any_reader(path: Path) -> list[tuple[Any, ...]]:
    """The messages of a data file, as another program reads them."""
    messages: Any = fastavro.reader(io.BytesIO(path.read_bytes()))
    return [
        (
            one["offset"],
            one["broker_ms"],
            one["key"],
            one["value"],
            [(header["name"], header["value"]) for header in one["headers"]],
        )
        for one in messages
    ]
