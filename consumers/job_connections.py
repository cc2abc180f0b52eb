"""Which jobs are of a connection. Only JobCreated says so, and it may stand long before what a reader wants.

What the reader itself passes is remembered. Where it meets a job of which it has not seen the JobCreated,
because it began behind it, or partitions were added since, the log is read back from its beginning, once, and
from there on as far as it is new: first bytes of all messages, and each JobCreated. Two JobCreated of one job
are an anomaly (job_id_used_twice); here the first in the log counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from jobtrail.consumers.ends import Log
from jobtrail.consumers.log_reader import LogReader
from jobtrail.consumers.reading import CONSUMER_CONFIG, IDLE
from jobtrail.errors import LogError, ServerAwayError
from jobtrail.events import JobCreated
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")

#: librdkafka wants a name; nothing ever joins this group or commits to it.
GROUP: Final = "jobtrail-connections"
#: Messages taken at once.
CHUNK: Final = 10_000
#: Gives the event of a message that is a JobCreated.
ReadCreated = Callable[[Message], JobCreated | None]


class JobConnections:
    """Jobs of one connection; some 100 bytes of memory for each job of the log. Close it."""

    def __init__(
        self, settings: Settings, connection_id: str, read_created: ReadCreated, reader: LogReader
    ) -> None:
        """`reader`: who asks; it stays in its group while the log is read back, and says when to stop."""
        self._settings = settings
        self._connection_id = connection_id
        self._read_created = read_created
        self._reader = reader
        self._log = Log(settings)
        self._consumer: Consumer | None = None
        self._is_ours: dict[int, bool] = {}
        #: Partition → the offset up to which the log was read back.
        self._reached: dict[int, int] = {}

    def learn(self, created: JobCreated) -> None:
        """A reader has seen it."""
        self._is_ours.setdefault(created.job_id, created.connection_id == self._connection_id)

    def has(self, job_id: int, partition: int, offset: int) -> bool:
        """Whether the job of the event in this place is of the connection.

        No, where the log has no JobCreated of it. Raises StoppedError, ServerAwayError, LogError.
        """
        if job_id not in self._is_ours and self._reached.get(partition, 0) <= offset:
            self._read_back()
        return self._is_ours.get(job_id, False)

    def close(self) -> None:
        """Leaves Kafka."""
        if self._consumer is not None:
            self._consumer.close()

    def _read_back(self) -> None:
        """Reads what is new to the present ends of all partitions."""
        name, address = self._settings.events_topic, kafka_address(self._settings)
        topic = self._reader.waited(lambda: self._log.topic(name, begins=True))
        if self._consumer is None:
            config = {**CONSUMER_CONFIG, **client_config(self._settings, address), "group.id": GROUP}
            self._consumer = Consumer({**config, "error_cb": lambda _error: None})
            if any(topic.begins.values()):
                log.warning("%s no longer begins at offset 0: jobs made before count to no connection", name)
        unread = {
            part: max(begin, self._reached.get(part, 0))
            for part, begin in topic.begins.items()
            if max(begin, self._reached.get(part, 0)) < topic.ends[part]
        }
        self._consumer.assign([TopicPartition(name, part, at) for part, at in unread.items()])
        heard = time.monotonic()
        while unread:
            self._reader.keep()
            messages = self._consumer.consume(CHUNK, IDLE)
            if messages:
                heard = time.monotonic()
            elif (silent := time.monotonic() - heard) > self._reader.patience:
                raise ServerAwayError("Kafka", address, KAFKA_SETTING, f"nothing for {silent:.0f} s")
            for message in messages:
                part, reached = self._see(name, message)
                if reached >= topic.ends[part]:
                    unread.pop(part, None)
        self._consumer.assign([])
        # Of an empty partition, too, it is known that nothing stands before its end.
        self._reached = {part: max(end, self._reached.get(part, 0)) for part, end in topic.ends.items()}

    def _see(self, name: str, message: Message) -> tuple[int, int]:
        """The partition of a message, and up to which offset it is read now."""
        part, at = int(message.partition() or 0), int(message.offset() or 0)
        if (error := message.error()) is None:
            if (created := self._read_created(message)) is not None:
                self.learn(created)
            at += 1
        elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
            raise LogError(
                f"topic {name}, partition {part}: it cannot be read back to learn the connections of jobs:"
                f" {error.str()}"
            )
        self._reached[part] = max(at, self._reached.get(part, 0))
        return part, self._reached[part]
