"""The golden fold and the product agree on any set of events, also on those that no workload makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from frames import frames_of
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import dict_row
from test_projection_laws import FRESH, _moved, any_event, law

from chaos.golden import Seen, Tables, golden_fold
from chaos.rounds import KEYS, read_row
from jobtrail import events as e
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Store


@pytest.fixture(scope="module")
def store(database_module: str) -> Iterator[Store]:
    opened = Store.open(database_module)
    yield opened
    opened.close()


@law
@given(
    st.lists(any_event, min_size=1, max_size=25, unique_by=lambda event: event.event_id),
    st.integers(0, 25),
)
def test_the_golden_fold_gives_the_rows_that_the_product_gives(
    store: Store, events: list[e.Event], at: int
) -> None:
    number = next(FRESH)
    shift, mark = number * 10, f"{number:09}:"
    moved = [_moved(event, shift, mark) for event in events]
    batches = [batch for batch in (moved[:at], moved[at:]) if batch]
    # As frames_of has it: offsets count from 0 in each batch, and the broker's time is the event's.
    log = [
        Seen(event, 0, offset, event.occurred_at)
        for offset, event in itertools.chain.from_iterable(map(enumerate, batches))
    ]
    for batch in batches:
        with store.transaction() as tx:
            tx.merge(fold(frames_of(batch)))
            tx.derive()
    assert golden_fold(log) == ours(store, moved)


def ours(store: Store, events: Sequence[e.Event]) -> Tables:
    """The rows of these events' jobs, workspaces and dataplanes."""
    keys = {getattr(event, event.key_field) for event in events}
    tables: Tables = {}
    with store.transaction() as tx, tx.connection.cursor(row_factory=dict_row) as cursor:
        for name, key in KEYS.items():
            select = sql.SQL("SELECT * FROM {} WHERE {}::text = ANY (%s)").format(
                sql.Identifier(name), sql.Identifier(key[0])
            )
            rows = [read_row(row) for row in cursor.execute(select, ([*map(str, keys)],))]
            tables[name] = {tuple(row[column] for column in key): row for row in rows}
    return tables
