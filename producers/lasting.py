"""A Kafka producer that lasts: where librdkafka's gives up for good, another one takes its place.

An idempotent producer gives up when it and the broker no longer agree on what was written, as when a
connection breaks while the broker restarts. Nothing is wrong with the events: what was not delivered is sent
again. Some of it may be in the log; an event that is there twice is one event.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from jobtrail.producers.client import log

Headers = list[tuple[str, str | bytes | None]] | dict[str, str | bytes | None]
Answer = Callable[[KafkaError | None, Message], None]

#: How deliveries end where the client gave up.
_GIVEN_UP: Final = frozenset(
    {
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError._FATAL,  # noqa: SLF001  # public names
        KafkaError._PURGE_QUEUE,  # noqa: SLF001
        KafkaError._PURGE_INFLIGHT,  # noqa: SLF001
    }
)
#: Seconds of one wait for the callbacks of a client that gave up, or for room in the next one.
_PAUSE: Final = 0.005


def gave_up(error: KafkaException) -> bool:
    """Whether it says, in `produce`, that the client takes nothing any more."""
    return bool(error.args[0].code() == KafkaError._FATAL)  # noqa: SLF001  # its public name


class Absent:
    """Stands in the client's place while no Kafka is known: there is no room, and nothing to wait for."""

    def produce(self, *_: object, **__: object) -> NoReturn:
        """Raises BufferError."""
        raise BufferError("no Kafka is known")

    def poll(self, seconds: float) -> int:
        """Waits."""
        time.sleep(seconds)
        return 0

    def flush(self, seconds: float) -> int:
        """Waits."""
        return self.poll(seconds)

    def list_topics(self, *_: object, **__: object) -> NoReturn:
        """Raises KafkaException."""
        raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))  # noqa: SLF001  # its public name

    def __len__(self) -> int:
        return 0


class LastingProducer:
    """Holds the client of now. From any thread."""

    def __init__(self, connect: Callable[[], Producer], *, absent: bool = False) -> None:
        """`absent`: there is no client before `connect` is called."""
        self._connect = connect
        #: What to produce by; not to be kept.
        self.now: Producer | Absent = Absent() if absent else connect()
        #: What a client that gave up has not delivered, and who is to be told of it.
        self._undelivered: deque[tuple[Message, Answer, Headers]] = deque()
        self._renewing = threading.RLock()

    @property
    def absent(self) -> bool:
        """Whether there is no client yet."""
        return isinstance(self.now, Absent)

    def connect(self) -> None:
        """There is a client from now on."""
        self.now = self._connect()

    def close(self) -> None:
        """Ends the client and its threads now: it and its owner hold each other. Forgets what waits in it."""
        self.now = Absent()

    def produce(
        self, topic: str, value: bytes | None, key: bytes | None, answer: Answer, headers: Headers
    ) -> None:
        """As the client's. Where callers must be quick they use `now`, and `renew` what gave up."""
        while True:
            producer = self.now
            try:
                return producer.produce(topic, value, key, on_delivery=answer, headers=headers)
            except KafkaException as error:
                if not gave_up(error):
                    raise
                self.renew(producer, error)

    def __len__(self) -> int:
        """Messages without an answer."""
        return len(self.now) + len(self._undelivered)

    def poll(self, seconds: float) -> int:
        """As the client's: waits for answers; how many were taken in."""
        return self._wait_in(lambda producer: producer.poll(seconds))

    def flush(self, seconds: float) -> int:
        """As the client's: waits until all is answered; how much is not."""
        return self._wait_in(lambda producer: producer.flush(seconds))

    def is_undelivered(self, error: KafkaError, message: Message, answer: Answer, headers: Headers) -> bool:
        """Whether the client gave up before: the message is sent again, and `answer` told then.

        With its headers, which the client does not give back.
        """
        if error.code() not in _GIVEN_UP:
            return False
        self._undelivered.append((message, answer, headers))
        return True

    def renew(self, failed: Producer | Absent, why: KafkaException) -> None:
        """Puts a new client in the place of one that gave up, and sends what that has not delivered."""
        with self._renewing:
            if self.now is not failed or isinstance(failed, Absent):
                return
            log.warning("the Kafka client gave up (%s); another one sends what waits", why.args[0].str())
            self.now = self._connect()
            failed.purge()
            while len(failed):
                with contextlib.suppress(KafkaException):  # it says again that it gave up
                    failed.poll(_PAUSE)
            self._send_again()

    def _wait_in(self, wait: Callable[[Producer | Absent], int]) -> int:
        producer = self.now
        try:
            return wait(producer)
        except KafkaException as error:
            if not error.args[0].fatal():
                raise
            self.renew(producer, error)
            return len(self.now)
        finally:
            if self._undelivered:
                self._send_again()

    def _send_again(self) -> None:
        with self._renewing:
            while self._undelivered and not self.absent:
                message, answer, headers = self._undelivered.popleft()
                topic = message.topic() or ""
                try:
                    self.produce(topic, message.value(), message.key(), answer, headers)
                except BufferError:
                    self._undelivered.appendleft((message, answer, headers))
                    self.now.poll(_PAUSE)
