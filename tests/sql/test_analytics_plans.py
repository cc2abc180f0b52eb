"""What Postgres does for an analyst's month: stream stats are read by the ids of its jobs alone."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from test_sql_questions import QUESTIONS
from views import QUERIES, explained, nodes, scans

ROWS = Path(__file__).parents[2] / "benchmarks"
JOBS = 20_000
#: Every column of every view; the questions have the others.
WHOLE = {
    view: f"SELECT * FROM jobtrail_analytics.{view} WHERE day >= '2025-06-01' AND day < '2025-07-01'"  # noqa: S608
    for view, _ in QUERIES
}


@pytest.fixture(scope="module")
def populated(database_module: str) -> str:
    """20,000 jobs of a year with 200,000 rows of stream stats, analysed, as the benchmark has them."""
    with psycopg.connect(database_module, autocommit=True) as connection:
        connection.execute("SET search_path = jobtrail_g1")
        for file in ("read_rows.sql", "views_rows.sql"):
            for statement in (ROWS / file).read_text().split("\n;\n"):
                if statement.strip():
                    connection.execute(statement.encode(), {"jobs": JOBS, "apart": 365 * 86_400 / JOBS})
        connection.execute("VACUUM (ANALYZE)")
    return database_module


@pytest.mark.parametrize("query", [*QUERIES.values(), *WHOLE.values()])
def test_no_query_of_a_month_scans_stream_stats_or_jobs(populated: str, query: str) -> None:
    """Where scans cost nothing as well, and where they are all that costs nothing."""
    with psycopg.connect(populated) as connection:
        for costs in ("SELECT", "SET LOCAL seq_page_cost = 0; SET LOCAL cpu_tuple_cost = 0.0001"):
            with connection.transaction():
                connection.execute(costs.encode())
                plan = explained(connection, query)
                assert [*scans(plan)] == []
                if costs == "SELECT":
                    whole = [
                        n
                        for n in nodes(plan)
                        if n.get("Relation Name") == "jobs" and n["Node Type"] == "Seq Scan"
                    ]
                    assert whole == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_of_the_page_scans_stream_stats(populated: str, question: str) -> None:
    query = QUESTIONS[question].strip().removesuffix(";").replace("2026-", "2025-")
    with psycopg.connect(populated) as connection:
        assert [*scans(explained(connection, query))] == []


def test_what_nobody_asks_for_is_not_read(populated: str) -> None:
    """Status and times of a month's jobs need neither attempts nor stream stats."""
    with psycopg.connect(populated) as connection:
        plan = explained(
            connection,
            "SELECT status, avg(duration_seconds) FROM jobtrail_analytics.job_runs"
            " WHERE day >= '2025-06-01' AND day < '2025-07-01' GROUP BY status",
        )
    assert {node["Relation Name"] for node in nodes(plan) if "Relation Name" in node} == {"jobs"}


def test_the_law_finds_a_scan(populated: str) -> None:
    """Else it would hold of anything."""
    with psycopg.connect(populated) as connection:
        assert [*scans(explained(connection, "SELECT sum(records_emitted) FROM jobtrail.stream_stats"))]
        assert [*scans(explained(connection, "SELECT max(records_emitted) FROM jobtrail.attempt_totals"))]


def test_the_rows_have_the_totals_that_the_rule_gives(populated: str) -> None:
    """The benchmark's jobs are as a projector leaves them."""
    with psycopg.connect(populated) as connection:
        wrong = connection.execute(
            "SELECT j.job_id FROM jobtrail.jobs j CROSS JOIN LATERAL ("
            " SELECT sum(records_emitted) AS emitted, sum(bytes_committed) AS committed"
            " FROM jobtrail.counted_streams c WHERE c.job_id = j.job_id AND c.counts) t"
            " WHERE j.job_id <= 500"
            " AND (j.records_emitted, j.bytes_committed) IS DISTINCT FROM (t.emitted, t.committed)"
        ).fetchall()
    assert wrong == []
