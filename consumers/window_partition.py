"""The windows of one partition of the log: facts of its jobs, what they add up to, and what a batch changes.

All events of a job are in one partition, so a partition's windows are a function of that partition alone,
and those of the log are their sums. A batch is folded into a `Step`, which changes nothing yet: whoever has
made its results durable, and then its facts, applies it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

import msgspec

from jobtrail import events as e
from jobtrail.consumers.window_facts import (
    SLOT,
    JobFacts,
    StreamFacts,
    decode_job,
    decode_stream,
    encode_facts,
    fold_job,
    fold_stream,
)
from jobtrail.consumers.windows import (
    COUNTS,
    LONGEST,
    Counts,
    Surroundings,
    Window,
    durations,
    of_job,
    of_stream,
    surroundings,
)
from jobtrail.kinds import EPOCH, micros

MILLISECOND: Final = 1000
HOUR: Final = 3_600_000_000
#: An event may be dated so far ahead of the broker that took it.
AHEAD: Final = HOUR
#: Say nothing of their job but that its attempt lives.
FREQUENT: Final = (e.StreamStats, e.StreamStatus, e.AttemptHeartbeat)
#: Bytes before the facts in a value: the offset of the last message that they are of.
OFFSET_SIZE: Final = 8


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


def partition_of(key: bytes) -> int:
    """The partition of a key of facts."""
    return int(key[1 : key.index(b",")])


def offset_of(value: bytes) -> int:
    """The offset of the last message that facts are of."""
    return int.from_bytes(value[:OFFSET_SIZE], "big")


class Partition:
    """Facts and windows of one partition."""

    def __init__(self, number: int, facts: Mapping[bytes, bytes], lateness: timedelta) -> None:
        """`facts` may hold those of other partitions too. Events up to `lateness` late count."""
        self.number = number
        self._facts = facts
        self._lateness = lateness // timedelta(microseconds=1)
        #: Job → keys of its streams; key → hour of its newest message.
        self._streams: dict[int, set[bytes]] = {}
        self._received: dict[bytes, int] = {}
        self._totals: Counts = {}
        self._durations: dict[Window, Counter[int]] = {}
        self._closed = 0
        self._expired_to = 0
        self._load()

    def fold(self, messages: Iterable[Message]) -> Step:
        """What these, in the order of their offsets, change."""
        of_jobs: dict[int, list[Message]] = {}
        first = last = None
        for message in messages:
            first, last = first or message, message
            of_jobs.setdefault(message.event.job_id, []).append(message)
        assert first is not None  # noqa: S101  # nobody folds nothing
        assert last is not None  # noqa: S101
        # By its first message: what counts by the time it came is still open.
        closed = max(self._closed, (first.broker_ms * MILLISECOND - self._lateness) // SLOT)
        step = Step(last.offset, last.broker_ms, closed=closed)
        for job_id, found in of_jobs.items():
            self._fold_job(job_id, found, step)
        self._expire(step)
        return step

    def results(self, step: Step) -> Iterator[e.WindowComputed]:
        """The windows that any event of a step changes, as they are then, but for those that are final."""
        for window in step.counts.keys() | step.durations.keys():
            if window.end <= step.closed:
                continue
            old = self._totals.get(window, (0,) * len(COUNTS[window.measure]))
            change = step.counts.get(window, (0,) * len(old))
            counts = tuple(a + b for a, b in zip(old, change, strict=True))
            yield self._result(window, counts, self._durations_after(window, step), step)

    def apply(self, step: Step) -> None:
        """The step is durable: it is what the next one begins with."""
        for key, value in step.facts.items():
            self._know(key, value)
        for window, change in step.counts.items():
            if window.end > step.closed:
                _add(self._totals, window, change)
        for window, come in step.durations.items():
            if window.end > step.closed:
                known = self._durations.setdefault(window, Counter())
                known.update(come)
                self._durations[window] = +known
        if step.closed > self._closed:
            self._closed = step.closed
            self._totals = {window: n for window, n in self._totals.items() if window.end > step.closed}
            self._durations = {window: n for window, n in self._durations.items() if window.end > step.closed}

    def _load(self) -> None:
        mine = {key: value for key, value in self._facts.items() if partition_of(key) == self.number}
        for key, value in mine.items():
            self._know(key, value)
        newest = max(self._received.values(), default=0) * HOUR
        self._closed = max(0, (newest - self._lateness) // SLOT)
        step = Step(0, 0, closed=self._closed)
        for key, value in mine.items():
            if len(parts := msgspec.json.decode(key)) == 2:
                job = decode_job(value[OFFSET_SIZE:])
                _move(step, {}, of_job(job))
                _move_durations(step, Counter(), Counter(durations(job)))
                around = surroundings(job)
                for stream_key in self.streams_of(parts[1]):
                    _move(step, {}, _of_stream(stream_key, self.stream(stream_key), around, self._closed))
        self.apply(Step(0, 0, counts=step.counts, durations=step.durations, closed=self._closed))

    def _know(self, key: bytes, value: bytes | None) -> None:
        parts = msgspec.json.decode(key)
        if len(parts) == 5:
            streams = self._streams.setdefault(parts[1], set())
            streams.discard(key) if value is None else streams.add(key)
            if not streams:
                del self._streams[parts[1]]
        if value is None:
            self._received.pop(key, None)
        else:
            decode = decode_job if len(parts) == 2 else decode_stream
            self._received[key] = decode(value[OFFSET_SIZE:]).received

    def _fold_job(self, job_id: int, messages: list[Message], step: Step) -> None:
        key = msgspec.json.encode((self.number, job_id))
        old = self._facts.get(key)
        folding = _Folding(decode_job(old[OFFSET_SIZE:]) if old else JobFacts(), self, step)
        for message in messages:
            if self._is_refused(message):
                folding.refuse(message)
            else:
                folding.take(message)
        job, offset = folding.job, messages[-1].offset.to_bytes(OFFSET_SIZE, "big")
        job.refused = {slot: found for slot, found in job.refused.items() if slot >= step.closed - LONGEST}
        for stream_key, stream in folding.streams.items():
            stream.forget(step.closed - LONGEST)
            self._keep(step, stream_key, offset, encode_facts(stream))
        self._keep(step, key, offset, encode_facts(job))

    def _keep(self, step: Step, key: bytes, offset: bytes, facts: bytes) -> None:
        old = self._facts.get(key)
        if old is None or old[OFFSET_SIZE:] != facts:
            step.facts[key] = offset + facts

    def stream(self, key: bytes) -> StreamFacts:
        """What is known of a stream, durably."""
        known = self._facts.get(key)
        return decode_stream(known[OFFSET_SIZE:]) if known else StreamFacts()

    def streams_of(self, job_id: int) -> Iterable[bytes]:
        """Keys of the streams of a job."""
        return self._streams.get(job_id, ())

    def _is_refused(self, message: Message) -> bool:
        late = message.broker_ms * MILLISECOND - micros(message.event.occurred_at)
        return late > self._lateness or late < -AHEAD

    def _expire(self, step: Step) -> None:
        """Once an hour: facts that no window which is still open can need."""
        hour = step.closed * SLOT // HOUR
        if hour <= self._expired_to:
            return
        self._expired_to = hour
        # The hour itself, an event dated ahead, the longest window that begins there, and one to spare.
        for key, received in self._received.items():
            if received + 4 < hour and key not in step.facts:
                step.facts[key] = None

    def _durations_after(self, window: Window, step: Step) -> int | None:
        known = Counter(self._durations.get(window, {}))
        known.update(step.durations.get(window, {}))
        return max(+known, default=None)

    def _result(
        self, window: Window, counts: tuple[int, ...], longest: int | None, step: Step
    ) -> e.WindowComputed:
        what = msgspec.json.encode((self.number, *window)).decode()
        values: dict[str, Any] = dict(zip(COUNTS[window.measure], counts, strict=True))
        if window.measure == "attempts":
            values["longest_ms"] = longest or 0
        window_id = e.decision_id("window", what)
        return e.WindowComputed(
            event_id=e.decision_id(window_id, step.offset, *values.values()),
            occurred_at=EPOCH + timedelta(milliseconds=step.broker_ms),
            window_id=window_id,
            measure=window.measure,
            window_type=window.window_type,
            window_start=EPOCH + timedelta(microseconds=window.start * SLOT),
            window_end=EPOCH + timedelta(microseconds=window.end * SLOT),
            log_partition=self.number,
            sequence=step.offset,
            **window.about._asdict(),
            **values,
        )


class _Folding:
    """The messages of one job, one by one: what each of them changes goes into the step.

    Not what all of them change together: a window that one event fills and the next one empties may have been
    said in between, by a worker that died before its facts were durable, and must be said again.
    """

    def __init__(self, job: JobFacts, partition: Partition, step: Step) -> None:
        self.job = job
        #: Those that had messages.
        self.streams: dict[bytes, StreamFacts] = {}
        #: What they add by now, where it was worked out.
        self._stream_counts: dict[bytes, Counts] = {}
        self._partition = partition
        self._step = step
        self._look()

    def take(self, message: Message) -> None:
        """Folds one that counts."""
        event = message.event
        hour = message.broker_ms * MILLISECOND // HOUR
        self.job.received = max(self.job.received, hour)
        heard = self._heard(event)
        fold_job(self.job, event)
        if not isinstance(event, FREQUENT) or self._heard(event) != heard:
            self._job_changed(event.job_id)
        if isinstance(event, e.StreamStats | e.StreamStatus):
            key = self._key(event)
            stream = self.streams.get(key)
            if stream is None:
                stream = self.streams[key] = self._partition.stream(key)
            before = self._stream_counts.get(key)
            if before is None:
                before = self._of_stream(key, stream, self._around)
            fold_stream(stream, event)
            stream.received = max(stream.received, hour)
            after = self._stream_counts[key] = self._of_stream(key, stream, self._around)
            _move(self._step, before, after)

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
        counts, timed, around = self._counts, self._durations, self._around
        self._look()
        _move(self._step, counts, self._counts)
        _move_durations(self._step, timed, self._durations)
        elsewhere = {number for number, now in self._around.items() if now != around.get(number)}
        if not elsewhere:
            return
        for key in {*self._partition.streams_of(job_id), *self.streams}:
            if msgspec.json.decode(key)[2] in elsewhere:
                stream = self.streams.get(key) or self._partition.stream(key)
                before = self._of_stream(key, stream, around)
                after = self._stream_counts[key] = self._of_stream(key, stream, self._around)
                _move(self._step, before, after)

    def _of_stream(self, key: bytes, stream: StreamFacts, around: Mapping[int, Surroundings]) -> Counts:
        return _of_stream(key, stream, around, self._step.closed)

    def _key(self, event: e.StreamEvent) -> bytes:
        named = (event.stream_namespace or None, event.stream_name)
        return msgspec.json.encode(
            StreamKey(self._partition.number, event.job_id, event.attempt_number, *named)
        )


def _of_stream(key: bytes, stream: StreamFacts, around: Mapping[int, Surroundings], closed: int) -> Counts:
    named = StreamKey(*msgspec.json.decode(key))
    if named.attempt_number not in around:
        return {}  # its facts are durable and its job's are not yet: those events are read again
    return of_stream(named.namespace, named.name, stream, around[named.attempt_number], closed)


def _move(step: Step, before: Counts, after: Counts) -> None:
    """Adds what differs."""
    for window in before.keys() | after.keys():
        none = (0,) * len(COUNTS[window.measure])
        then, now = before.get(window, none), after.get(window, none)
        if then != now:
            _add(step.counts, window, tuple(b - a for a, b in zip(then, now, strict=True)))


def _move_durations(
    step: Step, before: Counter[tuple[Window, int]], after: Counter[tuple[Window, int]]
) -> None:
    for window, duration in before.keys() | after.keys():
        if change := after[window, duration] - before[window, duration]:
            step.durations.setdefault(window, Counter())[duration] += change


def _add(counts: Counts, window: Window, change: tuple[int, ...]) -> None:
    old = counts.get(window)
    counts[window] = change if old is None else tuple(a + b for a, b in zip(old, change, strict=True))
