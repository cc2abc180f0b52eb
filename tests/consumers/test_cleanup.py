"""Old heartbeats and what is kept of requests go, in batches; the newest of each dataplane stays."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from frames import frames_of
from psycopg import Connection

from jobtrail import events as e
from jobtrail.consumers import heartbeat_cleanup, request_cleanup
from jobtrail.consumers.heartbeat_cleanup import BATCH, clean_heartbeats
from jobtrail.consumers.request_cleanup import RETENTION, clean_requests
from jobtrail.consumers.waiting import StoppedError
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Store
from jobtrail.settings import Settings

NEVER = threading.Event()
#: A writer that waits for a lock for longer fails.
LONGEST_WAIT = "100ms"
DAY = timedelta(days=1)


@pytest.fixture
def connection(database: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store.open(database)
    yield opened
    opened.close()


def heartbeat(dataplane: str, age: timedelta, number: int | None = None) -> e.DataplaneHeartbeat:
    """Of so long ago."""
    event_id = str(uuid.UUID(int=number)) if number is not None else e.new_event_id()
    return e.DataplaneHeartbeat(
        dataplane_id=dataplane, occurred_at=datetime.now(UTC) - age, event_id=event_id
    )


def merge(store: Store, *events: e.Event) -> None:
    with store.transaction() as tx:
        tx.merge(fold(frames_of(events)))
        tx.derive()


def ages(connection: Connection[Any], dataplane: str) -> list[int]:
    """Of the heartbeats that are kept, in days, the youngest first."""
    rows = connection.execute(
        "SELECT round(extract(epoch FROM now() - heard_at) / 86400)::int FROM jobtrail.heartbeats"
        " WHERE dataplane_id = %s ORDER BY heard_at DESC",
        (dataplane,),
    )
    return [age for (age,) in rows]


def test_what_is_older_than_a_week_goes_and_the_newest_stays(
    connection: Connection[Any], store: Store, settings: Settings
) -> None:
    """However old the newest of a dataplane is."""
    merge(store, *(heartbeat("eu", DAY * days) for days in (1, 6, 8, 30)))
    merge(store, *(heartbeat("gone", DAY * days) for days in (100, 200, 300)))
    merge(store, heartbeat("single", DAY * 50))
    report = clean_heartbeats(connection, settings, NEVER, dry_run=False)
    assert {name: ages(connection, name) for name in ("eu", "gone", "single")} == {
        "eu": [1, 6],
        "gone": [100],
        "single": [50],
    }
    assert (report.facts["deleted"], report.facts["batches"], report.facts["dataplanes"]) == (4, 2, 3)
    assert report.text.startswith("deleted 4 heartbeats in 2 batches: those before ")


def test_of_two_at_the_same_instant_one_stays(
    connection: Connection[Any], store: Store, settings: Settings
) -> None:
    """The greater event id decides, here and when merging."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    pair = [heartbeat("eu", DAY, number).model_copy(update={"occurred_at": at}) for number in (7, 8)]
    merge(store, *pair)
    assert clean_heartbeats(connection, settings, NEVER, dry_run=False).facts["deleted"] == 1
    (kept,) = connection.execute("SELECT event_id FROM jobtrail_g1.heartbeats").fetchall()
    assert kept == (uuid.UUID(int=8),)


def test_a_dry_run_counts_and_changes_nothing(
    connection: Connection[Any], store: Store, settings: Settings
) -> None:
    """Neither rows nor the horizon; what it counts is what is then deleted."""
    merge(store, *(heartbeat("eu", DAY * days) for days in (1, 6, 8, 30)), heartbeat("gone", DAY * 20))
    horizon = connection.execute("SELECT * FROM jobtrail.horizons").fetchall()
    would = clean_heartbeats(connection, settings, NEVER, dry_run=True)
    assert would.text.startswith("would delete 2 heartbeats")
    assert ages(connection, "eu") == [1, 6, 8, 30]
    assert connection.execute("SELECT * FROM jobtrail.horizons").fetchall() == horizon
    did = clean_heartbeats(connection, settings, NEVER, dry_run=False)
    assert did.facts["deleted"] == would.facts["deleted"] == 2


def test_the_horizon_never_moves_back(connection: Connection[Any], settings: Settings) -> None:
    """A longer retention later does not claim that what is gone is there."""
    longer = settings.model_copy(update={"heartbeat_retention_days": 30})
    first = clean_heartbeats(connection, settings, NEVER, dry_run=False).facts["keptFrom"]
    assert clean_heartbeats(connection, longer, NEVER, dry_run=False).facts["keptFrom"] == first
    assert clean_heartbeats(connection, settings, NEVER, dry_run=False).facts["keptFrom"] > first  # type: ignore[operator]  # both texts


def test_what_comes_late_is_not_kept_either(
    connection: Connection[Any], store: Store, settings: Settings
) -> None:
    """Older than the horizon, it is kept only as its dataplane's newest, in the place of the last one."""
    old = heartbeat("eu", DAY * 8)
    merge(store, heartbeat("eu", DAY * 1), old)
    clean_heartbeats(connection, settings, NEVER, dry_run=False)
    merge(store, old, heartbeat("eu", DAY * 20), heartbeat("new", DAY * 10), heartbeat("new", DAY * 9))
    assert (ages(connection, "eu"), ages(connection, "new")) == ([1], [9])
    merge(store, heartbeat("new", DAY * 8))
    assert ages(connection, "new") == [8]
    merge(store, heartbeat("new", DAY * 0))
    assert ages(connection, "new") == [0]


def test_it_stops_between_two_batches_and_the_next_run_goes_on(
    connection: Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(connection, 100, dataplanes=1)
    monkeypatch.setattr(heartbeat_cleanup, "BATCH", 10)
    stop = _StopAfter(3)
    with pytest.raises(StoppedError):
        clean_heartbeats(connection, settings, stop, dry_run=False)
    assert count(connection) == 70
    rest = clean_heartbeats(connection, settings, NEVER, dry_run=False)
    assert rest.facts["deleted"] == 70 - 50


class _StopAfter(threading.Event):
    """Is set when it is asked the nth time."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def fill(connection: Connection[Any], rows: int, dataplanes: int) -> None:
    """So many heartbeats of the last 14 days: half of them, none the newest of a dataplane, are too old."""
    connection.execute(
        "INSERT INTO jobtrail_g1.heartbeats (dataplane_id, event_id, heard_at, received_at)"
        " SELECT 'plane-' || n %% %(planes)s, gen_random_uuid(), at, at"
        " FROM generate_series(0, %(rows)s - 1) n,"
        " LATERAL (SELECT now() - (n + 0.5) * interval '14 days' / %(rows)s AS at) t",
        {"rows": rows, "planes": dataplanes},
    )
    connection.execute("ANALYZE jobtrail_g1.heartbeats")


def count(connection: Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM jobtrail.heartbeats").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("dataplanes", [1, 50])
def test_no_writer_waits_long_while_many_are_deleted_and_the_counts_are_right(
    connection: Connection[Any], store: Store, settings: Settings, dataplanes: int
) -> None:
    """50,000 rows; merges beside the cleanup fail if they wait for a lock for longer than 100 ms."""
    rows = 50_000
    fill(connection, rows, dataplanes)
    redelivered = connection.execute(
        "SELECT dataplane_id, event_id::text, heard_at FROM jobtrail_g1.heartbeats"
        " ORDER BY event_id LIMIT 500"
    ).fetchall()
    store.connection.execute(f"SET lock_timeout = '{LONGEST_WAIT}'")
    done, failed, merged = threading.Event(), [], [0]

    def write() -> None:
        """New ones, and old ones again: the very rows that are being deleted."""
        try:
            while not done.is_set() or not merged[0]:
                again = [
                    e.DataplaneHeartbeat(dataplane_id=name, event_id=event_id, occurred_at=at)
                    for name, event_id, at in redelivered[merged[0] % 490 :][:10]
                ]
                merge(store, heartbeat("plane-0", timedelta(0)), *again)
                merged[0] += 1
        except psycopg.Error as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    report = clean_heartbeats(connection, settings, NEVER, dry_run=False)
    done.set()
    writer.join(60)
    assert failed == []
    assert merged[0] > 0
    left = connection.execute(
        "SELECT count(*) FILTER (WHERE heard_at < %s) FROM jobtrail.heartbeats", (report.facts["keptFrom"],)
    ).fetchone()
    assert left == (0,)
    assert count(connection) == rows // 2 + merged[0]
    assert report.facts["deleted"] == rows // 2
    assert int(report.facts["batches"]) >= rows // 2 // BATCH


#: What is to be deleted, by table.
GONE = {
    "http_decisions": 5,
    "idempotency_keys": 5,
    "connection_reservations": 2,
    "attempt_reservations": 1,
    "schedule_runs": 2,
}


@pytest.fixture
def requests(connection: Connection[Any], store: Store) -> None:
    """Of each table what is to go and what is to stay; job 1 is decided, job 2 is not, job 3 is unknown."""
    merge(
        store,
        *(e.JobCreated(job_id=job_id, config_type="sync", config_id="c") for job_id in (1, 2)),
        e.Cancelled(job_id=1),
    )
    young, old = (datetime.now(UTC) - DAY * (RETENTION + more) for more in (-1, 1))
    inserts: list[tuple[str, list[tuple[Any, ...]]]] = [
        ("http_decisions VALUES (%s, %s)", [(uuid.uuid4(), at) for at in (young, *[old] * 5)]),
        (
            "idempotency_keys VALUES (%s, 1, 'digest', %s)",
            [(f"key {number}", at) for number, at in enumerate((young, *[old] * 5))],
        ),
        (
            "connection_reservations VALUES (%s, %s, %s)",
            [("new", 1, young), ("decided", 1, old), ("undecided", 2, old), ("unknown", 3, old)],
        ),
        (
            "attempt_reservations VALUES (%s, %s, %s, 'infinity')",
            [(1, 1, young), (1, 0, old), (2, 0, old), (3, 0, old)],
        ),
        (
            "schedule_runs (schedule, started_at, outcome) VALUES (%s, %s, %s)",
            [
                *(
                    ("yearly", old - DAY * days, outcome)
                    for days, outcome in enumerate(("done", None, "done"))
                ),
                ("yearly", young, None),
            ],
        ),
    ]
    for into, rows in inserts:
        connection.cursor().executemany(f"INSERT INTO jobtrail.{into}".encode(), rows)


def kept(connection: Connection[Any], column: str, table: str) -> set[Any]:
    query = f"SELECT {column} FROM jobtrail.{table}"  # noqa: S608  # names of ours
    return {found for (found,) in connection.execute(query.encode())}


@pytest.mark.usefixtures("requests")
def test_what_is_kept_of_requests_goes_after_its_time_unless_its_job_is_undecided(
    connection: Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches; a schedule keeps the last run that came to an end, by which it knows when it is due."""
    monkeypatch.setattr(request_cleanup, "BATCH", 2)
    report = clean_requests(connection, settings, NEVER, dry_run=False)
    assert report.facts == {"deleted": sum(GONE.values()), **GONE}
    assert report.text.startswith(
        "deleted 15 rows older than 30 days: http_decisions 5, idempotency_keys 5, "
    )
    assert len(kept(connection, "decision_id", "http_decisions")) == 1
    assert kept(connection, "idempotency_key", "idempotency_keys") == {"key 0"}
    assert kept(connection, "connection_id", "connection_reservations") == {"new", "undecided"}
    assert kept(connection, "(job_id, attempt_number)::text", "attempt_reservations") == {
        "(1,1)",
        "(2,0)",
        "(3,0)",
    }
    assert len(kept(connection, "started_at", "schedule_runs")) == 2
    assert kept(connection, "outcome", "schedule_runs") == {"done", None}
    assert clean_requests(connection, settings, NEVER, dry_run=False).facts["deleted"] == 0


@pytest.mark.usefixtures("requests")
def test_a_dry_run_counts_requests_and_deletes_none(
    connection: Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the batches; and a run that is told to stop leaves the rest to the next one."""
    monkeypatch.setattr(request_cleanup, "BATCH", 2)
    for _ in range(2):
        would = clean_requests(connection, settings, NEVER, dry_run=True)
        assert would.facts == {"deleted": sum(GONE.values()), **GONE}
        assert would.text.startswith("would delete 15 rows")
    with pytest.raises(StoppedError):
        clean_requests(connection, settings, _StopAfter(2), dry_run=False)
    assert clean_requests(connection, settings, NEVER, dry_run=False).facts["deleted"] == 15 - 2 * 2
