"""One job's events, and what the read models say of it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from frames import frames_of

from jobtrail import events as e
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Store

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
JOB = 77


class Told:
    """What the read models say of job 77 after some events, told in any order."""

    def __init__(self, store: Store, events: list[e.Event]) -> None:
        shuffled = random.sample(events, len(events))
        for half in (shuffled[::2], shuffled[1::2]):
            with store.transaction() as tx:
                tx.merge(fold(frames_of(half)))
                tx.derive()
        rows = store.connection.execute(
            "SELECT status, started_at, ended_at FROM jobtrail.jobs WHERE job_id = %s", (JOB,)
        ).fetchall()
        ((self.status, self.started_at, self.ended_at),) = rows
        self.attempts: dict[int, tuple[str, datetime | None, dict[str, Any] | None]] = {
            number: (status, ended_at, summary)
            for number, status, ended_at, summary in store.connection.execute(
                "SELECT attempt_number, status, ended_at, failure_summary FROM jobtrail.attempts"
                " WHERE job_id = %s",
                (JOB,),
            )
        }
        self.anomalies: set[tuple[int | None, str]] = set(
            store.connection.execute("SELECT attempt_number, kind FROM jobtrail.anomalies").fetchall()
        )

    def summary(self, number: int) -> dict[str, Any]:
        found = self.attempts[number][2]
        assert found is not None
        return found


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def job(second: float, event_type: type[e.Event], **values: Any) -> e.Event:
    return event_type(job_id=JOB, occurred_at=at(second), **values)


def attempt(second: float, number: int, event_type: type[e.Event], **values: Any) -> e.Event:
    return job(second, event_type, attempt_number=number, **values)


def created(second: float = 0) -> e.Event:
    return job(second, e.JobCreated, config_type="sync", config_id="c", connection_id="c")


def stats(second: float, number: int, **values: Any) -> e.Event:
    facts = {"stream_name": "users", "reporter": "platform", "sequence": int(second * 1000), **values}
    return attempt(second, number, e.StreamStats, **facts)
