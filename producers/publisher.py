"""Events to Kafka: idempotent, acknowledged by all replicas, in the order of each key.

`publish` hands an event to the client's queue and returns; a thread of its own takes in what became of it,
and callers do while they are too quick for it. While Kafka is away events wait in memory and in the disk
spool. When the queue and the spool are full, the caller waits for room, up to a limit.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn, Self
from urllib.parse import quote

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import BaseModel

from jobtrail import codec
from jobtrail.encoder import Encode
from jobtrail.errors import (
    EmbeddedError,
    PublishError,
    ServerAwayError,
    SettingError,
    UnconfirmedError,
    UsageError,
)
from jobtrail.events import ALERT_TYPES, ANALYTICS_TYPES, REGISTRY_TYPES, Event, Failure
from jobtrail.producers.client import client_config, log, worker_name
from jobtrail.producers.facts import make
from jobtrail.producers.in_flight import Group, Waiting
from jobtrail.producers.keeper import Keeper, both
from jobtrail.producers.lasting import Absent, Answer, LastingProducer, gave_up
from jobtrail.producers.receipt import Counts, Receipt
from jobtrail.producers.scrub import known
from jobtrail.producers.spool import Header, Record
from jobtrail.quick_events import Spell, speller
from jobtrail.running import KAFKA_SETTING, kafka_address
from jobtrail.settings import KAFKA_PREFIX, Settings

#: Seconds between two looks for room in a full queue.
_ROOM_PAUSE: Final = 0.005
#: So many events within so many seconds are a burst: callers take in the answers, once for so many events,
#: and the publisher's thread keeps out of their way. Python runs one thread at a time, and makes one that
#: never pauses stop only every 5 ms: the thread would take in one answer each time, and keep the caller.
_BURST_EVENTS: Final = 256
_BURST_SECONDS: Final = 0.05
#: Longest that the thread sleeps in the client, in seconds; what arrives wakes it.
_POLL_SECONDS: Final = 0.05
#: Seconds that events wait for a broker which the client cannot reach before that is said.
_STUCK_SECONDS: Final = 0.5
#: Errors of the client which say that no broker can be used at all.
_AWAY: Final = frozenset(
    {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001  # public names
)
#: Errors of an event that would be the same at any time.
_FOR_GOOD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_MSG,
    }
)

#: CloudEvents 1.0, Kafka binding, binary mode.
_SPEC_VERSION: Final[Header] = ("ce_specversion", "1.0")
_CONTENT_TYPE: Final[Header] = ("content-type", "application/avro")


class _Route(NamedTuple):
    """The way of a type's events."""

    event_type: type[Event]
    topic: str
    header: Header
    encode: Encode
    spell: Spell


def _scrubbing(encode: Encode, spell: Spell) -> tuple[Encode, Spell]:
    """The same for failures: what is secret in them goes before they are spelled."""

    def encoded(failure: BaseModel) -> bytes:
        assert isinstance(failure, Failure)  # noqa: S101  # the route is by type
        return encode(known.failure(failure))

    def spelled(**facts: Any) -> tuple[bytes, bytes, bytes]:
        return spell(**{**facts, **known.fields(facts)})

    return encoded, spelled


class Publisher:
    """Publishes events from any thread. Close it, or use it as a context manager; else the exit does it.

    Belongs to the process that made it: after a fork, the child makes its own.
    """

    def __init__(self, settings: Settings | None = None, *, drop_after: float = 0) -> None:
        """Where no Kafka is set, or runs under the home, all goes to the spool until one runs there.

        `drop_after`: seconds after which an event that Kafka has not confirmed is refused; 0: never. What may
        be refused so is not spooled. Raises SettingError when a client setting is wrong, and EmbeddedError
        when there is neither a Kafka nor a spool.
        """
        self.settings = settings or Settings.from_env()
        self._drop_after = drop_after
        spool = "off" if drop_after else self.settings.spool
        #: Where Kafka is; empty while none is known, and why that is.
        self.address = ""
        self._nowhere = self._find()
        if self._nowhere is not None and spool == "off":
            raise self._nowhere
        self._pid = os.getpid()
        self._routes: dict[type[Event], _Route] = {}
        self._source: Header = ("ce_source", f"/jobtrail/{quote(worker_name(self.settings))}")
        self._accepted = self._failed = self._refused = self._reported = 0
        #: Topic → code of the error that its deliveries end with at present.
        self._failing: dict[str, int] = {}
        #: Why no broker can be used at present, and whether that was said.
        self._away: str | None = None
        self._away_said = False
        #: Since when the queue is full (monotonic seconds).
        self._full_since: float | None = None
        #: What was delivered when a wait for the rest was given up.
        self._given_up_at: int | None = None
        #: Whether the last offered event was not taken.
        self._refusing = False
        #: When the last _BURST_EVENTS were complete, and when a caller took in answers (monotonic seconds).
        self._counted_at = self._caller_polled_at = 0.0
        self._closed = threading.Event()
        #: False once it is closed, and in a process that was forked since.
        self._usable = True
        self._producer = LastingProducer(self._connect, absent=self._nowhere is not None)
        self._keeper = Keeper(self.settings, spool, self._producer, self._on_delivery, self._whole)
        self._in_flight = self._keeper.in_flight
        self._lock = self._in_flight.answers.lock
        if self._nowhere is not None:
            self._away_said = True
            log.warning("%s. Until one runs there, events wait in %s", self._nowhere, self._keeper.folder)
        self._poller = threading.Thread(target=self._poll, name="jobtrail-publisher", daemon=True)
        self._poller.start()
        _open.add(self)

    def _find(self) -> EmbeddedError | None:
        try:
            self.address = kafka_address(self.settings)
        except EmbeddedError as error:
            return error
        return None

    def _connect(self) -> Producer:
        config: dict[str, object] = {
            "compression.type": "lz4",
            # Milliseconds that an event waits for others: at a high rate batches are full before that.
            "linger.ms": 2,
            **client_config(self.settings, self.address),
            "acks": "all",
            # As Java's clients do: a job's events meet in one partition whoever publishes them.
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            # 0: events wait for as long as Kafka is away; each wait for them has a limit of its own.
            "message.timeout.ms": int(self._drop_after * 1000),
            "error_cb": self._on_error,
        }
        try:
            return Producer(config)
        except KafkaException as error:
            raise SettingError(
                f"{KAFKA_PREFIX}*", f"the Kafka client refuses it: {error.args[0].str()}", "correct it"
            ) from None

    def publish(self, event: Event) -> None:
        """Queues the event for Kafka and returns.

        Waits only while the queue is full, until it has been full for settings.flush_timeout seconds; then
        raises PublishError, and so at once from then on until there is room. Raises UsageError when closed.
        """
        self._produce(event, None)

    def emit(self, event_type: type[Event], /, **facts: Any) -> None:
        """As `publish`, of an event made of these facts: in half of the time, for no event is made.

        Raises UsageError that names the field and what was found, and as `publish` does.
        """
        route = self._routes.get(event_type) or self._route(event_type)
        try:
            value, key, event_id = route.spell(**facts)
        except (TypeError, ValueError, OverflowError):  # the class itself says what is wrong, or takes it
            self.publish(make(event_type, **facts))
        else:
            self._hand_over(route, value, key, event_id, None)

    def publish_all(self, events: Iterable[Event]) -> None:
        """Publishes each event, in order. Raises as `publish` does, at the first that was not taken."""
        for event in events:
            self.publish(event)

    def send(self, event: Event) -> Receipt:
        """Publishes the event; the receipt says what became of it. Raises as `publish` does."""
        receipt = Receipt()
        self._produce(event, receipt)
        return receipt

    def send_encoded(self, event_type: type[Event], value: bytes, key: bytes, event_id: str) -> Receipt:
        """As `send`, of an event as it was encoded before, whatever its framing: it keeps its id."""
        receipt = Receipt()
        route = self._routes.get(event_type) or self._route(event_type)
        self._hand_over(route, value, key, event_id, receipt)
        return receipt

    def offer(self, event: Event) -> Receipt | None:
        """As `send`, but an event that is not taken is logged (once for all in a row), and None returned.

        For reporters: work must not fail because tracking is away.
        """
        try:
            receipt = self.send(event)
        except PublishError as error:
            if not self._refusing:
                self._refusing = True
                log.error("%s; what is refused from now on is counted only", error)
            return None
        self._refusing = False
        return receipt

    def deliver(self, event: Event, timeout: float | None = None) -> Receipt:
        """Publishes the event and waits until it is durable, at most `timeout` (default flush_timeout) s.

        Raises PublishError when Kafka refused it, UnconfirmedError when it did not answer in time, and
        EmbeddedError, with nothing published, when none is set or runs.
        """
        if self._nowhere is not None:
            raise self._nowhere
        timeout = self.settings.flush_timeout if timeout is None else timeout
        receipt = self.send(event)
        self._caller_polled_at = 0.0  # the burst, if there was one, is over: this caller waits
        if not receipt.wait(timeout):
            raise UnconfirmedError(f"{type(event).__name__}: {self._unconfirmed(timeout)}")
        if receipt.error is not None:
            raise PublishError(f"{type(event).__name__}: Kafka at {self.address} refuses it: {receipt.error}")
        return receipt

    def reach(self, timeout: float) -> None:
        """Raises ServerAwayError unless Kafka answers within `timeout` seconds, EmbeddedError without one."""
        self._own()
        if self._nowhere is not None:
            raise self._nowhere
        try:
            self._producer.now.list_topics(self.settings.events_topic, timeout=timeout)
        except KafkaException as error:
            raise ServerAwayError("Kafka", self.address, KAFKA_SETTING, error.args[0].str()) from None

    def await_receipt(self, receipt: Receipt) -> None:
        """Waits for an answer up to flush_timeout seconds; logs an error when it does not come.

        For the ends of attempts, jobs and the process: they wait for a broker that is away only once.
        """
        if not self._patiently(receipt.wait) and not self._away_said:
            log.error("%s; they go on waiting", self._unconfirmed(self.settings.flush_timeout))

    def flush(self, timeout: float | None = None) -> None:
        """Waits until all events are durable, at most `timeout` (default settings.flush_timeout) seconds.

        Raises PublishError with the number of those that are not, or that were refused since the last flush.
        """
        timeout = self.settings.flush_timeout if timeout is None else timeout
        self._own()
        self._flush(timeout)
        with self._lock:
            refused, self._reported = self._failed - self._reported, self._failed
        if self.counts.waiting:
            raise PublishError(self._unconfirmed(timeout))
        if refused:
            raise PublishError(f"Kafka at {self.address} refused {refused:,} events; the log says why")

    def close(self) -> None:
        """Flushes for up to settings.flush_timeout seconds; what waits still stays in the spool. Ends."""
        if self.closed:
            return
        self._patiently(self._flush)
        self._usable = False
        self._closed.set()
        self._poller.join()
        _open.discard(self)
        unconfirmed = self._unconfirmed(self.settings.flush_timeout)
        if not self.counts.waiting:
            self._keeper.close(delete=True)
        elif self._keeper.close(delete=False):
            folder = self._keeper.folder
            log.error("%s; they are in %s, and `jobtrail spool send` delivers them", unconfirmed, folder)
        else:
            log.error("%s; they are lost", unconfirmed)
        self._producer.close()

    def _flush(self, timeout: float) -> bool:
        """Whether Kafka has answered everything in so many seconds."""
        until = time.monotonic() + timeout
        while self.counts.waiting and (left := until - time.monotonic()) > 0:
            if not self._producer.flush(min(left, _POLL_SECONDS)):
                time.sleep(_ROOM_PAUSE)  # the rest is being read from the spool
        return not self.counts.waiting

    def topic_of(self, event_type: type[Event]) -> str:
        """The topic of an event type."""
        return topic_of(self.settings, event_type)

    @property
    def closed(self) -> bool:
        """Whether it takes no more events: it was closed, or belongs to the parent of this process."""
        return self._closed.is_set() or os.getpid() != self._pid

    @property
    def counts(self) -> Counts:
        """What became of the events so far."""
        with self._lock:
            return Counts(self._accepted, self._in_flight.answers.delivered, self._failed, self._refused)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _own(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError(f"this publisher belongs to process {self._pid}; after a fork, make a new one")
        if self._closed.is_set():
            raise UsageError("this publisher is closed; make a new one")

    def disown(self) -> None:
        """For the child after a fork: it is the parent's."""
        self._usable = False
        self._keeper.disown()

    def _produce(self, event: Event, receipt: Receipt | None) -> None:
        route = self._routes.get(type(event)) or self._route(type(event))
        self._hand_over(route, route.encode(event), event.key, event.event_id, receipt)

    def _hand_over(
        self, route: _Route, value: bytes, key: bytes, event_id: str | bytes, receipt: Receipt | None
    ) -> None:
        if not self._usable:
            self._own()
        event_type, topic, type_header, _, _ = route
        headers = [_SPEC_VERSION, ("ce_id", event_id), type_header, self._source, _CONTENT_TYPE]
        waiting = topic, key, value, event_id, type_header
        while True:
            group = self._in_flight.current
            if group.spooled:
                if self._to_keeper(event_type, waiting, receipt):
                    break
                if group is not self._in_flight.current:
                    continue  # it takes nothing: the client may
            else:
                answer = group if receipt is None else both(group, receipt)
                group.records.append(waiting)  # first: it is to be found from now on
                producer = self._producer.now
                try:
                    producer.produce(topic, value, key, on_delivery=answer, headers=headers)
                except (BufferError, KafkaException) as error:
                    self._keeper.not_taken(group, waiting)
                    if isinstance(error, KafkaException):
                        self._renew_or_refuse(producer, event_type, waiting, error)
                        continue
                else:
                    break
            self._await_room(event_type)
        self._full_since = None
        with self._lock:
            self._accepted += 1
            count = self._accepted
        if count % _BURST_EVENTS == 0:
            self._after_so_many()

    def _whole(self, waiting: Waiting) -> Record:
        topic, key, value, told, type_header = waiting
        if isinstance(told, list):  # it came from the spool
            return topic, key, value, told
        assert type_header is not None  # noqa: S101  # else its headers are there
        headers = [_SPEC_VERSION, ("ce_id", told), type_header, self._source, _CONTENT_TYPE]
        return topic, key, value, headers

    def _after_so_many(self) -> None:
        self._in_flight.turn()
        began, self._counted_at = self._counted_at, time.monotonic()
        if self._counted_at - began < _BURST_SECONDS:
            self._take_in(0)

    def _to_keeper(self, event_type: type[Event], waiting: Waiting, receipt: Receipt | None) -> bool:
        while True:
            producer = self._producer.now
            try:
                return self._keeper.take(waiting, receipt)
            except KafkaException as error:
                self._renew_or_refuse(producer, event_type, waiting, error)

    def _renew_or_refuse(
        self, producer: Producer | Absent, event_type: type[Event], waiting: Waiting, error: KafkaException
    ) -> None:
        if not gave_up(error):
            self._refuse(f"{event_type.__name__} ({len(waiting[2]):,} bytes): {error.args[0].str()}")
        self._producer.renew(producer, error)

    def _route(self, event_type: type[Event]) -> _Route:
        header: Header = ("ce_type", f"jobtrail.{event_type.__name__}")
        encode, spell = codec.released().encoder(event_type), speller(event_type)
        if event_type is Failure:  # every failure that is published comes this way
            encode, spell = _scrubbing(encode, spell)
        route = _Route(event_type, self.topic_of(event_type), header, encode, spell)
        self._routes[event_type] = route
        return route

    def _take_in(self, seconds: float) -> None:
        """What became of earlier events, in the caller's thread."""
        self._caller_polled_at = time.monotonic()
        self._producer.poll(seconds)

    def _await_room(self, event_type: type[Event]) -> None:
        if self._nowhere is not None:
            self._refuse(f"{event_type.__name__} was not taken: the spool has no room, and {self._nowhere}")
        now = time.monotonic()
        self._full_since = self._full_since or now
        if now - self._full_since > self.settings.flush_timeout:
            self._refuse(
                f"{event_type.__name__} was not taken: the queue has been full for "
                f"{now - self._full_since:.0f} s ({KAFKA_PREFIX}QUEUE_BUFFERING_MAX_MESSAGES); "
                + self._unconfirmed(self.settings.flush_timeout)
            )
        self._take_in(_ROOM_PAUSE)

    def _refuse(self, why: str) -> NoReturn:
        with self._lock:
            self._refused += 1
        raise PublishError(why)

    def _on_delivery(self, group: Group, error: KafkaError | None, message: Message, answer: Answer) -> bool:
        if error is not None:
            value = message.value()
            headers = next((self._whole(event)[3] for event in list(group.records) if event[2] == value), [])
            if self._producer.is_undelivered(error, message, answer, headers):
                return False
        answers = group.answers
        with answers.lock:
            group.answered += 1
            if error is None:
                answers.delivered += 1
                self._failing.pop(message.topic() or "", None)
                self._away, self._away_said = None, False
                answers.calm = not self._failing
                return True
            answers.calm = False
            self._failed += 1
            topic = message.topic() or ""
            known = self._failing.get(topic) == error.code()
            self._failing[topic] = error.code()
        kept = error.code() not in _FOR_GOOD and self._keeper.keep(group, message)
        if not known:
            where = f"; they are kept in {self._keeper.folder} for `jobtrail spool send`" if kept else ""
            log.error(
                "Kafka at %s refuses events for topic %s: %s%s", self.address, topic, error.str(), where
            )
        return True

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _AWAY or error.fatal():
            self._away = error.str()
            self._in_flight.answers.calm = False

    def _poll(self) -> None:
        stuck_since = None
        while not self._closed.is_set():
            if self._nowhere is not None:
                self._find_at_last()
            if time.monotonic() - self._caller_polled_at < _BURST_SECONDS:
                self._closed.wait(_BURST_SECONDS / 5)
            else:
                self._producer.poll(_POLL_SECONDS)
            self._keeper.look(time.monotonic())
            if self._away is None or self._away_said or not self.counts.waiting:
                stuck_since = None
                continue
            stuck_since = stuck_since or time.monotonic()
            if time.monotonic() - stuck_since > _STUCK_SECONDS:
                self._away_said = True
                away = ServerAwayError("Kafka", self.address, KAFKA_SETTING, self._away)
                where = "in memory" if self._keeper.off else "on the disk"
                log.warning("%s; until it does, events wait %s", away, where)

    def _find_at_last(self) -> None:
        self._nowhere = self._find()
        if self._nowhere is None:
            try:
                self._producer.connect()
            except SettingError as error:
                log.error("%s; events stay in %s", error, self._keeper.folder)
            else:
                log.warning("Kafka runs at %s now: what waited is sent there", self.address)

    def _patiently(self, wait: Callable[[float], bool]) -> bool:
        before = self.counts
        self._caller_polled_at = 0.0
        in_vain = self._given_up_at == before.delivered or self._producer.absent
        answered = wait(0 if in_vain else self.settings.flush_timeout)
        self._given_up_at = None if answered else self.counts.delivered
        return answered

    def _unconfirmed(self, timeout: float) -> str:
        if self._producer.absent:
            return f"{self.counts.waiting:,} events found no Kafka"
        return (
            f"{self.counts.waiting:,} events were not confirmed by Kafka at {self.address} "
            f"({KAFKA_SETTING}) within {timeout:g} s"
        )


#: Those that the exit of the process closes.
_open: Final[weakref.WeakSet[Publisher]] = weakref.WeakSet()
_last_words: Final[list[Callable[[], None]]] = []


def before_exit(say: Callable[[], None]) -> None:
    """At the exit of the process, calls `say` before the publishers are closed."""
    _last_words.append(say)


def _disown_all() -> None:
    for publisher in list(_open):
        publisher.disown()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_disown_all)


@atexit.register
def _close_all() -> None:
    for say in _last_words:
        say()
    for publisher in list(_open):
        publisher.close()


def topic_of(settings: Settings, event_type: type[Event]) -> str:
    """The topic of an event type: where it is published, and read."""
    if event_type in ANALYTICS_TYPES:
        return settings.analytics_topic
    if event_type in ALERT_TYPES:
        return settings.alerts_topic
    registry = event_type in REGISTRY_TYPES
    return settings.registry_topic if registry else settings.events_topic
