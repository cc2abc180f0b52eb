"""Runs the command line as a person does, in a process of its own, over the servers of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jobtrail import events as e
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

COMMAND = (sys.executable, "-W", "error", "-m", "jobtrail.cli.main")
E = TypeVar("E", bound=e.Event)


def start() -> datetime:
    """Five minutes before the test that runs began: a whole run takes longer than a clock may be off."""
    return _start_of(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0])


@cache
def _start_of(_test: str) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)


#: Moves a terminal's cursor, turns text red, turns its direction, and is markup of rich.
NASTY = "us\x1b[31mers\r\x07\u202e[bold red]x[/]"


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The settings as variables, and nothing else of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBTRAIL_")}
    return {**kept, **settings.environ(), **more}


def jobtrail(settings: Settings, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(settings, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def unset(settings: Settings, home: Path) -> Settings:
    """The same without servers, under another home."""
    return Settings(home=home, cache=settings.cache)


def made(event_type: type[E], seconds: float, **fields: Any) -> E:
    """An event of some seconds after `start`, five minutes ago."""
    return event_type(occurred_at=start() + timedelta(seconds=seconds), **fields)


def publish(settings: Settings, events: Iterable[e.Event]) -> None:
    """To Kafka, and through the projector."""
    with Publisher(settings) as publisher:
        publisher.publish_all(events)
    project_until_caught_up(settings)


def created(job_id: int, **fields: Any) -> e.JobCreated:
    values = {"config_type": "sync", "config_id": "connection-1", "connection_id": "connection-1", **fields}
    return made(e.JobCreated, 0, job_id=job_id, **values)


def failed_job(job_id: int, stream: str = "users") -> list[e.Event]:
    """The source ended it when 120 of 200 records had been committed."""
    about = {"job_id": job_id, "attempt_number": 0}
    return [
        created(job_id),
        made(e.AttemptStarted, 1, **about, worker="worker-1"),
        made(
            e.StreamStats,
            2,
            **about,
            stream_name=stream,
            reporter="platform",
            sequence=1,
            records_emitted=200,
            bytes_emitted=20_000,
            records_committed=120,
        ),
        made(
            e.Failure,
            3,
            **about,
            failure_origin="source",
            failure_type="system_error",
            internal_message=f"{stream}: read timed out",
            external_message="Something went wrong within the source connector",
            stacktrace="Traceback\n  line of the trace",
            retryable=True,
        ),
        made(e.AttemptFailed, 4, **about),
        made(e.JobFailed, 5, job_id=job_id),
    ]


def succeeded_job(job_id: int) -> list[e.Event]:
    about = {"job_id": job_id, "attempt_number": 0}
    return [
        created(job_id, connection_id="connection-2", config_id="connection-2"),
        made(e.AttemptStarted, 1, **about),
        made(e.AttemptSucceeded, 2, **about),
    ]
