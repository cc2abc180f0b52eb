"""The read models are functions of the set of events: order, repetition, batching change nothing."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from frames import few_of, frames_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtrail import events as e
from jobtrail.projections.fold import fold
from jobtrail.projections.fold_few import fold_few
from jobtrail.projections.folding import Folding
from jobtrail.projections.store import Store
from jobtrail.projections.tables import TABLES

BASE = datetime(2026, 1, 1, tzinfo=UTC)
#: Each arrangement of events is folded under job ids of its own; 10 ids, 10 keys of other kinds.
FRESH = itertools.count(1)

# Small pools make likely what matters: equal times, equal ids with other bodies, many events of one key.
instants = st.integers(0, 12).map(lambda s: BASE + timedelta(seconds=s * 200))
event_ids = st.integers(0, 400).map(lambda n: str(uuid.UUID(int=n * 2**96 + n)))
texts = st.sampled_from(["", "a", "B", "b", "é", "z", "Z", "ä"])
names = st.sampled_from(["users", "Users", "élan", "_x"])
counts = st.none() | st.integers(0, 3)
common = {"event_id": event_ids, "occurred_at": instants}
job = {**common, "job_id": st.integers(0, 2)}
attempt = {**job, "attempt_number": st.integers(0, 2)}
stream = {**attempt, "stream_namespace": st.sampled_from([None, "", "p"]), "stream_name": names}

any_event: st.SearchStrategy[e.Event] = st.one_of(
    st.builds(
        e.JobCreated,
        **job,
        config_type=st.sampled_from(["sync", "reset_connection"]),
        config_id=texts,
        connection_id=st.none() | texts,
        streams=st.lists(st.builds(e.ConfiguredStream, name=names, sync_mode=st.none() | texts), max_size=2),
    ),
    st.builds(e.AttemptStarted, **attempt, worker=st.none() | texts, dataplane=st.none() | texts),
    st.builds(e.AttemptSucceeded, **attempt),
    st.builds(e.AttemptFailed, **attempt),
    st.builds(e.AttemptHeartbeat, **attempt),
    st.builds(e.CancelRequested, **job, requested_by=st.none() | texts),
    st.builds(
        e.Cancelled, **job, attempt_number=st.none() | st.integers(0, 2), cancelled_by=st.none() | texts
    ),
    st.builds(e.JobFailed, **job),
    st.builds(
        e.Failure,
        **attempt,
        stream_name=st.none() | names,
        failure_origin=st.none() | texts,
        retryable=st.none() | st.booleans(),
        metadata=st.sampled_from([None, "{}", '{"x": null, "y": [1.5, "é"]}']),
    ),
    st.builds(
        e.StreamStats,
        **stream,
        reporter=st.sampled_from(["platform", "source", "destination"]),
        sequence=st.integers(0, 3),
        records_emitted=counts,
        records_committed=counts,
    ),
    st.builds(e.StreamStatus, **stream, run_state=texts, incomplete_run_cause=st.none() | texts),
    st.builds(e.StreamMetadata, **stream, was_resumed=st.none() | st.booleans()),
    st.builds(
        e.WorkspaceRegistered, **common, workspace_id=names, is_default=st.booleans(), name=st.none() | texts
    ),
    st.builds(e.DataplaneHeartbeat, **common, dataplane_id=names, dataplane_version=st.none() | texts),
)


@pytest.fixture(scope="module")
def store(database_module: str) -> Iterator[Store]:
    opened = Store.open(database_module)
    yield opened
    opened.close()


def project(store: Store, batches: Sequence[Sequence[e.Event]]) -> dict[str, list[dict[str, Any]]]:
    """Folds the batches, a transaction each, and reads every table and derived row back."""
    number = next(FRESH)
    shift, mark = number * 10, f"{number:09}:"
    for batch in batches:
        with store.transaction() as tx:
            tx.merge(fold(frames_of(_moved(event, shift, mark) for event in batch)))
            tx.derive()
    return read(store, shift, mark)


def _moved(event: e.Event, shift: int, mark: str) -> e.Event:
    if isinstance(event, e.JobEvent):
        return event.model_copy(update={"job_id": event.job_id + shift})
    return event.model_copy(update={event.key_field: mark + getattr(event, event.key_field)})


def read(store: Store, shift: int, mark: str) -> dict[str, list[dict[str, Any]]]:
    found = {}
    with store.transaction() as tx:
        for table in [*(table.name for table in TABLES), "anomalies"]:
            leading = next((t for t in TABLES if t.name == table), TABLES[0])
            key = next(iter(leading.key)) if table != "anomalies" else "job_id"
            low, high = (shift, shift + 9) if key == "job_id" else (mark, mark + "\U0010ffff")
            cursor = tx.connection.execute(
                f"SELECT * FROM {table} WHERE {key} BETWEEN %s AND %s",  # noqa: S608  # names of ours
                (low, high),
            )
            assert cursor.description is not None
            columns = [column.name for column in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
            for row in rows:
                row[key] = row[key] - shift if key == "job_id" else row[key].removeprefix(mark)
                for name in leading.bookkeeping:
                    row.pop(name, None)
                # The job id stands in these too.
                row.pop("body", None)
                row.pop("digest_low", None)
                row.pop("digest_high", None)
                _unshift(row.get("failure_summary"), shift)
            found[table] = sorted(rows, key=str)
    return found


def _unshift(summary: Any, shift: int) -> None:
    for reason in (summary or {}).get("failures", ()):
        reason["metadata"]["jobId"] -= shift


@st.composite
def arrangements(draw: st.DrawFn) -> tuple[list[e.Event], list[list[e.Event]]]:
    """A set of events, and another arrangement of it: any order, some repeated, cut into any batches."""
    given_events = draw(st.lists(any_event, min_size=1, max_size=14))
    repeated = draw(st.lists(st.sampled_from(given_events), max_size=4))
    shuffled = draw(st.permutations(given_events + repeated))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(shuffled) - 1)), max_size=5)))
    edges = [0, *cuts, len(shuffled)]
    return given_events, [shuffled[a:b] for a, b in itertools.pairwise(edges) if a < b]


law = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@law
@given(arrangements())
def test_any_order_repetition_and_batching_gives_the_same_rows(
    store: Store, arrangement: tuple[list[e.Event], list[list[e.Event]]]
) -> None:
    """One batch in order (polars reduces everything) equals any other arrangement (SQL merges the rest)."""
    once, otherwise = arrangement
    assert project(store, [once]) == project(store, otherwise)


@law
@given(st.lists(any_event, min_size=1, max_size=10))
def test_polars_and_sql_render_the_same_rules(store: Store, events: list[e.Event]) -> None:
    """All in one fold equals one event a transaction, where polars has nothing to reduce."""
    assert project(store, [events]) == project(store, [[event] for event in events])


@law
@given(arrangements(), st.sampled_from([1, 3, 100]))
def test_folding_in_memory_equals_one_fold_and_the_tables(
    store: Store, arrangement: tuple[list[e.Event], list[list[e.Event]]], at_once: int
) -> None:
    """What a rebuild keeps in memory, batch by batch, is what one fold gives, and what SQL merges."""
    once, otherwise = arrangement
    number = next(FRESH)
    shift, mark = number * 10, f"{number:09}:"
    folding = Folding(at_once)
    for at, batch in enumerate(otherwise):
        folding.add(frames_of(_moved(event, shift, mark) for event in batch))
        if at == 1:
            folding.rows()  # to look changes nothing
    rows = folding.rows()
    assert folding.height == sum(map(len, rows.values()))
    whole = fold(frames_of(_moved(event, shift, mark) for batch in otherwise for event in batch))
    assert sorted_rows(rows) == sorted_rows(whole)
    with store.transaction() as tx:
        tx.merge(rows)
        tx.derive()
    assert read(store, shift, mark) == project(store, [once])


@law
@given(arrangements(), st.lists(st.booleans(), min_size=1))
def test_parts_of_one_transaction_are_merged_one_after_the_other(
    store: Store, arrangement: tuple[list[e.Event], list[list[e.Event]]], few: list[bool]
) -> None:
    """As the projector does where some came in bulk and others a few at a time, the same event in both."""
    once, parts = arrangement
    number = next(FRESH)
    shift, mark = number * 10, f"{number:09}:"
    with store.transaction() as tx:
        for part, is_few in zip(parts, itertools.cycle(few), strict=False):
            frames = frames_of(_moved(event, shift, mark) for event in part)
            rows = {event_type: frame.to_dicts() for event_type, frame in frames.items()}
            tx.merge(fold_few(rows) if is_few else fold(frames))
        tx.derive()
    assert read(store, shift, mark) == project(store, [once])


def test_what_came_a_few_at_a_time_before_it_came_in_bulk_is_merged_behind_it(store: Store) -> None:
    """Resent heartbeats, whose first delivery was read by itself: each row is brought to its earlier time."""
    mark = f"{next(FRESH):09}:"
    beats = [
        e.DataplaneHeartbeat(occurred_at=BASE, dataplane_id=f"{mark}{number % 3}") for number in range(300)
    ]
    first = few_of(beats)
    again = {
        event: frame.with_columns(pl.col("_broker_at") + 1_000) for event, frame in frames_of(beats).items()
    }
    with store.transaction() as tx:
        tx.merge(fold(again))
        tx.merge(fold_few(first))
    with store.transaction() as tx:
        found = tx.connection.execute(
            "SELECT count(*), max(received_at) FROM heartbeats WHERE starts_with(dataplane_id, %s)", (mark,)
        ).fetchone()
    assert found == (300, BASE)


@law
@given(st.lists(any_event, min_size=1, max_size=20))
def test_a_few_are_folded_as_many_are(events: list[e.Event]) -> None:
    """Both give each column of each row, to the last byte of a body."""
    few = {
        table: sorted(rows, key=str)
        for table, rows in complete(fold_few({t: f.to_dicts() for t, f in frames_of(events).items()})).items()
    }
    many = {name: rows.to_dicts() for name, rows in fold(frames_of(events)).items()}
    assert few == {table: sorted(rows, key=str) for table, rows in complete(many).items()}


def complete(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Every merged column in each row: one that is left out is null."""
    columns = {table.name: table.merged_columns for table in TABLES}
    return {
        name: [{column: row.get(column) for column in columns[name]} for row in found]
        for name, found in rows.items()
    }


def sorted_rows(rows: Mapping[str, pl.DataFrame]) -> dict[str, list[dict[str, Any]]]:
    """Rows by table in the order of their keys, without where and when they stood in the log."""
    found = {}
    for table in (table for table in TABLES if table.name in rows):
        frame = rows[table.name].sort(*table.key)
        # A column that is left out is null in each row.
        columns = [name for name in table.merged_columns if name not in table.bookkeeping]
        found[table.name] = [{name: row.get(name) for name in columns} for row in frame.iter_rows(named=True)]
    return found


@law
@given(st.lists(any_event, min_size=2, max_size=10), st.integers(0, 9))
def test_a_late_event_gives_what_it_would_have_given_in_time(
    store: Store, events: list[e.Event], at: int
) -> None:
    """A dead letter that was repaired comes last, and changes nothing but that."""
    late = events.pop(at % len(events))
    assert project(store, [[late, *events]]) == project(store, [events, [late]])


@law
@given(st.lists(any_event, min_size=1, max_size=10))
def test_deriving_everything_anew_changes_nothing(store: Store, events: list[e.Event]) -> None:
    """What is derived batch by batch equals what a rebuild derives once at its end."""
    number = next(FRESH)
    shift, mark = number * 10, f"{number:09}:"
    for event in events:
        with store.transaction() as tx:
            tx.merge(fold(frames_of([_moved(event, shift, mark)])))
            tx.derive()
    before = read(store, shift, mark)
    with store.transaction() as tx:
        tx.connection.execute(
            "UPDATE attempts SET status = NULL WHERE job_id BETWEEN %s AND %s", (shift, shift + 9)
        )
        tx.derive(everything=True)
    assert read(store, shift, mark) == before
