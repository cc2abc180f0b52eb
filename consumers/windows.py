"""Windows of event time: which there are, and what is counted in them. Pure, without Faust and Kafka.

Time is cut into slots of five minutes since 1970. A tumbling window is one slot. A hopping one is an hour;
one begins every fifteen minutes. An instant lies in one tumbling window and in four hopping ones.

What a job, or a stream of an attempt, adds to windows is a function of its facts (`window_facts`), and
those are a function of the set of its events. So windows are too: any order, repetition or split into
batches gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from jobtrail.consumers.window_facts import SLOT, UNKNOWN, AttemptFacts, JobFacts, Point, StreamFacts
from jobtrail.events import Reporter, RunState


class Shape(NamedTuple):
    """A kind of window."""

    window_type: str
    #: Slots in it, and slots from the start of one to the start of the next.
    size: int
    step: int


TUMBLING: Final = Shape("tumbling", 1, 1)
HOPPING: Final = Shape("hopping", 12, 3)
SHAPES: Final = (TUMBLING, HOPPING)
#: Slots of the longest.
LONGEST: Final = max(shape.size for shape in SHAPES)


class About(NamedTuple):
    """What a window is about. What does not apply, or is not known, is None."""

    connection_id: str | None = None
    connector_role: str | None = None
    connector: str | None = None
    failure_origin: str | None = None
    failure_type: str | None = None
    stream_namespace: str | None = None
    stream_name: str | None = None


class Window(NamedTuple):
    """What is counted, when, and about what."""

    measure: str
    window_type: str
    #: Its first slot, and the first behind it.
    start: int
    end: int
    about: About = About()


#: Measure → the counts that it has, named as the fields of WindowComputed. They add up.
COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "attempts": (
        *("attempts_succeeded", "attempts_failed", "attempts_cancelled"),
        *("attempts_timed", "duration_ms"),
    ),
    "connectors": ("attempts_succeeded", "attempts_failed", "attempts_cancelled"),
    "failures": ("attempts_failed",),
    "streams": (
        *("records_emitted", "bytes_emitted", "records_committed", "bytes_committed"),
        "streams_stalled",
    ),
    "refused": ("messages_refused",),
}

#: Of records and bytes emitted, records and bytes committed: who is believed first, as in stream_totals.
BELIEVED: Final = (
    *((Reporter.PLATFORM, Reporter.SOURCE),) * 2,
    *((Reporter.PLATFORM, Reporter.DESTINATION),) * 2,
)

#: Window → its counts, in the order of COUNTS.
Counts = dict[Window, tuple[int, ...]]


def slot_of(micros: int) -> int:
    """The slot that an instant lies in."""
    return micros // SLOT


def windows_at(slot: int) -> Iterator[tuple[str, int, int]]:
    """Type, first slot and slot behind of each window that has this slot."""
    for window_type, size, step in SHAPES:
        last = slot - slot % step
        for start in range(last, slot - size, -step):
            yield window_type, start, start + size


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended."""

    kind: str
    at: int


def own_end(attempt: AttemptFacts) -> tuple[int, str, str] | None:
    """Instant, event id and kind of an attempt's own end: rule 1 of projections/derive.sql."""
    said = [
        (*mark, kind)
        for mark, kind in (
            (attempt.succeeded, "succeeded"),
            (attempt.failed, "failed"),
            (attempt.cancelled, "cancelled"),
        )
        if mark is not None
    ]
    if said:
        return min(said)
    return None if attempt.failure is None else (attempt.failure[0], attempt.failure[1], "failed")


def ends(job: JobFacts) -> dict[int, End]:
    """Attempt number → its end under the job's decision, if it ended: rules 2 and 3 of derive.sql."""
    own = {number: own_end(attempt) for number, attempt in job.attempts.items()}
    decided = [end for end in own.values() if end is not None and end[2] == "succeeded"]
    decided += [(*job.failed, "failed")] if job.failed else []
    decided += [(*job.cancelled, "cancelled")] if job.cancelled else []
    decision = min(decided, default=None)
    found = {}
    for number, end in own.items():
        if decision is not None and _is_overruled(job.attempts[number], end, decision):
            found[number] = End(decision[2], decision[0])
        elif end is not None:
            found[number] = End(end[2], end[0])
    return found


def _is_overruled(
    attempt: AttemptFacts, end: tuple[int, str, str] | None, decision: tuple[int, str, str]
) -> bool:
    at, event_id, kind = decision
    begun = attempt.started or (attempt.first_heard, event_id)
    if kind == "succeeded" or begun > (at, event_id):
        return False
    return end is None or end[:2] > (at, event_id) or (kind == "cancelled" and end[0] == at)


def of_job(job: JobFacts) -> Counts:
    """What a job adds: its attempts, in the windows that they ended in; what was refused of it."""
    found: Counts = {}
    connection = About(job.connection_id)
    for number, end in ends(job).items():
        attempt = job.attempts[number]
        outcome = tuple(int(end.kind == kind) for kind in ("succeeded", "failed", "cancelled"))
        begun = attempt.started
        timed = (0, 0) if begun is None else (1, max(0, end.at - begun[0]) // 1000)
        origin, failure_type = attempt.failure[2:] if attempt.failure else (None, None)
        for when in windows_at(slot_of(end.at)):
            _add(found, Window("attempts", *when, connection), (*outcome, *timed))
            for role, connector in (("source", attempt.source), ("destination", attempt.destination)):
                about = About(connector_role=role, connector=connector)
                _add(found, Window("connectors", *when, about), outcome)
                if end.kind == "failed":
                    why = about._replace(failure_origin=origin, failure_type=failure_type)
                    _add(found, Window("failures", *when, why), (1,))
    for slot, (messages, _) in job.refused.items():
        for when in windows_at(slot):
            _add(found, Window("refused", *when), (messages,))
    return found


def durations(job: JobFacts) -> Iterator[tuple[Window, int]]:
    """What `of_job` counts as timed, one by one, for the longest of a window: milliseconds."""
    for number, end in ends(job).items():
        if begun := job.attempts[number].started:
            for when in windows_at(slot_of(end.at)):
                window = Window("attempts", *when, About(job.connection_id))
                yield window, max(0, end.at - begun[0]) // 1000


class Surroundings(NamedTuple):
    """What a stream's counts depend on besides its own facts."""

    connection_id: str | None
    #: The slot in which its attempt ended, if it did, and the one of the attempt's latest event.
    ended: int | None
    heard: int


def surroundings(job: JobFacts) -> dict[int, Surroundings]:
    """Attempt number → what its streams depend on."""
    ended = {number: slot_of(end.at) for number, end in ends(job).items()}
    return {
        number: Surroundings(job.connection_id, ended.get(number), attempt.heard)
        for number, attempt in job.attempts.items()
    }


def of_stream(
    namespace: str | None, name: str, stream: StreamFacts, around: Surroundings, since: int = 0
) -> Counts:
    """What a stream of an attempt adds to the windows that end behind the slot `since`.

    A counter's value before an instant is that of the newest StreamStats (by sequence, event_id) of those
    that occurred before it, of the reporter that is believed; unset counts as nothing. By how much it rose in
    a window is its value before the window's end less that before its start. So windows add up to what the
    view `stream_totals` has, whatever came late, and a rise can be less than nothing.
    """
    found: Counts = {}
    about = About(around.connection_id, stream_namespace=namespace, stream_name=name)
    rises: dict[int, list[int]] = {}
    newest = {reporter: max(points.values()) for reporter, points in stream.stats.items()}
    for column in range(len(BELIEVED)):
        if (reporter := believed(newest, column)) is not None:
            for slot, rise in _rises(stream.stats[reporter], column):
                rises.setdefault(slot, [0, 0, 0, 0])[column] = rise
    for slot, risen in rises.items():
        if any(risen):
            for when in windows_at(slot):
                _add(found, Window("streams", *when, about), (*risen, 0))
    moved = {slot for slot, risen in rises.items() if risen[0] or risen[2]}
    for when in _stalled(stream, moved, around, since):
        _add(found, Window("streams", *when, about), (0, 0, 0, 0, 1))
    return found


def believed(newest: Mapping[str, Point], column: int) -> str | None:
    """Of reporters and their newest points, the first in order that knows a counter."""
    known = {name: value for name, point in newest.items() if (value := point.counters[column]) != UNKNOWN}
    for reporter in BELIEVED[column]:
        if reporter in known:
            return reporter
    return max(known, key=lambda reporter: (known[reporter], reporter), default=None)


def _rises(points: Mapping[int, Point], column: int) -> Iterator[tuple[int, int]]:
    """Slot → by how much a counter rose in it."""
    newest, value = None, 0
    for slot in sorted(points):
        point = points[slot]
        newest = point if newest is None or point > newest else newest
        now = max(0, newest.counters[column])
        yield slot, now - value
        value = now


def _stalled(
    stream: StreamFacts, moved: set[int], around: Surroundings, since: int
) -> Iterator[tuple[str, int, int]]:
    """The windows in which the stream did not move.

    It runs at the start and at the end of each of their slots (without any StreamStatus: from the slot behind
    its first StreamStats on), and neither records emitted nor committed changed in them; its attempt goes on:
    it has events behind the window, and did not end before that.
    """
    begun = min((slot for points in stream.stats.values() for slot in points), default=None)
    if stream.statuses:
        spells = _running(stream)
    else:
        spells = iter(()) if begun is None else iter(((begun + 1, None),))
    last = around.heard if around.ended is None else min(around.heard, around.ended)
    for begin, behind in spells:
        first = max(begin, since - LONGEST)
        until = last if behind is None else min(last, behind)
        still = [slot for slot in sorted(moved) if first <= slot < until]
        for start, end in pairwise((first - 1, *still, until)):
            yield from _within(start + 1, end)


def _running(stream: StreamFacts) -> Iterator[tuple[int, int | None]]:
    """Spells of slots through which a stream runs: the first, and the first behind; None: it goes on."""
    since = None
    for slot, (_, _, state) in sorted(stream.statuses.items()):
        if since is not None:
            if state != RunState.RUNNING:
                yield since, slot
                since = None
        elif state == RunState.RUNNING:
            since = slot + 1
    if since is not None:
        yield since, None


def _within(first: int, behind: int) -> Iterator[tuple[str, int, int]]:
    """The windows that lie wholly in these slots."""
    for window_type, size, step in SHAPES:
        for start in range(-(-first // step) * step, behind - size + 1, step):
            yield window_type, start, start + size


def _add(counts: Counts, window: Window, more: tuple[int, ...]) -> None:
    old = counts.get(window)
    counts[window] = more if old is None else tuple(a + b for a, b in zip(old, more, strict=True))
