"""Reading one message strictly: the judge of what the bulk decoder doubts.

fastavro is lenient where the Avro specification is not: a negative index of a union counts from the end, any
byte is a boolean, a number of more than 64 bits loses the rest. So what it read is written again. Where the
bytes differ they are walked through by hand, because a long way to spell a number and an array in several
blocks are legal.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, Final, cast

import fastavro

from jobtrail.codec import HEADER_SIZE, WireSchema, read_body
from jobtrail.errors import BadMessageError

#: Bytes of the longest spelling of a 64-bit number.
LONGEST_NUMBER: Final = 10


def read_strictly(wire: WireSchema, framed: bytes) -> dict[str, Any]:
    """One message with its header, as field → value, instants as microseconds. Raises BadMessageError."""
    parsed = _parsed(wire)
    row = read_body(parsed, framed)
    again = io.BytesIO(wire.header)
    again.seek(HEADER_SIZE)
    fastavro.schemaless_writer(again, parsed.plain, row)
    if again.getvalue() != framed:
        _Walk(wire, framed).check()
    return row


_parsed_by_header: dict[bytes, WireSchema] = {}


def _parsed(wire: WireSchema) -> WireSchema:
    """With its plain schema parsed: else fastavro parses it for each message, at three times the cost."""
    if wire.header not in _parsed_by_header:
        plain = cast("dict[str, Any]", fastavro.parse_schema(wire.plain))
        _parsed_by_header[wire.header] = replace(wire, plain=plain)
    return _parsed_by_header[wire.header]


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
