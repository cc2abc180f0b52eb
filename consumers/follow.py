"""The event log as a loop over typed events. Needs the base install only.

for event in jobtrail.follow(group="billing", types=["AttemptSucceeded", "AttemptFailed"]):
    bill(event)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar, overload

from confluent_kafka import Message

from jobtrail import codec
from jobtrail.consumers.filters import Filters, TypeName, headers_of
from jobtrail.consumers.follow_group import Group
from jobtrail.consumers.job_connections import JobConnections
from jobtrail.consumers.log_reader import LogReader
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.starting import Start, check_start
from jobtrail.consumers.waiting import StoppedError
from jobtrail.errors import BadMessageError, UsageError
from jobtrail.events import Event, Failure, JobCreated, JobEvent
from jobtrail.kinds import EPOCH
from jobtrail.producers.scrub import shapes
from jobtrail.projections.dead_letter import DeadLetter
from jobtrail.running import kafka_address
from jobtrail.settings import Settings
from jobtrail.wire import HEADER_SIZE

log = logging.getLogger("jobtrail")
E = TypeVar("E", bound=Event)
OnDeadLetter = Callable[[DeadLetter], None]

#: What `until` may be.
END: Final = "end"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the log an event is."""

    topic: str
    partition: int
    offset: int
    #: When the broker took it; `occurred_at` is the caller's clock.
    received_at: datetime

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@overload
def follow(
    *,
    types: type[E] | Iterable[type[E]],
    group: str | None = None,
    job_id: int | None = None,
    connection_id: str | None = None,
    start: Start = "earliest",
    until: Literal["end"] | None = None,
    on_dead_letter: OnDeadLetter | None = None,
    settings: Settings | None = None,
) -> Follower[E]: ...


@overload
def follow(
    *,
    types: TypeName | Iterable[TypeName] | None = None,
    group: str | None = None,
    job_id: int | None = None,
    connection_id: str | None = None,
    start: Start = "earliest",
    until: Literal["end"] | None = None,
    on_dead_letter: OnDeadLetter | None = None,
    settings: Settings | None = None,
) -> Follower[Event]: ...


def follow(
    *,
    types: TypeName | Iterable[TypeName] | None = None,
    group: str | None = None,
    job_id: int | None = None,
    connection_id: str | None = None,
    start: Start = "earliest",
    until: Literal["end"] | None = None,
    on_dead_letter: OnDeadLetter | None = None,
    settings: Settings | None = None,
) -> Follower[Any]:
    """The events of the log that are wanted, as they are and as they come.

    Events of a job come in order. Each comes at least once: an event that was sent twice, and in a group one
    whose work was not finished, comes again; `event_id` tells.

    `types`: event types or their names, one or several; none: all job events. Types of other topics
    (WorkspaceRegistered, DataplaneHeartbeat, WindowComputed, AlertTriggered, AlertResolved) have to be named.
    `group`: the events are shared with all followers of that name, and reading goes on where the group
    ended, whatever `start` says. An event is committed when the next is asked for, so what raised comes
    again. It has the same filters for ever. None: all of them, and nothing is committed.
    `job_id`, `connection_id`: only events of that job; of jobs that JobCreated gave this connection.
    `start`: "earliest"; "latest", from now on; an aware datetime, by the broker's clock; or
    {partition: offset}, where other partitions begin at their beginning.
    `until`: "end" for what is there at the beginning, and no more; None: for ever.
    `on_dead_letter`: is given each message that is no event. All are counted; the first is logged.
    `settings`: default: the environment's.

    Raises UsageError and SettingError at once; while it is read NotFoundError (no such topic), ConflictError
    (the group has other filters), LogError (the log lacks what comes next, or was made anew), ServerAwayError
    (Kafka is away at the beginning; later it is waited for), EmbeddedError (no Kafka is set or runs).
    """
    check_start(start)
    if until not in {None, END}:
        raise UsageError(f"until: {until!r} is neither 'end' nor None")
    filters = Filters.of(types, job_id, connection_id)
    found = settings or Settings.from_env()
    wanted = Group(group, filters) if group is not None else None
    if wanted:
        wanted.check_name(found)
    if isinstance(start, dict) and len(filters.topics(found)) > 1:
        raise UsageError(
            f"start: offsets are of one topic, and types name {', '.join(filters.topics(found))}"
        )
    return Follower(found, filters, wanted, start, until_end=until == END, on_dead_letter=on_dead_letter)


class Follower(Generic[E]):
    """Iterates over events; `place` says where the last one is.

    A loop that is left by `break` or an exception leaves the event at which it was to be read again. In a
    `with` statement, one that is left without an exception has done it.
    """

    def __init__(
        self,
        settings: Settings,
        filters: Filters,
        group: Group | None,
        start: Start,
        *,
        until_end: bool,
        on_dead_letter: OnDeadLetter | None,
    ) -> None:
        #: Messages that are no events, so far. They are in `jobtrail.dead_letters` where a projector runs.
        self.dead_letters = 0
        self._settings = settings
        self._filters = filters
        self._group = group
        self._start = start
        self._until_end = until_end
        self._on_dead_letter = on_dead_letter
        self._stop = threading.Event()
        self._place: Place | None = None
        self._schema_by_id = registry_of(settings)
        self._headers = headers_of(filters.wanted(settings))
        # Also what tells the connection of a job.
        needed = self._headers | (headers_of([JobCreated]) if filters.connection_id else frozenset())
        #: First bytes of what is passed over without being decoded.
        self._others = codec.released().by_header.keys() - needed
        self._reader: LogReader | None = None
        self._connections: JobConnections | None = None
        self._within = False
        #: The message whose event is being worked at.
        self._at: Message | None = None

    @property
    def place(self) -> Place:
        """Where the last event is. Raises UsageError before the first."""
        if self._place is None:
            raise UsageError("place: there was no event yet")
        return self._place

    def close(self) -> None:
        """Ends the iteration when the next event is asked for, or within 0.2 s; from any thread.

        Within some seconds while Kafka is away. Closed before it is read, it gives nothing.
        """
        self._stop.set()

    def __enter__(self) -> Self:
        self._within = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._within = False
        self._leave(done=self._at if kind is None else None)

    def __iter__(self) -> Iterator[E]:
        if self._reader is not None:
            raise UsageError("this follower is being read already; make another with jobtrail.follow")
        # An embedded Kafka that stops has no address any more; it is waited for where it was.
        address = kafka_address(self._settings)
        settings = self._settings.model_copy(update={"kafka_bootstrap_servers": address})
        self._reader = LogReader(
            settings,
            self._filters.topics(settings),
            self._start,
            self._group,
            self._stop,
            until_end=self._until_end,
        )
        if self._filters.connection_id is not None:
            self._connections = JobConnections(
                settings, self._filters.connection_id, self._created_in, self._reader
            )
        try:
            for message in self._reader:
                if (event := self._wanted_in(message)) is not None:
                    self._at = message
                    yield event  # type: ignore[misc]  # of the types that are wanted
                    self._at = None
        except StoppedError:
            return  # in the middle of a message, which is not done
        finally:
            if not self._within:
                self._leave()

    def _leave(self, done: Message | None = None) -> None:
        reader, self._reader, self._at = self._reader, None, None
        try:
            if self._connections is not None:
                self._connections.close()
                self._connections = None
            if reader is not None:
                reader.leave(done)
        finally:
            self._stop.clear()

    def _wanted_in(self, message: Message) -> Event | None:
        if self._filters.key is not None and message.key() != self._filters.key:
            return None
        event = self._event_in(message)
        if event is None:
            return None
        partition, offset = int(message.partition() or 0), int(message.offset() or 0)
        if self._connections is not None and not self._is_of_the_connection(event, partition, offset):
            return None
        if codec.released().newest[type(event)].header not in self._headers:
            return None
        if isinstance(event, Failure):
            event = shapes.failure(event)
        _, milliseconds = message.timestamp()
        received_at = EPOCH + timedelta(milliseconds=milliseconds)
        self._place = Place(str(message.topic()), partition, offset, received_at)
        return event

    def _is_of_the_connection(self, event: Event, partition: int, offset: int) -> bool:
        if not isinstance(event, JobEvent):
            return bool(getattr(event, "connection_id", None) == self._filters.connection_id)
        assert self._connections is not None  # noqa: S101  # the caller has looked
        if isinstance(event, JobCreated):
            self._connections.learn(event)
        return self._connections.has(event.job_id, partition, offset)

    def _event_in(self, message: Message) -> Event | None:
        """None for what is of other types, and for what is no event, which is put aside."""
        value, key = message.value(), message.key()
        if value is not None and value[:HEADER_SIZE] in self._others:
            return None
        try:
            event = codec.decode(value, self._schema_by_id)
            codec.check_key(type(event), getattr(event, event.key_field), key)
        except BadMessageError as error:
            self._put_aside(message, error)
            return None
        return event

    def _created_in(self, message: Message) -> JobCreated | None:
        """For those who read back: nothing is put aside, for this is not what is followed."""
        try:
            header = codec.released().frame(message.value(), self._schema_by_id)[:HEADER_SIZE]
            wire = codec.released().by_header[header]
            if wire.event_type is not JobCreated:
                return None
            event = codec.decode(message.value(), self._schema_by_id)
            codec.check_key(JobCreated, getattr(event, JobCreated.key_field), message.key())
        except BadMessageError:
            return None
        return event if isinstance(event, JobCreated) else None

    def _put_aside(self, message: Message, error: BadMessageError) -> None:
        assert self._reader is not None  # noqa: S101  # it gave the message
        topic = str(message.topic())
        _, milliseconds = message.timestamp()
        letter = DeadLetter(
            topic,
            self._reader.topic_id(topic),
            int(message.partition() or 0),
            int(message.offset() or 0),
            EPOCH + timedelta(milliseconds=milliseconds),
            message.key(),
            message.value(),
            error.reason,
            error.detail,
        )
        self.dead_letters += 1
        if self.dead_letters == 1:
            log.warning(
                "%s is no event (%s: %s); such messages are passed over and counted; `jobtrail dead-letters"
                " list` has them",
                letter.place,
                error.reason,
                error.detail,
            )
        if self._on_dead_letter is not None:
            self._on_dead_letter(letter)
