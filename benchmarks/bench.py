"""Where the engines of benchmarks/replay.py run: servers, fresh databases, and the table that peers fill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import TopicPartition
from event_log import Log, consumer, ends, ensure
from psycopg import sql

from jobtrail import codec
from jobtrail.events import Event, StreamStats
from jobtrail.projections.migrate import migrate
from jobtrail.settings import default_cache

#: Most seconds for one round of the slowest.
PATIENCE: Final = 1_800.0
#: Key, order and counters of all rows: whatever wrote them, they are the same.
DIGEST: Final = """
    SELECT count(*), sum(sequence)::text, sum(records_emitted)::text, sum(hashtext(event_id::text))::text
    FROM {table}
"""
LAST: Final = """
    SELECT sequence FROM stream_stats
    WHERE job_id = %s AND attempt_number = %s AND stream_namespace = %s AND stream_name = %s AND reporter = %s
"""


@dataclass(frozen=True)
class Bench:
    """The servers and the log."""

    home: Path
    kafka: str
    postgres: str
    log: Log

    @property
    def cache(self) -> Path:
        """Where what is installed apart is kept."""
        folder = Path(os.environ.get("JOBTRAIL_CACHE") or default_cache()) / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def topic(self, form: str) -> tuple[str, int]:
        """The topic in a form, written if it is not there, and how many messages it has."""
        found = ensure(self.kafka, self.log, form, say=say)
        return self.log.topic(form), found

    def database(self, name: str) -> str:
        """Address of a new, migrated database in which no transaction waits for the disk.

        Jobtrail commits so by itself: rows and checkpoint are lost together and read again.
        """
        named = sql.Identifier(f"bench_{name}")
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(named))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(named))
            connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(named))
            connection.execute("CHECKPOINT")
        url = database_of(self.postgres, name)
        migrate(url)
        return url

    def table_for(self, name: str) -> str:
        """A new database in which `public.stream_stats` is as in the read models, and empty."""
        url = self.database(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE public.stream_stats (LIKE jobtrail_g1.stream_stats INCLUDING ALL)"
                " WITH (fillfactor = 70)"
            )
            # Else the view of this name would be found first.
            connection.execute("DROP SCHEMA jobtrail, jobtrail_g1 CASCADE")
        return url

    def last_stats(self, topic: str) -> list[StreamStats]:
        """The last StreamStats of each partition of the log of events."""
        reader = consumer(self.kafka)
        found = []
        try:
            for partition, end in ends(self.kafka, topic).items():
                last: Event | None = None
                back = 1
                while not isinstance(last, StreamStats) and back <= end:
                    reader.assign([TopicPartition(topic, partition, end - back)])
                    message = reader.poll(30)
                    last = codec.decode(message.value() if message else None)
                    back += 1
                if isinstance(last, StreamStats):
                    found.append(last)
        finally:
            reader.close()
        return found


def database_of(postgres: str, name: str) -> str:
    """Address of a database of the benchmarks, beside the one at `postgres`."""
    return f"{postgres.rpartition('/')[0]}/bench_{name}"


def say(text: str) -> None:
    """For people; the figures go to the standard output alone."""
    print(text, file=sys.stderr, flush=True)


class Filling:
    """How far a peer has filled its table: cheap questions by key, on a connection of its own."""

    def __init__(self, url: str, last: list[StreamStats]) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self._left = list(last)

    def begun(self) -> bool:
        """Whether a row is there."""
        return bool(self.connection.execute("SELECT FROM stream_stats LIMIT 1").rowcount)

    def done(self) -> bool:
        """Whether the last event of every partition is there."""
        self._left = [event for event in self._left if not self._has(event)]
        return not self._left

    def _has(self, event: StreamStats) -> bool:
        key = (
            *(event.job_id, event.attempt_number, event.stream_namespace or ""),
            *(event.stream_name, event.reporter),
        )
        found = self.connection.execute(LAST, key).fetchone()
        return found is not None and found[0] >= event.sequence

    def close(self) -> None:
        """Ends the connection."""
        self.connection.close()


def digest(url: str, table: str = "stream_stats") -> dict[str, Any]:
    """What tells whether two tables of stream stats are the same."""
    with psycopg.connect(url) as connection:
        row = connection.execute(DIGEST.format(table=table).encode()).fetchone()
    assert row is not None  # noqa: S101  # an aggregate
    return dict(zip(("rows", "sequences", "records", "event_ids"), row, strict=True))


def rows_of(url: str) -> dict[str, int]:
    """Table of the live read models → its rows."""
    names = ("jobs", "attempts", "job_events", "stream_stats", "stream_statuses", "anomalies")
    with psycopg.connect(url) as connection:
        return {
            name: int(connection.execute(f"SELECT count(*) FROM jobtrail.{name}".encode()).fetchone()[0])  # type: ignore[index]  # noqa: S608
            for name in names
        }


def jdbc(url: str) -> tuple[str, str, str]:
    """JDBC address, user and password of a libpq address."""
    parts = urlsplit(url)
    return (
        f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}",
        str(parts.username),
        str(parts.password),
    )


@contextlib.contextmanager
def program(
    command: list[str | Path], log: Path, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs it; what it prints goes to `log`; it is ended with the block, with all that it started."""
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        ) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
