"""Deletes old heartbeats of dataplanes, in batches; the newest of each dataplane stays.

First the stored horizon moves. From then on merging lets nothing older pass (`projections/retain.sql`), so
that the table is a function of the events and the horizon, whenever which of them comes. A run that is ended
in the middle leaves rows that the next run deletes.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import Connection

from jobtrail.consumers.report import Report
from jobtrail.consumers.waiting import StoppedError
from jobtrail.projections.generation import live_tables, named_statements
from jobtrail.settings import Settings

#: Heartbeats deleted in one transaction. Whoever merges one of them once more waits for its end.
BATCH: Final = 2_000
SQL: Final = named_statements("cleanup.sql")


def clean_heartbeats(
    connection: Connection[Any], settings: Settings, stop: threading.Event, *, dry_run: bool
) -> Report:
    """Deletes what is older than settings.heartbeat_retention_days; `dry_run` counts it and changes nothing.

    The connection is in autocommit. Raises StoppedError between two batches once `stop` is set.
    """
    with live_tables(connection):
        horizon = SQL["horizon" if dry_run else "move_horizon"]
        (kept_from,) = _row(connection, horizon, days=settings.heartbeat_retention_days)
        dataplanes = [dataplane_id for (dataplane_id,) in connection.execute(SQL["dataplanes"])]
    counts: list[int] = []
    for dataplane_id in dataplanes:
        about = {"dataplane_id": dataplane_id, "kept_from": kept_from}
        if dry_run:
            with live_tables(connection):
                counts += _row(connection, SQL["count"], **about)
        else:
            counts += _delete(connection, about, stop)
    kept_since = kept_from.astimezone(UTC)
    deleted = f"{'would delete' if dry_run else 'deleted'} {sum(counts):,} heartbeats"
    batches = "" if dry_run else f" in {len(counts):,} batches"
    return Report(
        f"{deleted}{batches}: those before {kept_since:%Y-%m-%d %H:%M} UTC but the newest of each of "
        f"{len(dataplanes):,} dataplanes",
        {
            "deleted": sum(counts),
            "batches": 0 if dry_run else len(counts),
            "dataplanes": len(dataplanes),
            "keptFrom": kept_since.isoformat(),
        },
    )


def _delete(connection: Connection[Any], about: dict[str, Any], stop: threading.Event) -> list[int]:
    """Deletes old heartbeats of a dataplane, the oldest first; gives the size of each batch."""
    sizes: list[int] = []
    # What was deleted stands in the index until it is vacuumed: each batch begins where the last one ended.
    since = datetime(2000, 1, 1, tzinfo=UTC)
    while True:
        if stop.is_set():
            raise StoppedError
        with live_tables(connection):
            deleted, last = _row(connection, SQL["delete"], **about, since=since, batch=BATCH)
        if not deleted:
            return sizes
        sizes.append(deleted)
        since = last


def _row(connection: Connection[Any], statement: bytes, **values: Any) -> tuple[Any, ...]:
    row = connection.execute(statement, values).fetchone()
    assert row is not None  # noqa: S101  # an aggregate, or the horizon, which the migrations made
    return tuple(row)
