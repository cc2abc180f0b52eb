"""What a dead letter is; what becomes of it: `jobtrail.projections.letters`. Needs the base install only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self

#: (topic id, partition, offset): what a letter's row is found by.
Key = tuple[str, int, int]


class Place(NamedTuple):
    """Where a message is in the log, as people write it: topic:partition:offset.

    Where a topic was made anew under its name, its id stands for the name.
    """

    topic: str
    partition: int
    offset: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError for a text that is no place."""
        topic, partition, offset = text.split(":")
        if not topic or not all(part.isascii() and part.isdigit() for part in (partition, offset)):
            raise ValueError(text)
        if int(partition[:20]) >= 2**31 or int(offset[:20]) >= 2**63:
            raise ValueError(text)
        return cls(topic, int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that cannot become an event, with why. A row of jobtrail.dead_letters."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    #: When the broker appended it.
    broker_at: datetime
    #: Key and value are untouched, framing and all.
    key: bytes | None
    value: bytes | None
    #: Short, stable code.
    reason: str
    #: What was found, for a person.
    detail: str

    @property
    def place(self) -> Place:
        """Where it is in the log."""
        return Place(self.topic, self.partition, self.offset)

    @property
    def row_key(self) -> Key:
        """What its row is found by."""
        return self.topic_id, self.partition, self.offset
