"""The windows of one partition of the log: facts of its jobs, what they add up to, and what a batch changes.

All events of a job are in one partition, so a partition's windows are a function of that partition alone,
and those of the log are their sums. A batch is folded into a `Step`, which changes nothing yet: whoever has
made its results durable, and then its facts, applies it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from jobtrail import events as e
from jobtrail.consumers.window_facts import (
    SLOT,
    JobFacts,
    StreamFacts,
    decode_job,
    decode_stream,
    encode_facts,
)
from jobtrail.consumers.window_folding import (
    HOUR,
    MILLISECOND,
    Folding,
    Message,
    Step,
    add,
    counts_of,
    move,
    move_durations,
)
from jobtrail.consumers.windows import (
    COUNTS,
    LONGEST,
    Counts,
    Window,
    durations,
    of_job,
    surroundings,
)
from jobtrail.kinds import EPOCH, micros

#: An event may be dated so far ahead of the broker that took it.
AHEAD: Final = HOUR
#: Bytes before the facts in a value: the offset of the last message that they are of.
OFFSET_SIZE: Final = 8


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
                add(self._totals, window, change)
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
                move(step, {}, of_job(job))
                move_durations(step, Counter(), Counter(durations(job)))
                around = surroundings(job)
                for stream_key in self.streams_of(parts[1]):
                    move(step, {}, counts_of(stream_key, self.stream(stream_key), around, self._closed))
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
        folding = Folding(decode_job(old[OFFSET_SIZE:]) if old else JobFacts(), self, step)
        for message in messages:
            if self._is_refused(message):
                folding.refuse(message)
            else:
                folding.take(message)
        folding.settle()
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
            if received + 4 < hour:
                # A job's facts expire together: counters of a silent stream are what the next rise begins at.
                job = msgspec.json.encode(msgspec.json.decode(key)[:2])
                heard = self._received.get(job, received)
                if heard + 4 < hour and step.facts.keys().isdisjoint((key, job)):
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
