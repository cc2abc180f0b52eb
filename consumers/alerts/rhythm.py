"""When a connection's next success is due, by its own weekly rhythm. Pure.

What is missed is counted in successes, not in hours: in each of the past weeks, at what time after the same
hour of the week had the connection succeeded so often that it would now have missed as many? Most of those
weeks decide. So an hourly one is missed within hours, and one that rests at weekends not before Tuesday.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import median_low
from typing import Final

from jobtrail.consumers.alerts.facts import History
from jobtrail.consumers.alerts.rules import HOUR, WEEK, Pause, Rule

#: Past weeks that are asked, and how many of them there must be.
WEEKS: Final = 4
FEWEST_WEEKS: Final = 2
#: Gaps between successes that say what is usual.
GAPS: Final = 20
#: Of a connection too young for weeks: so many of its longest gap are too long.
YOUNG: Final = 4
#: Of one that succeeds weekly or more rarely.
RARE: Final = 2.5
#: Bad luck is no incident: more successes must be missed where, by the share of its runs that do not succeed
#: (at least this one), so many in a row would come more often than so many times in a quarter of a year.
LEAST_FAILING: Final = 0.02
BY_CHANCE: Final = 0.05
QUARTER: Final = 13 * WEEK
#: But not so many more than the rule says.
MORE: Final = 2
#: Runs of so long say how many do not succeed.
RECENT: Final = 4 * WEEK
#: Share of the usual gap within which two successes of two weeks are the same one.
SAME: Final = 0.5
#: Share of the usual gap by which a success may come later than in another week, and the least that it may.
LATE: Final = 0.1
LEAST_LATE: Final = HOUR // 4
#: In a time that will never come.
NEVER: Final = 2**62


def usual_gap(history: History, by: int) -> int:
    """The median of the last gaps between successes that ended by a moment; 0: there is none."""
    gaps = _gaps(history.success_ends, by, ())
    return median_low(gaps) if gaps else 0


def deadline(rule: Rule, history: History, at: int, pauses: Sequence[Pause]) -> tuple[int | None, int]:
    """Since when a success is waited for at a moment, and from when on it is missed.

    None where the connection had not run by then. A pause that begins before the deadline moves the first to
    its end, and past weeks with a pause in them do not count.
    """
    count = history.successes_by(at)
    if count:
        since = history.success_ends[count - 1]
    elif history.runs and history.runs[0].began <= at:
        since = history.runs[0].began
    else:
        return None, NEVER
    # Somebody stopped them, and knows.
    extra = history.count("cancelled", since, at)
    paused = sorted((p for p in pauses if _concerns(p, history)), key=lambda pause: pause.began)
    due = _due(rule, history, since, paused, extra)
    for pause in paused:
        if pause.began < due and pause.ended > since and pause.began <= at:
            since = pause.ended
            due = _due(rule, history, since, paused, extra)
    return since, due


def _concerns(pause: Pause, history: History) -> bool:
    return not pause.connections or history.connection_id in pause.connections


def _due(rule: Rule, history: History, since: int, paused: Sequence[Pause], cancelled: int) -> int:
    at_least, floor = rule.span("at_least"), rule.span("floor")
    gaps = _gaps(history.success_ends, since, paused)
    usual = median_low(gaps) if gaps else HOUR
    missed = _misses(rule.count("missed"), history, since, usual) + min(cancelled, MORE)
    weeks = [
        when
        for week in range(1, WEEKS + 1)
        if (when := _in_week(history, since - week * WEEK, missed, usual, paused)) is not None
    ]
    if len(weeks) >= FEWEST_WEEKS:
        # What most weeks say. Where they had so few successes, it succeeds more rarely than that.
        wait = sorted(weeks)[len(weeks) // 2]
        return since + max(at_least, wait if wait < NEVER else max(floor, int(RARE * max(gaps, default=0))))
    # Too young for weeks. Runs that did not succeed tell of its rhythm as well.
    gaps = gaps or _gaps(history.ends, since, paused)
    if gaps:
        return since + min(max(at_least, YOUNG * max(gaps)), max(floor, int(RARE * max(gaps))))
    return since + floor


def _misses(missed: int, history: History, since: int, usual: int) -> int:
    failed = history.count("failed", since - RECENT, since)
    ended = failed + history.count("succeeded", since - RECENT, since)
    failing = max(failed / ended if ended else 0.0, LEAST_FAILING)
    most = missed + MORE
    while missed < most and failing**missed * QUARTER / usual > BY_CHANCE:
        missed += 1
    return missed


def _in_week(history: History, since: int, missed: int, usual: int, paused: Sequence[Pause]) -> int | None:
    """How long after `since`, a moment of a past week, so many successes had come; None: nobody knows.

    One that came about at that moment stands for the last success of now, and is not counted.
    """
    same = max(LEAST_LATE, int(SAME * usual))
    if not history.success_ends or history.success_ends[0] > since + same:
        return None
    place = bisect_right(history.success_ends, since + same) + missed - 1
    # What came more than a week later is no past of now.
    ended = history.success_ends[place] if place < len(history.success_ends) else NEVER
    ended = ended if ended <= since + WEEK else NEVER
    if any(pause.began < min(ended, since + WEEK) and pause.ended > since for pause in paused):
        return None
    return NEVER if ended == NEVER else ended - since + max(LEAST_LATE, int(LATE * usual))


def _gaps(instants: Sequence[int], by: int, paused: Sequence[Pause]) -> list[int]:
    """The last gaps between instants until a moment, but for those with a pause in them."""
    end = bisect_right(instants, by)
    ends = instants[max(0, end - GAPS - 1) : end]
    if not paused:
        return [later - earlier for earlier, later in pairwise(ends)]
    return [
        later - earlier
        for earlier, later in pairwise(ends)
        if not any(p.began < later and p.ended > earlier for p in paused)
    ]
