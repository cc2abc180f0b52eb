"""What processes left in the spool: who reads it, and how it gets to Kafka."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from jobtrail.errors import PublishError, ServerAwayError
from jobtrail.producers.client import client_config
from jobtrail.producers.lasting import Answer, LastingProducer
from jobtrail.producers.spool import SUFFIX, Header, folder_of, lock, records
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import Settings

#: Seconds without any answer after which Kafka counts as away.
PATIENCE: Final = 10.0
#: Names that segments have, and what a torn one is called once the rest of it was sent.
OURS: Final = re.compile(r"\d{20}-\d+-\d+" + re.escape(SUFFIX))
TORN: Final = ".torn"
#: Seconds between two looks at how far it is.
LOOK: Final = 0.2


@dataclass(frozen=True, slots=True)
class Left:
    """A segment of the spool."""

    path: Path
    #: Whether a process writes it still; then it is that process's to send.
    in_use: bool
    events: int
    #: Bytes of whole records, and of what a crash has torn behind them.
    size: int
    torn: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sending did."""

    segments: int
    events: int
    #: Segments that ended in what is no whole record; they are kept under another name.
    torn: int


def spooled(settings: Settings) -> list[Left]:
    """All segments, oldest first."""
    found = []
    for path in _segments(settings):
        with _opened(path) as (file, free):
            if file is not None:
                found.append(_told(path, file, free=free))
    return found


def send(settings: Settings, tell: Callable[[int, int], None] = lambda _done, _total: None) -> Sent:
    """Delivers what processes that are no more have left, in order, and deletes it once Kafka has it.

    `tell` hears how many of how many events Kafka has. Raises ServerAwayError, and PublishError where Kafka
    refuses an event: its segment then stays.
    """
    with ExitStack() as held:
        mine: list[tuple[Left, BinaryIO]] = []
        for path in _segments(settings):
            file, free = held.enter_context(_opened(path))
            if file is not None and free:
                mine.append((_told(path, file, free=True), file))
        total = sum(left.events for left, _ in mine)
        if mine:
            sender = _Sender(settings, total, tell)
            for left, file in mine:
                sender.send(left, file)
                file.close()  # Windows deletes no open file
                if left.torn:
                    left.path.rename(left.path.with_suffix(TORN))
                else:
                    left.path.unlink(missing_ok=True)
    return Sent(len(mine), total, sum(bool(left.torn) for left, _ in mine))


class _Sender:
    def __init__(self, settings: Settings, total: int, tell: Callable[[int, int], None]) -> None:
        self._address = kafka_address(settings)
        self._producer = LastingProducer(partial(self._connect, settings))
        self._total, self._tell = total, tell
        self._done = 0
        self._refused: str | None = None
        try:
            self._producer.now.list_topics(settings.events_topic, timeout=PATIENCE)
        except KafkaException as error:
            raise self._away(error.args[0].str()) from None

    def _connect(self, settings: Settings) -> Producer:
        return Producer(
            {
                "compression.type": "lz4",
                **client_config(settings, self._address),
                "acks": "all",
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "message.timeout.ms": 0,
            }
        )

    def send(self, left: Left, file: BinaryIO) -> None:
        """Sends a segment, and waits until Kafka has it. Raises ServerAwayError, PublishError."""
        for (topic, key, value, headers), _ in records(file):
            while True:
                try:
                    self._producer.produce(topic, value, key, self._hearing(headers), headers)
                except BufferError:
                    self._await_answer()
                except KafkaException as error:
                    raise self._refusal(left, error.args[0].str()) from None
                else:
                    break
            self._producer.poll(0)
        while len(self._producer):
            self._await_answer()
        if self._refused:
            raise self._refusal(left, self._refused)

    def _refusal(self, left: Left, why: str) -> PublishError:
        return PublishError(
            f"Kafka at {self._address} refuses an event of {left.path}: {why}; it stays there."
            " Delete the file to give it up"
        )

    def _hearing(self, headers: list[Header]) -> Answer:
        def heard(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                if self._producer.is_undelivered(error, message, heard, headers):
                    return
                self._refused = self._refused or error.str()
            self._done += 1

        return heard

    def _await_answer(self) -> None:
        before, until = self._done, time.monotonic() + PATIENCE
        while self._done == before:
            if time.monotonic() > until:
                raise self._away(f"no answer in {PATIENCE:g} s")
            self._producer.poll(LOOK)
        self._tell(self._done, self._total)

    def _away(self, why: str) -> ServerAwayError:
        left = f"{self._total - self._done:,} events stay in the spool"
        return ServerAwayError("Kafka", self._address, KAFKA_SETTING, f"{why}; {left}")


def _segments(settings: Settings) -> list[Path]:
    return sorted(path for path in folder_of(settings.home).glob(f"*{SUFFIX}") if OURS.fullmatch(path.name))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO | None, bool]]:
    """The file, or None where it is gone meanwhile; and whether its lock was free, and is ours now."""
    try:
        file = path.open("rb+")
    except FileNotFoundError:  # Kafka has it
        yield None, False
        return
    with file:
        try:
            lock(file.fileno())
        except OSError:
            yield file, False
        else:
            # Its writer may have deleted it just before it gave the lock back.
            yield (file if path.exists() else None), True


def _told(path: Path, file: BinaryIO, *, free: bool) -> Left:
    events = size = 0
    for events, (_, size) in enumerate(records(file), 1):  # noqa: B007  # the last ones count
        pass
    return Left(path, not free, events, size, os.fstat(file.fileno()).st_size - size)
