"""Jobs whose read models the tests read, made by the projector's own fold and merge."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from frames import frames_of

from jobtrail import events as e
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Store

E = TypeVar("E", bound=e.Event)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONNECTION = "0b3f4bd4-5b5b-4a0e-9f2a-000000000001"


def at(seconds: float) -> datetime:
    """Seconds after the start of the scene."""
    return START + timedelta(seconds=seconds)


def project(database: str, events: Iterable[e.Event]) -> None:
    """Folds the events into the read models, in one batch."""
    store = Store.open(database)
    try:
        with store.transaction() as transaction:
            transaction.merge(fold(frames_of(events)))
            transaction.derive()
    finally:
        store.close()


def made(event_type: type[E], seconds: float, **fields: Any) -> E:
    """An event of some seconds after the start."""
    return event_type(occurred_at=at(seconds), **fields)


def created(job_id: int, seconds: float = 0, **fields: Any) -> e.JobCreated:
    """A sync of CONNECTION, unless told otherwise."""
    values = {"config_type": "sync", "config_id": CONNECTION, "connection_id": CONNECTION, **fields}
    return made(e.JobCreated, seconds, job_id=job_id, **values)


def stats(job_id: int, number: int, name: str, seconds: float = 1, **counters: Any) -> e.StreamStats:
    """Counters as the platform sees them."""
    return e.StreamStats(
        job_id=job_id,
        attempt_number=number,
        stream_name=name,
        reporter="platform",
        sequence=int(seconds * 1_000_000),
        occurred_at=at(seconds),
        **counters,
    )


def failed_job(job_id: int) -> list[e.Event]:
    """One attempt that the source ended after 120 of 200 records had been committed."""
    stream = e.ConfiguredStream(namespace="public", name="users", sync_mode="incremental")
    about = {"job_id": job_id, "attempt_number": 0}
    return [
        created(job_id, streams=[stream], workspace_id="workspace-1"),
        made(e.AttemptStarted, 1, **about, worker="worker-1", source_image="source-x:1.2"),
        made(
            e.StreamStats,
            9,
            **about,
            stream_namespace="public",
            stream_name="users",
            reporter="platform",
            sequence=7,
            records_emitted=200,
            bytes_emitted=20_000,
            state_messages_emitted=2,
            records_committed=120,
            bytes_committed=12_000,
            estimated_records=1_000,
        ),
        made(
            e.Failure,
            10,
            **about,
            failure_origin="source",
            failure_type="system_error",
            internal_message="java.net.SocketTimeoutException: Read timed out",
            external_message="Something went wrong within the source connector",
            stacktrace="Traceback\n  line 1\n  line 2",
            retryable=True,
            from_trace_message=True,
        ),
        made(e.AttemptFailed, 11, **about),
        e.JobFailed(job_id=job_id, occurred_at=at(12)),
    ]


def heavy_job(job_id: int) -> list[e.Event]:
    """10 attempts with 100 streams each, and 50 failures with long stack traces."""
    names = [f"stream_{number:03}" for number in range(100)]
    found: list[e.Event] = [
        created(job_id, streams=[e.ConfiguredStream(name=name, sync_mode="incremental") for name in names])
    ]
    for number in range(10):
        about = {"job_id": job_id, "attempt_number": number}
        begin = 1 + number * 100.0
        found.append(made(e.AttemptStarted, begin, **about))
        found += [
            stats(job_id, number, name, begin + 1, records_emitted=10**12, bytes_emitted=10**15)
            for name in names
        ]
        found += [
            made(
                e.Failure,
                begin + 2 + count,
                **about,
                failure_origin="source",
                failure_type="system_error",
                stacktrace="at some.place(Some.java:1)\n" * 500,
            )
            for count in range(5)
        ]
        found.append(made(e.AttemptFailed, begin + 50, **about))
    return [*found, e.JobFailed(job_id=job_id, occurred_at=at(2000))]
