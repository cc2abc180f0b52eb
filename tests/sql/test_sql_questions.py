"""The queries of docs/sql.md, as they stand there, on jobs whose answers are known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from api_scenes import project
from known_answers import ANSWERS
from planned_jobs import Job, events_of, in_march, planned
from rebuild_scenes import interleaved, publish

from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()
QUESTIONS = dict(re.findall(r"^### (.+?)\n.*?```sql\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))
(ROLE,) = re.findall(r"```sql\n(CREATE ROLE.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return planned()


@pytest.fixture(scope="module")
def analysed(database_module: str, jobs: list[Job]) -> str:
    """The read models of the planned jobs."""
    project(database_module, [event for job in jobs for event in events_of(job)])
    return database_module


def plain(rows: Any) -> list[tuple[Any, ...]]:
    """Numbers as floats, so that they compare with those of Python; the same of both sides."""

    def value(found: Any) -> Any:
        return pytest.approx(float(found), rel=1e-9) if isinstance(found, int | float | Decimal) else found

    return [tuple(value(each) for each in row) for row in rows]


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        connection.execute("SET TIME ZONE 'Asia/Kathmandu'")  # days are those of UTC all the same
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_query_of_the_page_gives_the_known_answer(analysed: str, jobs: list[Job], question: str) -> None:
    known = ANSWERS[question](jobs)
    assert known, "the plan has nothing that the question asks for"
    found = asked(analysed, QUESTIONS[question])
    assert [tuple(map(_number, row)) for row in found] == plain(known)


def _number(found: Any) -> Any:
    return float(found) if isinstance(found, int | Decimal) and not isinstance(found, bool) else found


def test_every_answer_has_its_question_on_the_page() -> None:
    assert {*ANSWERS} == {*QUESTIONS}
    assert len(QUESTIONS) >= 12


def test_the_same_answers_come_through_kafka_and_the_projector(settings: Settings, jobs: list[Job]) -> None:
    """The first event of each job, then the second of each, in a real log."""
    publish(settings, interleaved([[*events_of(job)] for job in jobs]))
    project_until_caught_up(settings)
    for question in (
        "What did this connection move per day?",
        "Which connector failed most, and whose fault was it?",
        "How much was moved in vain?",
        "What has not ended, and since when?",
    ):
        found = asked(settings.database_url or "", QUESTIONS[question])
        assert [tuple(map(_number, row)) for row in found] == plain(ANSWERS[question](jobs)), question


def test_each_row_of_job_runs_is_the_job(analysed: str, jobs: list[Job]) -> None:
    """Every job of the month: its status, times, attempts, totals and why it failed."""
    found = asked(
        analysed,
        "SELECT job_id, workspace_id, status, started_at, ended_at, duration_seconds, attempts,"
        " failed_attempts, records_committed, bytes_committed FROM jobtrail_analytics.job_runs"
        " WHERE day >= '2026-03-01' AND day < '2026-04-01' ORDER BY job_id",
    )
    known = [
        (
            *(job.job_id, job.connection.workspace, job.status, job.started, job.ended, job.duration),
            *(len(job.attempts), sum(attempt.outcome == "failed" for attempt in job.attempts)),
            *(job.committed, job.committed_bytes),
        )
        for job in in_march(jobs)
    ]
    assert [tuple(map(_number, row)) for row in found] == plain(known)


def test_views_agree_with_each_other(analysed: str) -> None:
    """Sums over one view are those over another: a job is on one day everywhere, and counts once."""
    (totals,) = asked(
        analysed,
        "SELECT sum(jobs), sum(attempts), sum(records_committed),"
        " sum(succeeded_jobs + failed_jobs + cancelled_jobs + unfinished_jobs)"
        " FROM jobtrail_analytics.daily_totals",
    )
    (runs,) = asked(
        analysed,
        "SELECT count(*), sum(attempts), sum(records_committed), count(*) FROM jobtrail_analytics.job_runs",
    )
    assert totals == runs
    (connectors,) = asked(
        analysed,
        "SELECT sum(runs), sum(successes + failures + cancellations + unfinished)"
        " FROM jobtrail_analytics.connector_reliability WHERE connector_role = 'source'",
    )
    assert connectors == (totals[1], totals[1])
    days = asked(
        analysed,
        "SELECT sum(success_rate) + sum(failure_rate) FROM jobtrail_analytics.connector_reliability"
        " GROUP BY day, connector_role, connector_image, connector_version",
    )
    assert [rate for (rate,) in days if rate is not None] == pytest.approx(
        [1.0] * sum(r[0] is not None for r in days)
    )


def test_cancellations_are_neither_successes_nor_failures(analysed: str, jobs: list[Job]) -> None:
    cancelled = sum(attempt.outcome == "cancelled" for job in jobs for attempt in job.attempts)
    assert cancelled > 0
    assert asked(
        analysed,
        "SELECT sum(cancellations), sum(successes), sum(failures)"
        " FROM jobtrail_analytics.connector_reliability"
        " WHERE connector_role = 'source' AND failure_type = 'manual_cancellation'",
    ) == [(cancelled, 0, 0)]


def test_the_totals_are_those_of_the_api(analysed: str) -> None:
    """The rule over attempts stands in SQL for lists of jobs as well; both give the same."""
    from jobtrail.api.queries import query

    with psycopg.connect(analysed, row_factory=psycopg.rows.dict_row) as connection:
        kept = connection.execute(
            "SELECT job_id, records_emitted, bytes_emitted, records_committed, bytes_committed,"
            " records_rejected"
            " FROM jobtrail_analytics.job_runs"
        ).fetchall()
        for row in kept:
            light = connection.execute(query("job_light"), {"job_id": row["job_id"]}).fetchone()
            assert light is not None
            assert {name: light[name] for name in row} == row


@pytest.fixture
def analyst(analysed: str) -> Iterator[str]:
    """The role of the page, made as the page says."""
    name = f"analyst_{datetime.now().timestamp():.6f}".replace(".", "_")  # noqa: DTZ005  # roles are the server's
    with psycopg.connect(analysed, autocommit=True) as connection:
        connection.execute(re.sub(r"\banalyst\b", name, ROLE).encode())
        yield name
        connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_the_role_of_the_page_reads_the_views_and_nothing_else(analysed: str, analyst: str) -> None:
    with psycopg.connect(analysed, autocommit=True) as connection:
        connection.execute(f"SET ROLE {analyst}".encode())
        for query in QUESTIONS.values():
            connection.execute(query.encode())
        for refused in (
            "SELECT * FROM jobtrail.jobs",
            "SELECT * FROM jobtrail_g1.stream_stats",
            "DROP VIEW jobtrail_analytics.anomalies",
            "CREATE TABLE jobtrail_analytics.mine (one integer)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())


def test_a_wrong_column_is_named_with_one_that_there_is(analysed: str) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn, match="duration_seconds"):
        asked(analysed, "SELECT duration_second FROM jobtrail_analytics.job_runs")
