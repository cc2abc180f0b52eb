"""Many bodies of one schema at once, into columns.

Bodies end to end are the block of an Avro container file, and polars reads that without a Python object for
any value. Three things make it safe, each for the whole chunk at once:

- Boundaries. A malformed body would shift its neighbours unseen, so a seam follows each one: 16 random bytes,
  drawn for this chunk alone, and the header of the next message. It is read as a column and must be the same
  in every row.
- Spelling. polars is lenient: it takes long spellings of numbers, any byte for a boolean, and any index but 0
  of a union as the value. The sizes that a message's values have in their shortest spelling are added up;
  nothing can be shorter, so where the sum is the size of the message, every value is spelled so.
- Tags. With all sizes known, so is the place of every union's index and every boolean, and those bytes are
  looked at.

What does not pass is not wrong yet, only not proven: `jobtrail.strict` judges it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from jobtrail.wire import WireSchema

TAIL_SIZE: Final = 16
SEAM: Final = "_seam"
_VALUE: Final = "_value"
_INDEX: Final = "_index_"
_FLAG: Final = "_flag_"
#: Numbers from here on take ten bytes, the last of which has bits to spare.
DOUBTFUL_NUMBER: Final = 1 << 62
_SYNC: Final = b"jobtrail.consume"


class DoubtError(Exception):
    """The chunk is not proven to be well-formed."""


class BulkReader:
    """Reads chunks of messages of one schema; only schemas without lists."""

    def __init__(self, wire: WireSchema) -> None:
        self._header = wire.header
        self._columns = [_Column(part["name"], part["type"]) for part in wire.plain["fields"]]
        self._sizes = [column.size for column in self._columns]
        seam = {"type": "fixed", "name": "Seam", "size": TAIL_SIZE + len(wire.header)}
        self._file_head = _file_head(
            {**wire.plain, "fields": [*wire.plain["fields"], {"name": SEAM, "type": seam}]}
        )

    def read(self, values: Sequence[bytes]) -> pl.DataFrame:
        """One row for each message (with its header), one column for each field of the schema.

        Raises DoubtError where it cannot prove that the messages are well-formed.
        """
        tail = os.urandom(TAIL_SIZE)
        seam = tail + self._header
        # The first header goes and the one that the last seam promises comes: that saves a column.
        bodies = memoryview(tail.join(values))[len(self._header) :]
        size = _number(len(bodies) + len(seam))
        file = (self._file_head, _number(len(values)), size, bodies, seam, _SYNC)
        try:
            frame = pl.read_avro(io.BytesIO(b"".join(file)))
        except (PolarsError, PanicException, ValueError, OverflowError, MemoryError) as error:
            raise DoubtError(str(error)) from None
        if frame.height != len(values) or not frame.select((pl.col(SEAM) == pl.lit(seam)).all()).item():
            raise DoubtError("the seams are not where they belong")
        frame = frame.drop(SEAM)
        self._check_spelling(frame, pl.Series(_VALUE, values, dtype=pl.Binary))
        return frame

    def _check_spelling(self, frame: pl.DataFrame, values: pl.Series) -> None:
        for numbers in frame.select(pl.col(pl.Int64)).get_columns():
            low, high = numbers.min(), numbers.max()
            if low is not None and not 0 <= low <= high < DOUBTFUL_NUMBER:  # type: ignore[operator]
                raise DoubtError(f"a number in {numbers.name}")
        sizes = frame.select(self._sizes)
        place = pl.repeat(len(self._header), frame.height, dtype=pl.UInt32, eager=True)
        tags = [values]
        checks: list[pl.Expr] = []
        for column in self._columns:
            present = frame.height - frame[column.name].null_count()
            if column.nullable:
                if present:
                    # A null was read from a 0; all others must be 1, which the zigzag doubles.
                    tags.append(place.alias(_INDEX + column.name))
                    checks.append((_byte_at(_INDEX + column.name) == 2).sum() == present)
                place = place + 1
            if column.kind == "boolean" and present:
                tags += [place.alias(_FLAG + column.name), frame[column.name].cast(pl.UInt8)]
                # A null is equal to nothing and does not count.
                checks.append((_byte_at(_FLAG + column.name) == pl.col(column.name)).sum() == present)
            place = place + sizes[column.name]
        if not (place == values.bin.size()).all():
            raise DoubtError("a value is not in its shortest spelling")
        if checks and not pl.DataFrame(tags).select(pl.all_horizontal(checks)).item():
            raise DoubtError("a union's index or a boolean is neither 0 nor 1")


@dataclass(frozen=True, slots=True)
class _Column:
    """A field that is no list."""

    name: str
    type: Any

    @property
    def nullable(self) -> bool:
        return isinstance(self.type, list)

    @property
    def kind(self) -> str:
        return str(self.type[1] if self.nullable else self.type)

    @property
    def size(self) -> pl.Expr:
        """Bytes of the value in its shortest spelling, without the index of a union; 0 for a null."""
        column = pl.col(self.name)
        match self.kind:
            case "string":
                size = column.str.len_bytes()
                # Doubled by the zigzag, so one bit more than the number has; seven bits fit in a byte.
                bytes_ = size + (39 - size.bitwise_leading_zeros()) // 7
            case "long":
                bytes_ = (71 - column.bitwise_leading_zeros()) // 7
            case "boolean":
                bytes_ = column.is_not_null().cast(pl.UInt32)
            case _:
                bytes_ = column.is_not_null().cast(pl.UInt32) * 8
        return bytes_.fill_null(0).alias(self.name)


def _byte_at(place: str) -> pl.Expr:
    # A place beyond the end is null and equal to nothing.
    return pl.col(_VALUE).bin.get(pl.col(place), null_on_oob=True)


def _file_head(schema: dict[str, Any]) -> bytes:
    entries = {b"avro.schema": json.dumps(schema).encode(), b"avro.codec": b"null"}
    written = b"".join(
        _number(len(key)) + key + _number(len(value)) + value for key, value in entries.items()
    )
    return b"Obj\x01" + _number(len(entries)) + written + b"\0" + _SYNC


def _number(value: int) -> bytes:
    """A non-negative number as Avro spells it."""
    value <<= 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
