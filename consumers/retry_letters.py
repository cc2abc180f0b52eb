"""Retries dead letters: what can be understood by now becomes what it would have been in time.

A letter is read as the projector reads, by the present code, and two things are done with it. It is merged
into the read models with its first place and time, so that the rows are those that it would have given in
time: by the broker's time of today, its sender's clock would be off. And its bytes are published again under
their own event id, for whoever else reads the log; merging that once more changes nothing. Both are done, or
the letter stays open; killed in between, the next retry publishes the same event again.

Which letters are tried is known before the first is: one that a projector of an older release refuses again
is a new letter, at its new place, for another retry. So nothing goes round for ever, though whoever starts
projectors retries by itself what an older release did not know.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Final, Self

import psycopg

from jobtrail import codec, kinds
from jobtrail.codec import CONFLUENT_HEADER_SIZE, CONFLUENT_MARKER
from jobtrail.consumers.decode import OFFSET, PARTITION, Decoded, Decoder, together
from jobtrail.consumers.few import read_few
from jobtrail.consumers.projector import REFUSED
from jobtrail.consumers.records import Records
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.consumers.waiting import (
    Away,
    StoppedError,
    database_address,
    database_away,
    until_it_answers,
)
from jobtrail.errors import BadMessageError, PublishError, ServerAwayError, UnconfirmedError
from jobtrail.events import Event
from jobtrail.producers.publisher import Publisher
from jobtrail.projections import generation as g
from jobtrail.projections import letters
from jobtrail.projections.fold_few import fold_few
from jobtrail.projections.letters import DeadLetter, Key, Place
from jobtrail.projections.store import CheckpointMismatchError, Store
from jobtrail.projections.tables import VERSION
from jobtrail.settings import Settings
from jobtrail.wire import HEADER_SIZE, MARKER

log = logging.getLogger("jobtrail")

#: Letters in one transaction, which holds the rows of their jobs until Kafka has answered.
BATCH: Final = 100
#: Seconds that Kafka has to say that it is there.
REACH: Final = 5.0
#: Seconds after which what Kafka did not confirm is retried by itself.
AGAIN: Final = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one letter."""

    place: Place
    #: Where it was published; None: it stays.
    published: Place | None = None
    #: Why it stays: a reason's code, and what was found.
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """What can be said of a letter by now."""

    #: What its first bytes say of its schema.
    schema: str
    #: What its body says, where it is whole, whether or not the gate lets it pass: field → value.
    event_type: str | None
    fields: dict[str, Any] | None
    #: Why it is no event by now; None: a retry would do.
    why: str | None


@dataclass(frozen=True, slots=True)
class _Good:
    """A letter that is an event."""

    letter: DeadLetter
    decoded: Decoded
    event_type: type[Event]
    event_id: str


def _read(decoder: Decoder, letter: DeadLetter) -> Decoded:
    """A letter as the projector reads it: one event, or one dead letter that says why it is none."""
    row = (letter.partition, letter.offset, kinds.micros(letter.broker_at) // 1000, letter.key, letter.value)
    return read_few(decoder, Records.from_rows(letter.topic, letter.topic_id, [row]))


def examine(settings: Settings, letter: DeadLetter) -> Examined:
    """What can be said of a letter by now, as far as the servers that are there tell. Changes nothing."""
    decoder = Decoder(schema_by_id=registry_of(settings))
    schema, event_type, fields = _schema_of(letter.value), None, None
    try:
        found, fields = decoder.read(letter.value)
        event_type = found.__name__
        bad = _read(decoder, letter).bad
    except (BadMessageError, ServerAwayError) as error:
        return Examined(schema, None, None, str(error))
    return Examined(schema, event_type, fields, f"{bad[0].reason}: {bad[0].detail}" if bad else None)


def _schema_of(value: bytes | None) -> str:
    if value is None:
        return "none, for there is no value"
    known = codec.released().by_header.get(value[:HEADER_SIZE])
    if known is not None:
        return f"{known.event_type.__name__}, version {known.version}"
    if value.startswith(MARKER):
        return f"fingerprint {value[len(MARKER) : HEADER_SIZE].hex()}, of no released schema"
    if value.startswith(CONFLUENT_MARKER) and len(value) >= CONFLUENT_HEADER_SIZE:
        return f"Confluent framing, schema id {int.from_bytes(value[1:CONFLUENT_HEADER_SIZE], 'big')}"
    return "none, for it begins as no event does"


class Retry:
    """Retries letters of one installation. Not thread-safe; a context manager.

    Raises EmbeddedError or SettingError where Kafka or Postgres are not set as they must be.
    """

    def __init__(self, settings: Settings, by: str) -> None:
        """`by`: who does it."""
        self._settings = settings
        self._by = by
        self._url = database_address(settings)
        self._decoder = Decoder(schema_by_id=registry_of(settings))
        self._store: Store | None = None
        # A little longer than it is waited for: what was given up is not published later by itself.
        self._publisher = Publisher(settings, drop_after=settings.flush_timeout + 1)
        self._topic_ids: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.close()
        self._forget_store()

    def run(self, keys: Sequence[Key], within: float = math.inf) -> Iterator[Outcome]:
        """Retries these, but for those that somebody else retried meanwhile; says of each what came of it.

        Those of the first batch, and no more once `within` seconds are over.

        What was told of is done, whatever is raised later: ServerAwayError; NotFoundError where a topic is
        not there; UnconfirmedError where Kafka does not answer in time; VersionError where the live read
        models are of other rules; psycopg.errors.UndefinedTable where no migration ran.
        """
        until = time.monotonic() + within
        self._publisher.reach(REACH)
        self._topic_ids = set(TopicAdmin(self._settings).ids(self._settings.projected_topics).values())
        for start in range(0, len(keys), BATCH):
            if start and time.monotonic() >= until:
                return
            try:
                yield from self._retry(keys[start : start + BATCH])
            except psycopg.OperationalError as error:
                raise database_away(self._url, error) from error

    def _retry(self, keys: Sequence[Key]) -> list[Outcome]:
        """In one transaction; where Kafka or Postgres refuses one of them, by halves, down to that one."""
        try:
            return self._at_once(keys)
        except CheckpointMismatchError:  # a rebuild was swapped in
            return self._retry(keys)
        except UnconfirmedError:
            raise
        except (PublishError, *REFUSED) as error:
            self._forget_store()
            if len(keys) == 1:
                return self._refused(keys, error)
        middle = len(keys) // 2
        return self._retry(keys[:middle]) + self._retry(keys[middle:])

    def _at_once(self, keys: Sequence[Key]) -> list[Outcome]:
        store = self._store = self._store or Store.open(self._url)
        with store.transaction() as tx:
            g.check_version(tx.connection, VERSION)
            good, outcomes = self._tried(letters.take(tx.connection, keys))
            if good:
                tx.merge(fold_few(together(one.decoded for one in good).few))
                tx.derive()
                published = [(one.letter, at) for one, at in self._publish(good)]
                letters.mark_retried(tx.connection, published, self._by)
                outcomes += [Outcome(letter.place, at) for letter, at in published]
        return outcomes

    def _tried(self, taken: Sequence[DeadLetter]) -> tuple[list[_Good], list[Outcome]]:
        """Those that are events by now, and why the others are none."""
        good, stay = list[_Good](), list[Outcome]()
        for letter in taken:
            decoded = _read(self._decoder, letter)
            stay += [Outcome(letter.place, None, bad.reason, bad.detail) for bad in decoded.bad]
            for event_type, (event,) in decoded.few.items():
                if letter.topic_id not in self._topic_ids:
                    # Of a topic that is no more: its place would be taken for one of the topic that is.
                    event[PARTITION] = event[OFFSET] = None
                good.append(_Good(letter, decoded, event_type, event["event_id"]))
        return good, stay

    def _publish(self, good: Sequence[_Good]) -> list[tuple[_Good, Place]]:
        """Publishes all; gives where each is. Raises PublishError for the first that is not taken."""
        sent = [
            # The gate lets nothing pass that has no value, or another key than its own.
            self._publisher.send_encoded(
                one.event_type, one.letter.value or b"", one.letter.key or b"", one.event_id
            )
            for one in good
        ]
        until = time.monotonic() + self._settings.flush_timeout
        found = []
        for one, receipt in zip(good, sent, strict=True):
            if not receipt.wait(max(0.0, until - time.monotonic())):
                raise UnconfirmedError(
                    f"Kafka at {self._publisher.address} did not confirm {one.letter.place} within "
                    f"{self._settings.flush_timeout:g} s; it stays open, to be retried again"
                )
            if receipt.error is not None:
                raise PublishError(f"Kafka at {self._publisher.address} refuses it: {receipt.error}")
            topic = self._publisher.topic_of(one.event_type)
            found.append((one, Place(topic, receipt.partition, receipt.offset)))
        return found

    def _refused(self, keys: Sequence[Key], error: Exception) -> list[Outcome]:
        """Of the one letter that Kafka or Postgres does not take."""
        reason, detail = "refused_by_kafka", str(error)
        if isinstance(error, psycopg.Error):
            reason, detail = "refused_by_postgres", error.diag.message_primary or str(error)
        store = self._store = Store.open(self._url)
        with store.connection.transaction():
            taken = letters.take(store.connection, keys)
        return [Outcome(letter.place, None, reason, detail) for letter in taken]

    def _forget_store(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None


def retry_understood(settings: Settings) -> list[Outcome]:
    """Retries the open letters whose schema an older release did not know and this one does. As `Retry`."""
    url = database_address(settings)
    try:
        with psycopg.connect(url, connect_timeout=10, application_name="jobtrail-retry") as connection:
            keys = letters.chosen_understood(connection, [*codec.released().by_header])
    except psycopg.OperationalError as error:
        raise database_away(url, error) from error
    if not keys:
        return []
    with Retry(settings, f"jobtrail {version('jobtrail')}") as retry:
        return [*retry.run(keys)]


def run_retries(settings: Settings, stop: threading.Event) -> None:
    """Does that once, waiting for servers, and for read models of this version; then waits for `stop`."""
    pause = 0.0
    while not stop.wait(pause):
        try:
            outcomes = until_it_answers(
                Away("Retrying dead letters", logging.DEBUG), stop, partial(retry_understood, settings)
            )
        except StoppedError:
            return
        except UnconfirmedError as error:
            log.warning("%s", error)
            pause = AGAIN
            continue
        if outcomes:
            done = sum(one.published is not None for one in outcomes)
            log.warning(
                "this release knows the schema of %d dead letters; %d are events now", len(outcomes), done
            )
        stop.wait()
