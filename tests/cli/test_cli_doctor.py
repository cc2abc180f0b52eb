from __future__ import annotations

import json
from pathlib import Path

import psycopg
from cli_scenes import jobtrail, succeeded_job, unset

from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings


def checks(settings: Settings) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status, and what was checked → the check."""
    found = jobtrail(settings, "doctor", "--json")
    assert found.stderr == ""
    return found.returncode, {check["what"]: check for check in json.loads(found.stdout)}


def test_with_nothing_running_it_fails_with_what_to_do(settings: Settings, tmp_path: Path) -> None:
    """Status 3; each line that fails says how to mend it."""
    status, found = checks(unset(settings, tmp_path / "empty"))
    assert status == 3
    assert {what for what, check in found.items() if check["level"] == "fail"} == {"Kafka", "Postgres"}
    assert all("jobtrail up" in found[what]["found"] for what in ("Kafka", "Postgres"))


def test_what_no_projector_has_folded_is_seen(settings: Settings) -> None:
    with Publisher(settings) as publisher:
        publisher.publish_all(succeeded_job(7))
    # Only the fixture's topics are there; nothing is made by looking.
    status, found = checks(settings)
    assert status == 0
    assert found["projector"]["level"] == "warn"
    assert found["projector"]["found"] == "3 events behind the log"
    assert found["topics"]["level"] == "ok"


def test_a_topic_that_is_not_there_is_named_and_not_made(settings: Settings) -> None:
    other = settings.model_copy(update={"events_topic": f"{settings.events_topic}-none"})
    for _ in range(2):
        status, found = checks(other)
        assert (status, found["topics"]["level"]) == (1, "fail")
        assert other.events_topic in found["topics"]["found"]


def test_missing_migrations_and_servers_that_are_away(settings: Settings) -> None:
    """A database without our tables is status 1, servers that do not answer are status 3."""
    assert settings.database_url
    with psycopg.connect(settings.database_url) as connection:
        connection.execute(
            "DELETE FROM jobtrail_g1._yoyo_migration WHERE migration_id = '0002_failure_summary'"
        )
    status, found = checks(settings)
    assert (status, found["migrations"]["found"]) == (1, "0002_failure_summary not applied")
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("DROP SCHEMA jobtrail CASCADE")
    status, found = checks(settings)
    assert status == 1
    assert "jobtrail migrate" in found["Postgres"]["found"]
    away = settings.model_copy(
        update={
            "kafka_bootstrap_servers": "127.0.0.1:9",
            "database_url": "postgresql://somebody:secret@127.0.0.1:9/x",
        }
    )
    status, found = checks(away)
    assert (status, found["Kafka"]["level"], found["Postgres"]["level"]) == (3, "fail", "fail")
    assert "secret" not in json.dumps(found)


def test_fallback_variables_are_named(settings: Settings, tmp_path: Path) -> None:
    """Whoever wonders where an address comes from is told."""
    mine = unset(settings, tmp_path / "empty")
    found = jobtrail(mine, "doctor", DATABASE_URL=settings.database_url or "")
    assert "DATABASE_URL is used, as JOBTRAIL_DATABASE_URL is not set" in found.stdout
