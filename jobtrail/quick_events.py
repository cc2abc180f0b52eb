"""From what a caller says straight to the message, where all of it is plainly good: no event is made.

A function made once for each event type has its fields as parameters, checks each by its Kind and spells it
in the same step; names and ids that were seen before are looked up. Whatever it doubts (a time or an id of
the caller's own, a subclass, a field too many, a value that does not fit) goes the long way, by the event's
class, which says what is wrong or takes it. Its messages are those of the class, but for id and time, which
are new (`tests/contract/test_encoder.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from time import time_ns
from typing import Any, Final, NamedTuple

from pydantic.fields import FieldInfo

from jobtrail import codec, kinds
from jobtrail.encoder import KEPT, long_of, text_of
from jobtrail.events import Event, new_event_id
from jobtrail.fields import field_kind, is_nullable, record_type
from jobtrail.kinds import Kind


class Message(NamedTuple):
    """What is published of one event."""

    value: bytes
    key: bytes
    event_id: str


class DoubtError(ValueError):
    """It may be wrong, or is nothing for this way."""


#: Facts by name. Raises DoubtError, TypeError, ValueError or OverflowError for what goes the long way.
Spell = Callable[..., Message]


@cache
def speller(event_type: type[Event]) -> Spell:
    """What spells the events of a type in its newest schema."""
    if any(record_type(field) for field in event_type.model_fields.values()):
        return _nothing
    called: dict[str, Any] = {
        "HEADER": codec.released().newest[event_type].header,
        "Message": Message,
        "doubt": _doubt,
        "key": lru_cache(KEPT, typed=True)(lambda value: str(value).encode()),
        "new_event_id": new_event_id,
        "time_ns": time_ns,
        "long": long_of,
        "text": text_of,
    }
    for name, field in event_type.model_fields.items():
        called[f"spell_{name}"] = _checker(field)
    exec(source_of(event_type), called)  # noqa: S102  # made of our own class, by the lines below
    spell: Spell = called[event_type.__name__]
    return spell


def source_of(event_type: type[Event]) -> str:
    """The text of the function."""
    return "\n".join(_lines(event_type))


def _lines(event_type: type[Event]) -> Iterator[str]:
    fields = event_type.model_fields
    order = [part["name"] for part in codec.released().newest[event_type].schema["fields"]]
    said = [name for name in order if name not in _OWN]
    parameters = [name if fields[name].is_required() else f"{name}={fields[name].default!r}" for name in said]
    yield f"def {event_type.__name__}(*, {', '.join(parameters)}):"
    yield "    event_id = new_event_id()"
    yield "    return Message(b''.join(("
    yield "        HEADER,"
    for name in order:
        yield f"        {_spelled(name, fields[name])},"
    yield f"    )), key({event_type.key_field}), event_id)"


#: Are made here.
_OWN: Final = ("event_id", "occurred_at")


def _spelled(name: str, field: FieldInfo) -> str:
    match name:
        case "event_id":
            return "text(event_id)"
        case "occurred_at":
            return "long(time_ns() // 1000)"
        case _ if is_nullable(field):
            return rf"b'\0' if {name} is None else b'\2' + spell_{name}({name})"
        case _:
            return f"spell_{name}({name})"


def _checker(field: FieldInfo) -> Callable[[Any], bytes]:
    kind = field_kind(field)
    assert kind is not None  # noqa: S101  # lists of records go the long way
    match kind:
        case Kind(avro="boolean"):
            return _flag
        case Kind(json_object=True) | Kind(logical=str()):
            return _doubt
        case Kind(avro="long"):
            check = _long_within(kind.minimum or 0, kind.maximum or 0)
            # typed: True and 1.0 are equal to 1.
            return check if kind.maximum == kinds.INT64_MAX else lru_cache(KEPT, typed=True)(check)
        case _:
            check = _text_within(kind.max_bytes)
            return check if kind.max_bytes is None else lru_cache(KEPT, typed=True)(check)


def _long_within(least: int, most: int) -> Callable[[Any], bytes]:
    def check(value: Any) -> bytes:
        if type(value) is int and least <= value <= most:
            return long_of(value)
        raise DoubtError

    return check


def _text_within(most: int | None) -> Callable[[Any], bytes]:
    def check(value: Any) -> bytes:
        if not isinstance(value, str) or kinds.NUL in value:
            raise DoubtError
        if most is not None and len(value) > most // 4:
            raise DoubtError
        return text_of(value)

    return check


def _flag(value: Any) -> bytes:
    if value is True:
        return b"\1"
    if value is False:
        return b"\0"
    raise DoubtError


def _doubt(_value: Any) -> bytes:
    raise DoubtError


def _nothing(**_facts: Any) -> Message:
    raise DoubtError
