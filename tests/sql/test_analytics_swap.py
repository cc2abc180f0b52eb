"""A rebuild puts other tables under the views for analysts, who notice nothing."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
from rebuild_scenes import HISTORY, publish, rebuilt

from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.settings import Settings

VIEWS = "SELECT relname, oid FROM pg_class WHERE relnamespace = 'jobtrail_analytics'::regnamespace ORDER BY 1"
RUNS = "SELECT * FROM jobtrail_analytics.job_runs ORDER BY job_id"
MINE = "SELECT * FROM public.mine ORDER BY job_id"
STREAMS = "SELECT * FROM jobtrail_analytics.stream_throughput ORDER BY attempt_id, stream_name"


def asked(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description is not None else []


def test_views_stay_themselves_over_a_swap(settings: Settings) -> None:
    """The same objects with the same rows, an analyst's own view over them, and readers without one error."""
    publish(settings, HISTORY)
    project_until_caught_up(settings)
    own = "SELECT job_id, records_committed FROM jobtrail_analytics.job_runs"
    asked(settings, f"CREATE VIEW public.mine AS {own}")
    before = [asked(settings, query) for query in (VIEWS, RUNS, STREAMS, MINE)]
    assert all(before)
    stop, answers, errors = threading.Event(), list[int](), list[psycopg.Error]()

    def reads() -> None:
        with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
            while not stop.is_set():
                try:
                    answers.append(len(connection.execute(STREAMS.encode()).fetchall()))
                except psycopg.Error as error:
                    errors.append(error)

    reader = threading.Thread(target=reads)
    reader.start()
    try:
        result = rebuilt(settings)
    finally:
        stop.set()
        reader.join()
    assert result.swapped
    assert result.same
    assert [asked(settings, query) for query in (VIEWS, RUNS, STREAMS, MINE)] == before
    assert errors == []
    assert {*answers} == {len(before[2])}
