"""From bytes to rows: partitions, projectors and a replay of the whole log give the same read models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_projection_laws import FRESH, _moved, any_event, law, read

from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers.decode import Decoder, together
from jobtrail.consumers.few import read_few
from jobtrail.consumers.gate import read_many
from jobtrail.consumers.records import Records
from jobtrail.kinds import micros
from jobtrail.projections.fold import fold
from jobtrail.projections.fold_few import fold_few
from jobtrail.projections.store import Move, Store

PARTITIONS = 3
DECODER = Decoder()


@pytest.fixture(scope="module")
def stores(database_module: str, second_database: str) -> Iterator[tuple[Store, Store, Store]]:
    """Two projectors of one database, and one that replays into another."""
    opened = (Store.open(database_module), Store.open(database_module), Store.open(second_database))
    yield opened
    for store in opened:
        store.close()


class Log:
    """Events in partitions of one topic."""

    def __init__(self, topic_id: str, placed: Sequence[tuple[int, e.Event]]) -> None:
        self.topic_id = topic_id
        self.partitions: list[list[e.Event]] = [[] for _ in range(PARTITIONS)]
        for partition, event in placed:
            self.partitions[partition].append(event)

    def take(self, store: Store, spans: Sequence[tuple[int, int, int]], *, few: bool = False) -> None:
        """Folds (partition, from offset, to offset) in one transaction, as the projector does."""
        parts, moves = [], []
        for partition, begin, end in spans:
            rows = [
                # The broker's time is the event's own, in milliseconds: bookkeeping, and here no second fact.
                (partition, begin + at, micros(event.occurred_at) // 1000, event.key, codec.encode(event))
                for at, event in enumerate(self.partitions[partition][begin:end])
            ]
            records = Records.from_rows("events", self.topic_id, rows)
            parts.append((read_few if few else read_many)(DECODER, records))
            moves.append(Move(self.topic_id, "events", partition, begin, end))
        decoded = together(parts)
        assert decoded.bad == []
        with store.transaction() as tx:
            tx.advance(moves)
            tx.merge(fold_few(decoded.few) if few else fold(decoded.frames))
            tx.derive()


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[tuple[int, e.Event]], list[tuple[int, int, int]]]:
    """Events, each in any partition, and an interleaving of spans: (projector, partition, how many)."""
    placed = draw(st.lists(st.tuples(st.integers(0, PARTITIONS - 1), any_event), min_size=1, max_size=14))
    spans = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, PARTITIONS - 1), st.integers(1, 4))))
    return placed, spans


@law
@given(logs())
def test_any_partitioning_and_a_replay_give_the_same(
    stores: tuple[Store, Store, Store], drawn: tuple[list[tuple[int, e.Event]], list[tuple[int, int, int]]]
) -> None:
    """Two projectors, one of which reads a few at a time; a replay folds the whole log at once, elsewhere."""
    placed, spans = drawn
    number = next(FRESH)
    shift, mark = number * 10, f"{number:09}:"
    log = Log(f"log-{number}", [(partition, _moved(event, shift, mark)) for partition, event in placed])
    done = [0] * PARTITIONS
    for projector, partition, count in [*spans, *((0, p, len(placed)) for p in range(PARTITIONS))]:
        end = min(done[partition] + count, len(log.partitions[partition]))
        if end > done[partition]:
            log.take(stores[projector], [(partition, done[partition], end)], few=projector == 1)
            done[partition] = end
    log.take(stores[2], [(p, 0, len(log.partitions[p])) for p in range(PARTITIONS) if log.partitions[p]])
    live: dict[str, list[dict[str, Any]]] = read(stores[0], shift, mark)
    assert live == read(stores[2], shift, mark)
    assert stores[0].checkpoints(log.topic_id) == stores[2].checkpoints(log.topic_id)
