"""Events to Avro bodies, by a function made once for each schema.

fastavro finds out anew for each event which branch of each union fits, and what each logical type means:
13 µs for a StreamStats. The function made here has that in its text, and takes 4; `encoder_source` shows it.
Its bytes are those of fastavro for every event (`tests/contract/test_encoder.py`).

What repeats from event to event (names, job ids, the upper bits of numbers) is encoded once and kept, within
bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel

from jobtrail.fields import field_kind, record_type
from jobtrail.kinds import EPOCH, JOB_ID
from jobtrail.wire import WireSchema

Encode = Callable[[BaseModel], bytes]

_MICROSECOND: Final = timedelta(microseconds=1)
#: Names and numbers that are kept, at most, of each sort. A name has up to 1,024 bytes.
KEPT: Final = 2048


def _spelled(bits: int) -> bytes:
    """An unsigned number, seven bits a byte, the lowest first; the high bit says that more follow."""
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


_LAST: Final = [bytes((bits,)) for bits in range(128)]
_MORE: Final = [bytes((bits | 0x80,)) for bits in range(128)]
#: Numbers of up to 14 bits; and the lowest 14 bits of longer ones.
_SHORT: Final = [*_LAST, *(low + high for high in _LAST[1:] for low in _MORE)]
_LOW: Final = [low + high for high in _MORE for low in _MORE]
#: The same, by the lowest 13 bits of a number that is not below 0: zigzag doubles it.
_SHORT_TWICE: Final = _SHORT[::2]
LOW_TWICE: Final = _LOW[::2]


@lru_cache(KEPT)
def _high(bits: int) -> bytes:
    """What is above the lowest 28 bits."""
    if bits >> 36:
        raise OverflowError("no 64-bit number")
    return _spelled(bits)


def long_of(value: int) -> bytes:
    """A number as Avro spells it. Raises OverflowError for one of more than 64 bits."""
    if value < 0:
        return _below_zero(value)
    if value < 1 << 13:
        return _SHORT_TWICE[value]
    if value < 1 << 27:
        return LOW_TWICE[value & 0x1FFF] + _SHORT[value >> 13]
    return LOW_TWICE[value & 0x1FFF] + _LOW[value >> 13 & 0x3FFF] + _high(value >> 27)


def _below_zero(value: int) -> bytes:
    bits = ~value << 1 | 1  # zigzag: small numbers are short, also below 0
    if bits >> 64:
        raise OverflowError("no 64-bit number")
    return _spelled(bits)


def text_of(value: str) -> bytes:
    """A text as Avro spells it."""
    data = value.encode()
    size = len(data)
    return (_SHORT_TWICE[size] if size < 1 << 13 else long_of(size)) + data


def _array(items: Sequence[BaseModel], encode: Encode) -> bytes:
    return b"".join((long_of(len(items)), *map(encode, items), b"\0")) if items else b"\0"


#: What the text of an encoder calls.
_CALLED: Final[dict[str, Any]] = {
    "EPOCH": EPOCH,
    "MICROSECOND": _MICROSECOND,
    "long": long_of,
    "text": text_of,
    "array": _array,
    "kept_long": lru_cache(KEPT)(long_of),
    "kept_text": lru_cache(KEPT)(text_of),
}


def encoder(wire: WireSchema) -> Encode:
    """Makes the function that gives an event's message: header and body."""
    called = {**_CALLED, "HEADER": wire.header}
    exec(encoder_source(wire), called)  # noqa: S102  # made of our own schema, by the lines below
    encode: Encode = called[wire.event_type.__name__]
    return encode


def encoder_source(wire: WireSchema) -> str:
    """Its text: a function for each record, named like it; first those of lists."""
    return "\n".join(_functions(wire.schema, wire.event_type, "HEADER, "))


def _functions(schema: dict[str, Any], record: type[BaseModel], before: str = "") -> Iterator[str]:
    parts = []
    for field in schema["fields"]:
        name, avro = field["name"], field["type"]
        value = f"row[{name!r}]"
        if isinstance(avro, dict) and avro["type"] == "array":
            items = avro["items"]
            if isinstance(items, dict):
                yield from _functions(items, _item(record, name))
                items = items["name"]
            parts.append(f"array({value}, {items})")
        elif isinstance(avro, list):
            some = _scalar(avro[1], "value", record, name)
            parts.append(rf"b'\0' if (value := {value}) is None else b'\2' + {some}")
        else:
            parts.append(_scalar(avro, value, record, name))
    body = ",\n        ".join(parts)
    yield f"def {schema['name']}(event):\n    row = event.__dict__"
    yield f"    return b''.join((\n        {before}{body},\n    ))"


def _item(record: type[BaseModel], name: str) -> type[BaseModel]:
    item = record_type(record.model_fields[name])
    assert item is not None, f"{name} is a list of records in the schema only"  # noqa: S101  # a mistake of ours
    return item


def _scalar(avro: Any, value: str, record: type[BaseModel], name: str) -> str:
    """The expression that encodes `value`, of field `name`."""
    match avro:
        case {"logicalType": "timestamp-micros"}:
            return f"long(({value} - EPOCH) // MICROSECOND)"
        case "boolean":
            return rf"(b'\1' if {value} else b'\0')"
    primitive = avro if isinstance(avro, str) else avro["type"]
    assert primitive in {"long", "string"}, avro  # noqa: S101  # a test holds that there are no others
    kind = field_kind(record.model_fields[name])
    repeats = kind is not None and (kind is JOB_ID or kind.max_bytes is not None)
    return f"{'kept_' if repeats else ''}{'long' if primitive == 'long' else 'text'}({value})"
