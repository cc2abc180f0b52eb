"""A batch: messages that are folded together, and how far they move the checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobtrail.consumers.block import Block
from jobtrail.consumers.decode import Decoded, Messages
from jobtrail.consumers.records import Place, Records
from jobtrail.consumers.taking import Taken
from jobtrail.projections.fold import Rows
from jobtrail.projections.fold_few import FewRows, fold_few
from jobtrail.projections.folding import Folding
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.rules import EventType, Row
from jobtrail.projections.store import Move


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in the order of the log, by topic, and the moves that go with them."""

    records: tuple[Messages, ...]
    #: For each partition, from the offset that its checkpoint must show to the one after these messages.
    moves: tuple[Move, ...]
    #: Whether more seemed to wait behind it.
    more: bool = False

    def __len__(self) -> int:
        return sum(map(len, self.records))

    @classmethod
    def of(
        cls,
        taken: Taken,
        ends: Iterable[tuple[Place, int]],
        positions: Mapping[Place, int],
        ids: Mapping[str, str],
        *,
        more: bool = False,
    ) -> Batch:
        """From what was taken, and where partitions ended: a log may end in more than messages."""
        reached = dict(taken.reached)
        for place, end in ends:
            reached[place] = max(end, reached.get(place, 0))
        moves = (
            Move(ids[topic], topic, partition, positions[topic, partition], offset)
            for (topic, partition), offset in reached.items()
            if offset > positions[topic, partition]
        )
        return cls(tuple(taken.records.values()), tuple(sorted(moves)), more)

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches that do the same one after the other. Only for two messages or more."""
        parts = tuple(part.records() if isinstance(part, Block) else part for part in self.records)
        if len(parts) > 1:
            first, second = parts[:1], parts[1:]
        else:
            (records,) = parts
            middle = len(records) // 2
            first, second = (records[:middle],), (records[middle:],)
        reached = {place: offset for part in first for place, offset in _last(part).items()}
        before, after = [], []
        for move in self.moves:
            between = reached.get((move.topic, move.partition), move.expected)
            if between > move.expected:
                before.append(move._replace(next=between))
            if move.next > between:
                after.append(move._replace(expected=between))
        return Batch(first, tuple(before)), Batch(second, tuple(after))


class Pending:
    """Batches that are folded, one after the other, and not written yet."""

    def __init__(self) -> None:
        self._folding = Folding()
        #: Events that came a few at a time.
        self._few: dict[EventType, list[Row]] = {}
        self._moves: dict[Place, Move] = {}
        self._messages = 0
        self.bad: list[DeadLetter] = []

    def __len__(self) -> int:
        return self._messages

    def __bool__(self) -> bool:
        """Whether there is anything to write; a log may move on without a message."""
        return bool(self._moves)

    def add(self, batch: Batch, decoded: Decoded) -> None:
        """Folds the events of the next batch in."""
        self._folding.add(decoded.frames)
        for event_type, events in decoded.few.items():
            self._few.setdefault(event_type, []).extend(events)
        self.bad += decoded.bad
        self._messages += len(batch)
        for move in batch.moves:
            place = move.topic, move.partition
            before = self._moves.get(place, move)
            self._moves[place] = move._replace(expected=before.expected)

    @property
    def moves(self) -> list[Move]:
        """From where the first batch began to where the last one ended."""
        return sorted(self._moves.values())

    @property
    def height(self) -> int:
        """Rows and events in memory; a few more are not counted."""
        return self._folding.height

    def rows(self) -> list[Rows | FewRows]:
        """What is to be merged, one after the other."""
        found: list[Rows | FewRows] = [self._folding.rows(), fold_few(self._few)]
        return [rows for rows in found if rows]


def _last(records: Records) -> dict[Place, int]:
    """The offset after the last message of each partition; its messages are in the order of the log."""
    last = dict(zip(records.partitions, records.offsets, strict=True))
    return {(records.topic, partition): offset + 1 for partition, offset in last.items()}
