"""One job rebuilt in place: its rows are what the log says, and no other row moves."""

from __future__ import annotations

from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from api_scenes import stats
from cli_scenes import jobtrail
from rebuild_scenes import HISTORY, contents, job_of, publish

from jobtrail.cli.service import RoleThread
from jobtrail.consumers.projector import project_until_caught_up, run_projector
from jobtrail.consumers.rebuild_job import rebuild_job
from jobtrail.settings import Settings


@pytest.fixture
def projected(settings: Settings) -> Settings:
    """The history in the log and in the read models."""
    publish(settings, HISTORY)
    project_until_caught_up(settings)
    return settings


def spoil(settings: Settings, job_id: int) -> None:
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        connection.execute("UPDATE jobtrail_g1.jobs SET status = 'pending' WHERE job_id = %s", (job_id,))
        connection.execute("DELETE FROM jobtrail_g1.stream_stats WHERE job_id = %s", (job_id,))


def test_a_spoilt_job_is_shown_and_repaired(projected: Settings) -> None:
    """--verify-only tells and changes nothing; then its rows are as they were, and so are all others."""
    before = contents(projected)
    spoil(projected, 101)
    spoilt = contents(projected)
    told = jobtrail(projected, "rebuild", "--job", "101", "--verify-only")
    assert told.returncode == 1
    assert "jobs (job_id 101): status: 'pending' → 'cancelled'" in told.stdout
    assert contents(projected) == spoilt
    done = jobtrail(projected, "rebuild", "--job", "101")
    assert done.returncode == 0, done.stderr
    assert contents(projected) == before
    assert jobtrail(projected, "rebuild", "--job", "101", "--verify-only").returncode == 0


def test_of_a_job_that_the_log_does_not_have_nothing_is_deleted_without_force(projected: Settings) -> None:
    missing = jobtrail(projected, "rebuild", "--job", "5")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no job 5, neither in the log nor in the read models" in missing.stderr
    with psycopg.connect(projected.database_url or "", autocommit=True) as connection:
        connection.execute("INSERT INTO jobtrail_g1.jobs (job_id, first_seen_at) VALUES (5, now())")
        refused = jobtrail(projected, "rebuild", "--job", "5")
        assert refused.returncode == 1
        assert "the log has nothing of job 5, and the read models have" in refused.stderr
        assert jobtrail(projected, "rebuild", "--job", "5", "--force").returncode == 0
        assert connection.execute("SELECT FROM jobtrail_g1.jobs WHERE job_id = 5").rowcount == 0


def test_events_that_arrive_meanwhile_are_not_lost(projected: Settings) -> None:
    """A projector folds the same job while it is rebuilt, again and again."""
    stop = Event()
    projector = RoleThread("projector", lambda over: run_projector(projected, over))

    def publishes() -> None:
        second = 30
        while not stop.is_set():
            publish(
                projected, [stats(102, 1, "users", second, records_emitted=second), *job_of(1000 + second)]
            )
            second += 1
            stop.wait(0.05)

    thread = Thread(target=publishes)
    projector.start()
    thread.start()
    try:
        results = [
            rebuild_job(projected, 102, archive=None, verify_only=False, force=False) for _ in range(5)
        ]
    finally:
        stop.set()
        thread.join()
        projector.stop.set()
        projector.join(30)
    projector.check()
    assert [list(result.differences) for result in results] == [[]] * 5
    project_until_caught_up(projected)
    last: Any = rebuild_job(projected, 102, archive=None, verify_only=True, force=False)
    assert last.same
