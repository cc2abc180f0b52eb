"""Many messages of one schema at once, into columns.

pyruhvro reads each message by itself, without a Python object for any value, so a malformed one cannot shift
its neighbours. It refuses a message that ends too early, a length below zero, and an index of a union or a
boolean that is neither 0 nor 1. What it lets pass is looked for here, in the whole chunk at once:

- Texts. Bytes that are no UTF-8: Arrow's full validation finds them, before anything reads a text.
- Spelling. Long spellings of numbers and lists, bits of a number beyond the 64th, bytes after the last field.
  The sizes that the values have in their shortest spelling are added up. No message can be shorter, so where
  the sum is the size of all messages, each is spelled so, to its last byte.

Two things must hold for that. Nothing else is as short: a list is shortest as one block and its end; several
blocks of positive counts may be as short, and are legal; a block that says its size in bytes makes it longer.
And no value was read as another of the same size: only the tenth byte of a number has bits to lose, so those
that need it, from 2^62 on and below -2^62, prove nothing, nor does any other number below zero.

What does not pass is not wrong yet, only not proven: `jobtrail.strict` judges it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, Final

import polars as pl
from pyruhvro import deserialize_array

from jobtrail.wire import WireSchema

#: The header as two more fields: the marker is spelled like a number, the fingerprint fills a double.
HEADER: Final = ({"name": "_marker", "type": "long"}, {"name": "_fingerprint", "type": "double"})
#: Numbers from here on take ten bytes, the last of which has bits to spare.
DOUBTFUL_NUMBER: Final = 1 << 62


class DoubtError(Exception):
    """The chunk is not proven to be well-formed."""


class BulkReader:
    """Reads chunks of messages of one schema."""

    def __init__(self, wire: WireSchema) -> None:
        # A record that is named a second time is outside of pyruhvro's fast path.
        self._fields = _spelled_out(wire.plain)["fields"]
        self._schema = json.dumps({**wire.plain, "fields": [*HEADER, *self._fields]})
        self._names = [field["name"] for field in self._fields]
        self._header_size = len(wire.header)

    def read(self, values: list[bytes], size: int) -> pl.DataFrame:
        """One row for each message (with its header), one column for each field of the schema.

        `size` is that of all messages together, in bytes. Raises DoubtError where it cannot prove that they
        are well-formed.
        """
        try:
            batch = deserialize_array(values, self._schema)
            batch.validate(full=True)
        except (ValueError, OverflowError, MemoryError) as error:
            raise DoubtError(str(error)) from None
        except BaseException as error:
            # Each Rust extension has a class of its own for its panics, and that cannot be imported.
            if type(error).__name__ != "PanicException":
                raise
            raise DoubtError(str(error)) from None
        frame = pl.DataFrame(batch)[self._names]
        if _Shortest(self._fields, frame).size + self._header_size * len(values) != size:
            raise DoubtError("a value is not in its shortest spelling, or something follows the last one")
        return frame


class _Shortest:
    """The bytes that a frame takes in the shortest spelling of each value; nulls have no value.

    The numbers of all columns are looked at together: a call costs as much as some thousand numbers.
    """

    def __init__(self, fields: Sequence[dict[str, Any]], frame: pl.DataFrame) -> None:
        self.size = 0
        self._numbers: list[pl.Series] = []
        self._texts: list[pl.Series] = []
        for field in fields:
            self._add(field["type"], frame[field["name"]], frame.height)
        if self._texts:
            lengths = pl.concat(self._texts, rechunk=False).str.len_bytes().cast(pl.Int64)
            self.size += int(lengths.sum()) + _shortest(lengths)
        if self._numbers:
            self.size += _shortest(pl.concat(self._numbers, rechunk=False))

    def _add(self, schema: Any, column: pl.Series, rows: int) -> None:
        """Adds a column of so many rows, those that are null because what holds them is left out."""
        match schema:
            case ["null", inner]:
                self.size += rows  # the index of the union
                self._add(inner, column, rows - column.null_count())
            case {"type": "array", "items": items}:
                self.size += rows  # the end of each list
                counts = column.list.len().cast(pl.Int64)
                if held := int(counts.sum()):
                    filled = counts > 0
                    self._numbers.append(counts.filter(filled))
                    self._add(items, column.filter(filled).explode(), held)
            case {"type": "record", "fields": fields}:
                parts = column.struct.unnest()
                for field in fields:
                    self._add(field["type"], parts[field["name"]], rows)
            case "long":
                self._numbers.append(column)
            case "string":
                self._texts.append(column)
            case _:
                self.size += rows * _FIXED[schema]


_FIXED: Final = {"boolean": 1, "double": 8}


def _shortest(numbers: pl.Series) -> int:
    """Bytes of numbers in their shortest spelling. Raises DoubtError for those that prove nothing."""
    least, most = numbers.min(), numbers.max()
    if least is None:
        return 0
    count = len(numbers) - numbers.null_count()
    if not 0 <= least <= most < DOUBTFUL_NUMBER:  # type: ignore[operator]
        raise DoubtError("a number is below zero, or may have lost bits")
    # Doubled by the zigzag, so one bit more than the number has; seven bits fit in a byte.
    return count if most < 64 else int(((71 - numbers.bitwise_leading_zeros()) // 7).sum())  # type: ignore[operator]


def _spelled_out(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with each record in full, under a name of its own, wherever it is named."""
    records: dict[str, Any] = {}
    numbers = itertools.count()

    def walk(part: Any) -> Any:
        match part:
            case {"type": "record"}:
                records[part["name"]] = part
                fields = [{**field, "type": walk(field["type"])} for field in part["fields"]]
                return {**part, "name": f"{part['name']}_{next(numbers)}", "fields": fields}
            case {"type": "array"}:
                return {**part, "items": walk(part["items"])}
            case list():
                return [walk(branch) for branch in part]
            case _:
                return walk(records[part]) if part in records else part

    found: dict[str, Any] = walk(schema)
    return found
