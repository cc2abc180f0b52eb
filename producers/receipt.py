"""What becomes of published events: of one (`Receipt`), and of all (`Counts`)."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events of a publisher so far."""

    #: Taken into the queue.
    accepted: int
    #: Confirmed by Kafka.
    delivered: int
    #: Taken, and then refused by Kafka for good.
    failed: int
    #: Not taken: the queue was full for too long, or the event was too large.
    refused: int

    @property
    def waiting(self) -> int:
        """Taken, and without an answer yet."""
        return self.accepted - self.delivered - self.failed


class Receipt:
    """What becomes of one event: `done` once Kafka has answered."""

    __slots__ = ("_answered", "error", "offset", "partition")

    def __init__(self) -> None:
        self._answered = threading.Event()
        #: Why Kafka refused it.
        self.error: str | None = None
        #: Where it stands in its topic; -1 until it does.
        self.partition = -1
        self.offset = -1

    @property
    def done(self) -> bool:
        """Whether Kafka has confirmed or refused it."""
        return self._answered.is_set()

    def wait(self, timeout: float) -> bool:
        """Waits for Kafka's answer, at most `timeout` seconds; whether it came."""
        return self._answered.wait(timeout)

    def settle(self, error: KafkaError | None, message: Message) -> None:
        """Takes in Kafka's answer."""
        if error is None:
            self.partition, self.offset = message.partition() or 0, message.offset() or 0
        else:
            self.error = error.str()
        self._answered.set()
