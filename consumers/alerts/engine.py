"""What follows from rules and facts over time: when each alert triggers and when it resolves. Pure.

The same steps serve `jobtrail alerts run`, minute by minute, and `jobtrail alerts test`, over months: time
passes in whole minutes of UTC, and only minutes at which a verdict can change are looked at.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from jobtrail.consumers.alerts.facts import Facts, History
from jobtrail.consumers.alerts.judge import OF_ALL, OF_CONNECTIONS, Verdict
from jobtrail.consumers.alerts.rules import MINUTE, Pause, Rule, RuleSet
from jobtrail.events import decision_id

#: The subject of rules that judge the installation.
ALL = "all"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a rule judges: a connection, or the installation."""

    name: str
    workspace_id: str | None
    #: When there is something new about it, in order.
    instants: Sequence[int]
    #: The verdict at a moment, while its alert is open or not.
    judge: Callable[[int, bool], Verdict]

    @property
    def connection_id(self) -> str | None:
        """The connection, if it is one."""
        return None if self.name == ALL else self.name


@dataclass(frozen=True, slots=True)
class Change:
    """An alert triggers, or resolves, at a minute."""

    at: int
    triggers: bool
    verdict: Verdict


def minute_after(moment: int) -> int:
    """The first whole minute after a moment."""
    return (moment // MINUTE + 1) * MINUTE


def minute_from(moment: int) -> int:
    """The first whole minute at a moment or after it."""
    return -(-moment // MINUTE) * MINUTE


def alert_id(rule: Rule, subject: str, verdict: Verdict) -> str:
    """A hash of rule, version, subject and window: whoever finds the same, names it the same."""
    return decision_id("alert", rule.name, rule.version, subject, verdict.began, verdict.ended)


def subjects(rule: Rule, facts: Facts, pauses: Sequence[Pause]) -> Iterator[Subject]:
    """What a rule judges."""
    if not rule.kind.by_connection:
        letters = rule.kind == "dead_letters"
        instants = facts.letter_instants if letters else facts.lag_instants
        of_all = OF_ALL[rule.kind]
        yield Subject(ALL, None, instants, lambda at, _open: of_all(rule, facts, at))
        return
    for history in facts.histories.values():
        if rule.covers(history.connection_id, history.workspace_id):
            judge = partial(_of_connection, rule, history, pauses)
            yield Subject(history.connection_id, history.workspace_id, history.ends, judge)


def _of_connection(rule: Rule, history: History, pauses: Sequence[Pause], at: int, is_open: bool) -> Verdict:
    return OF_CONNECTIONS[rule.kind](rule, history, at, pauses, is_open=is_open)


def changes(subject: Subject, after: int, until: int, *, is_open: bool) -> Iterator[Change]:
    """What becomes of a subject's alert in the minutes after one moment until another.

    The first of these minutes is always looked at: what came late may have changed what was.
    """
    at = minute_after(after)
    while at <= until:
        verdict = subject.judge(at, is_open)
        if verdict.holds != is_open:
            is_open = verdict.holds
            yield Change(at, is_open, verdict)
        place = bisect_right(subject.instants, at)
        following = (
            min(verdict.until, subject.instants[place]) if place < len(subject.instants) else verdict.until
        )
        at = max(at + MINUTE, minute_from(following))


@dataclass(frozen=True, slots=True)
class Fired:
    """An alert as it would have been."""

    alert_id: str
    rule: Rule
    subject: str
    triggered: int
    #: None: it is still open.
    resolved: int | None
    #: The verdict at which it triggered.
    verdict: Verdict


def replay(
    rules: RuleSet,
    facts: Facts,
    after: int,
    until: int,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> list[Fired]:
    """When each alert would have triggered and resolved, in the order of the first.

    `progress` hears how many (rule, subject) were looked at, of how many.
    """
    pairs = [(rule, subject) for rule in rules.rules for subject in subjects(rule, facts, rules.pauses)]
    found: list[Fired] = []
    for done, (rule, subject) in enumerate(pairs):
        progress(done, len(pairs))
        triggered: Change | None = None
        for change in changes(subject, after, until, is_open=False):
            if change.triggers:
                triggered = change
            elif triggered is not None:
                found.append(_fired(rule, subject, triggered, change.at))
                triggered = None
        if triggered is not None:
            found.append(_fired(rule, subject, triggered, None))
    progress(len(pairs), len(pairs))
    return sorted(found, key=lambda one: (one.triggered, one.rule.name, one.subject))


def _fired(rule: Rule, subject: Subject, change: Change, resolved: int | None) -> Fired:
    identity = alert_id(rule, subject.name, change.verdict)
    return Fired(identity, rule, subject.name, change.at, resolved, change.verdict)
