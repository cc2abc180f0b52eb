"""Which events a reader of the log wants, and what of that can be told before a message is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from jobtrail import codec, kinds
from jobtrail.errors import UsageError
from jobtrail.events import EVENT_TYPES, Event, JobEvent
from jobtrail.kinds import Kind
from jobtrail.near import near
from jobtrail.producers.publisher import topic_of
from jobtrail.settings import Settings

#: An event type, or its name.
TypeName = type[Event] | str

_BY_NAME: Final = {event_type.__name__: event_type for event_type in EVENT_TYPES}


@dataclass(frozen=True)
class Filters:
    """What is wanted; without types: every type of the topic of job events."""

    types: tuple[type[Event], ...] | None = None
    job_id: int | None = None
    connection_id: str | None = None

    @classmethod
    def of(
        cls,
        types: TypeName | Iterable[TypeName] | None,
        job_id: int | None,
        connection_id: str | None,
    ) -> Filters:
        """Raises UsageError for what names no events."""
        if types is None:
            named = None
        else:
            several = [types] if isinstance(types, str | type) else list(types)
            found = {_named(one) for one in several}
            named = tuple(event_type for event_type in EVENT_TYPES if event_type in found)
            if not named:
                raise UsageError(f"types: it is empty; name some of {', '.join(_BY_NAME)}, or leave it out")
        _fits("job_id", job_id, int, kinds.JOB_ID)
        _fits("connection_id", connection_id, str, kinds.NAME)
        filters = cls(named, job_id, connection_id)
        for event_type in named or ():
            if job_id is not None and not issubclass(event_type, JobEvent):
                raise UsageError(f"types: {event_type.__name__} is about no job, so job_id cannot choose it")
            if connection_id is not None and not _has_connection(event_type):
                raise UsageError(
                    f"types: {event_type.__name__} is about no connection, so connection_id cannot choose it"
                )
        return filters

    def __str__(self) -> str:
        """For a person: `types Failure, JobFailed; job 42`, or `every event`."""
        names = None if self.types is None else [event_type.__name__ for event_type in self.types]
        return described(names, self.job_id, self.connection_id)

    def wanted(self, settings: Settings) -> tuple[type[Event], ...]:
        """The types."""
        if self.types is not None:
            return self.types
        return tuple(one for one in EVENT_TYPES if topic_of(settings, one) == settings.events_topic)

    def topics(self, settings: Settings) -> tuple[str, ...]:
        """Where they are."""
        return tuple(dict.fromkeys(topic_of(settings, event_type) for event_type in self.wanted(settings)))

    @cached_property
    def key(self) -> bytes | None:
        """Of all that is wanted, where it has one key."""
        return None if self.job_id is None else str(self.job_id).encode()


def described(types: Sequence[str] | None, job_id: int | None, connection_id: str | None) -> str:
    """Filters for a person, by the names of their types."""
    parts = [f"types {', '.join(types)}"] if types is not None else []
    parts += [f"job {job_id}"] if job_id is not None else []
    parts += [f"connection {connection_id}"] if connection_id is not None else []
    return "; ".join(parts) or "every event"


def headers_of(types: Iterable[type[Event]]) -> frozenset[bytes]:
    """The first bytes of all messages of these types, in every released version."""
    wanted = {*types}
    return frozenset(
        header for header, wire in codec.released().by_header.items() if wire.event_type in wanted
    )


def _named(one: TypeName) -> type[Event]:
    if isinstance(one, str):
        if one not in _BY_NAME:
            raise UsageError(f"types: {one!r} is none of {', '.join(_BY_NAME)}{near(one, _BY_NAME)}")
        return _BY_NAME[one]
    if one not in EVENT_TYPES:
        raise UsageError(f"types: {one!r} is no event type; they are in jobtrail.events")
    return one


def _fits(name: str, value: object, expected: type, kind: Kind) -> None:
    if value is None:
        return
    if not isinstance(value, expected) or isinstance(value, bool):
        raise UsageError(f"{name}: {value!r} is a {type(value).__name__}, not {expected.__name__}")
    if problem := kind.problem(value):
        raise UsageError(f"{name}: {problem.detail}")
    if not value and isinstance(value, str):
        raise UsageError(f"{name}: it is empty; name one, or leave it out")


def _has_connection(event_type: type[Event]) -> bool:
    return issubclass(event_type, JobEvent) or "connection_id" in event_type.model_fields
