"""Messages of one topic as columns: what the projector decodes, whether from Kafka or from an archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from confluent_kafka import Message

from jobtrail import kinds
from jobtrail.projections.dead_letter import DeadLetter

#: (topic, partition)
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Records:
    """Messages of one topic, one list for each of their parts; all lists have the same length."""

    topic: str
    topic_id: str
    partitions: list[int]
    offsets: list[int]
    #: Milliseconds since 1970, as the broker appended them.
    broker_ms: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]

    def extend(self, messages: Sequence[Message]) -> dict[int, int]:
        """Adds what a consumer gave, all of this topic and none of them an error.

        Gives the last offset of each of their partitions.
        """
        # map over the C methods costs half of a comprehension.
        partitions: list[int] = list(map(Message.partition, messages))  # type: ignore[arg-type]  # None only where nothing was sent
        offsets: list[int] = list(map(Message.offset, messages))  # type: ignore[arg-type]  # as above
        self.partitions.extend(partitions)
        self.offsets.extend(offsets)
        self.broker_ms.extend([at for _, at in map(Message.timestamp, messages)])
        self.keys.extend(map(Message.key, messages))
        self.values.extend(map(Message.value, messages))
        return dict(zip(partitions, offsets, strict=True))

    @classmethod
    def from_rows(
        cls, topic: str, topic_id: str, rows: Iterable[tuple[int, int, int, bytes | None, bytes | None]]
    ) -> Self:
        """From tuples of (partition, offset, milliseconds, key, value)."""
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
        return cls(topic, topic_id, *columns)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> Records:
        return Records(
            self.topic,
            self.topic_id,
            self.partitions[rows],
            self.offsets[rows],
            self.broker_ms[rows],
            self.keys[rows],
            self.values[rows],
        )

    def take(self, rows: Sequence[int]) -> Records:
        """The messages in these rows."""
        return Records(
            self.topic,
            self.topic_id,
            [self.partitions[row] for row in rows],
            [self.offsets[row] for row in rows],
            [self.broker_ms[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
        )

    def key(self, row: int) -> bytes | None:
        """Of the message in this row."""
        return self.keys[row]

    def dead_letter(self, row: int, reason: str, detail: str) -> DeadLetter:
        """The message in `row`, put aside."""
        return DeadLetter(
            self.topic,
            self.topic_id,
            self.partitions[row],
            self.offsets[row],
            kinds.EPOCH + timedelta(milliseconds=self.broker_ms[row]),
            self.keys[row],
            self.values[row],
            reason,
            detail,
        )
