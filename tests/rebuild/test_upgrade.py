"""A release with other rules and columns makes its read models beside those of the release that serves."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from api_scenes import made
from cli_scenes import COMMAND, environment
from cli_service import PATIENCE, started
from rebuild_scenes import HISTORY, job_of, publish

from jobtrail import events as e
from jobtrail.cli.service import RoleThread
from jobtrail.consumers.projector import project_until_caught_up, run_projector
from jobtrail.errors import VersionError
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]
REPOSITORY = Path(__file__).parents[2]
ROOMS = ("jobtrail", "producers", "consumers", "projections", "avro", "migrations")


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """This release with one rule changed, the last creation of a job wins, and one column more."""
    folder = tmp_path / "release"
    for room in ROOMS:
        shutil.copytree(
            REPOSITORY / room, folder / room, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    tables = folder / "projections" / "tables.py"
    text = tables.read_text()
    for old, new in {
        "VERSION: Final = 1": "VERSION: Final = 2",
        '            rank=("created_at", "created_event_id"),\n': (
            '            rank=("created_at", "created_event_id"),\n            wins="latest",\n'
        ),
        '        Extreme("last_heard_at", ATTEMPT_EVENTS, AT, "max"),\n': (
            '        Extreme("last_heard_at", ATTEMPT_EVENTS, AT, "max"),\n'
            '        Extreme("last_beat_at", (e.AttemptHeartbeat,), AT, "max"),\n'
        ),
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    tables.write_text(text)
    migration = folder / "migrations" / "read_models" / "0099_beats.sql"
    migration.write_text("ALTER TABLE attempts ADD COLUMN last_beat_at timestamptz;\n")
    views = folder / "projections" / "views.sql"
    before = "    last_received_at\nFROM attempts"
    assert before in views.read_text()
    views.write_text(
        views.read_text().replace(before, "    last_received_at,\n    last_beat_at\nFROM attempts")
    )
    analytics = folder / "projections" / "analytics.sql"
    before = "    j.labels\nFROM jobtrail.jobs j"
    assert before in analytics.read_text()
    analytics.write_text(
        analytics.read_text().replace(before, "    j.labels,\n    j.config_id\nFROM jobtrail.jobs j")
    )
    return folder


def run(release: Path, settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of that release."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(settings, PYTHONPATH=str(release), PYTHONSAFEPATH="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.timeout(300)
def test_an_upgrade_has_no_gap(settings: Settings, http: Any, next_release: Path) -> None:
    """The old release folds and answers until the swap; the new one goes on from there, by its own rules."""
    twice = made(e.JobCreated, 90, job_id=99, config_type="sync", config_id="later")
    beat = made(e.AttemptHeartbeat, 5, job_id=99, attempt_number=0)
    publish(settings, [*HISTORY, twice, beat])
    project_until_caught_up(settings)
    old = RoleThread("projector", lambda over: run_projector(settings, over))
    old.start()
    stop, answers = Event(), list[str]()

    def reads() -> None:
        while not stop.is_set():
            answers.append(http.asked("get_light", {"id": 99})["job"]["configId"])

    analyst = "SELECT connection_id FROM jobtrail_analytics.job_runs WHERE job_id = 99"
    _execute(settings, f"CREATE VIEW public.mine AS {analyst}")
    reader = Thread(target=reads)
    reader.start()
    try:
        assert run(next_release, settings, "migrate").returncode == 0
        with started(settings, "projector", PYTHONPATH=str(next_release), PYTHONSAFEPATH="1") as new:
            new.await_line("the live read models are of version 1, and this release folds version 2")
            publish(settings, job_of(800))
            _until(settings, "SELECT FROM jobtrail.jobs WHERE job_id = 800 AND ended_at IS NOT NULL")
            swapped = run(next_release, settings, "rebuild", "--yes")
            assert swapped.returncode == 0, swapped.stderr + swapped.stdout
            # The views for analysts are those of the new release, and whoever stands on them stays.
            assert _execute(settings, "SELECT config_id FROM jobtrail_analytics.job_runs WHERE job_id = 99")
            assert _execute(settings, "SELECT FROM public.mine") == [()]
            assert "jobs (job_id 99): created_at:" in swapped.stdout
            # Some in each partition, so that each of both projectors gets some.
            publish(settings, [event for number in range(801, 831) for event in job_of(number)])
            publish(settings, [made(e.AttemptHeartbeat, 6, job_id=801, attempt_number=0)])
            old.join(PATIENCE)
            with pytest.raises(VersionError, match="version 2, and this release folds version 1; upgrade"):
                old.check()
            _until(settings, "SELECT FROM jobtrail.attempts WHERE job_id = 801 AND last_beat_at IS NOT NULL")
    finally:
        stop.set()
        reader.join()
        old.stop.set()
    assert [answers[0], answers[-1]] == [HISTORY_CONFIG, "later"]
    assert sorted(set(answers), key=answers.index) == [HISTORY_CONFIG, "later"]
    assert run(next_release, settings, "rebuild", "--verify-only").returncode == 0


HISTORY_CONFIG = "0b3f4bd4-5b5b-4a0e-9f2a-000000000001"


def _execute(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description is not None else []


def _until(settings: Settings, statement: str) -> None:
    until = time.monotonic() + PATIENCE
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        while not connection.execute(statement.encode()).rowcount:
            assert time.monotonic() < until, statement
            time.sleep(0.05)
