"""The disk spool: events on their way, so that they outlive the process that emitted them.

A segment is a file of records, appended one after the other; who writes it holds its lock. It goes once Kafka
has confirmed all that is in it. A segment whose lock is free was left by a process that is no more:
`jobtrail spool send` delivers it. Sending an event twice does no harm, so nothing is marked as sent.

A record is the length of its body and its CRC-32, 4 bytes each, little-endian, then the body: MessagePack of
(topic, key, value, headers). A record that a crash has torn ends its segment.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from jobtrail.errors import JobtrailError

Header = tuple[str, str | bytes | None]

#: Bytes of a segment after which the next one begins.
SEGMENT: Final = 4 * 1024 * 1024
SUFFIX: Final = ".events"
#: Files that are made for a segment, until one is found that nobody else has locked at once.
_TRIES: Final = 20
_FRAME: Final = struct.Struct("<II")
#: Longer than any record is; a length beyond it was torn.
_LONGEST: Final = 64 * 1024 * 1024
_numbers: Final = itertools.count(1)


class SpoolError(JobtrailError):
    """The spool cannot take an event; says which file and why."""


#: One event as Kafka gets it: topic, key, value, headers.
Record = tuple[str, bytes, bytes, list[Header]]


def folder_of(home: Path) -> Path:
    """Where the segments of all processes are."""
    return home / "spool"


def packed(record: Record) -> bytes:
    """A record as it stands in a segment."""
    body = msgspec.msgpack.encode(record)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def records(file: BinaryIO, at: int = 0) -> Iterator[tuple[Record, int]]:
    """The records from a place on, each with the place behind it, up to the end or the first that is torn."""
    file.seek(at)
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(head)
        body = file.read(length) if 0 < length <= _LONGEST else b""
        if not body or len(body) < length or zlib.crc32(body) != checksum:
            return
        at += _FRAME.size + length
        topic, key, value, headers = msgspec.msgpack.decode(body)
        yield (topic, key, value, [(name, told) for name, told in headers]), at


class Segment:
    """A file that this process writes. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in reversed(range(_TRIES)):
            self.path = folder / f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}{SUFFIX}"
            self.descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | _BINARY, 0o600
            )
            try:
                lock(self.descriptor)
                break
            except OSError:  # who lists the spool, or sends it, was quicker: the file is theirs
                self.close(delete=True)
                if not left:
                    raise
        self.size = 0
        #: Bytes of it that are known to be on the disk itself.
        self.synced = 0

    def write(self, record: bytes) -> None:
        """Appends a packed record, whole or not at all. Raises OSError."""
        if os.write(self.descriptor, record) < len(record):
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += len(record)

    def cut(self, size: int) -> None:
        """Removes what was written behind a place."""
        os.ftruncate(self.descriptor, size)
        self.size = size

    def sync(self) -> None:
        """Makes what is written outlive the machine. Raises OSError."""
        size = self.size
        if size > self.synced:
            os.fsync(self.descriptor)
            self.synced = size

    def close(self, *, delete: bool) -> None:
        """Gives the lock back; the file stays for `jobtrail spool send`, or goes."""
        os.close(self.descriptor)
        if delete:
            with contextlib.suppress(OSError):
                self.path.unlink()


class Place(NamedTuple):
    """Of a record: the number of its segment, and the byte where it begins."""

    segment: int
    at: int


class Spool:
    """The segments of one publisher, oldest first. Not thread-safe."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self._limit = limit
        self._segments: dict[int, Segment] = {}
        self._current = 0

    @property
    def size(self) -> int:
        """Bytes in all segments."""
        return sum(segment.size for segment in self._segments.values())

    def write(self, record: Record) -> Place:
        """Appends it: from then on it outlives this process. Raises SpoolError."""
        data = packed(record)
        if self.size + len(data) > self._limit:
            raise SpoolError(
                f"the spool {self.folder} is full: {self.size:,} of {self._limit:,} bytes"
                " (JOBTRAIL_SPOOL_LIMIT)"
            )
        try:
            segment = self._segments.get(self._current)
            if segment is None or segment.size >= SEGMENT:
                self._current += 1
                segment = self._segments[self._current] = Segment(self.folder)
            place = Place(self._current, segment.size)
            segment.write(data)
        except OSError as error:
            raise SpoolError(
                f"the spool {self.folder} takes nothing: {error.strerror or error} (JOBTRAIL_HOME)"
            ) from error
        return place

    def take_back(self, place: Place) -> None:
        """Removes the last record, which was written there."""
        self._segments[place.segment].cut(place.at)

    def sync(self) -> None:
        """Makes what is written outlive the machine. Raises SpoolError."""
        try:
            for segment in list(self._segments.values()):
                segment.sync()
        except OSError as error:
            raise SpoolError(
                f"the spool {self.folder} is not safe: {error.strerror or error} (JOBTRAIL_HOME)"
            ) from error

    def read(self, place: Place) -> Iterator[tuple[Record, Place, Place]]:
        """The records from a place on, each with its own place and the one behind it."""
        for number in [number for number in self._segments if number >= place.segment]:
            at = place.at if number == place.segment else 0
            with self._segments[number].path.open("rb") as file:
                for record, behind in records(file, at):
                    yield record, Place(number, at), Place(number, behind)
                    at = behind

    def drop_before(self, number: int) -> None:
        """Deletes older segments: Kafka has what is in them."""
        for old in [old for old in self._segments if old < number]:
            self._segments.pop(old).close(delete=True)

    def drop_all(self) -> None:
        """Kafka has everything."""
        self.drop_before(self._current + 1)

    def leave(self) -> None:
        """Closes what is there, and lets it lie for `jobtrail spool send`."""
        for segment in self._segments.values():
            segment.close(delete=segment.size == 0)
        self._segments.clear()

    def disown(self) -> None:
        """For the child after a fork: the files are the parent's."""
        for segment in self._segments.values():
            with contextlib.suppress(OSError):
                os.close(segment.descriptor)
        self._segments.clear()


if sys.platform == "win32":
    import msvcrt

    _BINARY = os.O_BINARY
    #: A byte that no record reaches: Windows locks bytes, and keeps others from reading them.
    _LOCKED = 2**62

    def lock(descriptor: int) -> None:
        """Takes the lock of an open file. Raises OSError where another process has it."""
        os.lseek(descriptor, _LOCKED, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    _BINARY = 0

    def lock(descriptor: int) -> None:
        """Takes the lock of an open file. Raises OSError where another process has it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
