"""The heartbeats that are kept are a function of the set of heartbeats and of the horizon."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from frames import frames_of
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from jobtrail.consumers import heartbeat_cleanup
from jobtrail.consumers.heartbeat_cleanup import clean_heartbeats
from jobtrail.consumers.waiting import StoppedError
from jobtrail.events import DataplaneHeartbeat
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Store
from jobtrail.settings import Settings

#: Heartbeats are whole days old, horizons lie between.
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Cleanup(NamedTuple):
    """Keeps heartbeats of up to so many days; ended after some batches, or not."""

    days: int
    batches: int | None


heartbeats = st.builds(
    DataplaneHeartbeat,
    event_id=st.integers(0, 5).map(lambda n: str(uuid.UUID(int=n))),
    occurred_at=st.integers(0, 9).map(lambda days: NOW - days * DAY),
    dataplane_id=st.sampled_from(["é", "a"]),
    dataplane_version=st.sampled_from([None, "1", "2"]),
)
Step = Cleanup | list[DataplaneHeartbeat]
cleanups = st.builds(Cleanup, days=st.integers(0, 6), batches=st.none() | st.integers(0, 3))
batches = st.lists(heartbeats, min_size=1, max_size=4)
steps: st.SearchStrategy[list[Step]] = st.lists(batches | cleanups, min_size=2, max_size=7)
Row = tuple[str, uuid.UUID, datetime, str | None]


def expected(events: Sequence[DataplaneHeartbeat], days: int | None) -> list[Row]:
    """A row for each id, its youngest body; of those older than the horizon, each dataplane's newest only."""
    bodies: dict[tuple[str, uuid.UUID], tuple[datetime, str]] = {}
    for event in events:
        key, body = _key(event), (event.occurred_at, event.dataplane_version or "")
        bodies[key] = max(bodies.get(key, body), body)
    newest: dict[str, tuple[datetime, uuid.UUID]] = {}
    for (name, event_id), (at, _) in bodies.items():
        newest[name] = max(newest.get(name, (at, event_id)), (at, event_id))
    return sorted(
        (name, event_id, at, version or None)
        for (name, event_id), (at, version) in bodies.items()
        if days is None or at > NOW - (days + 0.5) * DAY or newest[name] == (at, event_id)
    )


def _key(event: DataplaneHeartbeat) -> tuple[str, uuid.UUID]:
    return event.dataplane_id, uuid.UUID(event.event_id)


@pytest.fixture(scope="module")
def store(database_module: str) -> Iterator[Store]:
    opened = Store.open(database_module)
    yield opened
    opened.close()


class _StopAfter(threading.Event):
    """Is set from the time on when it was asked so often."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def clean(store: Store, days: int, batches: int | None = None) -> None:
    settings = Settings(heartbeat_retention_days=(datetime.now(UTC) - NOW) / DAY + days + 0.5)
    stop = threading.Event() if batches is None else _StopAfter(batches)
    try:
        clean_heartbeats(store.connection, settings, stop, dry_run=False)
    except StoppedError:
        assert batches is not None


@examples(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps, st.data())
def test_any_order_redelivery_and_cleanup_at_any_moment_gives_the_same_rows(
    store: Store, monkeypatch: pytest.MonkeyPatch, steps: list[Step], data: st.DataObject
) -> None:
    """Cleanups of any retention stand between the batches; one that was killed is made up for at the end."""
    monkeypatch.setattr(heartbeat_cleanup, "BATCH", 2)
    with store.transaction() as tx:
        tx.connection.execute("DELETE FROM heartbeats")
        tx.connection.execute("UPDATE horizons SET kept_from = '2000-01-01Z' WHERE name = 'heartbeats'")
    seen: list[DataplaneHeartbeat] = []
    horizon: int | None = None
    interrupted = False
    for step in steps:
        if isinstance(step, Cleanup):
            horizon = step.days if horizon is None else min(horizon, step.days)
            interrupted = step.batches is not None
            clean(store, step.days, step.batches)
            continue
        seen += step
        again: list[Any] = data.draw(st.lists(st.sampled_from(seen), max_size=3)) if seen else []
        with store.transaction() as tx:
            tx.merge(fold(frames_of([*again, *step])))
    if interrupted and horizon is not None:
        clean(store, horizon)
    rows = store.connection.execute(
        "SELECT dataplane_id, event_id, heard_at, dataplane_version FROM jobtrail_g1.heartbeats"
    ).fetchall()
    assert sorted(rows, key=str) == sorted(expected(seen, horizon), key=str)
