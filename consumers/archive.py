"""An archive of the event log: data files, each with a manifest that says what is in it.

    ADDRESS/TOPIC/TOPIC ID/PARTITION/FIRST OFFSET.json                  the manifest, written last
                                     FIRST OFFSET-NEXT OFFSET-SUM.avro  its data file

What no manifest names is not there. A manifest is named after its first offset alone and made only where
there is none of that name, and a run goes on where the last manifest ends: so the ranges of a partition
follow one another without a gap and without an overlap, also when two runs meet.

Reading depends on that as little as possible: overlaps, as of two archives that were put together, are passed
over, and every sum is checked before a message is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self

import polars as pl

from jobtrail.consumers.archive_file import COLUMNS, MalformedError, frames
from jobtrail.consumers.archive_manifest import Manifest, gaps, is_manifest, read_manifest
from jobtrail.consumers.archive_store import MARK, Store
from jobtrail.consumers.records import Records
from jobtrail.errors import ArchiveError


class Archive:
    """What is archived at an address, as its manifests said when it was opened."""

    def __init__(self, store: Store, manifests: Iterable[Manifest]) -> None:
        self.store = store
        #: (topic, topic id, partition) → manifests by offset.
        self.chains: dict[tuple[str, str, int], list[Manifest]] = {}
        for one in sorted(manifests, key=lambda one: (one.first_offset, one.next_offset)):
            self.chains.setdefault((one.topic, one.topic_id, one.partition), []).append(one)

    @classmethod
    def open(cls, address: str) -> Self:
        """Reads the manifests.

        Raises UsageError for an address that cannot be used, ArchiveError where there is no archive, or a
        manifest is damaged.
        """
        store = Store.open(address)
        names = store.names()
        if MARK not in names:
            raise ArchiveError(
                f"there is no archive at {store.address}; `jobtrail archive {address}` makes one"
            )
        return cls.of(store, names)

    @classmethod
    def of(cls, store: Store, names: Iterable[str]) -> Self:
        """From a store and its files' names. Raises ArchiveError for a manifest that is damaged."""
        return cls(store, map(partial(read_manifest, store), filter(is_manifest, names)))

    def topics(self) -> list[str]:
        """Names of the topics that are here."""
        return sorted({topic for topic, _, _ in self.chains})

    def topic_ids(self, topic: str) -> list[str]:
        """Ids under which a topic of this name was archived, oldest first: by messages, then by files."""
        ages: dict[str, tuple[int, int]] = {}
        for (name, topic_id, _), chain in self.chains.items():
            if name == topic:
                times = [one.first_broker_ms for one in chain if one.first_broker_ms is not None]
                age = (min(times, default=chain[0].archived_ms), chain[0].archived_ms)
                ages[topic_id] = min(age, ages.get(topic_id, age))
        return sorted(ages, key=lambda topic_id: (ages[topic_id], topic_id))

    def extent(self, topic_id: str, *, accepted_gaps: bool = False) -> dict[int, tuple[int, int]]:
        """Partition → (first offset, next offset), all of which is here; none for an id that is not here.

        The first is not 0 only where it was accepted that the archive begins there. Raises ArchiveError
        naming offsets that are missing in between; with `accepted_gaps` only those that nobody accepted.
        """
        found = {}
        for (_, this_id, partition), chain in self.chains.items():
            if this_id == topic_id:
                start = next((one.first_offset for one in chain if not one.missing), chain[-1].next_offset)
                for gap in gaps(chain):
                    if not (gap.accepted and (accepted_gaps or gap.next <= start)):
                        raise ArchiveError(f"{self.store.address}: {gap}")
                found[partition] = start, max(one.next_offset for one in chain)
        return dict(sorted(found.items()))

    def read(  # noqa: PLR0917  # a place and a range
        self, topic: str, topic_id: str, partition: int, start: int, end: int, most: int
    ) -> Iterator[Records]:
        """Messages with start ≤ offset < end, in order of offset, at most `most` of them at a time.

        Holds one data file and `most` messages in memory. Raises ArchiveError, naming the file, for one that
        is not there or not as it was written, and for offsets that are missing, unless that was accepted.
        """
        position = start
        rows = _Rows(topic, topic_id, partition, most)
        for one in self.chains.get((topic, topic_id, partition), ()):
            if position >= end:
                break
            if one.next_offset <= position:
                continue
            if one.first_offset > position:
                break
            for frame in self.frames(one):
                yield from rows.add(frame, position, end)
            position = one.next_offset
        if position < end:
            raise ArchiveError(
                f"{self.store.address}: offsets {position} to {end - 1} of topic {topic} (id {topic_id}),"
                f" partition {partition}, are not in the archive"
            )
        yield from rows.rest()

    def frames(self, manifest: Manifest, columns: Sequence[str] = COLUMNS) -> Iterator[pl.DataFrame]:
        """The messages of one data file, block by block. Raises ArchiveError, before the first if it can."""
        name = manifest.data_name
        data = self.store.read(name)
        if len(data) != manifest.size or hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise ArchiveError(
                f"{self.store.shown(name)} is damaged: its {len(data):,} bytes are not the"
                f" {manifest.size:,} that were written; bring it back from a copy"
            )
        try:
            yield from frames(data, columns)
        except MalformedError as error:
            raise ArchiveError(f"{self.store.shown(name)} cannot be read: {error}") from None


class _Rows:
    """Collects messages until there are enough for one piece."""

    def __init__(self, topic: str, topic_id: str, partition: int, most: int) -> None:
        self._of = topic, topic_id
        self._partition = partition
        self._most = most
        self._columns: list[list[Any]] = [[] for _ in COLUMNS]

    def add(self, frame: pl.DataFrame, start: int, end: int) -> Iterator[Records]:
        offsets = frame["offset"]
        if frame.height and (offsets[0] < start or offsets[-1] >= end):
            frame = frame.filter(pl.col("offset").is_between(start, end, closed="left"))
        for name, column in zip(COLUMNS, self._columns, strict=True):
            column.extend(frame[name].to_list())
        while len(self._columns[0]) >= self._most:
            yield self._take(self._most)

    def rest(self) -> Iterator[Records]:
        if self._columns[0]:
            yield self._take(len(self._columns[0]))

    def _take(self, count: int) -> Records:
        taken = [column[:count] for column in self._columns]
        self._columns = [column[count:] for column in self._columns]
        return Records(*self._of, [self._partition] * count, *taken)


def no_archive(store: Store) -> ArchiveError:
    """There is none where one was to be read."""
    return ArchiveError(
        f"there is no archive at {store.address}; `jobtrail archive {store.address}` makes one"
    )
