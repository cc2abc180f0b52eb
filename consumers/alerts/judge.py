"""Whether a rule holds at a moment: one pure function for each kind.

A verdict has its window, which depends on the facts alone where the facts define it (the runs that ended with
the same error, say), so that whoever looks, whenever, names the same alert.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Final

from jobtrail.consumers.alerts.facts import Facts, History, Run
from jobtrail.consumers.alerts.rhythm import deadline, usual_gap
from jobtrail.consumers.alerts.rules import DAY, HOUR, SECOND, WEEK, Pause, Rule, RuleKind

#: No moment that is ever judged.
NEVER: Final = 2**62
#: Weeks of history that say what is usual at an hour of the week.
WEEKS: Final = 8
#: And how many of them there must be.
WEEKS_NEEDED: Final = 3
#: How far back what is usual is looked for.
RECENT: Final = 4 * WEEK
#: A streak of zero-record successes is usual once it has been seen so many times.
USUAL_STREAKS: Final = 3
#: Counts of records that differ by less than this share are alike, however regular the others are.
ALIKE: Final = 0.2
#: Without weekly history a weekend looks like a fault: what is far must be so much farther.
WITHOUT_WEEKS: Final = 2.5
#: A standard deviation, in median absolute deviations of a normal distribution.
DEVIATION: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of a subject at a moment."""

    holds: bool
    #: Why, for a person.
    detail: str
    #: The window that it is about.
    began: int
    ended: int
    #: When it may change without a new fact.
    until: int = NEVER


def nothing(at: int, detail: str, until: int = NEVER) -> Verdict:
    """The rule does not hold."""
    return Verdict(False, detail, at, at, until)  # noqa: FBT003  # its first field


def failure_rate(
    rule: Rule, history: History, at: int, _pauses: Sequence[Pause], *, is_open: bool
) -> Verdict:
    """A share of the runs that ended in the window failed. Cancelled ones count neither way.

    While the alert is open, half the rate keeps it open: one success among failures must not end it.
    """
    window = rule.span("window")
    failed = history.count("failed", at - window, at)
    runs = failed + history.count("succeeded", at - window, at)
    first = bisect_right(history.ends, at - window)
    until = history.ends[first] + window if first < len(history.ends) and history.ends[first] <= at else NEVER
    rate = failed / runs if runs else 0.0
    said = f"{failed} of {runs} runs failed within {span(window)}"
    if is_open:
        holds = failed > 0 and rate >= rule.thresholds["rate"] / 2
    else:
        enough = runs >= rule.count("min_runs") and failed >= rule.count("min_failures")
        holds = enough and rate >= rule.thresholds["rate"]
    return Verdict(holds, said, at - window, at, until)


def no_success(rule: Rule, history: History, at: int, pauses: Sequence[Pause], *, is_open: bool) -> Verdict:  # noqa: ARG001  # as all
    """The connection has not succeeded for longer than is usual for it; see `rhythm`."""
    since, due = deadline(rule, history, at, pauses)
    if since is None:
        return nothing(at, "it never ran")
    if at < due:
        return nothing(at, f"a success within {span(max(0, due - since))} is usual", due)
    return Verdict(True, f"no success for {span(at - since)}; usual are {span(due - since)}", since, due)  # noqa: FBT003


def repeated_config_error(
    rule: Rule,
    history: History,
    at: int,
    _pauses: Sequence[Pause],
    *,
    is_open: bool,  # noqa: ARG001
) -> Verdict:
    """Run after run ended with the same config error, and none succeeded in between."""
    times = rule.count("times")
    seen: dict[str, list[Run]] = {}
    for place in range(bisect_right(history.ends, at) - 1, -1, -1):
        run = history.runs[place]
        if run.outcome == "succeeded" or run.ended <= at - RECENT:
            break
        if run.config_error is not None:
            seen.setdefault(run.config_error, []).append(run)
    for error, runs in seen.items():
        if len(runs) >= times:
            first, last = runs[-1], runs[-times]
            said = f"{len(runs)} runs ended with the same config error: {error}"
            return Verdict(True, said, first.ended, last.ended)  # noqa: FBT003
    return nothing(at, "no config error came again")


def zero_record_success(
    rule: Rule,
    history: History,
    at: int,
    _pauses: Sequence[Pause],
    *,
    is_open: bool,  # noqa: ARG001
) -> Verdict:
    """Runs succeeded and moved no record, which is not usual for the connection."""
    count = history.successes_by(at)
    streak = 0
    while streak < count and history.successes[count - 1 - streak].records == 0:
        streak += 1
    if not streak:
        return nothing(at, "the last success moved records, or nobody counted")
    first = history.successes[count - streak]
    usual = _usual_streak(history.successes[: count - streak], first.ended - RECENT)
    needed = rule.count("runs") + 2 * usual
    if streak < needed:
        return nothing(at, f"{_count(streak, 'success', 'es')} without a record: usual for it")
    deciding = history.successes[count - streak + needed - 1]
    said = f"{_count(streak, 'success', 'es')} in a row moved no record"
    return Verdict(True, said, first.began, deciding.ended)  # noqa: FBT003


def _usual_streak(successes: Sequence[Run], since: int) -> int:
    """The longest streak of successes without a record that was seen USUAL_STREAKS times; 0: none."""
    streaks, length = [], 0
    for run in reversed(successes):
        if run.ended < since:
            break
        if run.records == 0:
            length += 1
        elif length:
            streaks.append(length)
            length = 0
    streaks.append(length)
    streaks.sort(reverse=True)
    # In the first days of a connection, what was seen once may be usual.
    young = bool(successes) and since < successes[0].ended and successes[-1].ended - successes[0].ended < WEEK
    seen = 1 if young else USUAL_STREAKS
    return streaks[seen - 1] if len(streaks) >= seen else 0


def volume(
    rule: Rule,
    history: History,
    at: int,
    _pauses: Sequence[Pause],
    *,
    is_open: bool,  # noqa: ARG001
) -> Verdict:
    """The last success moved far more or fewer records than those before it at such hours of the week.

    Compared are logarithms, by median and median absolute deviation (Rousseeuw and Croux 1993), which a few
    incidents in the past do not move. Successes without a record are zero_record_success's.
    """
    count = history.successes_by(at)
    if not count or not (run := history.successes[count - 1]).records:
        return nothing(at, "the last success moved no record, or nobody counted")
    half = WEEKS * WEEK // 2
    recent = history.successes_near(run.ended - half, half, run.ended)
    if len(recent) < rule.count("min_history") or recent[0].ended > run.ended - WEEK:
        return nothing(
            at, f"{len(recent)} successes, or less than a week of them, are too few to compare with"
        )
    factor, gap = rule.thresholds["factor"], usual_gap(history, run.ended)
    moved = math.log(run.records)
    same = _at_such_hours(history, run, gap, 0)
    if len(same) >= WEEKS_NEEDED and abs(moved - median(_logarithms(same))) < math.log(factor):
        return nothing(at, f"{run.records:,} records are usual")
    levels = [same, *(_at_such_hours(history, run, gap, shift) for shift in (-DAY, DAY))]
    known = [_logarithms(level) for level in levels if len(level) >= WEEKS_NEEDED]
    if len(same) < WEEKS_NEEDED:
        known = [_logarithms(recent)]
        factor *= WITHOUT_WEEKS
        if not known[0]:
            return nothing(at, "no success before it moved a record")
    # After a longer time than at such hours there is more to move.
    before = [gap, *(_time_before(history, other.ended) for other in same)]
    late = math.log(max(1.0, _time_before(history, run.ended) / max(gap, median(before), 1)))
    said = f"{run.records:,} records, where {math.exp(median(known[0])):,.0f} are usual"
    # Few values of one hour say little of how they vary; those of the days around it vary alike.
    spread = DEVIATION * median(abs(value - median(level)) for level in known for value in level)
    far = max(math.log(factor), rule.thresholds["deviations"] * max(spread, ALIKE))
    # What is usual a day earlier or later in the week is not far either: a run may move over midnight.
    if any(-far < moved - median(level) < far + late for level in known):
        return nothing(at, said)
    return Verdict(True, said, run.began, run.ended)  # noqa: FBT003


def _at_such_hours(history: History, run: Run, gap: int, shift: int) -> list[Run]:
    """Successes with records at the same hour of past weeks, or so much later."""
    tolerance = min(12 * HOUR, max(HOUR // 4, gap // 2))
    return [
        other
        for week in range(1, WEEKS + 1)
        for other in history.successes_near(run.ended - week * WEEK + shift, tolerance, run.ended - DAY)
        if other.records
    ]


def _logarithms(runs: Sequence[Run]) -> list[float]:
    return [math.log(run.records) for run in runs if run.records]


def _time_before(history: History, ended: int) -> int:
    """From the success before to the one that ended then."""
    place = bisect_left(history.success_ends, ended)
    return ended - history.success_ends[place - 1] if place else 0


def dead_letters(rule: Rule, facts: Facts, at: int) -> Verdict:
    """So many messages within the window were no events."""
    window = rule.span("window")
    begin, end = bisect_right(facts.letter_instants, at - window), bisect_right(facts.letter_instants, at)
    inside = facts.letters[begin:end]
    reasons: dict[str, int] = {}
    for letter in inside:
        reasons[letter.reason] = reasons.get(letter.reason, 0) + 1
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    said = f"{_count(len(inside), 'dead letter')} within {span(window)}" + (f": {listed}" if listed else "")
    until = inside[0].at + window if inside else NEVER
    return Verdict(len(inside) >= rule.count("count"), said, at - window, at, until)


def lag(rule: Rule, facts: Facts, at: int) -> Verdict:
    """At the last look, the read models had been behind the log for too long."""
    place = bisect_right(facts.lag_instants, at)
    if not place:
        return nothing(at, "nobody looked yet")
    seen = facts.lags[place - 1]
    limit = rule.span("longer_than")
    if seen.behind < limit:
        return nothing(at, f"behind the log for {span(seen.behind)}")
    lacking = _count(seen.messages, "message")
    said = f"the read models have been behind the log for {span(seen.behind)}, by {lacking}"
    began = seen.at - seen.behind
    return Verdict(True, said, began, began + limit)  # noqa: FBT003


Judge = Callable[..., Verdict]
#: Kind → what judges a connection.
OF_CONNECTIONS: Final[Mapping[RuleKind, Judge]] = MappingProxyType(
    {
        RuleKind.FAILURE_RATE: failure_rate,
        RuleKind.NO_SUCCESS: no_success,
        RuleKind.REPEATED_CONFIG_ERROR: repeated_config_error,
        RuleKind.ZERO_RECORD_SUCCESS: zero_record_success,
        RuleKind.VOLUME: volume,
    }
)
#: Kind → what judges the installation.
OF_ALL: Final[Mapping[RuleKind, Judge]] = MappingProxyType(
    {RuleKind.DEAD_LETTERS: dead_letters, RuleKind.LAG: lag}
)


def span(micros: int) -> str:
    """A span for people: 45 s, 12 min, 5.5 h, 3 d."""
    seconds = micros / SECOND
    if seconds < 120:
        return f"{seconds:g} s" if seconds == int(seconds) else f"{seconds:.1f} s"
    for unit, size in (("min", 60), ("h", 3600)):
        if seconds < size * (120 if unit == "min" else 48):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} d"


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number:,} {what}{plural if number != 1 else ''}"
