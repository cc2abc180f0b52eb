"""One job's messages, read back from the event log: without a consumer group, and within bounds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobtrail.consumers.records import Records
from jobtrail.consumers.source import CONSUMER_CONFIG, IDLE
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
    """What the log has of a job."""

    records: Records
    #: Why events may be missing; none: all are here.
    gap: str | None = None


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
    kept: list[Message] = []
    try:
        gap = _read(
            consumer, settings.events_topic, span, kept, key=str(job_id).encode(), seconds=seconds, most=most
        )
    except KafkaException as error:
        gap = f"Kafka at {address} did not give what the log has of the job ({error.args[0].str()})"
    finally:
        consumer.close()
    return Reading(Records.from_messages(settings.events_topic, "", kept), gap)


def _read(
    consumer: Consumer,
    topic: str,
    span: Span,
    kept: list[Message],
    *,
    key: bytes,
    seconds: float,
    most: int,
) -> str | None:
    """Adds the messages with the key to `kept`; returns the gap. Raises KafkaException."""
    place = f"partition {span.log_partition} of {topic}"
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, span.log_partition), BOUNDS_TIMEOUT)
    if high <= span.last_offset:
        return f"{place} ends at offset {high}, and the job's last lifecycle event had {span.last_offset}"
    gap = None
    if low > span.first_offset:
        gap = (
            f"{place} begins at offset {low} now, and the job's first lifecycle event had {span.first_offset}"
        )
    position = max(low, span.first_offset)
    last_ms = micros(span.last_received_at + CLOCKS_DIFFER) // 1000
    consumer.assign([TopicPartition(topic, span.log_partition, position)])
    until = time.monotonic() + seconds
    while position < high:
        if len(kept) > most:
            return f"the job has more than {most:,} messages; {place} was read to offset {position}"
        if time.monotonic() > until:
            return f"{seconds:g} s were not enough: {place} was read to offset {position} of {high}"
        first = consumer.poll(IDLE)
        if first is None:
            continue
        messages = [first, *consumer.consume(CHUNK - 1, 0)]
        if errors := [error for each in messages if (error := each.error())]:
            if errors[0].code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                raise KafkaException(errors[0])
            messages = [each for each in messages if not each.error()]
            kept += [each for each in messages if each.key() == key]
            break
        kept += [each for each in messages if each.key() == key]
        position = _offset(messages[-1]) + 1
        if position > span.last_offset and messages[-1].timestamp()[1] > last_ms:
            break
    return gap


def _offset(message: Message) -> int:
    return int(message.offset() or 0)
