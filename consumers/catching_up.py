"""Brings a whole generation that is not live yet further, by the projector's own means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from jobtrail.consumers.decode import Decoded, Decoder, together
from jobtrail.consumers.gate import read_many
from jobtrail.consumers.records import Records
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.source import AT_ONCE
from jobtrail.consumers.stretch import TopicReader
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Move, Transaction
from jobtrail.settings import Settings

#: (topic id, partition)
Place = tuple[str, int]
Offsets = Mapping[Place, int]


class CatchingUp:
    """Reads what is missing from the topics. Not thread-safe; close it."""

    def __init__(
        self, settings: Settings, topics: Mapping[str, str], refused: Mapping[Place, set[int]]
    ) -> None:
        """`topics`: topic id → name. `refused`: offsets that are in no read model."""
        self._topics = topics
        self._refused = refused
        self._batch_size = min(AT_ONCE, settings.batch_size)
        self._reader = TopicReader(settings)
        self._decoder = Decoder(schema_by_id=registry_of(settings))

    def close(self) -> None:
        """Leaves Kafka."""
        self._reader.close()

    def go(
        self, begins: Offsets, ends: Offsets, transaction: Callable[[], AbstractContextManager[Transaction]]
    ) -> None:
        """From the begins (else 0) to the ends, one transaction a batch."""
        for move, decoded in self._batches(begins, ends):
            with transaction() as tx:
                _write(tx, [move], decoded)

    def at_once(self, begins: Offsets, ends: Offsets, tx: Transaction) -> None:
        """The same as one batch, within a transaction: for what is little."""
        batches = [*self._batches(begins, ends)]
        last: dict[Place, Move] = {}
        for move, _ in batches:
            place = move.topic_id, move.partition
            first = last.get(place, move).expected
            last[place] = move._replace(expected=first)
        if last:
            _write(tx, [*last.values()], together(decoded for _, decoded in batches))

    def _batches(self, begins: Offsets, ends: Offsets) -> Iterator[tuple[Move, Decoded]]:
        for place, end in ends.items():
            topic_id, partition = place
            topic, at = self._topics.get(topic_id), begins.get(place, 0)
            if topic is None or at >= end:
                continue
            for records in self._reader.read(topic, topic_id, partition, at, end, self._batch_size):
                behind = records.offsets[-1] + 1
                yield Move(topic_id, topic, partition, at, behind), self._decode(place, records)
                at = behind
            if at < end:  # nothing but marks of transactions
                yield Move(topic_id, topic, partition, at, end), Decoded()

    def _decode(self, place: Place, records: Records) -> Decoded:
        passed_by = self._refused.get(place, set())
        if not passed_by.isdisjoint(records.offsets):
            records = records.take([row for row, at in enumerate(records.offsets) if at not in passed_by])
        return read_many(self._decoder, records)


def _write(tx: Transaction, moves: Sequence[Move], decoded: Decoded) -> None:
    tx.advance(moves)
    tx.dead_letters(decoded.bad)
    tx.merge(fold(decoded.frames))
    tx.derive()
