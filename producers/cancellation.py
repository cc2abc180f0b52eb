"""Learns from the events topic that a job is to be cancelled.

A consumer without a group reads the partitions of the jobs that are watched, from a little before the job or
the attempt began, and decodes the few messages that have a watched job's key and are of the right type.
"""

from __future__ import annotations

import threading
import weakref
from typing import Final, Protocol

from confluent_kafka import OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from jobtrail import codec
from jobtrail.errors import BadMessageError
from jobtrail.events import Cancelled, CancelRequested
from jobtrail.producers.client import client_config, log
from jobtrail.producers.publisher import Publisher
from jobtrail.wire import HEADER_SIZE

#: Seconds between two looks at what is to be watched.
_LOOK: Final = 0.2
_BATCH: Final = 1_000
#: Messages before the beginning that are read too: the job may have been cancelled while nobody ran it.
_LOOK_BACK: Final = 10_000


class Watched(Protocol):
    """An attempt that wants to know."""

    @property
    def job_id(self) -> int:
        """The job."""

    @property
    def attempt_number(self) -> int:
        """The attempt's number within the job."""

    def on_cancellation(self, event: CancelRequested | Cancelled) -> None:
        """Its job, or it alone, is to be or was cancelled. Called from another thread, maybe repeatedly."""


class CancellationWatch:
    """Watches for all attempts of one publisher; its thread runs only while there is one to watch for."""

    def __init__(self, publisher: Publisher) -> None:
        self._topic = publisher.settings.events_topic
        self._config = {
            "fetch.wait.max.ms": 500,
            "queued.max.messages.kbytes": 4_096,
            # Whoever watches knows where its job's first event is: Kafka is known.
            **client_config(publisher.settings, publisher.address),
            "group.id": "jobtrail-cancellation-watch",  # the client wants a name; the group is never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
        self._lock = threading.Lock()
        self._watched: dict[bytes, list[Watched]] = {}
        #: Partition → the offset to be read next, and whether that is new to the consumer.
        self._positions: dict[int, int] = {}
        self._moved = False
        #: Codes of errors that were said.
        self._complaints: set[int] = set()
        self._thread: threading.Thread | None = None

    def add(self, attempt: Watched, partition: int, offset: int) -> None:
        """Watches for `attempt`, whose job's events stand in `partition` from `offset` on."""
        offset = max(offset - _LOOK_BACK, 0) if offset >= 0 else OFFSET_END
        with self._lock:
            self._watched.setdefault(_key(attempt), []).append(attempt)
            self._positions[partition] = min(self._positions.get(partition, offset), offset)
            self._moved = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobtrail-cancellation", daemon=True)
                self._thread.start()

    def remove(self, attempt: Watched) -> None:
        """Watches for `attempt` no more."""
        with self._lock:
            others = [other for other in self._watched.get(_key(attempt), ()) if other is not attempt]
            if others:
                self._watched[_key(attempt)] = others
            else:
                self._watched.pop(_key(attempt), None)

    def _run(self) -> None:
        try:
            consumer = Consumer(self._config)
            try:
                while self._follow(consumer):
                    for message in _read(consumer):
                        self._look(message)
            finally:
                consumer.close()
        except Exception:  # noqa: BLE001  # whatever it is, work goes on without
            log.exception("cancellations can no longer be seen by the attempts of this process")

    def _follow(self, consumer: Consumer) -> bool:
        """Moves the consumer to where it is wanted; False when nothing is to be watched."""
        with self._lock:
            if not self._watched:
                self._thread = None
                self._positions.clear()
                return False
            if self._moved:
                self._moved = False
                consumer.assign(
                    [TopicPartition(self._topic, *position) for position in self._positions.items()]
                )
            return True

    def _look(self, message: Message) -> None:
        if (error := message.error()) is not None:
            if error.fatal():
                raise KafkaException(error)
            if error.code() not in self._complaints:
                self._complaints.add(error.code())
                log.warning("watching %s for cancellations: %s", self._topic, error.str())
            return
        key, value = message.key(), message.value()
        with self._lock:
            if not self._moved:
                self._positions[message.partition() or 0] = (message.offset() or 0) + 1
            watched = list(self._watched.get(key, ())) if isinstance(key, bytes) else []
        if watched and isinstance(value, bytes) and (event := _cancellation(value)) is not None:
            for attempt in watched:
                if isinstance(event, CancelRequested) or event.attempt_number in {
                    None,
                    attempt.attempt_number,
                }:
                    attempt.on_cancellation(event)


def _key(attempt: Watched) -> bytes:
    return str(attempt.job_id).encode()


def _read(consumer: Consumer) -> list[Message]:
    first = consumer.poll(_LOOK)
    return [] if first is None else [first, *consumer.consume(_BATCH, 0)]


def _cancellation(value: bytes) -> CancelRequested | Cancelled | None:
    schema = codec.released().by_header.get(value[:HEADER_SIZE])
    if schema is None or schema.event_type not in {CancelRequested, Cancelled}:
        return None
    try:
        event = codec.decode(value)
    except BadMessageError:  # a dead letter, and not our task
        return None
    return event if isinstance(event, CancelRequested | Cancelled) else None


_watches: Final[weakref.WeakKeyDictionary[Publisher, CancellationWatch]] = weakref.WeakKeyDictionary()
_making: Final = threading.Lock()


def cancellation_watch(publisher: Publisher) -> CancellationWatch:
    """The watch that serves the attempts of `publisher`."""
    with _making:
        if publisher not in _watches:
            _watches[publisher] = CancellationWatch(publisher)
        return _watches[publisher]
