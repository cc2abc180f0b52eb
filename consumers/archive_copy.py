"""Copies what is new in the log into an archive: partition by partition, file by file.

No consumer group is joined and no offset is committed: where to go on, the archive itself says. A run ends at
the end that each partition had when the run came to it, so it ends however many events arrive.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobtrail.consumers.archive import Archive
from jobtrail.consumers.archive_file import BLOCK_MESSAGES, FileWriter
from jobtrail.consumers.archive_manifest import Gap, Manifest, holds, is_data
from jobtrail.consumers.archive_store import Store
from jobtrail.consumers.reading import CONSUMER_CONFIG, IDLE, OUT_OF_RANGE
from jobtrail.consumers.topics import ANSWER_TIMEOUT, TopicAdmin
from jobtrail.errors import LogError, NotFoundError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.running import KAFKA_SETTING
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")

#: A data file ends after so many bytes of messages, and is held in memory until then.
FILE_BYTES: Final = 64_000_000
#: Seconds without a word from Kafka after which it is away.
SILENCE: Final = 30.0
#: librdkafka wants a name; nothing ever joins this group or commits to it.
GROUP: Final = "jobtrail-archive"


@dataclass(slots=True)
class Copied:
    """What a run did so far."""

    #: Offsets that there are to copy, as far as is known, and those that were.
    wanted: int = 0
    done: int = 0
    messages: int = 0
    #: Of the data files.
    files: int = 0
    bytes: int = 0
    gaps: list[Gap] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Place:
    topic: str
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"topic {self.topic}, partition {self.partition}"


def copy_log(
    settings: Settings,
    address: str,
    topics: Sequence[str],
    *,
    accept_gaps: bool = False,
    on_progress: Callable[[Copied], None] = lambda _: None,
) -> Copied:
    """Copies what is new in the topics. What had left the log before is in `gaps` of what it returns.

    Behind such a gap nothing is copied, unless it is accepted. Raises UsageError or ArchiveError for the
    address, ConflictError where another run writes there, ServerAwayError for Kafka, LogError where the log
    is not what the archive says.
    """
    store = Store.open(address)
    admin = TopicAdmin(settings)
    ids = admin.ids(topics)
    with store.writing() as alone:
        names = store.names()
        archive = Archive.of(store, names)
        copier = _Copier(settings, admin, archive, accept_gaps=accept_gaps, on_progress=on_progress)
        try:
            copier.run(ids)
        finally:
            copier.close()
        # Where others may write, what looks left over may be about to get its manifest.
        if alone and (leftovers := _leftovers(archive, names)):
            _remove_needless(store, leftovers)
    return copier.copied


def _leftovers(archive: Archive, names: Sequence[str]) -> list[str]:
    """Data files that no manifest names: of runs that were killed between the two."""
    named = {one.data_name for chain in archive.chains.values() for one in chain}
    return [name for name in names if is_data(name) and name not in named]


def _remove_needless(store: Store, leftovers: Sequence[str]) -> None:
    """Takes away those whose offsets other files have by now.

    Where a manifest was lost, or the log, its data file may be all that is left of those offsets.
    """
    chains = {chain[0].folder: chain for chain in Archive.of(store, store.names()).chains.values()}
    for name in leftovers:
        folder, _, file = name.rpartition("/")
        first, end, _ = file.split("-")
        if holds(chains.get(folder, ()), int(first), int(end)):
            store.remove(name)


class _Copier:
    """Reads one partition after the other."""

    def __init__(
        self,
        settings: Settings,
        admin: TopicAdmin,
        archive: Archive,
        *,
        accept_gaps: bool,
        on_progress: Callable[[Copied], None],
    ) -> None:
        self.copied = Copied()
        self._admin = admin
        self._archive = archive
        self._accept_gaps = accept_gaps
        self._tell = on_progress
        self._last_error = "no answer in time"
        self._consumer = Consumer(
            {
                **CONSUMER_CONFIG,
                **client_config(settings, admin.address),
                "group.id": GROUP,
                "error_cb": self._on_error,
            }
        )

    def close(self) -> None:
        self._consumer.close()

    def run(self, ids: dict[str, str]) -> None:
        """Topic → id."""
        starts: dict[_Place, int] = {}
        for topic, topic_id in ids.items():
            known = self._archive.extent(topic_id, accepted_gaps=True)
            for partition in self._partitions(topic):
                place = _Place(topic, topic_id, partition)
                _, starts[place] = known.get(partition, (0, 0))
                low, high = self._bounds(place)
                self.copied.wanted += max(0, high - max(low, starts[place]))
        for place, start in starts.items():
            self._copy(place, start)

    def _copy(self, place: _Place, position: int) -> None:
        """A partition from `position` to its end, or to a gap that nobody accepted."""
        ended = False
        while not ended:
            low, high = self._bounds(place)
            if position > high:
                raise LogError(
                    f"{place}: the archive has it up to offset {position}, but the log ends at {high}: it"
                    " lost events that the archive has; restore the topic, or make it anew and rebuild"
                )
            if position < low:
                gap = Gap(place.topic, place.topic_id, place.partition, position, low, self._accept_gaps)
                self.copied.gaps.append(gap)
                if not self._accept_gaps:
                    return
                self._finish(_File(place, position, missing_to=low))
                position = low
            position, ended = self._read(place, position, high)

    def _read(self, place: _Place, position: int, end: int) -> tuple[int, bool]:
        """Files from `position` on; returns where they end, and whether that is the end of the partition.

        It is not where the log lost what comes next while it was read.
        """
        self._consumer.assign([TopicPartition(place.topic, place.partition, position)])
        file = _File(place, position)
        ended, lost = position == end, False
        while not (ended or lost):
            messages, errors = self._consume()
            file.add(messages)
            for error, offset in errors:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public name
                    # The log may end in more than messages.
                    file.next_offset = max(file.next_offset, offset)
                    ended = True
                elif error.code() in OUT_OF_RANGE:
                    lost = True
                else:
                    self._on_error(error)
            ended = ended or file.next_offset >= end
            self.copied.done += file.next_offset - position
            position = file.next_offset
            if (ended or lost or file.writer.bytes >= FILE_BYTES) and position > file.first_offset:
                self._finish(file)
                file = _File(place, position)
            self._tell(self.copied)
        return position, ended

    def _consume(self) -> tuple[list[Message], list[tuple[KafkaError, int]]]:
        """Messages, and errors with their offsets. Raises ServerAwayError after a long silence."""
        until = time.monotonic() + SILENCE
        while (first := self._consumer.poll(IDLE)) is None:
            if time.monotonic() > until:
                raise ServerAwayError("Kafka", self._admin.address, KAFKA_SETTING, self._last_error)
        found = [first, *self._consumer.consume(BLOCK_MESSAGES - 1, 0)]
        errors = [(error, int(one.offset() or 0)) for one in found if (error := one.error())]
        return [one for one in found if not one.error()] if errors else found, errors

    def _finish(self, file: _File) -> None:
        """Writes both files of it."""
        data, manifest = file.finish()
        topic, topic_id = manifest.topic, manifest.topic_id
        # An id never comes back: if it is the same now, all that was read before is the same topic's.
        try:
            now = self._admin.ids([topic])[topic]
        except NotFoundError as error:
            raise LogError(f"{error}, though it did when the archive began to copy it") from None
        if now != topic_id:
            raise LogError(
                f"topic {topic} was made anew while it was copied: its id was {topic_id} and is {now}; run it"
                " again, and the new one is archived beside the old one"
            )
        self._archive.store.write(manifest.data_name, data)
        self._archive.store.write_new(manifest.name, manifest.to_json())
        self.copied.messages += manifest.messages
        self.copied.files += 1
        self.copied.bytes += manifest.size

    def _partitions(self, topic: str) -> list[int]:
        try:
            return sorted(self._consumer.list_topics(topic, ANSWER_TIMEOUT).topics[topic].partitions)
        except KafkaException as error:
            raise self._away(error) from None

    def _bounds(self, place: _Place) -> tuple[int, int]:
        """Where the log begins and ends."""
        where = TopicPartition(place.topic, place.partition)
        try:
            bounds = self._consumer.get_watermark_offsets(where, ANSWER_TIMEOUT)
        except KafkaException as error:
            raise self._away(error) from None
        if bounds is None:
            raise ServerAwayError("Kafka", self._admin.address, KAFKA_SETTING, self._last_error)
        return bounds

    def _away(self, error: KafkaException) -> ServerAwayError:
        return ServerAwayError("Kafka", self._admin.address, KAFKA_SETTING, error.args[0].str())

    def _on_error(self, error: KafkaError) -> None:
        """What the client may get over; if it does not, it is the reason of the silence."""
        self._last_error = error.str()


class _File:
    """A data file that is being filled, or that stands for offsets that are missing."""

    def __init__(self, place: _Place, first_offset: int, missing_to: int | None = None) -> None:
        self._place = place
        self._missing = missing_to is not None
        self._times: tuple[int, int] | None = None
        self.first_offset = first_offset
        self.next_offset = missing_to or first_offset
        self.writer = FileWriter()

    def add(self, messages: Sequence[Message]) -> None:
        if messages:
            self.writer.add(messages)
            first, last = messages[0].timestamp()[1], messages[-1].timestamp()[1]
            self._times = (self._times[0] if self._times else first), last
            self.next_offset = int(messages[-1].offset() or 0) + 1

    def finish(self) -> tuple[bytes, Manifest]:
        data = self.writer.finish()
        first, last = self._times or (None, None)
        return data, Manifest(
            topic=self._place.topic,
            topic_id=self._place.topic_id,
            partition=self._place.partition,
            first_offset=self.first_offset,
            next_offset=self.next_offset,
            messages=self.writer.messages,
            first_broker_ms=first,
            last_broker_ms=last,
            missing=self._missing,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            archived_ms=time.time_ns() // 1_000_000,
        )
