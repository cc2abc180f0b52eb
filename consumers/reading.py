"""What every consumer of the log has in common. Needs the base install only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError

#: Seconds that an idle loop waits for a message before it looks around.
IDLE: Final = 0.2
CONSUMER_CONFIG: Final[Mapping[str, str | int | bool]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    # Waiting for Postgres may take long; a process that died is noticed by its session.
    "max.poll.interval.ms": 600_000,
    # Partitions added to a topic are seen after this long.
    "topic.metadata.refresh.interval.ms": 10_000,
    # Memory, for each partition of ours; what the client adds for each message is as much again.
    "queued.max.messages.kbytes": 2 * 1024,
    "fetch.message.max.bytes": 1024 * 1024,
    "fetch.wait.max.ms": 100,
    # What waits is enough: look again after this long. By librdkafka's default that is a whole second.
    "fetch.queue.backoff.ms": 5,
}
#: The log does not have the offset that a fetch began at.
OUT_OF_RANGE: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001  # public name
#: The topic, or one of its partitions, is not there.
GONE: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001  # its public name, as below
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
)
