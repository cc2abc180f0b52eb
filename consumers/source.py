"""The event log as batches: Kafka's consumer group, read from the checkpoints of the read models.

Which partitions are ours, Kafka says; where to begin, the checkpoints say, so that rows and offsets cannot
disagree. Offsets committed to Kafka are a courtesy to its tools. A gap between checkpoint and log, or a topic
made anew under the same name, ends the projector loudly.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from jobtrail.consumers.batch import Batch, Pending
from jobtrail.consumers.block import Block
from jobtrail.consumers.far_behind import FarBehind
from jobtrail.consumers.reading import CONSUMER_CONFIG, GONE, IDLE, OUT_OF_RANGE
from jobtrail.consumers.records import Place
from jobtrail.consumers.taking import Taken, take
from jobtrail.consumers.topics import ANSWER_TIMEOUT, TopicAdmin
from jobtrail.consumers.waiting import FIRST_PAUSE, Away, StoppedError, until_it_answers
from jobtrail.errors import LogError, NotFoundError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.projections.store import Move
from jobtrail.running import KAFKA_SETTING
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")

#: Messages read and decoded at once: a hundred calls cost the same for one as for thousands.
AT_ONCE: Final = 25_000
#: Offsets between what was read and the end from which on it is not worth while to write what is there.
BEHIND: Final = 5_000
#: Seconds between two looks at the topics' ids.
ID_CHECK: Final = 30.0
#: Seconds between two commits to Kafka.
COURTESY: Final = 5.0


class Checkpoints(Protocol):
    """How far the log is folded. What its methods raise ends the iteration over a source."""

    def checkpoints(self, topic_id: str) -> Mapping[int, int]:
        """Partition → next offset."""

    def known_topic_ids(self, topic: str) -> set[str]:
        """Ids under which a topic of this name was folded."""


class Source:
    """Iterates over batches until `stop` is set; None stands for a moment in which nothing came."""

    def __init__(
        self,
        settings: Settings,
        checkpoints: Checkpoints,
        stop: threading.Event,
        *,
        until_caught_up: bool = False,
    ) -> None:
        self._settings = settings
        self._checkpoints = checkpoints
        self._stop = stop
        self._until_caught_up = until_caught_up
        self._admin = TopicAdmin(settings)
        self._away = Away("Kafka")
        self._ids: dict[str, str] = {}
        self._chunk = min(AT_ONCE, settings.batch_size)
        #: Where the next batch begins, for each partition of ours.
        self._positions: dict[Place, int] = {}
        #: What is in the read models, as far as we have folded it.
        self._written: dict[Place, int] = {}
        #: Partitions whose end was seen after their last message.
        self._ended: set[Place] = set()
        self._assigned_anew = False
        #: Whether the last batch seemed to have more behind it.
        self._was_behind = False
        self._far_behind = FarBehind(settings)
        #: What waits while a stretch is read; a partition that is taken from us and given back still does.
        self._paused: list[TopicPartition] = []
        self._brokers_down = threading.Event()
        self._next_id_check = 0.0
        self._next_courtesy = 0.0
        self._consumer = Consumer(
            {
                **CONSUMER_CONFIG,
                **client_config(settings, self._admin.address),
                "group.id": settings.projector_group,
                "error_cb": self._on_error,
            }
        )

    @property
    def caught_up(self) -> bool:
        """Whether all partitions of ours were read to their end."""
        return bool(self._positions) and self._ended >= self._positions.keys()

    def lag(self) -> dict[Place, int]:
        """Offsets from what is folded to the end of the log, as last heard of, for each partition of ours."""
        ends = ((place, self._end_of(place), position) for place, position in self._written.copy().items())
        return {place: max(0, end - position) for place, end, position in ends if end is not None}

    def __iter__(self) -> Iterator[Batch | None]:
        """Batches, the next one when the last was folded. Raises LogError; waits while Kafka is away."""
        with contextlib.suppress(StoppedError):
            self._ids = until_it_answers(self._away, self._stop, self._admin.ensure)
            self._next_id_check = time.monotonic() + ID_CHECK
            for topic, topic_id in self._ids.items():
                if (known := self._checkpoints.known_topic_ids(topic)) and topic_id not in known:
                    raise _made_anew(topic, topic_id, ", ".join(sorted(known)))
            self._consumer.subscribe(
                list(self._ids), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            while not self._stop.is_set():
                batch = self._next()
                yield batch
                if batch is None and self._until_caught_up and self.caught_up:
                    return

    @property
    def positions(self) -> dict[Place, int]:
        """The next offset to read, for each partition of ours."""
        return self._positions.copy()

    def folded(self, batch: Batch | Pending) -> None:
        """The batch is in the read models: Kafka's tools may know."""
        for move in batch.moves:
            if (move.topic, move.partition) in self._positions:
                self._written[move.topic, move.partition] = move.next
        if time.monotonic() > self._next_courtesy:
            self._commit()

    def at_once(self) -> Batch | None:
        """The next batch, if there is anything to read now."""
        return self._next(0)

    def rewind(self) -> None:
        """Goes on at the checkpoints as they are now, with the partitions that are still ours."""
        if self._positions:
            self._assign(list(self._positions))

    def close(self) -> None:
        """Leaves the group. The partitions go to its other members."""
        self._commit()
        self._far_behind.close()
        self._consumer.close()

    def _next(self, patience: float = IDLE) -> Batch | None:
        if self._far_behind.place or (self._was_behind and self._begin_far_behind()):
            return self._next_far_behind()
        self._assigned_anew = self._was_behind = False
        message = self._consumer.poll(patience)
        if self._brokers_down.is_set() or time.monotonic() > self._next_id_check:
            self._look_after_the_topics()
        if message is None:
            return None
        taken = take(self._consumer, message, self._chunk, self._ids, self._is_behind)
        if self._assigned_anew:
            # Some may be from before the assignment and some from behind it.
            self._seek()
            return None
        ends = [(self._place(each), int(each.offset() or 0)) for each in taken.errors if _is_end(each)]
        failures = [each for each in taken.errors if not _is_end(each)]
        if failures and self._is_stalled(failures):
            self._stop.wait(FIRST_PAUSE)
            self.rewind()
            return None
        self._ended -= taken.reached.keys()
        more = taken.count == self._chunk or self._is_behind(taken)
        batch = Batch.of(taken, ends, self._positions, self._ids, more=more)
        for move in batch.moves:
            self._positions[move.topic, move.partition] = move.next
        self._ended |= {place for place, _ in ends}
        self._was_behind = more
        return batch if batch.moves else None

    def _begin_far_behind(self) -> bool:
        """Whether one of our partitions has so much more that it is read as blocks; the others wait."""
        for place, position in self._positions.items():
            end = self._end_of(place)
            if end is not None and self._far_behind.begin(place, self._ids[place[0]], position, end):
                self._ended.discard(place)
                self._paused = [TopicPartition(*one) for one in self._positions]
                self._consumer.pause(self._paused)
                return True
        return False

    def _next_far_behind(self) -> Batch | None:
        self._assigned_anew = False
        self._consumer.poll(0)  # for the group's sake; a message that was on its way is fetched again
        if self._brokers_down.is_set() or time.monotonic() > self._next_id_check:
            self._look_after_the_topics()
        if self._assigned_anew:
            return None
        while (place := self._far_behind.place) is not None:
            if (block := self._far_behind.next()) is not None:
                return self._far_behind_batch(place, block)
            self._begin_far_behind()
        self._seek()
        return None

    def _far_behind_batch(self, place: Place, block: Block) -> Batch:
        topic, partition = place
        move = Move(block.topic_id, topic, partition, self._positions[place], block.next_offset)
        self._positions[place] = move.next
        return Batch((block,), (move,), more=True)

    def _end_of(self, place: Place) -> int | None:
        """Where a partition ends, as far as was heard."""
        with contextlib.suppress(KafkaException):
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            return int(end)
        return None

    def _is_behind(self, taken: Taken) -> bool:
        """Whether the partitions that these are of have many more, as far as was heard."""
        ends = ((self._end_of(place), reached) for place, reached in taken.reached.items())
        return any(end is not None and end - reached > BEHIND for end, reached in ends)

    @staticmethod
    def _place(message: Message) -> Place:
        return str(message.topic()), int(message.partition() or 0)

    def _is_stalled(self, failures: list[Message]) -> bool:
        """Whether fetching ended for a reason that has passed. Raises LogError for what must not go on."""
        # Whatever is wrong with fetching may come of a topic made anew.
        self._look_after_the_topics()
        stalled = False
        for message in failures:
            error = _error(message)
            if error.fatal():
                raise LogError(f"Kafka ended the consumer of {self._settings.projector_group}: {error.str()}")
            log.warning("Kafka: %s", error.str())
            if error.code() in OUT_OF_RANGE:
                self._check_for_a_gap(*self._place(message))
                stalled = True
        return stalled

    def _check_for_a_gap(self, topic: str, partition: int) -> None:
        """Raises LogError where the log does not have what is needed next; waits for a Kafka that is away."""
        bounds = until_it_answers(self._away, self._stop, lambda: self._bounds(topic, partition))
        position = self._positions.get((topic, partition))
        if bounds is None or position is None:
            return
        low, high = bounds
        place = f"topic {topic}, partition {partition}"
        if position < low:
            raise LogError(
                f"{place}: offsets {position} to {low - 1} are needed next and are no longer in the log,"
                f" which begins at {low}; rebuild from an archive that has them"
            )
        if position > high:
            raise LogError(
                f"{place}: the checkpoint is {position}, but the log ends at {high}: it lost events that the"
                " read models have; restore the topic, or rebuild from an archive"
            )

    def _bounds(self, topic: str, partition: int) -> tuple[int, int] | None:
        """Where the log begins and ends; None where it is gone. Raises ServerAwayError."""
        try:
            return self._consumer.get_watermark_offsets(TopicPartition(topic, partition), ANSWER_TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() in GONE:
                self._next_id_check = 0.0
                return None
            raise ServerAwayError("Kafka", self._admin.address, KAFKA_SETTING, error.args[0].str()) from error

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public name
            self._away.gone(ServerAwayError("Kafka", self._admin.address, KAFKA_SETTING, error.str()))
            self._brokers_down.set()

    def _look_after_the_topics(self) -> None:
        """Raises LogError for a topic that is gone or was made anew; waits for a Kafka that is away."""
        try:
            found = until_it_answers(self._away, self._stop, lambda: self._admin.ids(self._ids))
        except NotFoundError as error:
            raise LogError(f"{error}, though it did; restore it, or rebuild from an archive") from None
        self._brokers_down.clear()
        self._next_id_check = time.monotonic() + ID_CHECK
        for topic, topic_id in found.items():
            if topic_id != self._ids[topic]:
                raise _made_anew(topic, topic_id, self._ids[topic])

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned_anew = True
        self._next_id_check = 0.0
        self._assign([(part.topic, part.partition) for part in partitions])
        log.info("reading %s", ", ".join(f"{topic}[{part}]" for topic, part in sorted(self._positions)))

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._assigned_anew = True
        self._far_behind.stop()
        self._positions.clear()
        self._written.clear()
        self._ended.clear()

    def _assign(self, places: list[Place]) -> None:
        found = {
            topic: self._checkpoints.checkpoints(self._ids[topic]) for topic in {topic for topic, _ in places}
        }
        # Without a checkpoint from the very beginning; if that is no longer in the log, the fetch says so.
        self._positions = {(topic, part): found[topic].get(part, 0) for topic, part in places}
        self._written = self._positions.copy()
        self._seek()

    def _seek(self) -> None:
        """Assigning drops what was fetched from elsewhere; seeking fails on what is not being fetched yet."""
        self._far_behind.stop()
        self._ended.clear()
        # Before, for it drops what waits to be taken: the end of a partition is told once.
        self._consumer.resume(self._paused)
        self._paused = []
        self._consumer.assign([TopicPartition(*place, at) for place, at in self._positions.items()])

    def _commit(self) -> None:
        self._next_courtesy = time.monotonic() + COURTESY
        offsets = [TopicPartition(*place, at) for place, at in self._written.items()]
        if offsets:
            with contextlib.suppress(KafkaException):
                self._consumer.commit(offsets=offsets, asynchronous=True)


def _error(message: Message) -> KafkaError:
    error = message.error()
    assert error is not None  # noqa: S101  # only those that have one are asked
    return error


def _is_end(message: Message) -> bool:
    """Whether it says that a partition was read to its end."""
    return _error(message).code() == KafkaError._PARTITION_EOF  # noqa: SLF001  # its public name


def _made_anew(topic: str, topic_id: str, known: str) -> LogError:
    return LogError(
        f"topic {topic} was made anew: its id is {topic_id}, and the checkpoints are of {known};"
        " restore the topic that was, or rebuild from an archive and this one"
    )
