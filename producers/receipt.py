"""What becomes of published events: of one (`Receipt`), and of all (`Counts`)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

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


#: Held to look whether somebody waits: one for all, for most receipts nobody waits.
_settling: Final = threading.Lock()


class Receipt:
    """What becomes of one event: `done` once Kafka has answered."""

    __slots__ = ("_answered", "done", "error", "offset", "partition")

    def __init__(self) -> None:
        #: Whether Kafka has confirmed or refused it.
        self.done = False
        #: Why Kafka refused it.
        self.error: str | None = None
        #: Where it stands in its topic; -1 until it does.
        self.partition = -1
        self.offset = -1
        #: Made by the first who waits.
        self._answered: threading.Event | None = None

    def wait(self, timeout: float) -> bool:
        """Waits for Kafka's answer, at most `timeout` seconds; whether it came."""
        with _settling:
            if self.done:
                return True
            answered = self._answered = self._answered or threading.Event()
        return answered.wait(timeout)

    def settle(self, error: KafkaError | None, message: Message) -> None:
        """Takes in Kafka's answer."""
        if error is None:
            self.partition, self.offset = message.partition() or 0, message.offset() or 0
        else:
            self.error = error.str()
        with _settling:
            self.done = True
            answered = self._answered
        if answered is not None:
            answered.set()
