"""What windows need to know of a job and of a stream: facts that are functions of the set of its events.

Each fact is the earliest or the latest by a total order, or the latest within a slot, so that folding is
associative, commutative and idempotent. Facts are kept as bytes between folds: what a worker has in memory is
what its changelog has, and a fold that is given up leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from jobtrail import events as e
from jobtrail.kinds import micros

#: Microseconds: time is cut into slots of five minutes since 1970.
SLOT: Final = 300_000_000

T = TypeVar("T")


#: Not null, so that any two points can be compared.
UNKNOWN: Final = -1


class Mark(NamedTuple):
    """When something happened, by which event: microseconds since 1970 and the event's id."""

    at: int
    event_id: str


class Why(NamedTuple):
    """The earliest Failure without a stream."""

    at: int
    event_id: str
    origin: str | None
    failure_type: str | None


class Named(NamedTuple):
    """The earliest JobCreated that names a connection, or AttemptStarted that names its connectors."""

    at: int
    event_id: str
    first: str | None
    second: str | None = None


class Status(NamedTuple):
    """The latest StreamStatus of a slot."""

    at: int
    event_id: str
    run_state: str


class Point(NamedTuple):
    """The newest StreamStats of a slot."""

    sequence: int
    event_id: str
    #: Records and bytes emitted, records and bytes committed; UNKNOWN where it does not say.
    counters: tuple[int, int, int, int]


S = TypeVar("S", Status, Point)


class AttemptFacts(msgspec.Struct, array_like=True):
    """What is known of an attempt."""

    first_heard: int
    #: Slot of its latest event.
    heard: int
    started: Mark | None = None
    named: Named | None = None
    succeeded: Mark | None = None
    failed: Mark | None = None
    cancelled: Mark | None = None
    failure: Why | None = None

    @property
    def source(self) -> str | None:
        """The source connector."""
        return self.named.first if self.named else None

    @property
    def destination(self) -> str | None:
        """The destination connector."""
        return self.named.second if self.named else None


class JobFacts(msgspec.Struct, array_like=True):
    """What is known of a job."""

    #: Hours since 1970 by the broker: of its newest message.
    received: int = 0
    created: Named | None = None
    failed: Mark | None = None
    cancelled: Mark | None = None
    attempts: dict[int, AttemptFacts] = {}
    #: Slot, by the broker's clock → messages that count nowhere, and the offset of the last of them.
    refused: dict[int, tuple[int, int]] = {}

    @property
    def connection_id(self) -> str | None:
        """The connection, once a JobCreated told it."""
        return self.created.first if self.created else None


class StreamFacts(msgspec.Struct, array_like=True):
    """What is known of a stream of an attempt."""

    #: Hours since 1970 by the broker: of the newest message of the stream.
    received: int = 0
    #: Slot → the latest status in it.
    statuses: dict[int, Status] = {}
    #: Reporter → slot → the newest counters in it.
    stats: dict[str, dict[int, Point]] = {}

    def forget(self, before: int) -> None:
        """Leaves of all slots before this one what their latest said, in the last of them.

        Windows from there on come out the same.
        """
        _forget(self.statuses, before)
        for points in self.stats.values():
            _forget(points, before)


def _forget(kept: dict[int, S], before: int) -> None:
    old = [slot for slot in kept if slot < before]
    if len(old) > 1:
        newest = max(kept[slot] for slot in old)
        last = max(old)
        for slot in old:
            del kept[slot]
        kept[last] = newest


def fold_job(job: JobFacts, event: e.JobEvent) -> None:
    """Brings an event into what is known of its job."""
    mark = Mark(micros(event.occurred_at), event.event_id)
    match event:
        case e.JobCreated():
            job.created = _first(job.created, Named(*mark, event.connection_id))
        case e.JobFailed():
            job.failed = _first(job.failed, mark)
        case e.Cancelled(attempt_number=None):
            job.cancelled = _first(job.cancelled, mark)
    number: int | None = getattr(event, "attempt_number", None)
    if number is not None:
        _fold_attempt(job.attempts, number, event, mark)


def _fold_attempt(attempts: dict[int, AttemptFacts], number: int, event: e.JobEvent, mark: Mark) -> None:
    slot = mark.at // SLOT
    attempt = attempts.setdefault(number, AttemptFacts(mark.at, slot))
    attempt.first_heard = min(attempt.first_heard, mark.at)
    attempt.heard = max(attempt.heard, slot)
    match event:
        case e.AttemptStarted():
            attempt.started = _first(attempt.started, mark)
            if event.source_image is not None or event.destination_image is not None:
                named = Named(*mark, event.source_image, event.destination_image)
                attempt.named = _first(attempt.named, named)
        case e.AttemptSucceeded():
            attempt.succeeded = _first(attempt.succeeded, mark)
        case e.AttemptFailed():
            attempt.failed = _first(attempt.failed, mark)
        case e.Cancelled():
            attempt.cancelled = _first(attempt.cancelled, mark)
        case e.Failure(stream_name=None):
            why = Why(*mark, event.failure_origin, event.failure_type)
            attempt.failure = _first(attempt.failure, why)


def fold_stream(stream: StreamFacts, event: e.StreamEvent) -> None:
    """Brings an event of a stream into what is known of it."""
    at = micros(event.occurred_at)
    match event:
        case e.StreamStatus():
            status = Status(at, event.event_id, event.run_state)
            _keep(stream.statuses, at // SLOT, status)
        case e.StreamStats():
            _keep(stream.stats.setdefault(event.reporter, {}), at // SLOT, point_of(event))


def point_of(event: e.StreamStats) -> Point:
    """The counters of a StreamStats."""
    counters = (
        _known(event.records_emitted),
        _known(event.bytes_emitted),
        _known(event.records_committed),
        _known(event.bytes_committed),
    )
    return Point(event.sequence, event.event_id, counters)


def _first(known: T | None, new: T) -> T:
    return new if known is None else min(known, new, key=_rank)


def _known(counter: int | None) -> int:
    return UNKNOWN if counter is None else counter


def _keep(kept: dict[int, S], slot: int, new: S) -> None:
    known = kept.get(slot)
    kept[slot] = new if known is None else max(known, new)


def _rank(fact: Any) -> tuple[Any, ...]:
    """Orders facts of one kind; one id with two bodies must come out the same everywhere, too."""
    return tuple((part is not None, part) if not isinstance(part, tuple) else _rank(part) for part in fact)


_encode: Final = msgspec.msgpack.Encoder().encode
encode_facts: Final[Callable[[JobFacts | StreamFacts], bytes]] = _encode
decode_job: Final = msgspec.msgpack.Decoder(JobFacts).decode
decode_stream: Final = msgspec.msgpack.Decoder(StreamFacts).decode
