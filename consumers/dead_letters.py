"""The relay: publishes dead letters from their table to their topic.

At least once: a letter is marked after Kafka confirmed it. Several relays share the work, since each locks
the letters that it publishes and passes by those that another one has locked.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from psycopg.rows import args_row

from jobtrail.consumers.waiting import (
    Away,
    StoppedError,
    database_address,
    database_away,
    until_it_answers,
)
from jobtrail.errors import PublishError
from jobtrail.producers.client import client_config
from jobtrail.producers.lasting import LastingProducer
from jobtrail.projections.letters import DeadLetter
from jobtrail.running import kafka_address
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")

#: Letters in one transaction.
BATCH: Final = 500
#: Seconds between two looks at the table, unless woken.
INTERVAL: Final = 5.0
#: Seconds that Kafka has to confirm a batch.
CONFIRM_TIMEOUT: Final = 30.0
#: Most bytes of a letter, value and all; a topic that Jobtrail made takes them.
LARGEST: Final = 8 * 1024 * 1024
#: Most characters of the detail in a header; the table has it whole.
DETAIL: Final = 1_000
#: The same for a letter that is too large even without its value.
SHORT_DETAIL: Final = 100
#: What a letter is published without, while it is too large for the topic. The table has it whole.
_LEFT_OUT: Final[tuple[tuple[str, ...], ...]] = ((), ("value",), ("value", "key"))

_TAKE: Final = """
    SELECT topic, topic_id, partition, "offset", broker_at, key, value, reason, detail
    FROM jobtrail.dead_letters WHERE published_at IS NULL
    ORDER BY broker_at, topic_id, partition, "offset" LIMIT %s
    FOR UPDATE SKIP LOCKED
"""
_MARK: Final = """
    UPDATE jobtrail.dead_letters d SET published_at = clock_timestamp()
    FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS p (topic_id, partition, "offset")
    WHERE d.topic_id = p.topic_id AND d.partition = p.partition AND d."offset" = p."offset"
"""


class Relay:
    """Publishes what is in the table. Not thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.dead_letters_topic
        self._database_url = database_address(settings)
        self._kafka_address = kafka_address(settings)
        self._producer = LastingProducer(partial(self._connect, settings))

    def _connect(self, settings: Settings) -> Producer:
        return Producer(
            {
                **client_config(settings, self._kafka_address),
                "enable.idempotence": True,
                "compression.type": "lz4",
                # One that is too large must not take others with it.
                "batch.num.messages": 1,
                "message.max.bytes": LARGEST,
                "message.timeout.ms": int(CONFIRM_TIMEOUT * 1000),
            }
        )

    def publish(self) -> int:
        """Publishes what waits and is locked by nobody else; returns how many letters.

        Raises ServerAwayError where Postgres does not answer, PublishError where Kafka did not confirm all.
        """
        published = 0
        try:
            with psycopg.connect(
                self._database_url, connect_timeout=10, application_name="jobtrail-dead-letters"
            ) as connection:
                while done := self._publish_batch(connection):
                    published += done
        except psycopg.Error as error:
            raise database_away(self._database_url, error) from error
        return published

    def _publish_batch(self, connection: psycopg.Connection[Any]) -> int:
        with connection.transaction(), connection.cursor(row_factory=args_row(DeadLetter)) as cursor:
            letters = cursor.execute(_TAKE, (BATCH,)).fetchall()
            confirmed, why = self._confirmed(letters)
            places = [(letter.topic_id, letter.partition, letter.offset) for letter in confirmed]
            if places:
                cursor.execute(_MARK, [list(column) for column in zip(*places, strict=True)])
        if len(confirmed) < len(letters):
            raise PublishError(
                f"{len(letters) - len(confirmed)} dead letters were not confirmed by topic {self._topic}"
                f" at {self._kafka_address} ({why}); they stay to be published"
            )
        return len(letters)

    def _confirmed(self, letters: list[DeadLetter]) -> tuple[list[DeadLetter], str]:
        """Those that Kafka has, and why it has not the others."""
        confirmed: list[DeadLetter] = []
        why = ["no answer in time"]
        left = letters
        for without in _LEFT_OUT:
            if not left:
                break
            left = self._too_large(left, without, confirmed, why)
        return confirmed, why[-1]

    def _too_large(
        self, letters: list[DeadLetter], without: tuple[str, ...], confirmed: list[DeadLetter], why: list[str]
    ) -> list[DeadLetter]:
        """Publishes letters without some of their parts; returns those that the topic still does not take."""
        too_large: list[DeadLetter] = []

        def reported(letter: DeadLetter, error: KafkaError | None) -> None:
            if error is None:
                confirmed.append(letter)
                if without:
                    log.warning(
                        "dead letter %s was too large for topic %s and is published without its %s",
                        letter.place,
                        self._topic,
                        " and ".join(without),
                    )
                return
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                too_large.append(letter)
            why.append(error.str())

        for letter in letters:
            self._produce(letter, without, reported)
        self._producer.flush(CONFIRM_TIMEOUT)
        return too_large

    def _produce(
        self,
        letter: DeadLetter,
        without: tuple[str, ...],
        reported: Callable[[DeadLetter, KafkaError | None], None],
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None or not self._producer.is_undelivered(error, message, delivered, headers):
                reported(letter, error)

        headers = _headers(letter, without)
        value = None if "value" in without else letter.value
        key = None if "key" in without else letter.key
        try:
            try:
                self._producer.produce(self._topic, value, key, delivered, headers)
            except BufferError:  # the client's queue is full
                self._producer.flush(CONFIRM_TIMEOUT)
                self._producer.produce(self._topic, value, key, delivered, headers)
        except BufferError:  # still: what it holds is not confirmed either
            reported(letter, KafkaError(KafkaError._QUEUE_FULL))  # noqa: SLF001  # as librdkafka names its own
        except KafkaException as error:
            reported(letter, error.args[0])


def _headers(letter: DeadLetter, without: tuple[str, ...]) -> list[tuple[str, str | bytes | None]]:
    texts = {
        "jobtrail_reason": letter.reason,
        "jobtrail_detail": letter.detail[: SHORT_DETAIL if "key" in without else DETAIL],
        "jobtrail_topic": letter.topic,
        "jobtrail_topic_id": letter.topic_id,
        "jobtrail_partition": str(letter.partition),
        "jobtrail_offset": str(letter.offset),
        "jobtrail_broker_at": letter.broker_at.isoformat(timespec="milliseconds"),
    }
    # What is left out is told by its size.
    if "value" in without and letter.value is not None:
        texts["jobtrail_value_bytes"] = str(len(letter.value))
    if "key" in without and letter.key is not None:
        texts["jobtrail_key_bytes"] = str(len(letter.key))
    return [(name, text.encode()) for name, text in texts.items()]


def relay_once(settings: Settings) -> int:
    """Publishes what waits; returns how many letters. Raises ServerAwayError and PublishError."""
    return Relay(settings).publish()


def run_relay(
    settings: Settings, stop: threading.Event, wake: threading.Event, away: Away | None = None
) -> None:
    """Publishes dead letters until `stop` is set: every few seconds, and when `wake` is set."""
    relay, away = Relay(settings), away or Away("Postgres")
    said = False
    while not stop.is_set():
        try:
            until_it_answers(away, stop, relay.publish)
            said = False
        except StoppedError:
            return
        except PublishError as error:
            if not said:
                log.warning("%s", error)
            said = True
        if wake.wait(INTERVAL) and not stop.is_set():
            wake.clear()


@contextmanager
def relaying(settings: Settings) -> Iterator[Callable[[], None]]:
    """A relay in a thread of its own; gives what wakes it."""
    stop, wake = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=run_relay,
        # Whoever this thread works for says that Postgres is away.
        args=(settings, stop, wake, Away("Postgres", logging.DEBUG)),
        name="jobtrail-dead-letters",
        daemon=True,
    )
    thread.start()
    try:
        yield wake.set
    finally:
        stop.set()
        wake.set()
        thread.join()
