"""`jobtrail schedules` and `jobtrail heartbeat`, as a person types them."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from cli_scenes import jobtrail, publish
from cli_service import PATIENCE, started

from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.consumers.schedules import SCHEDULES
from jobtrail.events import DataplaneHeartbeat
from jobtrail.settings import Settings

CLEANUP = "heartbeat-cleanup"


def listed(settings: Settings) -> dict[str, Any]:
    """The cleanup, as the list has it."""
    found = jobtrail(settings, "schedules", "list", "--json")
    assert (found.returncode, found.stderr) == (0, "")
    (schedule,) = (one for one in json.loads(found.stdout) if one["name"] == CLEANUP)
    assert isinstance(schedule, dict)
    return schedule


def test_a_dry_run_a_run_and_what_the_list_says_of_it(settings: Settings) -> None:
    """Counts first, then the same is deleted; the list has the run, its result and the next time."""
    now = datetime.now(UTC)
    publish(
        settings,
        [
            DataplaneHeartbeat(dataplane_id="eu-1", occurred_at=now - timedelta(days=days))
            for days in (0, 1, 8, 9, 10)
        ],
    )
    before = listed(settings)
    assert (before["name"], before["cron"], before["result"]) == (CLEANUP, "0 2 * * *", "never")
    dry = jobtrail(settings, "schedules", "run", CLEANUP, "--dry-run", "--json")
    assert (dry.returncode, dry.stderr) == (0, "")
    would = json.loads(dry.stdout)
    assert (would["dryRun"], would["deleted"], would["batches"]) == (True, 3, 0)
    assert listed(settings)["result"] == "never"
    ran = jobtrail(settings, "schedules", "run", CLEANUP)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"{CLEANUP}: deleted 3 heartbeats in 1 batches")
    after = listed(settings)
    assert (after["result"], after["detail"]) == ("done", ran.stdout.partition(": ")[2].strip())
    assert before["startedAt"] is None
    assert after["startedAt"] <= after["finishedAt"] < after["nextRun"]
    assert after["nextRun"].endswith("T02:00:00+00:00")
    table = jobtrail(settings, "schedules", "list").stdout
    assert all(word in table for word in (CLEANUP, "0 2 * * *", "done", "deleted 3 heartbeats"))


def test_one_that_runs_elsewhere_is_not_run_twice(settings: Settings) -> None:
    """Status 1 and one line; the list is not disturbed."""
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", SCHEDULES[0].lock)
        found = jobtrail(settings, "schedules", "run", CLEANUP)
    assert (found.returncode, found.stderr.count("\n")) == (1, 1)
    assert "runs in another process" in found.stderr
    assert listed(settings)["result"] == "never"


def test_a_name_that_is_none_is_refused_with_the_near_one(settings: Settings) -> None:
    found = jobtrail(settings, "schedules", "run", "heartbeat-clean")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert f"did you mean '{CLEANUP}'?" in found.stderr


@pytest.mark.parametrize("command", [["up"], ["projector"], ["schedules", "list"]])
def test_a_time_that_is_none_is_refused_at_once(settings: Settings, command: list[str]) -> None:
    found = jobtrail(settings, *command, JOBTRAIL_HEARTBEAT_CLEANUP_CRON="at night")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert found.stderr.startswith("jobtrail: JOBTRAIL_HEARTBEAT_CLEANUP_CRON: 'at night'")


@pytest.mark.timeout(300)
def test_the_projector_makes_up_for_a_missed_run_and_logs_the_counts(settings: Settings) -> None:
    """Nothing ran for a week: it runs once, at the start, and says what it deleted."""
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO jobtrail.schedule_runs"
            " VALUES (%s, now() - interval '7 days', now() - interval '7 days', 'done', 'long ago')",
            (CLEANUP,),
        )
        with started(settings, "projector") as projector:
            assert "deleted 0 heartbeats" in projector.await_line(f"{CLEANUP}: ")
            until = time.monotonic() + PATIENCE
            while listed(settings)["detail"] == "long ago" and time.monotonic() < until:
                time.sleep(0.1)
            assert projector.end() == 0
        runs = connection.execute(
            "SELECT outcome FROM jobtrail.schedule_runs WHERE schedule = %s ORDER BY started_at", (CLEANUP,)
        ).fetchall()
    assert runs == [("done",), ("done",)]


@pytest.mark.timeout(300)
def test_a_dataplane_without_attempts_says_that_it_is_alive(settings: Settings) -> None:
    """Until Ctrl-C; and once, for who calls it from elsewhere."""
    with started(settings, "heartbeat", "--dataplane", "eu-1", "--version", "1.2") as beating:
        beating.await_line("eu-1")
        assert beating.end(signal.SIGINT) == 0
    once = jobtrail(settings, "heartbeat", "--once", JOBTRAIL_DATAPLANE="us-1")
    assert (once.returncode, once.stdout, once.stderr) == (0, "", "")
    project_until_caught_up(settings)
    with started(settings, "api") as api:
        body = {"dataplaneIds": ["eu-1", "us-1", "asia-1"]}
        answer = httpx.post(f"{api.url()}/api/v1/dataplanes/health", json=body, timeout=30).json()
    assert [
        (one["dataplane_id"], one["status"], one.get("dataplane_version")) for one in answer["dataplanes"]
    ] == [("asia-1", "UNKNOWN", None), ("eu-1", "HEALTHY", "1.2"), ("us-1", "HEALTHY", None)]


def test_a_heartbeat_needs_a_dataplane(settings: Settings) -> None:
    found = jobtrail(settings, "heartbeat", "--once")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "JOBTRAIL_DATAPLANE" in found.stderr
