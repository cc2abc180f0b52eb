"""Jobtrail in the replay benchmark: a backlog folded live, and a rebuild, as a user starts them."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
from bench import PATIENCE, Bench, digest, program, rows_of
from measured import Round, await_true, cpu, metered, spent

COMMAND: list[str | Path] = [sys.executable, "-m", "jobtrail.cli.main"]
FOLDED = "SELECT coalesce(sum(next_offset), 0) FROM jobtrail.checkpoints WHERE topic = %s"


def environment(bench: Bench, url: str, topic: str) -> dict[str, str]:
    """Settings of one run; all others are the defaults."""
    return {
        "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": bench.kafka,
        "JOBTRAIL_DATABASE_URL": url,
        "JOBTRAIL_EVENTS_TOPIC": topic,
        "JOBTRAIL_REGISTRY_TOPIC": "bench.registry",
        "JOBTRAIL_DEAD_LETTERS_TOPIC": "bench.dead-letters",
        "JOBTRAIL_ANALYTICS_TOPIC": "bench.analytics",
        "JOBTRAIL_PROJECTOR_GROUP": f"bench-{uuid.uuid4()}",
    }


def live(bench: Bench) -> tuple[Round, str]:
    """A backlog folded by `jobtrail projector`, from its first line until all is folded; and the database.

    The first line comes before the partitions are assigned, so joining the group is counted.
    """
    topic, events = bench.topic("events")
    url = bench.database("live")
    log = bench.home / "live.log"
    with (
        program(
            [*COMMAND, "projector"], log, environment(bench, url, topic) | {"PYTHONUNBUFFERED": "1"}
        ) as process,
        psycopg.connect(url, autocommit=True) as watching,
    ):
        alive = lambda: process.poll() is None  # noqa: E731
        await_true(lambda: b"folding" in log.read_bytes(), 60, "jobtrail projector starts", alive)
        with metered(bench.home, process.pid) as meter:
            await_true(lambda: _folded(watching, topic) >= events, PATIENCE, "jobtrail projector", alive)
            found = meter.end(events)
    found.found = digest(url, f"{live_schema(url)}.stream_stats") | {"tables": rows_of(url)}
    return found, url


def _folded(connection: psycopg.Connection[Any], topic: str) -> int:
    row = connection.execute(FOLDED, (topic,)).fetchone()
    assert row is not None  # noqa: S101  # an aggregate
    return int(row[0])


def live_schema(url: str) -> str:
    """Where the tables are that readers see."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT generation FROM jobtrail.current_generation").fetchone()
    assert row is not None  # noqa: S101  # it always has one
    return f"jobtrail_g{row[0]}"


def has(command: str) -> bool:
    """Whether this Jobtrail has the command."""
    ran = subprocess.run([*COMMAND, command, "--help"], capture_output=True, check=False)
    return ran.returncode == 0


def rebuild(bench: Bench, url: str) -> Round:
    """`jobtrail rebuild --yes` beside the read models in `url`, from when its first process can read."""
    topic, events = bench.topic("events")
    log = bench.home / "rebuild.log"
    with psycopg.connect(url, autocommit=True) as connection:
        # What those before it left to be done: others begin with a new database, and a checkpoint.
        connection.execute("VACUUM")
        connection.execute("CHECKPOINT")
    before, begun = spent(), time.perf_counter()
    with program([*COMMAND, "rebuild", "--yes"], log, environment(bench, url, topic)) as process:
        alive = lambda: process.poll() is None  # noqa: E731
        await_true(lambda: b"reading: 0 of" in log.read_bytes(), 60, "jobtrail rebuild starts", alive)
        with metered(bench.home, process.pid) as meter:
            start, spent_for_it = time.perf_counter() - begun, cpu(process.pid)
            process.wait(PATIENCE)
            found = meter.end(events)
    found.start = start
    # What is gone cannot be read any more; its parent was told.
    found.cpu = spent() - before - spent_for_it
    if process.returncode:
        raise RuntimeError(f"jobtrail rebuild ended with {process.returncode}: {log.read_text()[-2000:]}")
    found.found = digest(url, f"{live_schema(url)}.stream_stats") | {"tables": rows_of(url)}
    return found
