"""The data files of an archive: Avro container files that hold every part of a message.

Headers are an array that is preceded by its size in bytes, as Avro allows, so that a reader that does not
need them passes over them at once (1.2 times as fast). A block is deflated at level 1, which every reader of
Avro must know, and inflated here, which is 1.4 times as fast as within polars.

Measured on one core, StreamStats of 114 bytes with five headers of the SDK: 1,100,000 messages/s are read
back into `Records`, sums checked, from 52 bytes each (306 before they are deflated). zstandard would give
1,450,000 from 44 bytes and snappy 1,650,000 from 69, but each needs one more package; fastavro gives 66,000.
Writing is slower, 190,000 messages/s, and needs to keep up with producers only.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl
from confluent_kafka import Message
from polars.exceptions import PanicException, PolarsError

#: A block ends after so many messages, or so many bytes of them.
BLOCK_MESSAGES: Final = 10_000
BLOCK_BYTES: Final = 4_000_000
#: What a reading of the files may need, in the order of the schema.
COLUMNS: Final = ("offset", "broker_ms", "key", "value")

_LEVEL: Final = 1
_RAW: Final = -zlib.MAX_WBITS
_SYNC_SIZE: Final = 16
_NULL: Final = b"\0"
_VALUE: Final = b"\2"
#: Of an array.
_END: Final = b"\0"
_FAILURES: Final = (PolarsError, PanicException, zlib.error, ValueError, IndexError, OverflowError)


class MalformedError(Exception):
    """The bytes are no data file of an archive; says what was found."""


#: Fourteen bits of a number at a time: what comes before others, and what comes last.
_PAIRS: Final = tuple(bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80)) for bits in range(1 << 14))
_LAST: Final = tuple(bytes((bits,)) for bits in range(1 << 7))


def number(value: int) -> bytes:
    """A number as Avro spells it."""
    bits = (value << 1) ^ (value >> 63)
    if bits < 0x80:
        return _LAST[bits]
    out = b""
    while bits >= 0x4000:
        out += _PAIRS[bits & 0x3FFF]
        bits >>= 14
    return out + (_LAST[bits] if bits < 0x80 else bytes((bits & 0x7F | 0x80, bits >> 7)))


#: Most sizes are small.
_SIZES: Final = tuple(map(number, range(4096)))


_HEADER: Final = {
    "type": "record",
    "name": "Header",
    "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": ["null", "bytes"]}],
}
SCHEMA: Final = {
    "type": "record",
    "name": "Message",
    "namespace": "jobtrail.archive",
    "fields": [
        {"name": "offset", "type": "long"},
        {"name": "broker_ms", "type": "long", "doc": "when the broker appended it, in ms since 1970 (UTC)"},
        {"name": "key", "type": ["null", "bytes"]},
        {"name": "value", "type": ["null", "bytes"]},
        {"name": "headers", "type": {"type": "array", "items": _HEADER}},
    ],
}


def _head(codec: bytes) -> bytes:
    entries = {b"avro.schema": json.dumps(SCHEMA).encode(), b"avro.codec": codec}
    pairs = (number(len(key)) + key + number(len(value)) + value for key, value in entries.items())
    return b"Obj\x01" + number(len(entries)) + b"".join(pairs) + b"\0"


#: How every file begins; 16 random bytes follow, which also end each block.
HEAD: Final = _head(b"deflate")
_BARE_SYNC: Final = b"jobtrail.archive"
_BARE_HEAD: Final = _head(b"null") + _BARE_SYNC


class FileWriter:
    """Builds one file in memory."""

    def __init__(self) -> None:
        self._sync = os.urandom(_SYNC_SIZE)
        self._blocks = [HEAD, self._sync]
        self._parts: list[bytes] = []
        self._bytes_in_block = 0
        #: The last time of a broker, in ms, and as it is written.
        self._at, self._at_written = 0, _NULL
        #: Header's name → its last value, and both as they are written: most say the same again and again.
        self._headers: dict[str, tuple[bytes | None, bytes]] = {}
        self.messages = 0
        #: Bytes of the blocks so far, before they were deflated.
        self.bytes = 0

    def add(self, messages: Sequence[Message]) -> None:
        """Takes messages in the order of the log; None of them is an error."""
        for message in messages:
            written = self._written(message)
            self._parts.append(written)
            self._bytes_in_block += len(written)
            if len(self._parts) == BLOCK_MESSAGES or self._bytes_in_block >= BLOCK_BYTES:
                self._end_block()
        self.messages += len(messages)

    def finish(self) -> bytes:
        """The file."""
        self._end_block()
        return b"".join(self._blocks)

    def _written(self, message: Message) -> bytes:
        at = message.timestamp()[1]
        if at != self._at:
            self._at, self._at_written = at, number(at)
        parts = [number(message.offset() or 0), self._at_written]
        for content in (message.key(), message.value()):
            if content is None:
                parts.append(_NULL)
            else:
                parts += (_VALUE, _size(content), content)
        # As a consumer gives them.
        headers: list[tuple[str, bytes | None]] | None = message.headers()  # type: ignore[assignment]
        if headers:
            items = b"".join([self._header(name, value) for name, value in headers])
            # A number below zero says that the size in bytes follows.
            parts += (number(-len(headers)), _size(items), items, _END)
        else:
            parts.append(_END)
        return b"".join(parts)

    def _header(self, name: str, value: bytes | None) -> bytes:
        last = self._headers.get(name)
        if last is not None and last[0] == value:
            return last[1]
        spelled = name.encode()
        written = _size(spelled) + spelled + (_NULL if value is None else _VALUE + _size(value) + value)
        self._headers[name] = value, written
        return written

    def _end_block(self) -> None:
        if self._parts:
            deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
            body = deflate.compress(b"".join(self._parts)) + deflate.flush()
            self._blocks += (number(len(self._parts)), number(len(body)), body, self._sync)
            self._parts.clear()
            self.bytes += self._bytes_in_block
            self._bytes_in_block = 0


def _size(content: bytes) -> bytes:
    size = len(content)
    return _SIZES[size] if size < len(_SIZES) else number(size)


def frames(data: bytes, columns: Sequence[str] = COLUMNS) -> Iterator[pl.DataFrame]:
    """The messages of a file as columns, block by block: larger pieces leave the caches of the processor.

    Raises MalformedError.
    """
    try:
        for count, deflated in _blocks(data):
            body = zlib.decompress(deflated, _RAW)
            file = (_BARE_HEAD, number(count), number(len(body)), body, _BARE_SYNC)
            frame = pl.read_avro(io.BytesIO(b"".join(file)), columns=list(columns))
            if frame.height != count:
                raise ValueError(f"a block says that it has {count:,} messages, and has {frame.height:,}")
            yield frame
    except _FAILURES as error:
        raise MalformedError(str(error)) from None


def _blocks(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """(messages, what they were deflated to) of each block."""
    at = len(HEAD) + _SYNC_SIZE
    if not data.startswith(HEAD) or len(data) < at:
        raise ValueError("it does not begin as a data file of an archive does")
    sync, view = data[len(HEAD) : at], memoryview(data)
    while at < len(data):
        count, at = _number_at(data, at)
        size, at = _number_at(data, at)
        body, at = view[at : at + size], at + size
        if size < 0 or count <= 0 or data[at : at + _SYNC_SIZE] != sync:
            raise ValueError("a block does not end where it says")
        at += _SYNC_SIZE
        yield count, body


def _number_at(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where it ends."""
    bits = shift = 0
    while True:
        byte = data[at]
        at += 1
        bits |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (bits >> 1) ^ -(bits & 1), at
        shift += 7
