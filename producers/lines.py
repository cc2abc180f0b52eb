"""Chunks of bytes into lines, with bounded memory."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Bytes; a longer line is passed on, counted as unparsed, and never held.
LINE_LIMIT: Final = 16 * 1024 * 1024


class Split(NamedTuple):
    """What one chunk completed; the parts in the order in which they came."""

    #: Rest of a line over the limit.
    before: bytes
    #: Complete lines, without their ends.
    lines: list[bytes]
    #: Start of a line over the limit.
    after: bytes


class Lines:
    """Splits at line feeds only; a carriage return stays, JSON takes it for white space."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self.limit = limit
        #: Lines over the limit.
        self.oversized = 0
        self._held: list[bytes] = []
        self._held_size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> Split:
        """Takes the next bytes; what is after the last line feed is held for the next call."""
        before = b""
        if self._skipping:
            end = chunk.find(b"\n") + 1
            if not end:
                return Split(chunk, [], b"")
            self._skipping = False
            before, chunk = chunk[:end], chunk[end:]
        end = chunk.rfind(b"\n")
        lines: list[bytes] = []
        if end >= 0:
            self._held.append(chunk[:end])
            lines = b"".join(self._held).split(b"\n")
            self._held.clear()
            self._held_size = 0
        if rest := chunk[end + 1 :]:
            self._held.append(rest)
            self._held_size += len(rest)
        return Split(before, lines, self._overflow())

    def _overflow(self) -> bytes:
        if self._held_size <= self.limit:
            return b""
        self.oversized += 1
        self._skipping = True
        return self.finish()

    def finish(self) -> bytes:
        """The last line, if it had no end."""
        last = b"".join(self._held)
        self._held.clear()
        self._held_size = 0
        return last
