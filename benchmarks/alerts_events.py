"""The events that workers would have published of the runs of `alerts_history`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from alerts_history import Planned

from jobtrail import events as e
from jobtrail.kinds import EPOCH


def events_of(plan: Planned) -> Iterator[e.Event]:
    """Of one run, in order: each attempt of the same length, the last one as the run ended."""
    run = plan.run
    job: dict[str, Any] = {"job_id": run.job_id}
    yield e.JobCreated(
        **job,
        occurred_at=_moment(run.began),
        config_type="sync",
        config_id=run.connection_id,
        connection_id=run.connection_id,
    )
    each = (run.ended - run.began) // (plan.retried + 1)
    for number in range(plan.retried + 1):
        about: dict[str, Any] = {**job, "attempt_number": number}
        yield e.AttemptStarted(**about, occurred_at=_moment(run.began + number * each), worker="worker-1")
        if number < plan.retried:
            at = _moment(run.began + (number + 1) * each)
            yield from _failed(about, at, "transient_error", "the connection was reset")
    ended = _moment(run.ended)
    if run.records is not None:
        yield e.StreamStats(
            **about,
            occurred_at=ended,
            stream_name="users",
            reporter="platform",
            sequence=run.ended,
            records_emitted=run.records,
            records_committed=run.records,
        )
    if run.outcome == "succeeded":
        yield e.AttemptSucceeded(**about, occurred_at=ended)
    elif run.outcome == "cancelled":
        yield e.Cancelled(**job, occurred_at=ended, cancelled_by="ana")
    else:
        message = (run.config_error or "").removeprefix("source: ") or "the connection was reset"
        yield from _failed(about, ended, plan.failure_type or "transient_error", message)
        yield e.JobFailed(**job, occurred_at=ended)


def _failed(about: dict[str, Any], at: datetime, failure_type: str, message: str) -> Iterator[e.Event]:
    yield e.Failure(
        **about,
        occurred_at=at,
        failure_origin="source",
        failure_type=failure_type,
        external_message=message,
    )
    yield e.AttemptFailed(**about, occurred_at=at)


def _moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)
