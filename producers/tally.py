"""Counts of what connectors print, pure: lines in, cumulative counters per stream out.

The platform counts each record between source and destination, and takes as committed what the
destination confirms: a state that it gives back means that all records before that state are written
(Airbyte protocol, "State & Checkpointing"). A destination may skip states; a later one confirms the earlier.
States are matched by what they say, in order, within their stream (STREAM) or over all (GLOBAL, LEGACY).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from jobtrail.producers import protocol
from jobtrail.producers.protocol import Message, State, Stream


@dataclass(slots=True)
class Counts:
    """Of one stream, cumulative since the attempt's start; None: not known."""

    records: int = 0
    #: UTF-8 length of the records' data, as printed.
    bytes: int = 0
    #: STATE messages of the source.
    states: int = 0
    committed_records: int | None = None
    committed_bytes: int | None = None
    estimated_records: int | None = None
    estimated_bytes: int | None = None
    #: Records that the source says it gave (sourceStats).
    said_by_source: int | None = None
    #: Records that the destination says it wrote, and refused (destinationStats).
    said_by_destination: int | None = None
    rejected: int | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """A line that is neither record nor state: where it stood, and its message if it is one."""

    index: int
    line: bytes
    message: Message | None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A state of the source that waits for the destination, with the counts up to it."""

    digest: bytes
    upto: dict[Stream, tuple[int, int]]


class Tally:
    """Takes the lines of a source and of a destination, from two threads if need be."""

    def __init__(self, *, with_destination: bool = False) -> None:
        """Without a destination nothing is known of what is committed."""
        self.with_destination = with_destination
        #: Lines that are no message of the protocol.
        self.malformed = 0
        #: States of the destination that the source never gave; they commit nothing.
        self.unmatched_states = 0
        #: Records expected by the whole sync, where a source cannot say it by stream.
        self.sync_estimate: int | None = None
        self._counts: dict[Stream, Counts] = {}
        self._pending: dict[Stream | None, deque[_Pending]] = {}
        self._lock = threading.Lock()

    def source(self, lines: Iterable[bytes]) -> list[Rest]:
        """Counts lines of a source; gives back those that are neither record nor state."""
        rest: list[Rest] = []
        decode, known = protocol.decode, self._counts
        with self._lock:
            for index, line in enumerate(lines):
                message = decode(line)
                if message and (record := message.record) and message.type == "RECORD":
                    # A plain tuple equals the Stream, and costs a third of it.
                    counts = known.get((record.stream, record.namespace))  # type: ignore[call-overload]
                    if counts is None:
                        counts = self._of(Stream(record.stream, record.namespace or None))
                    counts.records += 1
                    counts.bytes += len(memoryview(record.data))
                elif not self._took(line, message, self._source_state):
                    rest.append(Rest(index, line, message))
        return rest

    def destination(self, lines: Iterable[bytes]) -> list[Rest]:
        """Counts lines of a destination; gives back those that are no states."""
        rest: list[Rest] = []
        with self._lock:
            for index, line in enumerate(lines):
                message = protocol.decode(line)
                if not self._took(line, message, self._destination_state):
                    rest.append(Rest(index, line, message))
        return rest

    def estimate(self, estimate: protocol.Estimate) -> None:
        """Takes a source's TRACE ESTIMATE."""
        with self._lock:
            if estimate.type == "STREAM" and estimate.name is not None:
                counts = self._of(Stream(estimate.name, estimate.namespace or None))
                counts.estimated_records = estimate.row_estimate
                counts.estimated_bytes = estimate.byte_estimate
            elif estimate.type == "SYNC":
                self.sync_estimate = estimate.row_estimate

    def snapshot(self) -> dict[Stream, Counts]:
        """A copy of all counters."""
        with self._lock:
            return {stream: replace(counts) for stream, counts in self._counts.items()}

    def _of(self, stream: Stream) -> Counts:
        counts = self._counts.get(stream)
        if counts is None:
            known = 0 if self.with_destination else None
            counts = self._counts[stream] = Counts(committed_records=known, committed_bytes=known)
        return counts

    def _took(self, line: bytes, message: Message | None, on_state: Callable[[State], None]) -> bool:
        """Whether the line needs nobody else: a state, now counted, or blank."""
        if message is None:
            blank = not line.strip()
            self.malformed += not blank
            return blank
        if message.type != "STATE":
            self.malformed += message.type == "RECORD"
            return False
        state = protocol.state_of(message)
        if state is None:
            self.malformed += 1
            return False
        on_state(state)
        return True

    def _source_state(self, state: State) -> None:
        streams = state.streams or tuple(self._counts)
        for stream in streams:
            self._of(stream).states += 1
        if len(streams) == 1:
            counts = self._of(streams[0])
            counts.said_by_source = _plus(counts.said_by_source, state.source_records)
        if self.with_destination:
            # A GLOBAL or LEGACY state stands for all before it, of streams that it does not name too.
            held = streams if state.of_one_stream else tuple(self._counts)
            upto = {stream: self._of(stream) for stream in held}
            marks = {stream: (counts.records, counts.bytes) for stream, counts in upto.items()}
            self._queue(state).append(_Pending(state.digest, marks))

    def _destination_state(self, state: State) -> None:
        if len(state.streams) == 1:
            counts = self._of(state.streams[0])
            counts.said_by_destination = _plus(counts.said_by_destination, state.destination_records)
            counts.rejected = _plus(counts.rejected, state.rejected_records)
        queue = self._queue(state)
        if not any(pending.digest == state.digest for pending in queue):
            self.unmatched_states += 1
            return
        while True:
            pending = queue.popleft()
            for stream, (records, size) in pending.upto.items():
                counts = self._of(stream)
                counts.committed_records = max(counts.committed_records or 0, records)
                counts.committed_bytes = max(counts.committed_bytes or 0, size)
            if pending.digest == state.digest:
                return

    def _queue(self, state: State) -> deque[_Pending]:
        return self._pending.setdefault(state.streams[0] if state.of_one_stream else None, deque())


def _plus(sum_so_far: int | None, more: int | None) -> int | None:
    """A sum in which not known is nothing; not known if all are."""
    return sum_so_far if more is None else (sum_so_far or 0) + more
