"""A stretch of one partition, read back: without a consumer group, in order, and never beyond its end."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobtrail.consumers.block import Block
from jobtrail.consumers.fetching import FAR, Fetcher, UnusualError
from jobtrail.consumers.reading import CONSUMER_CONFIG, IDLE, OUT_OF_RANGE
from jobtrail.consumers.records import Records
from jobtrail.consumers.taking import Taken, take
from jobtrail.errors import LogError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

#: librdkafka wants a name; nothing ever joins this group or commits to it.
GROUP: Final = "jobtrail-replay"
#: Seconds without a message or an end before Kafka counts as away.
PATIENCE: Final = 60.0


class TopicReader:
    """Reads stretches of topics. Not thread-safe; close it."""

    def __init__(self, settings: Settings) -> None:
        self._address = kafka_address(settings)
        self._failure: KafkaError | None = None
        self._consumer = Consumer(
            {
                **CONSUMER_CONFIG,
                # A whole partition is coming: fetch ahead what fits.
                "queued.min.messages": 200_000,
                "queued.max.messages.kbytes": 16 * 1024,
                **client_config(settings, self._address),
                "group.id": GROUP,
                "error_cb": self._on_error,
            }
        )

    def close(self) -> None:
        """Leaves Kafka."""
        self._consumer.close()

    def read(  # noqa: PLR0917  # as Archive.read
        self, topic: str, topic_id: str, partition: int, start: int, end: int, most: int
    ) -> Iterator[Records]:
        """Every message with start ≤ offset < end, at most `most` at a time.

        Raises LogError where offsets are missing, ServerAwayError where Kafka gives nothing for PATIENCE.
        """
        if start >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, start)])
        heard = time.monotonic()
        while True:
            first = self._consumer.poll(IDLE)
            if first is None:
                if time.monotonic() - heard > PATIENCE:
                    detail = self._failure.str() if self._failure else f"nothing for {PATIENCE:g} s"
                    raise ServerAwayError("Kafka", self._address, KAFKA_SETTING, detail)
                continue
            heard = time.monotonic()
            taken = take(self._consumer, first, most, {topic: topic_id}, lambda so_far: _next(so_far) < end)
            ended = self._has_ended(taken.errors, topic, partition, start, end)
            for records in taken.records.values():
                within = bisect_left(records.offsets, end)
                ended = ended or records.offsets[-1] >= end - 1
                if within:
                    yield records[:within] if within < len(records) else records
            if ended:
                return

    def _has_ended(self, messages: list[Message], topic: str, partition: int, start: int, end: int) -> bool:
        """Whether the end of the partition was reached, at or behind the stretch's.

        Raises for what is wrong.
        """
        ended = False
        for message in messages:
            error = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                if int(message.offset() or 0) < end:
                    raise LogError(
                        f"topic {topic}, partition {partition}: it ends at offset {message.offset()}, and "
                        f"events up to {end - 1} are needed; restore the topic, or rebuild from an archive"
                    )
                ended = True
            elif error.code() in OUT_OF_RANGE:
                raise LogError(
                    f"topic {topic}, partition {partition}: offsets from {start} on are needed and are no "
                    "longer in the log; rebuild from an archive that has them"
                )
            else:
                raise ServerAwayError("Kafka", self._address, KAFKA_SETTING, error.str()) from KafkaException(
                    error
                )
        return ended

    def _on_error(self, error: KafkaError) -> None:
        self._failure = error


class BlockReader:
    """Reads stretches of topics, long ones as blocks where it can. Not thread-safe; close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = TopicReader(settings)
        self._fetcher: Fetcher | None = None

    def close(self) -> None:
        """Leaves Kafka."""
        self._reader.close()
        if self._fetcher:
            self._fetcher.close()

    def read(  # noqa: PLR0917  # as TopicReader.read
        self, topic: str, topic_id: str, partition: int, start: int, end: int, most: int
    ) -> Iterator[Block | Records]:
        """As TopicReader.read."""
        if end - start >= FAR:
            with contextlib.suppress(UnusualError):
                self._fetcher = self._fetcher or Fetcher(self._settings)
                for block in self._fetcher.read(topic, topic_id, partition, start, end, most):
                    yield block
                    start = block.next_offset
                return
        yield from self._reader.read(topic, topic_id, partition, start, end, most)


def _next(taken: Taken) -> int:
    """The offset after the last message."""
    return max(taken.reached.values(), default=0)
