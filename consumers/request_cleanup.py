"""Deletes what is kept of old requests, and of old runs of schedules, in batches.

Nothing of it is a projection (`migrations/control/0002_service.sql`); it serves callers that repeat a request
whose answer they missed, and keeps callers apart that want the same thing at the same moment. Clients repeat
for minutes, and what they said is in the log by then: after a month a key is forgotten, and the same text
would be another request. Jobs that are not decided keep their numbers and connections, however old.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from psycopg import Connection

from jobtrail.consumers.report import Report
from jobtrail.consumers.waiting import StoppedError
from jobtrail.projections.generation import named_statements
from jobtrail.settings import Settings

#: Days for which they are kept.
RETENTION: Final = 30
#: Rows deleted in one transaction.
BATCH: Final = 2_000
#: Table → its statement. A row that somebody changes at that moment is not old any more, and stays.
SQL: Final = named_statements("request_cleanup.sql", "consumers")


def clean_requests(
    connection: Connection[Any],
    settings: Settings,  # noqa: ARG001  # every schedule is called like this
    stop: threading.Event,
    *,
    dry_run: bool,
) -> Report:
    """Deletes what is older than RETENTION; `dry_run` counts it and changes nothing.

    The connection is in autocommit. Raises StoppedError between two batches once `stop` is set.
    """
    counts = {table: _clean(connection, table, stop, dry_run=dry_run) for table in SQL}
    told = ", ".join(f"{table} {count:,}" for table, count in counts.items())
    total = sum(counts.values())
    deleted = f"{'would delete' if dry_run else 'deleted'} {total:,} rows"
    return Report(f"{deleted} older than {RETENTION} days: {told}", {"deleted": total, **counts})


def _clean(connection: Connection[Any], table: str, stop: threading.Event, *, dry_run: bool) -> int:
    total = 0
    while True:
        if stop.is_set():
            raise StoppedError
        values = {"days": RETENTION, "batch": None if dry_run else BATCH, "dry_run": dry_run}
        ((count,),) = connection.execute(SQL[table], values).fetchall()
        total += int(count)
        if dry_run or not count:
            return total
