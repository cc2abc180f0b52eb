"""One job's messages in a batch: what each of them changes in the windows of its partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import msgspec

from jobtrail import events as e
from jobtrail.consumers.window_facts import (
    SLOT,
    JobFacts,
    StreamFacts,
    fold_job,
    fold_stream,
    point_of,
)
from jobtrail.consumers.windows import (
    BELIEVED,
    COUNTS,
    About,
    Counts,
    Surroundings,
    Window,
    believed,
    durations,
    of_job,
    of_stream,
    surroundings,
    windows_at,
)
from jobtrail.kinds import micros

MILLISECOND: Final = 1000
HOUR: Final = 3_600_000_000
_NO_RISE: Final = (0,) * len(COUNTS["streams"])
#: Say nothing of their job but that its attempt lives.
FREQUENT: Final = (e.StreamStats, e.StreamStatus, e.AttemptHeartbeat)


class Message(NamedTuple):
    """A job event and where it lies in the partition."""

    offset: int
    #: Milliseconds since 1970, as the broker appended it.
    broker_ms: int
    event: e.JobEvent


class StreamKey(NamedTuple):
    """A stream of an attempt."""

    partition: int
    job_id: int
    attempt_number: int
    namespace: str | None
    name: str


#: Key → value of facts; None: forget them.
Facts = dict[bytes, bytes | None]


@dataclass(slots=True)
class Step:
    """What a batch changes."""

    #: Offset and broker's time (ms) of its last message.
    offset: int
    broker_ms: int
    #: Facts that are other than before.
    facts: Facts = field(default_factory=dict)
    #: Window → by how much its counts change; window → how many durations (ms) come or go.
    counts: Counts = field(default_factory=dict)
    durations: dict[Window, Counter[int]] = field(default_factory=dict)
    #: Windows that end here or before are final.
    closed: int = 0


class Known(Protocol):
    """The facts of a partition, as they are durable."""

    number: int

    def stream(self, key: bytes) -> StreamFacts:
        """What is known of a stream."""

    def streams_of(self, job_id: int) -> Iterable[bytes]:
        """Keys of the streams of a job."""


class Folding:
    """The messages of one job, one by one: what each of them changes goes into the step.

    Not what all of them change together: a window that one event fills and the next one empties may have been
    said in between, by a worker that died before its facts were durable, and must be said again.
    """

    def __init__(self, job: JobFacts, known: Known, step: Step) -> None:
        self.job = job
        #: Those that had messages.
        self.streams: dict[bytes, StreamFacts] = {}
        #: What they add by now, where it was worked out.
        self._stream_counts: dict[bytes, Counts] = {}
        #: Those of which that is from before their latest messages; the windows in question are in the step.
        self._unsettled: set[bytes] = set()
        self._known = known
        self._step = step
        self._look()

    def take(self, message: Message) -> None:
        """Folds one that counts."""
        event = message.event
        self.job.received = max(self.job.received, message.broker_ms * MILLISECOND // HOUR)
        heard = self._heard(event)
        fold_job(self.job, event)
        if not isinstance(event, FREQUENT) or self._heard(event) != heard:
            self._job_changed(event.job_id)
        if isinstance(event, e.StreamStats | e.StreamStatus):
            self._take_stream(self._key(event), event)

    def settle(self) -> None:
        """Works out what was put off."""
        for key in [*self._unsettled]:
            self._settle(key)

    def _take_stream(self, key: bytes, event: e.StreamStats | e.StreamStatus) -> None:
        stream = self.streams.get(key)
        if stream is None:
            stream = self.streams[key] = self._known.stream(key)
        if key not in self._stream_counts:
            self._stream_counts[key] = self._of_stream(key, stream, self._around)
        stream.received = max(stream.received, self.job.received)
        slots = _slots_changed(stream, event) if isinstance(event, e.StreamStats) else None
        if slots is None:
            if key in self._unsettled:
                self._settle(key)
            fold_stream(stream, event)
            self._settle(key)
            return
        # StreamStats are most of all events: which windows they change is plain, and by how much is worked
        # out once for many of them.
        fold_stream(stream, event)
        named = StreamKey(*msgspec.json.decode(key))
        connection = self._around[named.attempt_number].connection_id
        about = About(connection, stream_namespace=named.namespace, stream_name=named.name)
        for slot in slots:
            for when in windows_at(slot):
                self._step.counts.setdefault(Window("streams", *when, about), _NO_RISE)
        self._unsettled.add(key)

    def _settle(self, key: bytes) -> None:
        before = self._stream_counts[key]
        after = self._stream_counts[key] = self._of_stream(key, self.streams[key], self._around)
        move(self._step, before, after)
        self._unsettled.discard(key)

    def refuse(self, message: Message) -> None:
        """Counts one that counts nowhere else; once, for when it is read again it has the same offset."""
        slot = message.broker_ms * MILLISECOND // SLOT
        messages, last = self.job.refused.get(slot, (0, -1))
        if message.offset > last:
            self.job.refused[slot] = (messages + 1, message.offset)
        self.job.received = max(self.job.received, message.broker_ms * MILLISECOND // HOUR)
        self._job_changed(message.event.job_id)

    def _heard(self, event: e.JobEvent) -> tuple[int, int] | None:
        """What an event that says nothing else may change of its attempt."""
        attempt = self.job.attempts.get(getattr(event, "attempt_number", -1))
        return None if attempt is None else (attempt.first_heard, attempt.heard)

    def _look(self) -> None:
        self._counts = of_job(self.job)
        self._durations = Counter(durations(self.job))
        self._around = surroundings(self.job)

    def _job_changed(self, job_id: int) -> None:
        self.settle()
        counts, timed, around = self._counts, self._durations, self._around
        self._look()
        move(self._step, counts, self._counts)
        move_durations(self._step, timed, self._durations)
        elsewhere = {number for number, now in self._around.items() if now != around.get(number)}
        if not elsewhere:
            return
        for key in {*self._known.streams_of(job_id), *self.streams}:
            if msgspec.json.decode(key)[2] in elsewhere:
                stream = self.streams.get(key) or self._known.stream(key)
                before = self._of_stream(key, stream, around)
                after = self._stream_counts[key] = self._of_stream(key, stream, self._around)
                move(self._step, before, after)

    def _of_stream(self, key: bytes, stream: StreamFacts, around: Mapping[int, Surroundings]) -> Counts:
        return counts_of(key, stream, around, self._step.closed)

    def _key(self, event: e.StreamEvent) -> bytes:
        named = (event.stream_namespace or None, event.stream_name)
        return msgspec.json.encode(StreamKey(self._known.number, event.job_id, event.attempt_number, *named))


def _slots_changed(stream: StreamFacts, event: e.StreamStats) -> list[int] | None:
    """Slots in which a StreamStats may change what its stream adds; None: look at all of them.

    That of the event, and the later ones that have points, up to the first that is newer than the event. All,
    where it decides who is believed, or since when the stream runs.
    """
    points = stream.stats.get(event.reporter)
    slot = micros(event.occurred_at) // SLOT
    if points is None or slot < min(slot for theirs in stream.stats.values() for slot in theirs):
        return None
    new = point_of(event)
    newest = {reporter: max(theirs.values()) for reporter, theirs in stream.stats.items()}
    then = [believed(newest, column) for column in range(len(BELIEVED))]
    newest[event.reporter] = max(newest[event.reporter], new)
    if then != [believed(newest, column) for column in range(len(BELIEVED))]:
        return None
    slots = [slot]
    for later in sorted(at for at in points if at > slot):
        slots.append(later)
        if points[later] > new:
            break
    return slots


def counts_of(key: bytes, stream: StreamFacts, around: Mapping[int, Surroundings], closed: int) -> Counts:
    """What a stream adds to the windows that end behind the slot `closed`."""
    named = StreamKey(*msgspec.json.decode(key))
    if named.attempt_number not in around:
        return {}  # its facts are durable and its job's are not yet: those events are read again
    return of_stream(named.namespace, named.name, stream, around[named.attempt_number], closed)


def move(step: Step, before: Counts, after: Counts) -> None:
    """Adds what differs."""
    for window in before.keys() | after.keys():
        none = (0,) * len(COUNTS[window.measure])
        then, now = before.get(window, none), after.get(window, none)
        if then != now:
            add(step.counts, window, tuple(b - a for a, b in zip(then, now, strict=True)))


def move_durations(
    step: Step, before: Counter[tuple[Window, int]], after: Counter[tuple[Window, int]]
) -> None:
    """Likewise of durations: (window, milliseconds) → how often."""
    for window, duration in before.keys() | after.keys():
        if change := after[window, duration] - before[window, duration]:
            step.durations.setdefault(window, Counter())[duration] += change


def add(counts: Counts, window: Window, change: tuple[int, ...]) -> None:
    """Adds to what a window has."""
    old = counts.get(window)
    counts[window] = change if old is None else tuple(a + b for a, b in zip(old, change, strict=True))
