"""Reading one message strictly: for whoever has one, and the judge of what the bulk decoder doubts.

fastavro is lenient where the Avro specification is not: a negative index of a union counts from the end, any
byte is a boolean, a number of more than 64 bits loses the rest. So what it read is written again. Where the
bytes differ they are walked through by hand, because a long way to spell a number and an array in several
blocks are legal.
"""

from __future__ import annotations

import io
from typing import Any, Final

import fastavro

from jobtrail.errors import BadMessageError
from jobtrail.wire import HEADER_SIZE, WireSchema

#: Bytes of the longest spelling of a 64-bit number.
LONGEST_NUMBER: Final = 10


def read_strictly(wire: WireSchema, framed: bytes) -> dict[str, Any]:
    """One message with its header, as field → value, instants as microseconds. Raises BadMessageError."""
    row = _read_body(wire, framed)
    again = io.BytesIO(wire.header)
    again.seek(HEADER_SIZE)
    fastavro.schemaless_writer(again, wire.readable, row)
    if again.getvalue() != framed:
        _Walk(wire, framed).check()
    return row


def _read_body(wire: WireSchema, framed: bytes) -> dict[str, Any]:
    """One body, to its last byte."""
    stream = io.BytesIO(framed)
    stream.seek(HEADER_SIZE)
    try:
        row = fastavro.schemaless_reader(stream, wire.readable, None)
    except UnicodeDecodeError as error:
        raise BadMessageError(
            "invalid_utf8", f"{error.reason} in a text of {wire.event_type.__name__}"
        ) from None
    except EOFError:
        raise BadMessageError(
            "truncated",
            f"the body of {wire.event_type.__name__} ends after {len(framed) - HEADER_SIZE} bytes",
        ) from None
    except (IndexError, ValueError, OverflowError, MemoryError, TypeError, KeyError) as error:
        raise BadMessageError("malformed", f"no {wire.event_type.__name__}: {error!r}") from None
    if extra := len(framed) - stream.tell():
        raise BadMessageError("trailing_bytes", f"{extra} bytes after the body of {wire.event_type.__name__}")
    return row  # type: ignore[return-value]  # the schema is a record


class _Walk:
    """One way through a body that fastavro could read to its end."""

    def __init__(self, wire: WireSchema, framed: bytes) -> None:
        self.event_name = wire.event_type.__name__
        self.schema = wire.plain
        self.data = framed
        self.at = HEADER_SIZE
        self.named: dict[str, Any] = {}

    def check(self) -> None:
        self._value(self.schema)
        if self.at != len(self.data):
            raise self._malformed("its parts do not fill it")

    def _value(self, schema: Any) -> None:
        match schema:
            case str(primitive) if primitive not in self.named:
                self._primitive(primitive)
            case str(name):
                self._record(self.named[name])
            case list():
                branch = self._number()
                if not 0 <= branch < len(schema):
                    raise self._malformed(f"a union has no branch {branch}")
                self._value(schema[branch])
            case {"type": "array"}:
                self._array(schema["items"])
            case _:
                self.named[schema["name"]] = schema
                self._record(schema)

    def _primitive(self, name: str) -> None:
        match name:
            case "long":
                self._number()
            case "string":
                self._skip(self._number())
            case "double":
                self._skip(8)
            case "boolean":
                self._skip(1)
                if (byte := self.data[self.at - 1]) > 1:
                    raise self._malformed(f"a boolean is the byte {byte:#04x}")

    def _record(self, schema: Any) -> None:
        for field in schema["fields"]:
            self._value(field["type"])

    def _array(self, items: Any) -> None:
        while count := self._number():
            if count < 0:
                # The size in bytes follows, for those who want to skip the block.
                size, start = self._number(), self.at
                self._items(items, -count)
                if self.at != start + size:
                    raise self._malformed("the block of an array has another size than it says")
            else:
                self._items(items, count)

    def _items(self, items: Any, count: int) -> None:
        for _ in range(count):
            self._value(items)

    def _number(self) -> int:
        bits = 0
        for place in range(LONGEST_NUMBER):
            self._skip(1)
            byte = self.data[self.at - 1]
            bits |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                break
        else:
            raise self._malformed("a number has more than ten bytes")
        if bits >= 1 << 64:
            raise self._malformed("a number has more than 64 bits")
        return (bits >> 1) ^ -(bits & 1)

    def _skip(self, size: int) -> None:
        self.at += size
        if size < 0 or self.at > len(self.data):
            raise self._malformed("a length points out of it")

    def _malformed(self, found: str) -> BadMessageError:
        return BadMessageError("malformed", f"no {self.event_name}: {found} (byte {self.at})")
