"""Events of jobs as they happen, seeded: the same seed gives the same events, whoever asks.

Beside the plain stories there are attempts that vanish, second starts, ends that contradict each other, jobs
whose creation nobody told, equal times, and events of one job from several producers.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from jobtrail import events as e

#: Jobs that are told of at a time.
AT_A_TIME: Final = 30
NAMES: Final = ("users", "Users", "orders", "élan", "_x", "приказы")


def seeded(*of: object) -> random.Random:
    """A generator of its own for each purpose, so that one more draw in one changes no other."""
    return random.Random("/".join(map(str, of)))  # noqa: S311  # chaos must be repeatable, not secret


def workload(seed: int, count: int, begin: datetime) -> list[e.Event]:
    """`count` events from `begin` on, stories of many jobs told at a time."""
    rng = seeded(seed, "events")
    first_job = rng.randrange(1, 2**40)
    jobs = (Story(rng, first_job + at, begin).tell() for at in range(count))
    told: list[Iterator[e.Event]] = []
    found: list[e.Event] = []
    while len(found) < count:
        while len(told) < AT_A_TIME:
            told.append(next(jobs))
        at = rng.randrange(len(told))
        event = next(told[at], None)
        if event is None:
            told.pop(at)
        else:
            found.append(event)
        if rng.random() < 0.02:
            found.append(_of_registry(rng, begin + timedelta(milliseconds=len(found))))
    return found[:count]


def share(events: list[e.Event], seed: int, producer: int, producers: int) -> list[e.Event]:
    """What one of several producers sends, in order: its jobs, and a tenth of anybody's; some of it twice."""
    dealing, repeating = seeded(seed, "deal"), seeded(seed, "repeat", producer)
    ours: list[e.Event] = []
    for event in events:
        anybody, chance = dealing.randrange(producers), dealing.random()
        owner = anybody if chance < 0.1 else sum(event.key) % producers
        if owner == producer:
            ours.append(event)
            if repeating.random() < 0.03:
                ours.append(repeating.choice(ours))
    return ours


def _id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _of_registry(rng: random.Random, at: datetime) -> e.Event:
    common: dict[str, Any] = {"event_id": _id(rng), "occurred_at": at}
    if rng.random() < 0.4:
        return e.WorkspaceRegistered(
            **common,
            workspace_id=f"workspace {rng.randrange(9)}",
            organization_id=rng.choice([None, "acme"]),
            name=rng.choice([None, "Ünï", "a"]),
        )
    return e.DataplaneHeartbeat(
        **common, dataplane_id=f"plane {rng.randrange(5)}", dataplane_version=rng.choice([None, "1.0", "1.1"])
    )


class Story:
    """What happens to one job."""

    def __init__(self, rng: random.Random, job_id: int, begin: datetime) -> None:
        self._rng = rng
        self._job_id = job_id
        self._now = begin + timedelta(milliseconds=rng.randrange(60_000))
        self._sequence = 0
        names = rng.sample(NAMES, rng.randint(1, 3))
        self._streams = [(rng.choice([None, "", "public"]), name) for name in names]

    def _is(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _make(self, kind: type[e.Event], **facts: Any) -> e.Event:
        if self._is(0.8):  # else at the same instant as the last
            self._now += timedelta(microseconds=self._rng.randrange(2_000_000))
        at = self._now - timedelta(seconds=self._rng.randrange(30)) if self._is(0.02) else self._now
        return kind(event_id=_id(self._rng), occurred_at=at, job_id=self._job_id, **facts)

    def tell(self) -> Iterator[e.Event]:
        """The job's events, in the order in which they are sent."""
        if self._is(0.97):
            yield self._created()
        if self._is(0.05):
            return  # nobody takes it
        attempts = self._rng.choice([1, 1, 1, 2, 3])
        for number in range(attempts):
            succeeded = yield from self._attempt(number)
            if succeeded:
                break
        else:
            if self._is(0.6):
                yield self._make(e.JobFailed)
        if self._is(0.05):
            yield self._make(e.JobFailed) if self._is(0.5) else self._make(e.Cancelled)
        if self._is(0.03):
            yield self._make(e.AttemptSucceeded, attempt_number=0)

    def _created(self) -> e.Event:
        rng = self._rng
        return self._make(
            e.JobCreated,
            config_type=rng.choice([*e.ConfigType]).value,
            config_id=f"connection {rng.randrange(40)}",
            connection_id=rng.choice([None, f"connection {rng.randrange(40)}"]),
            scope_type=rng.choice([None, "workspace", "organization"]),
            scope_id=rng.choice([None, "acme"]),
            workspace_id=rng.choice([None, f"workspace {rng.randrange(9)}"]),
            streams=[e.ConfiguredStream(namespace=space, name=name) for space, name in self._streams],
            streams_to_reset=[e.StreamDescriptor(name="users")] if self._is(0.1) else [],
            labels=[e.Label(key="team", value="a „b“\n")] if self._is(0.2) else [],
        )

    def _attempt(self, number: int) -> Generator[e.Event, None, bool]:
        """Gives its events, and returns whether it succeeded."""
        rng, ours = self._rng, {"attempt_number": number}
        for _ in range(2 if self._is(0.1) else 1):
            worker = rng.choice([None, "pod-1", "pod-2"])
            yield self._make(e.AttemptStarted, **ours, worker=worker, dataplane=worker and "plane 1")
        for space, name in self._streams:
            stream = {**ours, "stream_namespace": space, "stream_name": name}
            yield self._make(e.StreamStatus, **stream, run_state="RUNNING")
            if self._is(0.2):
                yield self._make(e.StreamMetadata, **stream, was_resumed=self._is(0.5))
        for _ in range(rng.randint(1, 8)):
            space, name = rng.choice(self._streams)
            yield self._stats({**ours, "stream_namespace": space, "stream_name": name})
            if self._is(0.1):
                yield self._make(e.AttemptHeartbeat, **ours)
        return (yield from self._ending(ours))

    def _stats(self, stream: dict[str, Any]) -> e.Event:
        rng = self._rng
        self._sequence += rng.randrange(3)  # equal ones are told apart by their ids
        records = rng.choice([None, 0, self._sequence * 10])
        return self._make(
            e.StreamStats,
            **stream,
            reporter=rng.choice([*e.Reporter]).value,
            sequence=self._sequence,
            records_emitted=self._sequence * 11,
            bytes_emitted=self._sequence * 1000,
            records_committed=records,
        )

    def _ending(self, ours: dict[str, Any]) -> Generator[e.Event, None, bool]:
        rng = self._rng
        ending = rng.choice(
            ["succeeded", "succeeded", "succeeded", "failed", "failed", "cancelled", "vanished"]
        )
        space, name = rng.choice(self._streams)
        stream = {**ours, "stream_namespace": space, "stream_name": name}
        if ending == "succeeded":
            yield self._make(e.StreamStatus, **stream, run_state="COMPLETE")
            yield self._make(e.AttemptSucceeded, **ours)
        elif ending == "failed":
            where = stream if self._is(0.3) else ours
            yield self._make(
                e.Failure, **where, failure_origin="source", external_message="é", retryable=self._is(0.5)
            )
            yield self._make(e.StreamStatus, **stream, run_state="INCOMPLETE", incomplete_run_cause="FAILED")
            if self._is(0.8):
                yield self._make(e.AttemptFailed, **ours)
        elif ending == "cancelled":
            yield self._make(e.CancelRequested, requested_by=rng.choice([None, "ann"]))
            yield self._make(e.Cancelled, **(ours if self._is(0.5) else {}), cancelled_by="ann")
        return ending == "succeeded"
