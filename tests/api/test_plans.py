"""What Postgres does for a list: it never reads all jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobtrail.api.queries import ORDERS, query

ROWS = Path(__file__).parents[2] / "benchmarks" / "read_rows.sql"
JOBS = 20_000
TYPES = ["sync", "reset_connection", "refresh", "clear"]
NEWEST = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=6 * JOBS)
HOUR_AGO = NEWEST - timedelta(hours=1)
HOUR_IN = datetime(2025, 1, 1, 1, tzinfo=UTC)
#: Those that most jobs match: a page is read from an index all the same, an exact count has to read them.
WIDE = {"none", "common statuses"}
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "configId": {"config_id": "one"},
    "connectionId": {"connection_id": "one"},
    "workspaceIds": {"workspace_ids": ["rare", "other"]},
    "statuses": {"statuses": ["running"]},
    "common statuses": {"statuses": ["succeeded"]},
    "createdAtStart": {"created_from": HOUR_AGO},
    "createdAtEnd": {"created_to": HOUR_IN},
    "updatedAtStart": {"updated_from": HOUR_AGO},
    "updatedAtEnd": {"updated_to": HOUR_IN},
    "configId, statuses": {"config_id": "one", "statuses": ["failed"]},
}


@pytest.fixture(scope="module")
def populated(database_module: str) -> str:
    """20,000 jobs of 20 connections; a few are of a workspace, or an organization, of their own, or run."""
    with psycopg.connect(database_module, autocommit=True) as connection:
        connection.execute("SET search_path = jobtrail_g1")
        connection.execute(ROWS.read_text().partition("\n;\n")[0].encode(), {"jobs": JOBS, "apart": 6})
        for change in (
            "config_id = 'one', connection_id = 'one' WHERE job_id % 200 = 1",
            "workspace_id = 'rare' WHERE job_id % 200 = 2",
            "workspace_id = NULL, scope_type = 'organization', scope_id = 'o' WHERE job_id % 200 = 3",
            "status = 'running' WHERE job_id % 1000 = 4",
        ):
            connection.execute(b"UPDATE jobs SET " + change.encode())
        connection.execute("VACUUM (ANALYZE) jobs")
    return database_module


@pytest.mark.parametrize("name", FILTERS)
def test_no_page_and_no_narrow_count_reads_the_whole_table(populated: str, name: str) -> None:
    """For each filter in each order, and from a cursor on."""
    given = {"config_types": TYPES, **FILTERS[name]}
    count = [] if name in WIDE else [(query("jobs_count", filters=given), given)]
    pages = [
        (query("jobs_page", order, {**given, **after}), {**given, **after, "limit": 26, "offset": 0})
        for order in ORDERS
        for after in ({}, {"after": NEWEST - timedelta(hours=10), "after_id": 7})
    ]
    with psycopg.connect(populated) as connection:
        for statement, values in [*pages, *count]:
            plan = "\n".join(line for (line,) in connection.execute(b"EXPLAIN " + statement, values))
            assert "Seq Scan on jobs" not in plan, plan
