"""Counters of one stream: callers add, cumulative StreamStats are published from time to time."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypedDict, Unpack, cast

from jobtrail.errors import UsageError
from jobtrail.events import Event, StreamEvent, StreamMetadata, StreamStats, StreamStatus, utc_now
from jobtrail.kinds import micros
from jobtrail.producers.facts import make


class Counters(TypedDict, total=False):
    """The counters of StreamStats, cumulative; None: not known."""

    records_emitted: int | None
    bytes_emitted: int | None
    state_messages_emitted: int | None
    records_committed: int | None
    bytes_committed: int | None
    records_rejected: int | None
    estimated_records: int | None
    estimated_bytes: int | None


COUNTERS: Final = frozenset(Counters.__annotations__)


class StreamReporter:
    """One stream of an attempt as one reporter sees it. Made by `Attempt.stream`; any thread may call it.

    A counter that was never touched is published as not known. Every method raises UsageError when the
    attempt has ended, or for a count that is no whole number from 0.
    """

    def __init__(self, about: StreamEvent, reporter: str, say: Callable[[Event], object]) -> None:
        self.namespace = about.stream_namespace
        self.name = about.stream_name
        self.reporter = reporter
        self._stream = about.model_dump(exclude={"event_id", "occurred_at"})
        self._say = say
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._changed = False
        self._sequence = 0
        self._ended: str | None = None

    def emitted(self, records: int | None = None, bytes: int | None = None) -> None:  # noqa: A002  # its unit
        """The source gave so many more records, whose data has so many bytes of UTF-8."""
        self._add("records_emitted", records, "bytes_emitted", bytes)

    def committed(self, records: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        """The destination confirmed so many more records and bytes."""
        self._add("records_committed", records, "bytes_committed", bytes)

    def rejected(self, records: int) -> None:
        """The destination refused so many more records."""
        self._add("records_rejected", records)

    def state(self, n: int = 1) -> None:
        """The source gave `n` more STATE messages."""
        self._add("state_messages_emitted", n)

    def estimate(self, records: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        """The source expects to give so many records and bytes in all; what is left out stays as it was."""
        known = {"estimated_records": records, "estimated_bytes": bytes}
        self._set({counter: count for counter, count in known.items() if count is not None})

    def replace(self, **counters: Unpack[Counters]) -> None:
        """Sets cumulative counters to absolute values (None: not known) instead of adding."""
        if unknown := counters.keys() - COUNTERS:
            raise UsageError(
                f"no such counter: {', '.join(sorted(unknown))}; known are {', '.join(sorted(COUNTERS))}"
            )
        self._set(cast("dict[str, int | None]", counters))

    def status(
        self, run_state: str, cause: str | None = None, quota_reset_at: datetime | None = None
    ) -> None:
        """The stream is now in `run_state` (a RunState), INCOMPLETE for `cause` (an IncompleteRunCause).

        `quota_reset_at`, with a time zone: when a RATE_LIMITED stream may go on.
        """
        self._say(
            make(
                StreamStatus,
                **self._stream,
                run_state=run_state,
                incomplete_run_cause=cause,
                quota_reset_at=quota_reset_at,
            )
        )

    def metadata(self, *, was_resumed: bool | None = None, was_backfilled: bool | None = None) -> None:
        """What is special about the stream in this attempt."""
        self._say(
            make(StreamMetadata, **self._stream, was_resumed=was_resumed, was_backfilled=was_backfilled)
        )

    def _add(self, one: str, count: int | None, other: str = "", other_count: int | None = None) -> None:
        with self._lock:
            if self._ended:
                raise UsageError(self._ended)
            counts = self._counts
            if count is not None:
                counts[one] = counts.get(one, 0) + _checked(one, count)
                self._changed = True
            if other_count is not None:
                counts[other] = counts.get(other, 0) + _checked(other, other_count)
                self._changed = True

    def _set(self, counts: dict[str, int | None]) -> None:
        known = {counter: _checked(counter, count) for counter, count in counts.items() if count is not None}
        with self._lock:
            if self._ended:
                raise UsageError(self._ended)
            kept = {counter: count for counter, count in self._counts.items() if counter not in counts}
            self._changed = self._changed or {**kept, **known} != self._counts
            self._counts = {**kept, **known}

    def take(self) -> StreamStats | None:
        """The counters as an event, when they changed since they were last taken."""
        with self._lock:
            if not self._changed:
                return None
            self._changed = False
            # Only grows, also over a restart of this process within an attempt.
            self._sequence = max(self._sequence + 1, micros(utc_now()))
            return make(
                StreamStats, **self._stream, reporter=self.reporter, sequence=self._sequence, **self._counts
            )

    def untake(self) -> None:
        """The event that was taken last did not get away: take again."""
        with self._lock:
            self._changed = True

    def end(self, why: str) -> None:
        """From now on every call raises UsageError with `why`."""
        with self._lock:
            self._ended = why


def _checked(counter: str, count: int) -> int:
    if type(count) is int and count >= 0:
        return count
    try:
        whole = operator.index(count)  # whole numbers of other libraries
    except TypeError:
        whole = -1
    if whole < 0:
        raise UsageError(f"{counter}: {count!r} is not a whole number from 0")
    return whole
