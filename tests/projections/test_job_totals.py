"""What a job moved over its attempts: on its row once it has ended, and as the streams say that count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_scenes import created, made, project, stats
from psycopg import connect

from jobtrail import events as e

MIGRATION = Path(__file__).parents[2] / "migrations" / "read_models" / "0007_job_totals.sql"
FULL = e.ConfiguredStream(name="full", sync_mode="full_refresh")
INCREMENTAL = e.ConfiguredStream(name="incremental", sync_mode="incremental")
JOB = 7


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    with connect(url) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description is not None else []


def totals(url: str) -> tuple[Any, ...]:
    """Records emitted and committed on the job's row, and in the view of runs."""
    (row,) = asked(
        url,
        "SELECT j.records_emitted, j.records_committed, r.records_emitted, r.records_committed"
        " FROM jobtrail.jobs j JOIN jobtrail_analytics.job_runs r USING (job_id) WHERE job_id = 7",
    )
    return row


def attempt(number: int, second: int, emitted: int, committed: int) -> Iterator[e.Event]:
    """Both streams, from `second` on."""
    about = {"job_id": JOB, "attempt_number": number}
    yield made(e.AttemptStarted, second, **about)
    for name in ("full", "incremental"):
        yield stats(JOB, number, name, second + 1, records_emitted=emitted, records_committed=committed)


def ended(number: int, second: int, how: type[e.AttemptEvent]) -> e.Event:
    return made(how, second, job_id=JOB, attempt_number=number)


def test_totals_are_kept_once_the_job_has_ended_and_follow_what_comes_late(database: str) -> None:
    """An attempt that runs writes nothing there; until then the view adds up the streams."""
    project(database, [created(JOB, streams=[FULL, INCREMENTAL]), *attempt(0, 1, 10, 4)])
    assert totals(database) == (None, None, 20, 8)
    project(database, [ended(0, 5, e.AttemptFailed), *attempt(1, 10, 100, 50)])
    assert totals(database) == (None, None, 210, 104)
    project(database, [ended(1, 15, e.AttemptSucceeded)])
    assert totals(database) == (210, 104, 210, 104)
    project(database, [stats(JOB, 1, "full", 16, records_emitted=101, records_committed=101)])
    assert totals(database) == (211, 155, 211, 155)
    resumed = made(e.StreamMetadata, 11, job_id=JOB, attempt_number=1, stream_name="full", was_resumed=True)
    project(database, [resumed])
    assert totals(database) == (221, 159, 221, 159)


def test_a_job_that_nobody_counted_has_no_totals(database: str) -> None:
    project(database, [created(JOB), ended(0, 5, e.AttemptSucceeded)])
    assert totals(database) == (None, None, None, None)


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_migration_fills_what_older_releases_left(database: str, attempts: int) -> None:
    """Jobs that had ended before get the totals that the derivation gives, and others get none."""
    events: list[e.Event] = [created(JOB, streams=[FULL, INCREMENTAL])]
    for number in range(attempts):
        events += attempt(number, 1 + 10 * number, 10**number, 10**number)
        last = number == attempts - 1
        events.append(ended(number, 9 + 10 * number, e.AttemptSucceeded if last else e.AttemptFailed))
    project(database, [*events, created(8), stats(8, 0, "full", records_emitted=1)])
    derived = asked(database, "SELECT * FROM jobtrail_g1.jobs ORDER BY job_id")
    (update,) = [part for part in MIGRATION.read_text().split(";\n\n") if part.startswith("UPDATE jobs j")]
    emptied = asked(database, "UPDATE jobtrail_g1.jobs SET records_emitted = NULL, records_committed = NULL")
    assert emptied == []
    assert asked(database, "SELECT * FROM jobtrail_g1.jobs ORDER BY job_id") != derived
    with connect(database) as connection:
        connection.execute("SET search_path = jobtrail_g1")
        connection.execute(update.encode())
    assert asked(database, "SELECT * FROM jobtrail_g1.jobs ORDER BY job_id") == derived
    assert totals(database)[0] is not None
