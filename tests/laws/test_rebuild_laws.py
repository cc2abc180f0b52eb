"""A rebuild makes what the projector would have made of the same events, however it reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from frames import frames_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_projection_laws import any_event

from jobtrail import events as e
from jobtrail.projections import generation as g
from jobtrail.projections.compare import compare
from jobtrail.projections.fold import fold
from jobtrail.projections.folding import Folding
from jobtrail.projections.shadow import Part, Shadow
from jobtrail.projections.store import Move, Store

PARTITIONS = 3


@pytest.fixture(scope="module")
def connection(database_module: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_module, autocommit=True) as connection:
        yield connection


@st.composite
def readings(draw: st.DrawFn) -> tuple[list[e.Event], list[tuple[int, list[list[e.Event]]]]]:
    """Events, and goes: the partition, and the batches that are folded in memory and then appended."""
    events = draw(st.lists(any_event, min_size=1, max_size=14))
    goes = []
    left = list(events)
    while left:
        size = draw(st.integers(1, len(left)))
        go, left = left[:size], left[size:]
        cut = draw(st.integers(0, size))
        goes.append(
            (draw(st.integers(0, PARTITIONS - 1)), [batch for batch in (go[:cut], go[cut:]) if batch])
        )
    return events, goes


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(readings())
def test_any_split_of_a_rebuild_gives_what_the_projector_gives(
    connection: psycopg.Connection[Any],
    database_module: str,
    drawn: tuple[list[e.Event], list[tuple[int, list[list[e.Event]]]]],
) -> None:
    """In one go or many, a key in one partition or several, by one process or two."""
    events, goes = drawn
    tables = [
        name
        for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'jobtrail_g1'")
    ]
    kept = ", ".join(f"jobtrail_g1.{name}" for name in tables if "yoyo" not in name)
    connection.execute(f"TRUNCATE {kept}".encode())
    store = Store.open(database_module)
    with store.transaction() as tx:
        tx.merge(fold(frames_of(events)))
        tx.derive()
    store.close()
    new = Shadow.make(
        database_module, connection, [Part("t", "id", part, 0, 99) for part in range(PARTITIONS)]
    )
    try:
        _append(new, goes)
        new.index(2, lambda _text: None)
        new.derive(2, lambda _done, _total: None)
        found = compare(connection, g.schema_name(1), new.connection, new.schema)
        assert [str(difference) for table in found for difference in table.differences] == []
        assert sum(table.new_rows for table in found) > 0
    finally:
        new.drop()
        new.close()


def _append(new: Shadow, goes: Sequence[tuple[int, list[list[e.Event]]]]) -> None:
    at = [0] * PARTITIONS
    for partition, batches in goes:
        folding = Folding()
        for batch in batches:
            folding.add(frames_of(batch))
        begun = at[partition]
        at[partition] += sum(map(len, batches))
        new.append(folding.rows(), [], Move("id", "t", partition, begun, at[partition]))
