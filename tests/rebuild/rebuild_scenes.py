"""A history of many jobs in the log, and what the read models hold of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import psycopg
from api_scenes import at, created, failed_job, made, stats
from confluent_kafka import Producer
from psycopg import sql
from psycopg.rows import dict_row

from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers.rebuild import Options, Result, State, rebuild, state
from jobtrail.projections import generation as g
from jobtrail.projections.compare import COMPARED
from jobtrail.settings import Settings


def job_of(job_id: int) -> list[e.Event]:
    """Two attempts of two streams; how they end depends on the id."""
    about = {"job_id": job_id, "attempt_number": 0}
    found: list[e.Event] = [
        created(job_id, workspace_id="w-1"),
        made(e.AttemptStarted, 1, **about, worker="worker-1"),
    ]
    for second in range(2, 12):
        found += [stats(job_id, 0, name, second, records_emitted=second * 10) for name in ("users", "orders")]
    found.append(made(e.StreamStatus, 12, **about, stream_name="users", run_state="COMPLETE"))
    if job_id % 3 == 0:
        found += [
            made(e.Failure, 13, **about, failure_origin="source", internal_message=f"no {job_id}"),
            made(e.AttemptFailed, 14, **about),
            made(e.AttemptStarted, 20, job_id=job_id, attempt_number=1, worker="worker-2"),
            stats(job_id, 1, "users", 21, records_emitted=7, records_committed=7),
            made(e.AttemptSucceeded, 22, job_id=job_id, attempt_number=1),
        ]
    elif job_id % 3 == 1:
        found.append(made(e.AttemptSucceeded, 14, **about))
    else:
        found.append(e.Cancelled(job_id=job_id, occurred_at=at(14), cancelled_by="ada"))
    return found


def interleaved(jobs: Sequence[list[e.Event]]) -> list[e.Event]:
    """The first event of each job, then the second of each."""
    longest = max(map(len, jobs))
    return [job[place] for place in range(longest) for job in jobs if place < len(job)]


#: Some thirty jobs at once, a workspace and heartbeats.
HISTORY: list[e.Event] = [
    *interleaved([job_of(job_id) for job_id in range(100, 130)]),
    *failed_job(99),
    made(e.WorkspaceRegistered, 1, workspace_id="w-1", organization_id="o-1", is_default=True),
    *(
        e.DataplaneHeartbeat(dataplane_id=f"eu-{one % 2}", occurred_at=at(0) + timedelta(seconds=one))
        for one in range(10)
    ),
]


def publish(
    settings: Settings, events: Iterable[e.Event | tuple[str, bytes, bytes]], partition: int | None = None
) -> None:
    """Into the log, as the SDK writes it, or to a partition; a tuple is topic, value and key."""
    producer = _producer(settings.kafka_bootstrap_servers or "")
    where: dict[str, Any] = {} if partition is None else {"partition": partition}
    for event in events:
        if isinstance(event, tuple):
            producer.produce(*event, **where)
            continue
        registry = isinstance(event, e.WorkspaceRegistered | e.DataplaneHeartbeat)
        topic = settings.registry_topic if registry else settings.events_topic
        producer.produce(topic, codec.encode(event), event.key, **where)
    assert producer.flush(30) == 0


@cache
def _producer(address: str) -> Producer:
    return Producer({"bootstrap.servers": address, "enable.idempotence": True, "log_level": 2})


def state_of(settings: Settings) -> State:
    """The live generation, and the rebuild that runs or was left."""
    with psycopg.connect(settings.database_url or "") as connection:
        return state(connection)


def quiet(phase: str, done: int = 0, total: int = 0) -> None:
    """Hears how far a rebuild is."""


def rebuilt(settings: Settings, **options: Any) -> Result:
    """What a rebuild by two processes gives."""
    return rebuild(settings, Options(**{"workers": 2, "by": "ada", **options}), quiet)


def contents(settings: Settings, without: Collection[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of the live generation, bookkeeping too."""
    with psycopg.connect(settings.database_url or "", row_factory=dict_row) as connection:
        row = connection.execute("SELECT generation FROM jobtrail.current_generation").fetchone() or {}
        return {
            table.name: [
                {name: value for name, value in row.items() if name not in without}
                for row in connection.execute(
                    sql.SQL("SELECT * FROM {} ORDER BY {}").format(
                        sql.Identifier(g.schema_name(row["generation"]), table.name),
                        sql.SQL(", ").join(map(sql.Identifier, table.key)),
                    )
                )
            ]
            for table in COMPARED
        }
