"""A connection whose runs go as told, an alerter whose clock is set, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from types import MappingProxyType
from typing import Any, Self

from alerts_events import events_of
from alerts_history import Planned
from projecting import query
from sdk_reading import messages, value_of

from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers.alerts.alerter import Alerter
from jobtrail.consumers.alerts.facts import Outcome, Run
from jobtrail.consumers.alerts.outbox import Outbox
from jobtrail.consumers.alerts.rules import Rule, RuleKind, RuleSet, defaults
from jobtrail.consumers.alerts.webhook import Target
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.kinds import micros
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

#: A Monday.
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
CONNECTION = "11111111-1111-4111-8111-111111111111"
NO_TARGETS: Mapping[str, Target] = MappingProxyType({})
_numbers = count(1)


def rule(kind: RuleKind, *send: str, **thresholds: float) -> Rule:
    return Rule(f"the {kind}", kind, {**defaults(kind), **thresholds}, send=send)


ZERO = rule(RuleKind.ZERO_RECORD_SUCCESS)


def hours(number: float) -> datetime:
    return MONDAY + timedelta(hours=number)


def run_at(
    hour: float,
    outcome: Outcome = "succeeded",
    records: int | None = 100,
    error: str | None = None,
    connection: str = CONNECTION,
) -> Planned:
    """A run that ends at an hour, after ten minutes."""
    ended = micros(hours(hour))
    run = Run(connection, next(_numbers), None, ended - 600_000_000, ended, outcome, records, error)
    return Planned(run, 0, "config_error" if error else "transient_error" if outcome == "failed" else None)


@dataclass
class Scene:
    """An alerter over a test's servers; its clock stands where it is set."""

    settings: Settings
    rules: tuple[Rule, ...] = (ZERO,)
    now: datetime = MONDAY
    #: As it is in the life of an alerter.
    alerter: Alerter = field(init=False)

    def __post_init__(self) -> None:
        TopicAdmin(self.settings).ensure()
        self._alerters: list[Alerter] = []
        self.alerter = self.another()

    def another(self, *rules: Rule) -> Alerter:
        """One more alerter, or one by other rules."""
        made = Alerter(
            self.settings, RuleSet(rules or self.rules), clock=lambda _connection: self.now, patience=1.0
        )
        self._alerters.append(made)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for alerter in self._alerters:
            alerter.close()

    def happen(self, *plans: Planned, project: bool = True) -> None:
        self.publish(event for plan in plans for event in events_of(plan))
        if project:
            project_until_caught_up(self.settings)

    def publish(self, events: Iterable[e.Event]) -> None:
        with Publisher(self.settings) as publisher:
            publisher.publish_all(events)

    def look(self, hour: float, alerter: Alerter | None = None) -> int:
        """A look two minutes after an hour: what happened by then can be judged."""
        self.now = hours(hour) + timedelta(minutes=2)
        return (alerter or self.alerter).look()

    def deliver(self) -> int:
        outbox = Outbox(self.settings, NO_TARGETS)
        try:
            return outbox.publish()
        finally:
            outbox.close()

    def alerts(self) -> list[tuple[Any, ...]]:
        """(rule, whether open, whether sent), in order."""
        return query(
            self.settings,
            "SELECT rule, resolved_at IS NULL, sent FROM jobtrail.alerts ORDER BY triggered_at, rule",
        )

    def waiting(self) -> list[tuple[Any, ...]]:
        """(channel, status) of what is to be sent, in order."""
        return query(
            self.settings,
            "SELECT channel, status FROM jobtrail.alert_outbox WHERE delivered_at IS NULL"
            " ORDER BY kept_at, event_id, channel",
        )

    def told(self) -> list[e.Event]:
        """What is on the topic of alerts, repetitions and all."""
        return [
            codec.decode(value_of(message)) for message in messages(self.settings, self.settings.alerts_topic)
        ]
