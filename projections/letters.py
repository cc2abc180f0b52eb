"""Dead letters: messages that cannot become events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


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
