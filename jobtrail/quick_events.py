"""From what a caller says straight to the message, where all of it is plainly good: no event is made.

A function made once for each event type has its fields as parameters, checks each by its Kind and spells it
in the same step. The key, and the names and ids beside it, are looked up together: they were seen before.
Whatever it doubts (a time or an id of the caller's own, a subclass, a field too many, a value that does not
fit) goes the long way, by the event's class, which says what is wrong or takes it. Its messages are those of
the class, but for id and time, which are new (`tests/contract/test_encoder.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from itertools import takewhile
from time import time_ns
from typing import Any, Final

from pydantic.fields import FieldInfo

from jobtrail import codec, kinds
from jobtrail.encoder import KEPT, LOW_TWICE, long_of, text_of
from jobtrail.events import Event, new_event_id
from jobtrail.fields import field_kind, is_nullable, record_type
from jobtrail.kinds import Kind
from jobtrail.quick_checks import LONGEST_CHARACTER

#: Value, key and id of what is published of one event.
Message = tuple[bytes, bytes, bytes]


class DoubtError(ValueError):
    """It may be wrong, or is nothing for this way."""


#: Facts by name. Raises DoubtError, TypeError, ValueError or OverflowError for what goes the long way.
Spell = Callable[..., Message]


@cache
def speller(event_type: type[Event]) -> Spell:
    """What spells the events of a type in its newest schema."""
    if any(record_type(field) for field in event_type.model_fields.values()):
        return _nothing
    called = {**_CALLED, "HEADER": codec.released().newest[event_type].header}
    exec(source_of(event_type), called)  # noqa: S102  # made of our own class, by the lines below
    spell: Spell = called[event_type.__name__]
    return spell


def source_of(event_type: type[Event]) -> str:
    """The text of the function; first those that it looks up."""
    return "\n".join(_lines(event_type))


def _lines(event_type: type[Event]) -> Iterator[str]:
    fields = event_type.model_fields
    order = [part["name"] for part in codec.released().newest[event_type].schema["fields"]]
    start = order.index(event_type.key_field)
    beside = [*takewhile(lambda name: _repeats(fields[name]), order[start:])]
    spelled = {name: _spelled(name, fields[name]) for name in order}
    yield f"@kept\ndef about({', '.join(beside)}):"
    yield f"    said = b''.join(({', '.join(spelled[name] for name in beside)},))"
    yield f"    return said, str({event_type.key_field}).encode()"
    said = [name for name in order if name not in _OWN]
    parameters = [name if fields[name].is_required() else f"{name}={fields[name].default!r}" for name in said]
    rest = [spelled[name] for name in order[start + len(beside) :]]
    parts = ["HEADER", *(spelled[name] for name in order[:start]), "said", *rest]
    body = ",\n        ".join(parts)
    yield f"def {event_type.__name__}(*, {', '.join(parameters)}):"
    yield f"    said, key = about({', '.join(beside)})"
    yield "    event_id, now = new_event_id().encode(), time_ns() // 1000"
    yield f"    return b''.join((\n        {body},\n    )), key, event_id"


#: Are made here.
_OWN: Final = ("event_id", "occurred_at")


def _repeats(field: FieldInfo) -> bool:
    """Whether many events have the same: names and ids, no counters, instants or free texts."""
    kind = field_kind(field)
    if kind is None or kind.logical is not None:
        return False
    return kind.max_bytes is not None or (kind.avro == "long" and kind.maximum != kinds.INT64_MAX)


def _spelled(name: str, field: FieldInfo) -> str:
    """The expression that checks a field and spells it."""
    match name:
        case "event_id":
            return "ID_SIZE, event_id"
        case "occurred_at":
            # As `long`, with its upper bits, which change every 8 ms, looked up.
            return "LOW_TWICE[now & 0x1FFF], high(now >> 13)"
    kind = field_kind(field)
    assert kind is not None  # noqa: S101  # lists of records go the long way
    spelled = _of_kind(name, kind)
    return rf"b'\0' if {name} is None else b'\2' + {spelled}" if is_nullable(field) else spelled


def _of_kind(name: str, kind: Kind) -> str:
    match kind:
        case Kind(avro="boolean"):
            return f"flag({name})"
        case Kind(json_object=True) | Kind(logical=str()):
            return f"doubt({name})"
        case Kind(avro="long"):
            # In the text: a call less than with a function that checks. `long` takes no more than 64 bits.
            most = "" if kind.maximum == kinds.INT64_MAX else f" <= {kind.maximum}"
            fits = f"type({name}) is int and {kind.minimum} <= {name}{most}"
            return f"long({name} if {fits} else doubt({name}))"
        case _:
            return (
                f"short({name}, {kind.max_bytes // LONGEST_CHARACTER})" if kind.max_bytes else f"good({name})"
            )


def _short(value: Any, most: int) -> bytes:
    if len(value) > most:
        raise DoubtError
    return _good(value)


def _good(value: Any) -> bytes:
    if not isinstance(value, str) or kinds.NUL in value:
        raise DoubtError
    return text_of(value)


def _flag(value: Any) -> bytes:
    if value is True:
        return b"\1"
    if value is False:
        return b"\0"
    raise DoubtError


def _doubt(_value: Any) -> Any:
    raise DoubtError


def _nothing(**_facts: Any) -> Message:
    raise DoubtError


#: typed: True and 1.0 are equal to 1.
_kept: Final = lru_cache(KEPT, typed=True)

#: What the text of a function calls.
_CALLED: Final[dict[str, Any]] = {
    "ID_SIZE": long_of(36),
    "doubt": _doubt,
    "LOW_TWICE": LOW_TWICE,
    "flag": _flag,
    "good": _good,
    "high": lru_cache(8)(lambda bits: long_of(bits << 13)[2:]),
    "kept": _kept,
    "long": long_of,
    "new_event_id": new_event_id,
    "short": _short,
    "time_ns": time_ns,
}
