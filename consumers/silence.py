"""What counts as silence, and what is decided of it: the pure core of the watchdog, which says why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from jobtrail import kinds
from jobtrail.events import AttemptFailed, Cancelled, Event, Failure, FailureType, decision_id
from jobtrail.job_types import JobType, silence_limit
from jobtrail.producers import failures
from jobtrail.settings import Settings

#: Observations within the shortest limit. An attempt says that it is alive at least every 3/8 of its limit.
OBSERVATIONS: Final = 10
#: Intervals between two looks beyond which the broker may have been away unseen. That outage, as long again
#: for the worker's client to come back, and the time between two signs of life make less than the limit.
LAPSE: Final = 3
#: Longest time in seconds that clients get to come back after an outage; their own timeouts are no longer.
LONGEST_RETURN: Final = 60.0


class Rule(StrEnum):
    """What is waited for in vain."""

    SILENT = "silent"
    CANCEL_UNCONFIRMED = "cancel_unconfirmed"
    NOT_PICKED_UP = "not_picked_up"
    #: Silent, and its start names no worker: who began it over HTTP has no signs of life to give.
    NOT_TAKEN = "not_taken"


@dataclass(frozen=True, slots=True)
class Awaited:
    """Something that must happen to an attempt within a limit. A sign of life makes it another one."""

    rule: Rule
    job_id: int
    #: 0 for a job that no attempt took; None for one that is to be cancelled, and of which no attempt runs.
    attempt_number: int | None
    job_type: JobType
    #: The last sign, by its producer's clock: of the attempt, the request to cancel, or the job's creation.
    since: datetime
    #: The same by the broker's clock, where several signs may come: the greatest time of any of them.
    received_at: datetime | None
    #: Seconds.
    limit: float
    #: Who asked that the job be cancelled.
    requested_by: str | None = None

    @property
    def decided_at(self) -> datetime:
        """The end of the limit by the producer's clock: the same, whoever decides and whenever."""
        at = min(kinds.micros(self.since) + round(self.limit * 1_000_000), kinds.INSTANT.maximum or 0)
        return kinds.EPOCH + timedelta(microseconds=at)


def limit_of(settings: Settings, rule: Rule, job_type: JobType) -> float:
    """Seconds."""
    untaken = rule in {Rule.NOT_PICKED_UP, Rule.NOT_TAKEN}
    return settings.pickup_limit if untaken else silence_limit(settings, job_type)


def interval_of(settings: Settings) -> float:
    """Seconds between two observations."""
    shortest = min(limit_of(settings, rule, job_type) for rule in Rule for job_type in JobType)
    return min(shortest / OBSERVATIONS, 10.0)


class Timers:
    """How long each thing has been awaited, by one monotonic clock in seconds."""

    def __init__(self, lapse: float) -> None:
        """`lapse`: seconds without a look at Kafka after which it may have been away."""
        self._lapse = lapse
        #: When Kafka last answered a look.
        self._answered_at: float | None = None
        #: When timers may start again after an outage.
        self._back_at = float("-inf")
        #: Awaited → since when.
        self._since: dict[Awaited, float] = {}
        self._decided: set[Awaited] = set()

    def answered(self, at: float) -> None:
        """Kafka answered a look at `at`. After a lapse all timers start anew, when workers may be back.

        Clients and TCP double their pauses while a server is away: they are back within that time again.
        """
        if self._answered_at is not None and (lapse := at - self._answered_at) > self._lapse:
            self.forget()
            self._back_at = at + min(lapse, LONGEST_RETURN)
        self._answered_at = at

    def forget(self) -> None:
        """All timers start anew: for what happened since the last observation, nobody can be blamed."""
        self._since.clear()
        self._decided.clear()

    def observe(self, looked_at: float, read_at: float, awaited: Iterable[Awaited]) -> list[Awaited]:
        """What is overdue, each once.

        `awaited` was read at `read_at` from read models that hold all that the log held at `looked_at`. So
        what was read once and is read again was not heard of between the one reading and the other look.
        """
        start = max(read_at, self._back_at)
        self._since = {one: self._since.get(one, start) for one in awaited}
        self._decided &= self._since.keys()
        overdue = [
            one
            for one, since in self._since.items()
            if looked_at - since >= one.limit and one not in self._decided
        ]
        self._decided.update(overdue)
        return overdue


def decision(one: Awaited) -> list[Event]:
    """What is published of something overdue: a function of it alone, so that all watchdogs say the same.

    An attempt fails, and a cancel that nobody confirmed is confirmed for the whole job: else that could be
    tried again although it is to be cancelled.
    """
    decided: list[Event] = []
    if one.attempt_number is not None:
        decided += _attempt_failed(one, one.attempt_number)
    if one.rule == Rule.CANCEL_UNCONFIRMED:
        by = one.requested_by
        # Of the job alone: two attempts that run are cancelled once.
        event_id = decision_id(one.rule, Cancelled.__name__, one.job_id, kinds.micros(one.since), by or "")
        decided.append(
            Cancelled(event_id=event_id, occurred_at=one.decided_at, job_id=one.job_id, cancelled_by=by)
        )
    return decided


def _attempt_failed(one: Awaited, attempt_number: int) -> tuple[Failure, AttemptFailed]:
    seconds, since = f"{one.limit:g} s", f"{one.since.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    whole = f"for {seconds} after {since}"
    internal, external = {
        Rule.SILENT: (
            f"Nothing was heard of the attempt {whole}, the limit of {one.job_type} jobs: its worker is dead",
            "The worker of this attempt stopped responding",
        ),
        Rule.CANCEL_UNCONFIRMED: (
            f"Nobody confirmed the cancellation that was asked for {whole}, the limit of {one.job_type} jobs",
            "This attempt did not stop in time when it was to be cancelled",
        ),
        Rule.NOT_PICKED_UP: (f"No worker took the job {whole}", "No worker picked up this job in time"),
        Rule.NOT_TAKEN: (
            f"Nothing was heard of the attempt {whole}, and no worker has taken it",
            "Nobody reported on this attempt in time",
        ),
    }[one.rule]
    reason = failures.platform(
        internal,
        failure_type=FailureType.HEARTBEAT_TIMEOUT,
        external_message=external,
        retryable=None if one.rule == Rule.CANCEL_UNCONFIRMED else True,
    )
    about = one.job_id, attempt_number

    def event_id(event_type: type) -> str:
        return decision_id(one.rule, event_type.__name__, *about, kinds.micros(one.since))

    failure = reason.event(*about)
    return (
        failure.model_copy(update={"event_id": event_id(Failure), "occurred_at": one.decided_at}),
        AttemptFailed(
            event_id=event_id(AttemptFailed),
            occurred_at=one.decided_at,
            job_id=one.job_id,
            attempt_number=attempt_number,
        ),
    )
