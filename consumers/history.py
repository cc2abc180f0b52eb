"""One job's messages, read back from the event log or its archive: without a group, within bounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from jobtrail.consumers.archive import Archive
from jobtrail.consumers.ends import Log
from jobtrail.consumers.reading import CONSUMER_CONFIG, IDLE
from jobtrail.consumers.records import Records
from jobtrail.consumers.taking import take
from jobtrail.errors import ArchiveError, ServerAwayError
from jobtrail.kinds import micros
from jobtrail.producers.client import client_config
from jobtrail.running import kafka_address
from jobtrail.settings import Settings

#: Most seconds of one reading, and most messages of the job that it keeps: some 100 MB.
READ_SECONDS: Final = 10.0
MOST_MESSAGES: Final = 200_000
#: Messages looked at before the bounds are.
CHUNK: Final = 10_000
#: Seconds for Kafka to say where the log begins and ends.
BOUNDS_TIMEOUT: Final = 3.0
#: By how much the clocks of a partition's leaders may differ, one after the other.
CLOCKS_DIFFER: Final = timedelta(seconds=5)
#: librdkafka wants a name; nothing ever joins this group or commits to it.
GROUP: Final = "jobtrail-history"


@dataclass(frozen=True, slots=True)
class Span:
    """Where in the log a job's events are."""

    log_partition: int
    #: Of its lifecycle events.
    first_offset: int
    last_offset: int
    #: When the broker took the last of all its events that the read models hold.
    last_received_at: datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """What the log and its archive have of a job."""

    parts: tuple[Records, ...]
    #: Why events may be missing; none: all are here.
    gap: str | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))


def read_job(
    settings: Settings,
    job_id: int,
    span: Span,
    *,
    seconds: float = READ_SECONDS,
    most: int = MOST_MESSAGES,
) -> Reading:
    """The job's messages from its first lifecycle event to the last that the read models hold, or later.

    What Kafka does not give in time is said in the `gap`. Raises EmbeddedError where no Kafka is set or runs.
    """
    address = kafka_address(settings)
    consumer = Consumer(
        {
            **CONSUMER_CONFIG,
            **client_config(settings, address),
            "group.id": GROUP,
            "error_cb": lambda _error: None,  # what it would say comes as the answer to a call
        }
    )
    parts: list[Records] = []
    key = str(job_id).encode()
    try:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(settings.events_topic, span.log_partition), BOUNDS_TIMEOUT
        )
        gap = _archived(settings, span, min(low, span.last_offset + 1), key, parts)
        gap = (
            _read(
                consumer, settings.events_topic, span, parts, (low, high), key=key, seconds=seconds, most=most
            )
            or gap
        )
    except KafkaException as error:
        gap = f"Kafka at {address} did not give what the log has of the job ({error.args[0].str()})"
    finally:
        consumer.close()
    return Reading(tuple(parts), gap)


def _archived(settings: Settings, span: Span, low: int, key: bytes, found: list[Records]) -> str | None:
    """Adds what the topic no longer has to `found`; gives the gap where no archive has it either."""
    if low <= span.first_offset:
        return None
    topic, partition = settings.events_topic, span.log_partition
    gap = (
        f"partition {partition} of {topic} begins at offset {low} now, and the job's first lifecycle event"
        f" had {span.first_offset}"
    )
    if settings.archive is None:
        return gap
    try:
        topic_id = Log(settings).topic(topic).topic_id
        archive = Archive.open(settings.archive)
        for records in archive.read(topic, topic_id, partition, span.first_offset, low, CHUNK):
            _add(found, records, key)
    except (ArchiveError, ServerAwayError) as error:
        return f"{gap}; {error}"
    return None


def _read(
    consumer: Consumer,
    topic: str,
    span: Span,
    found: list[Records],
    bounds: tuple[int, int],
    *,
    key: bytes,
    seconds: float,
    most: int,
) -> str | None:
    """Adds the messages with the key to `found`; returns the gap. Raises KafkaException."""
    place = f"partition {span.log_partition} of {topic}"
    low, high = bounds
    if high <= span.last_offset:
        return f"{place} ends at offset {high}, and the job's last lifecycle event had {span.last_offset}"
    position = max(low, span.first_offset)
    last_ms = micros(span.last_received_at + CLOCKS_DIFFER) // 1000
    consumer.assign([TopicPartition(topic, span.log_partition, position)])
    until = time.monotonic() + seconds
    while position < high:
        if sum(map(len, found)) > most:
            return f"the job has more than {most:,} messages; {place} was read to offset {position}"
        if time.monotonic() > until:
            return f"{seconds:g} s were not enough: {place} was read to offset {position} of {high}"
        first = consumer.poll(IDLE)
        if first is None:
            continue
        taken = take(consumer, first, CHUNK, {topic: ""})
        errors = [error for each in taken.errors if (error := each.error())]
        if errors and errors[0].code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
            raise KafkaException(errors[0])
        for records in taken.records.values():
            _add(found, records, key)
            position = records.offsets[-1] + 1
            if position > span.last_offset and records.broker_ms[-1] > last_ms:
                return None
        if errors:
            break
    return None


def _add(found: list[Records], records: Records, key: bytes) -> None:
    """Those with the key."""
    if rows := [row for row, other in enumerate(records.keys) if other == key]:
        found.append(records.take(rows))
