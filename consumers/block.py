"""A stretch of one partition as it lies in Kafka's record batches: no Python object for any message.

What is plainly good is read from here, in columns (`jobtrail.consumers.flat`). For all else there are
`Records`. The compiler is imported with the first block: most processes never see one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from jobtrail import kinds
from jobtrail.consumers.records import Records
from jobtrail.projections.dead_letter import DeadLetter

Integers = npt.NDArray[np.int64]

#: The least that a record takes: sizes, attributes, differences of time and offset, number of headers.
LEAST_RECORD: Final = 7
#: Bytes that a view of a text can point into (Arrow format, "Variable-size Binary View Layout").
MOST_BYTES: Final = 2**31 - 1


class BadBatchError(Exception):
    """A record batch is not what its header says."""


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """The records of one batch, and what its header says of all of them."""

    records: bytes | memoryview
    count: int
    first_offset: int
    #: Milliseconds since 1970.
    first_at: int
    #: The same, where the broker appended it and says when; else -1.
    appended_at: int


@dataclass(frozen=True, slots=True)
class Block:
    """Messages of one partition. Columns are arrays of equal length, in the order of the log."""

    topic: str
    topic_id: str
    partition: int
    #: With `compiled.PADDING` bytes behind the last message.
    buffer: npt.NDArray[np.uint8]
    offsets: Integers
    #: Milliseconds since 1970, as the broker appended them.
    broker_ms: Integers
    #: Places and sizes in the buffer; a size of -1 is null.
    values: Integers
    value_sizes: Integers
    keys: Integers
    key_sizes: Integers

    @classmethod
    def of(cls, topic: str, topic_id: str, partition: int, batches: Sequence[RecordBatch]) -> Self:
        """All records of these batches. Raises BadBatchError."""
        from jobtrail.consumers import compiled

        if any(not 0 <= one.count * LEAST_RECORD <= len(one.records) for one in batches):
            raise BadBatchError(f"topic {topic}, partition {partition}: a batch is too short for its records")
        sizes = np.array([len(one.records) for one in batches], np.int64)
        if sizes.sum() > MOST_BYTES:
            raise BadBatchError(f"topic {topic}, partition {partition}: {sizes.sum()} bytes are too many")
        parts = [*(one.records for one in batches), bytes(compiled.PADDING)]
        buffer = np.frombuffer(b"".join(parts), np.uint8)
        ends = np.cumsum(sizes)
        columns = np.empty((6, sum(one.count for one in batches)), np.int64)
        about = [(one.count, one.first_offset, one.first_at, one.appended_at) for one in batches]
        about_all = np.array(about, np.int64).reshape(len(batches), 4).T.copy()
        if compiled.walk(buffer, compiled.Batches(ends - sizes, ends, *about_all), columns) < 0:
            raise BadBatchError(f"topic {topic}, partition {partition}: a batch does not hold its records")
        return cls(topic, topic_id, partition, buffer, *columns)

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def next_offset(self) -> int:
        """The one after the last message."""
        return int(self.offsets[-1]) + 1

    def take(self, rows: npt.NDArray[Any] | list[int]) -> Self:
        """The messages in these rows, or where it is true."""
        columns = (self.offsets, self.broker_ms, self.values, self.value_sizes, self.keys, self.key_sizes)
        kept = (column[rows] for column in columns)
        return type(self)(self.topic, self.topic_id, self.partition, self.buffer, *kept)

    def key(self, row: int) -> bytes | None:
        """Of the message in this row."""
        return self._bytes(int(self.keys[row]), int(self.key_sizes[row]))

    def value(self, row: int) -> bytes | None:
        """Of the message in this row."""
        return self._bytes(int(self.values[row]), int(self.value_sizes[row]))

    def records(self) -> Records:
        """The same as Python objects."""
        rows = range(len(self))
        return Records(
            self.topic,
            self.topic_id,
            [self.partition] * len(self),
            self.offsets.tolist(),
            self.broker_ms.tolist(),
            [self.key(row) for row in rows],
            [self.value(row) for row in rows],
        )

    def dead_letter(self, row: int, reason: str, detail: str) -> DeadLetter:
        """The message in `row`, put aside."""
        at = kinds.EPOCH + timedelta(milliseconds=int(self.broker_ms[row]))
        place = self.topic, self.topic_id, self.partition, int(self.offsets[row])
        return DeadLetter(*place, at, self.key(row), self.value(row), reason, detail)

    def _bytes(self, at: int, size: int) -> bytes | None:
        return None if size < 0 else self.buffer[at : at + size].tobytes()
