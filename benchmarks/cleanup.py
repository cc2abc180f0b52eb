"""Cleanup of a million heartbeats while heartbeats arrive: how long a writer waits, and whether counts hold.

    make bench-cleanup
    python benchmarks/cleanup.py [--rows N] [--dataplanes N] [--database-url URL] [--json]

A writer merges a heartbeat of each dataplane and some that were delivered before, again and again, as a
projector does. It works alone, then beside the cleanup, then beside the floor: one plain DELETE of the same
rows. Its wait for locks is limited to 100 ms; exit status 1 if it ever was longer, or a count is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import psycopg

from jobtrail import embedded
from jobtrail.consumers.heartbeat_cleanup import BATCH, clean_heartbeats
from jobtrail.kinds import micros
from jobtrail.projections.migrate import migrate
from jobtrail.projections.store import Store
from jobtrail.settings import Settings

#: Of those in the table, how many come again in each merge.
AGAIN: Final = 50
#: Seconds between two merges; the projector of a busy registry has fewer.
PAUSE: Final = 0.01
LONGEST_WAIT_MS: Final = 100
#: Two in three are 8 to 21 days old, the others up to 6: the retention of 7 days lies between.
FILL: Final = """
    INSERT INTO jobtrail_g1.heartbeats (dataplane_id, event_id, heard_at, dataplane_version, received_at)
    SELECT 'dataplane-' || n %% %(dataplanes)s, gen_random_uuid(), at, '1.2', at
    FROM generate_series(0, %(rows)s - 1) n,
    LATERAL (
        SELECT now() - CASE n %% 3 WHEN 0 THEN interval '6 days' ELSE interval '13 days' END * n / %(rows)s
            - CASE n %% 3 WHEN 0 THEN interval '0' ELSE interval '8 days' END AS at
    ) t
"""
OLD: Final = "SELECT count(*) FROM jobtrail_g1.heartbeats WHERE heard_at < now() - interval '7 days'"
#: As the floor: no batches, no horizon, nobody asked who else works.
PLAIN: Final = """
    DELETE FROM jobtrail_g1.heartbeats h
    USING (
        SELECT DISTINCT ON (dataplane_id) dataplane_id, event_id
        FROM jobtrail_g1.heartbeats ORDER BY dataplane_id, heard_at DESC, event_id DESC
    ) newest
    WHERE h.dataplane_id = newest.dataplane_id AND h.event_id <> newest.event_id
        AND h.heard_at < now() - interval '7 days'
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was done beside the writer, and how the writer fared. Times of whole merges, in milliseconds."""

    what: str
    seconds: float
    old_before: int
    deleted: int
    batches: int
    rows_per_second: int
    #: The floor has no horizon: what is delivered again is back.
    old_after: int
    all_others_are_there: bool
    merges: int
    merge_p50_ms: float
    merge_p99_ms: float
    merge_longest_ms: float
    lock_waits_over_100_ms: int


class Writer(threading.Thread):
    """Merges as a projector does, until `done`."""

    def __init__(self, url: str, dataplanes: int, again: pl.DataFrame) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.took: list[float] = []
        self.refused = self.merged = 0
        self.error: BaseException | None = None
        self._store = Store.open(url)
        self._store.connection.execute(f"SET lock_timeout = '{LONGEST_WAIT_MS}ms'")
        self._dataplanes, self._again = dataplanes, again

    def run(self) -> None:
        """The merges, each timed."""
        try:
            while not self.done.wait(PAUSE):
                self._merge()
        except BaseException as error:  # noqa: BLE001  # raised where the writer is awaited
            self.error = error
        finally:
            self._store.close()

    def _merge(self) -> None:
        rows = pl.concat([self._arriving(), self._again.sample(min(AGAIN, self._again.height))])
        begun = time.perf_counter()
        try:
            with self._store.transaction() as tx:
                tx.merge({"heartbeats": rows})
            self.merged += 1
        except psycopg.errors.LockNotAvailable:
            self.refused += 1
        self.took.append((time.perf_counter() - begun) * 1000)

    def _arriving(self) -> pl.DataFrame:
        now = micros(datetime.now(UTC))
        return pl.DataFrame(
            {
                "dataplane_id": [f"dataplane-{number}" for number in range(self._dataplanes)],
                "event_id": [str(uuid.uuid4()) for _ in range(self._dataplanes)],
                "heard_at": [now] * self._dataplanes,
                "dataplane_version": ["1.2"] * self._dataplanes,
                "received_at": [now] * self._dataplanes,
            }
        )


class Bench:
    """One database, filled anew for each measurement."""

    def __init__(self, url: str, rows: int, dataplanes: int) -> None:
        self.url, self.rows, self.dataplanes = url, rows, dataplanes
        self.connection = psycopg.connect(url, autocommit=True)

    def _one(self, statement: str) -> int:
        row = self.connection.execute(statement.encode()).fetchone()
        assert row is not None  # noqa: S101  # an aggregate
        return int(row[0])

    def fill(self) -> None:
        """The table as it is before a cleanup."""
        self.connection.execute("TRUNCATE jobtrail_g1.heartbeats")
        self.connection.execute("UPDATE jobtrail.horizons SET kept_from = '2000-01-01Z'")
        self.connection.execute(FILL, {"rows": self.rows, "dataplanes": self.dataplanes})
        self.connection.execute("VACUUM ANALYZE jobtrail_g1.heartbeats")
        self.connection.execute("CHECKPOINT")

    def measure(self, what: str, work: Callable[[], tuple[int, int]]) -> Measured:
        """`work` gives how many rows it deleted, in how many batches."""
        self.fill()
        before = self._one(OLD)
        again = pl.DataFrame(
            self.connection.execute(
                "SELECT dataplane_id, event_id::text, (extract(epoch FROM heard_at) * 1000000)::bigint,"
                " dataplane_version, (extract(epoch FROM received_at) * 1000000)::bigint"
                " FROM jobtrail_g1.heartbeats ORDER BY event_id LIMIT 10000"
            ).fetchall(),
            schema=["dataplane_id", "event_id", "heard_at", "dataplane_version", "received_at"],
            orient="row",
        )
        writer = Writer(self.url, self.dataplanes, again)
        writer.start()
        time.sleep(1)
        writer.took.clear()
        begun = time.perf_counter()
        deleted, batches = work()
        seconds = time.perf_counter() - begun
        took = sorted(writer.took)
        writer.done.set()
        writer.join()
        if writer.error is not None:
            raise writer.error
        after = self._one(OLD)
        young = self._one("SELECT count(*) FROM jobtrail_g1.heartbeats") - after
        return Measured(
            what=what,
            seconds=round(seconds, 2),
            old_before=before,
            deleted=deleted,
            batches=batches,
            rows_per_second=round(deleted / seconds),
            old_after=after,
            all_others_are_there=young == self.rows - before + writer.merged * self.dataplanes,
            merges=len(took),
            merge_p50_ms=round(statistics.median(took), 1),
            merge_p99_ms=round(took[int(len(took) * 0.99)], 1),
            merge_longest_ms=round(took[-1], 1),
            lock_waits_over_100_ms=writer.refused,
        )

    def cleanup(self) -> tuple[int, int]:
        """Ours."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            report = clean_heartbeats(connection, Settings(), threading.Event(), dry_run=False)
        return int(report.facts["deleted"]), int(report.facts["batches"])

    def plain(self) -> tuple[int, int]:
        """The floor."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(PLAIN).rowcount, 1


def nothing(seconds: float) -> Callable[[], tuple[int, int]]:
    """The writer alone."""

    def wait() -> tuple[int, int]:
        time.sleep(seconds)
        return 0, 0

    return wait


@contextlib.contextmanager
def database(url: str | None) -> Iterator[str]:
    """The one given, else an embedded Postgres of its own, durable as in use."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="jobtrail-bench-") as folder:
        Path(folder).chmod(0o755)  # as root, another account runs the server
        with embedded.servers(Path(folder) / "home", kafka=False, on_progress=lambda _: None) as servers:
            yield servers.database_url


def main() -> int:
    """Measures, prints, and says by its exit status whether it held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_500_000, help="in the table; two in three are old")
    parser.add_argument("--dataplanes", type=int, default=20)
    parser.add_argument("--database-url", help="an empty database (default: an embedded one)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with database(options.database_url) as url:
        migrate(url)
        bench = Bench(url, options.rows, options.dataplanes)
        found = [
            bench.measure("the writer alone, 10 s", nothing(10)),
            bench.measure(f"cleanup, batches of {BATCH:,}", bench.cleanup),
            bench.measure("floor: one plain DELETE", bench.plain),
        ]
        bench.connection.close()
    rows: list[dict[str, Any]] = [asdict(one) for one in found]
    if options.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
    else:
        for name in rows[0]:
            print(f"{name:<24}" + "".join(f"{row[name]!s:>28}" for row in rows))
    ours = found[1]
    right = ours.deleted == ours.old_before and not ours.old_after and ours.all_others_are_there
    return 0 if right and not ours.lock_waits_over_100_ms else 1


if __name__ == "__main__":
    sys.exit(main())
