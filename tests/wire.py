"""Messages as any producer could write them, past the event classes: valid Avro with nasty values."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import fastavro
from hypothesis import strategies as st

from jobtrail import codec
from jobtrail.consumers.records import Records
from jobtrail.events import EVENT_TYPES, Event
from jobtrail.wire import WireSchema

BROKER_MS = 1_760_000_000_000
AT = 1_760_000_000_000_000
ID = "01890a5d-ac96-774b-bcce-b302099a8057"
#: The fields of a good StreamStats that must be there.
STATS = {
    "event_id": ID,
    "occurred_at": AT,
    "job_id": 7,
    "attempt_number": 0,
    "stream_name": "users",
    "reporter": "source",
    "sequence": 1,
}


def encoded(wire: WireSchema, row: dict[str, Any]) -> bytes:
    """A message, unchecked but for what Avro itself needs."""
    out = io.BytesIO(wire.header)
    out.seek(len(wire.header))
    fastavro.schemaless_writer(out, wire.plain, row)
    return out.getvalue()


def newest(event_type: type[Event]) -> WireSchema:
    return codec.released().newest[event_type]


def key_of(event_type: type[Event], row: dict[str, Any]) -> bytes:
    return str(row[event_type.key_field]).encode()


def records(messages: Iterable[tuple[bytes | None, bytes | None]]) -> Records:
    """(key, value) pairs at partition 3, offsets from 100 on."""
    return Records.from_rows(
        "events",
        "topic-1",
        [(3, 100 + at, BROKER_MS + at, key, value) for at, (key, value) in enumerate(messages)],
    )


def number(value: int, *, longer_by: int = 0) -> bytes:
    """A number as Avro spells it, with needless bytes if asked for."""
    bits = (value << 1) ^ (value >> 63)
    out = []
    while bits >= 0x80:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    for _ in range(longer_by):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


NASTY_LONGS = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([1023, 1024, 2**53 - 1, 2**53, 2**61, 2**62, 2**63 - 1, -(2**63), AT, AT + 1, 2**55]),
    st.sampled_from([946_684_800_000_000, 946_684_799_999_999, 7_258_118_400_000_000, 7_258_118_399_999_999]),
    st.integers(-(2**63), 2**63 - 1),
)
NASTY_TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["", "\0", "a\0b", "x" * 63, "x" * 64, "x" * 1024, "x" * 1025, "é" * 512, "é" * 513, "😀" * 257]
    ),
    st.sampled_from([ID, ID.upper(), ID + "\n", ID[:-1], "g" + ID[1:], ID.replace("-", "_"), "٣" + ID[1:]]),
    st.sampled_from(
        ["{}", "[]", '{"a":1}', '{"a":"\\u0000"}', '{"a":"\\\\u0000"}', "{", "null", '{"a":NaN}', '{"a":1}x']
    ),
)
GOOD_TEXTS = st.sampled_from(["users", "public", "", "ünï", "y" * 100])
GOOD_IDS = st.integers(0, 2**128 - 1).map(
    lambda n: "-".join((f"{n:032x}"[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))))
)


def values_of(schema: Any, named: dict[str, Any], name: str, *, nasty: bool) -> st.SearchStrategy[Any]:
    """Values of a schema: good ones, or anything."""
    match schema:
        case ["null", inner]:
            return st.none() | values_of(inner, named, name, nasty=nasty)
        case {"type": "array", "items": items}:
            return st.lists(values_of(items, named, name, nasty=nasty), max_size=3)
        case {"type": "record", "fields": fields}:
            named[schema["name"]] = schema
            return st.fixed_dictionaries(
                {f["name"]: values_of(f["type"], named, f["name"], nasty=nasty) for f in fields}
            )
        case str() if schema in named:
            return values_of(named[schema], named, name, nasty=nasty)
        case _:
            return scalars(schema, name, nasty=nasty)


def scalars(primitive: str, name: str, *, nasty: bool) -> st.SearchStrategy[Any]:
    """Values of a field that is neither list nor record."""
    if nasty and primitive != "boolean":
        return NASTY_LONGS if primitive == "long" else NASTY_TEXTS
    if primitive == "long":
        return st.integers(AT, AT + 999) if name.endswith("_at") else st.integers(0, 1000)
    if primitive == "string":
        return {"event_id": GOOD_IDS, "metadata": st.just("{}")}.get(name, GOOD_TEXTS)
    return st.booleans()


@st.composite
def rows(draw: st.DrawFn, event_type: type[Event]) -> dict[str, Any]:
    """A row of an event type in which at most a few fields hold nasty values."""
    wire = newest(event_type)
    named: dict[str, Any] = {}
    good = {f["name"]: values_of(f["type"], named, f["name"], nasty=False) for f in wire.plain["fields"]}
    row = draw(st.fixed_dictionaries(good))
    for name in draw(st.sets(st.sampled_from(sorted(good)), max_size=2)):
        (field,) = (f for f in wire.plain["fields"] if f["name"] == name)
        row[name] = draw(values_of(field["type"], named, name, nasty=True))
    return row


@st.composite
def messages(draw: st.DrawFn) -> tuple[type[Event], dict[str, Any]]:
    event_type = draw(st.sampled_from(EVENT_TYPES))
    return event_type, draw(rows(event_type))
