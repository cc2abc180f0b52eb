"""Messages read from record batches as they lie in Kafka come to what they come to one by one."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from datetime import timedelta
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_batches import (
    TOPIC,
    Header,
    Pair,
    assert_same,
    batch,
    block,
    hold_law,
    letters,
    record,
    sized,
    sorted_,
)
from samples import one_of_each
from wire import AT, BROKER_MS, ID, STATS, encoded, key_of, messages, newest, number, records

from jobtrail import codec, kinds
from jobtrail.codec import Schemas
from jobtrail.consumers import compiled
from jobtrail.consumers.block import MOST_BYTES, BadBatchError, Block, RecordBatch
from jobtrail.consumers.decode import Decoder
from jobtrail.consumers.flat import FlatReader, _code
from jobtrail.consumers.gate import check
from jobtrail.events import EVENT_TYPES, Event, Failure, JobCreated, StreamMetadata, StreamStats
from jobtrail.fields import field_kind, is_nullable
from jobtrail.kinds import Kind
from jobtrail.schemas import rendered
from jobtrail.wire import HEADER_SIZE, WireSchema

DECODER = Decoder(schema_by_id=lambda _: rendered(StreamStats))
SCHEMAS = codec.released()
FLAT = [wire for wire in SCHEMAS.by_header.values() if not wire.nested]
FAILURE = {"event_id": ID, "occurred_at": AT, "job_id": 7, "attempt_number": 0}
GOOD = encoded(newest(StreamStats), STATS)
BODY = GOOD[HEADER_SIZE:]


def stats(**changed: Any) -> bytes:
    return encoded(newest(StreamStats), STATS | changed)


def failure(**changed: Any) -> bytes:
    return encoded(newest(Failure), FAILURE | changed)


# What may be in a log.


def damaged(draw: st.DrawFn, value: bytes) -> bytes:
    """With a few bytes changed, put in, or taken out."""
    found = bytearray(value)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(found) - 1))
        byte = draw(st.sampled_from([0, 1, 2, 3, 4, 7, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        match draw(st.sampled_from(["change", "change", "insert", "remove"])):
            case "insert":
                found.insert(at, byte)
            case "change":
                found[at] = byte
            case _:
                del found[at]
    return bytes(found)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    event_type, row = draw(messages())
    key, value = key_of(event_type, row), encoded(newest(event_type), row)
    match draw(st.integers(0, 11)):
        case 0:
            return key, damaged(draw, value)
        case 1:
            value = value[: draw(st.integers(0, len(value)))]
        case 2:
            value += draw(st.binary(min_size=1, max_size=3))
        case 3:
            return draw(
                st.sampled_from([None, b"", b"0" + key, b"+" + key, key + b" ", b"8", b"\xff"])
            ), value
        case 4:
            return key, draw(st.none() | st.binary(max_size=12))
        case 5:
            value = b"\0\0\0\0\x05" + value[HEADER_SIZE:]
        case _:
            pass
    return key, value


@settings(deadline=None, max_examples=60)
@given(st.lists(pairs(), max_size=12), st.integers(1, 4))
def test_a_block_comes_to_what_its_messages_do(some: list[Pair], copies: int) -> None:
    """Also where the same are there so often that they are read in bulk."""
    these = block(some * copies)
    assert these.records() == records(some * copies)
    got = hold_law(DECODER, these)
    assert len(got.bad) + sum(frame.height for frame in got.frames.values()) == len(some) * copies


def test_every_event_type_is_read_from_its_bytes_but_those_with_lists() -> None:
    """A text of JSON is for the gate."""
    events = one_of_each()
    these = block((event.key, codec.encode(event)) for event in events)
    decoded = DECODER.decode(these)
    assert decoded.good.keys() == set(EVENT_TYPES) - {JobCreated, Failure}
    assert decoded.frames.keys() == {JobCreated, Failure}
    assert hold_law(DECODER, these).frames.keys() == set(EVENT_TYPES)


def test_more_messages_than_are_read_at_once() -> None:
    some: list[Pair] = [(str(at).encode(), stats(job_id=at)) for at in range(20_050)]
    some[20_010] = b"7", stats(job_id=20_010)
    got = check(DECODER.decode(these := block(some)), these)
    assert got.frames[StreamStats].sort("_offset")["job_id"].to_list() == [
        at for at in range(20_050) if at != 20_010
    ]
    assert [letter.offset for letter in got.bad] == [20_110]


#: Value, key, and why it is bad; none: it is good, though it may not be plainly so.
ANY: dict[str, tuple[bytes | None, bytes | None, str | None]] = {
    "null value": (None, b"7", "null_value"),
    "empty value": (b"", b"7", "unknown_schema"),
    "a piece of the header": (GOOD[:9], b"7", "unknown_schema"),
    "nothing but the header": (GOOD[:10], b"7", "truncated"),
    "unknown fingerprint": (b"\xc3\x01" + bytes(8) + BODY, b"7", "unknown_schema"),
    "another marker": (b"\xc3\x02" + GOOD[2:], b"7", "unknown_schema"),
    "Confluent framing": (b"\0\0\0\0\x05" + BODY, b"7", None),
    "null key": (GOOD, None, "wrong_key"),
    "empty key": (GOOD, b"", "wrong_key"),
    "another number": (GOOD, b"8", "wrong_key"),
    "leading zero": (GOOD, b"07", "wrong_key"),
    "leading zero of zero": (stats(job_id=0), b"00", "wrong_key"),
    "sign": (GOOD, b"+7", "wrong_key"),
    "space": (GOOD, b"7 ", "wrong_key"),
    "other digits": (GOOD, b"\xd9\xa7", "wrong_key"),
    "byte below the digits": (stats(job_id=70 - 1), b"7/", "wrong_key"),
    "byte above the digits": (stats(job_id=70 + 10), b"7:", "wrong_key"),
    "a number that wraps": (GOOD, str(2**64 + 7).encode(), "wrong_key"),
    "negative job": (stats(job_id=-7), b"-7", "out_of_range"),
    "greatest job": (stats(job_id=2**53 - 1), str(2**53 - 1).encode(), None),
    "too great a job": (stats(job_id=2**53), str(2**53).encode(), "out_of_range"),
    "least number": (stats(sequence=-(2**63)), b"7", "out_of_range"),
    "2^62": (stats(sequence=2**62), b"7", None),
    "greatest number": (stats(sequence=2**63 - 1, bytes_emitted=2**63 - 1), b"7", None),
    "instant of 1999": (stats(occurred_at=946_684_799_999_999), b"7", "out_of_range"),
    "instant of 2000": (stats(occurred_at=946_684_800_000_000), b"7", None),
    "instant of 2200": (stats(occurred_at=7_258_118_400_000_000), b"7", "out_of_range"),
    "id in upper case": (stats(event_id=ID.upper()), b"7", "bad_id"),
    "short id": (stats(event_id=ID[:-1]), b"7", "bad_id"),
    "id with a line end": (stats(event_id=ID + "\n"), b"7", "bad_id"),
    "empty id": (stats(event_id=""), b"7", "bad_id"),
    "id with a hyphen elsewhere": (stats(event_id=ID.replace("-", "a", 1)[:-1] + "-"), b"7", "bad_id"),
    "id beyond the digits": (stats(event_id=":" + ID[1:]), b"7", "bad_id"),
    "id beyond the letters": (stats(event_id="g" + ID[1:]), b"7", "bad_id"),
    "id that is no UTF-8": (GOOD.replace(ID[:2].encode(), b"\xff\xfe"), b"7", "invalid_utf8"),
    "NUL": (stats(stream_name="us\0rs"), b"7", "nul_in_text"),
    "NUL at the end": (stats(stream_namespace="\0"), b"7", "nul_in_text"),
    "longest text": (stats(stream_name="x" * 1024), b"7", None),
    "longest text of two bytes each": (stats(stream_name="é" * 512), b"7", None),
    "too long text": (stats(stream_name="x" * 1025), b"7", "too_long"),
    "too long a word": (stats(reporter="é" * 128), b"7", "too_long"),
    "twelve bytes": (stats(stream_name="abcdefghijkl"), b"7", None),
    "thirteen bytes": (stats(stream_name="abcdefghijklm"), b"7", None),
    "other scripts": (stats(stream_name="имя 😀", stream_namespace="ünï\u2028"), b"7", None),
    "no UTF-8": (GOOD.replace(b"users", b"us\xffrs"), b"7", "invalid_utf8"),
    "half a surrogate": (GOOD.replace(b"users", b"u\xed\xa0\x80s"), b"7", "invalid_utf8"),
    "NUL spelled longer": (GOOD.replace(b"users", b"us\xc0\x80s"), b"7", "invalid_utf8"),
    "beyond Unicode": (GOOD.replace(b"users", b"u\xf4\x90\x80\x80"), b"7", "invalid_utf8"),
    "a sign in two texts": (
        GOOD.replace(b"users\x0csource", b"user\xc3\x0c\xa9ource"),
        b"7",
        "invalid_utf8",
    ),
    "truncated": (GOOD[:-1], b"7", "truncated"),
    "trailing byte": (GOOD + b"\0", b"7", "trailing_bytes"),
    "trailing message": (GOOD * 2, b"7", "trailing_bytes"),
    "number spelled longer": (GOOD.replace(b"\x0e\0\0", b"\x8e\0\0\0"), b"7", None),
    "length spelled longer": (GOOD.replace(b"\x0ausers", b"\x8a\x80\0users"), b"7", None),
    "number of 65 bits": (GOOD[:-9] + b"\xfe" + b"\xff" * 8 + b"\x03" + 8 * b"\0", b"7", "malformed"),
    "number without an end": (GOOD[:-9] + b"\x80" * 11 + 8 * b"\0", b"7", "truncated"),
    "third branch": (GOOD[:-8] + b"\x04\x02" + 7 * b"\0", b"7", "malformed"),
    "branch before the first": (GOOD[:-8] + b"\x01\x02" + 7 * b"\0", b"7", "malformed"),
    "branch spelled longer": (GOOD[:-8] + b"\x82\0\x02" + 7 * b"\0", b"7", None),
    "negative length": (GOOD.replace(b"\x0ausers", b"\x01users"), b"7", "truncated"),
    "length beyond the end": (GOOD.replace(b"\x0ausers", b"\x7fusers"), b"7", "truncated"),
    "length up to the next message": (GOOD[:-9] + sized(b"\0" * 9)[:1], b"7", "truncated"),
    "greatest length": (GOOD.replace(b"\x0ausers", number(2**63 - 1) + b"users"), b"7", "truncated"),
    "boolean of 2": (
        encoded(newest(StreamMetadata), FAILURE | {"stream_name": "users", "was_backfilled": True})[:-1]
        + b"\x02",
        b"7",
        "malformed",
    ),
    "failure with nothing": (failure(), b"7", None),
    "failure with all": (
        failure(
            retryable=True, from_trace_message=False, metadata='{"a":[1,null,"é"]}', stacktrace="at\nline"
        ),
        b"7",
        None,
    ),
    "failure with a secret": (
        failure(internal_message="password=hunter2", external_message="postgres://u:hunter2@h/d"),
        b"7",
        None,
    ),
    "failure with a secret in JSON": (failure(metadata='{"password":"hunter2"}'), b"7", None),
    "failure with a control character": (failure(stacktrace="\x1b[31mred"), b"7", None),
    "failure with a long text": (failure(stacktrace="x" * 70_000), b"7", None),
    "JSON that is none": (failure(metadata="{"), b"7", "bad_json"),
    "JSON with NUL": (failure(metadata='{"a":"\\u0000"}'), b"7", "nul_in_text"),
    "empty JSON": (failure(metadata=""), b"7", "bad_json"),
}


@pytest.mark.parametrize("which", ANY)
def test_each_by_itself_and_beside_a_good_one(which: str) -> None:
    value, key, reason = ANY[which]
    for some in ([(key, value)], [(b"7", GOOD), (key, value), (b"7", GOOD)]):
        got = hold_law(DECODER, block(some))
        assert [(letter.reason, letter.key, letter.value) for letter in got.bad] == (
            [(reason, key, value)] if reason else []
        )


def test_exactly_the_bad_ones_are_put_aside() -> None:
    """Each where it was and when it came, and their neighbours live."""
    order = [*ANY.values()] * 3
    random.Random(1).shuffle(order)  # noqa: S311  # to be repeated
    some: list[Pair] = []
    bad: dict[int, tuple[str, bytes | None, bytes | None]] = {}
    for at, (value, key, reason) in enumerate(order):
        if reason:
            bad[2 * at + 1] = reason, key, value
        some += [(str(at).encode(), stats(job_id=at)), (key, value)]
    # Two batches with a gap in each: the first says when each was made, the second when it was appended.
    half = len(some) // 2
    made = batch(some[:half], 1_000, step=3)
    appended = batch(some[half:], 50_000, step=2, appended=BROKER_MS + 77)
    these = Block.of(*TOPIC, [made, appended])
    offset = [1_000 + 3 * at if at < half else 50_000 + 2 * (at - half) for at in range(len(some))]
    moment = [BROKER_MS + 3 * at if at < half else BROKER_MS + 77 for at in range(len(some))]
    assert these.offsets.tolist() == offset
    assert these.broker_ms.tolist() == moment

    got = hold_law(DECODER, these)
    found = {letter.offset: letter for letter in got.bad}
    assert len(found) == len(got.bad)
    assert found.keys() == {offset[at] for at in bad}
    for at, reason_key_value in bad.items():
        letter = found[offset[at]]
        assert (letter.reason, letter.key, letter.value) == reason_key_value
        assert (letter.topic, letter.topic_id, letter.partition) == TOPIC
        assert letter.broker_at == kinds.EPOCH + timedelta(milliseconds=moment[at])
    live = {
        row["_offset"]: (row["_broker_at"], row["_partition"], row["job_id"])
        for frame in got.frames.values()
        for row in frame.iter_rows(named=True)
    }
    assert live.keys() == set(offset) - found.keys()
    for at in range(0, len(some), 2):
        assert live[offset[at]] == (1000 * moment[at], 3, at // 2)


@pytest.mark.parametrize("invalid", [b"us\xffrs", b"user\xc3"])
def test_one_text_that_is_no_utf8_harms_none_of_its_chunk(invalid: bytes) -> None:
    some: list[Pair] = [(str(at).encode(), stats(job_id=at, stream_name="ünï")) for at in range(500)]
    some[250] = b"7", GOOD.replace(b"users", invalid)
    got = hold_law(DECODER, block(some))
    assert [letter.offset for letter in got.bad] == [350]
    assert got.frames[StreamStats].height == 499


def limits() -> list[tuple[WireSchema, str, int | str]]:
    """For each field, what its kind just allows, and what it does not any more."""
    found: list[tuple[WireSchema, str, int | str]] = []
    for wire in FLAT:
        for name, kind in kinds_of(wire.event_type).items():
            if kind.avro == "long":
                ends = [limit for limit in (kind.minimum, kind.maximum) if limit is not None]
                near = {end + by for end in ends for by in (-1, 0, 1)} | {-1, 0, 2**62, 2**63 - 1, -(2**63)}
                found += [(wire, name, value) for value in sorted(near) if -(2**63) <= value < 2**63]
            elif kind.avro == "string":
                sizes = {0, 1, 12, 13, 36, 300, *(kind.max_bytes + by for by in (-1, 0, 1) if kind.max_bytes)}
                found += [(wire, name, "x" * size) for size in sorted(sizes)]
                found += [(wire, name, text) for text in ("a\0", ID, ID.upper(), "é", "{}", "[]")]
    return found


def kinds_of(event_type: type[Event]) -> dict[str, Kind]:
    return {name: kind for name, field in event_type.model_fields.items() if (kind := field_kind(field))}


def plain_rows() -> dict[type[Event], dict[str, Any]]:
    """An event of each type, every field filled but with JSON."""
    found = {}
    for event in one_of_each():
        row = event.model_dump()
        for name, kind in kinds_of(type(event)).items():
            row[name] = None if kind.json_object else row[name]
            row[name] = kinds.micros(row[name]) if hasattr(row[name], "tzinfo") else row[name]
        found[type(event)] = row
    return found


def test_every_limit_of_every_kind_holds() -> None:
    """What is within it is plainly good, but for JSON; what is beyond it becomes a dead letter."""
    rows, some, refused, plain = plain_rows(), list[Pair](), set[int](), set[int]()
    for at, (wire, name, value) in enumerate(limits()):
        row = rows[wire.event_type] | {name: value}
        some.append((key_of(wire.event_type, row), encoded(wire, row)))
        kind = kinds_of(wire.event_type)[name]
        if kind.problem(value):
            refused.add(100 + at)
        elif not kind.json_object:
            plain.add(100 + at)
    these = block(some)
    good = DECODER.decode(these).good
    assert {offset for frame in good.values() for offset in frame["_offset"]} == plain
    assert {letter.offset for letter in hold_law(DECODER, these).bad} == refused
    assert len(refused) > 300
    assert len(plain) > 300


@pytest.mark.parametrize("wire", FLAT, ids=lambda wire: wire.event_type.__name__)
def test_nulls_are_read(wire: WireSchema) -> None:
    """All of them, each one, and all but one."""
    row = plain_rows()[wire.event_type]
    optional = [name for name, field in wire.event_type.model_fields.items() if is_nullable(field)]
    some = [row | dict.fromkeys(optional), *(row | {name: None} for name in optional)]
    some += [row | dict.fromkeys(other for other in optional if other != name) for name in optional]
    these = block((key_of(wire.event_type, one), encoded(wire, one)) for one in some)
    assert DECODER.decode(these).good[wire.event_type].height == len(some)
    frame = sorted_(hold_law(DECODER, these).frames[wire.event_type])
    assert frame.select(*row).to_dicts() == some


#: Fields of the second version, as if there were one.
NEW = ("retryable", "from_trace_message")


def second_version() -> Schemas:
    """Failures have two fields more."""
    texts = {f"{event_type.__name__}.v1.avsc": rendered(event_type) for event_type in EVENT_TYPES}
    second = json.loads(texts["Failure.v1.avsc"])
    fields_of_first = [part for part in second["fields"] if part["name"] not in NEW]
    texts["Failure.v1.avsc"] = json.dumps({**second, "fields": fields_of_first})
    return Schemas({**texts, "Failure.v2.avsc": json.dumps(second)})


def test_both_versions_of_a_schema_come_to_the_newest_shape() -> None:
    schemas = second_version()
    old, new = sorted(
        (wire for wire in schemas.by_header.values() if wire.event_type is Failure),
        key=lambda wire: wire.version,
    )
    row = FAILURE | {"stacktrace": "at line 1"}
    values = [encoded(old, row), encoded(new, row | {"retryable": True}), encoded(old, row)[:-1], b"\0" * 9]
    these = block([(b"7", value) for value in values] * 40)
    got = hold_law(Decoder(schemas), these)
    expected = [("at line 1", None, None), ("at line 1", True, None)] * 40
    assert sorted_(got.frames[Failure]).select("stacktrace", *NEW).rows() == expected
    assert [letter.reason for letter in letters(got)] == ["truncated", "unknown_schema"] * 40


# What a kind and a schema must be for this.


def test_every_released_schema_is_nested_or_read_flat() -> None:
    """With null first, of the type that its kind says, and keyed by what is never null."""
    for wire in SCHEMAS.by_header.values():
        types = {field["name"]: field["type"] for field in wire.plain["fields"]}
        if wire.nested:
            assert any(isinstance(one, dict) for one in types.values())
            continue
        FlatReader(wire)
        for name, kind in kinds_of(wire.event_type).items():
            assert types.pop(name) in (kind.avro, ["null", kind.avro])
        assert not types
        assert not is_nullable(wire.event_type.model_fields[wire.event_type.key_field])
        assert _code(kinds_of(wire.event_type)[wire.event_type.key_field]) != compiled.JSON


def test_whoever_adds_to_what_a_kind_says_adds_it_to_the_flat_reader() -> None:
    assert {field.name for field in fields(Kind)} == {
        *("name", "avro", "logical"),  # these bound no value
        *("minimum", "maximum", "max_bytes", "pattern", "json_object"),
    }
    for kind in (one for one in vars(kinds).values() if isinstance(one, Kind)):
        assert not (kind.pattern and kind.max_bytes)
        assert kind.pattern in (None, kinds.EVENT_ID)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (kinds.TEXT, compiled.TEXT),
        (kinds.EVENT_ID_KIND, compiled.EVENT_ID),
        (kinds.JSON_OBJECT, compiled.JSON),
        (Kind("colour", "string", pattern=kinds.JSON_NUL), compiled.JSON),
        (Kind("event_ids", "string", json_object=True), compiled.JSON),
    ],
)
def test_a_text_that_more_is_asked_of_is_never_plainly_good(kind: Kind, code: int) -> None:
    assert _code(kind) == code


@pytest.mark.parametrize("avro", ["double", "int", "bytes"])
def test_a_kind_without_a_column_is_told(avro: str) -> None:
    with pytest.raises(TypeError, match=f"ratio: there is no column for {avro}"):
        _code(Kind("ratio", avro))


# The block itself.

SOME: list[Pair] = [(b"7", GOOD), (None, b"value"), (b"", None), (b"key", b""), (b"9", GOOD)]


def test_a_block_gives_its_messages() -> None:
    these = Block.of(*TOPIC, [batch(SOME[:3], 40), batch([], 43), batch(SOME[3:], 50, step=4)])
    assert len(these) == 5
    assert these.next_offset == 55
    assert [(these.key(row), these.value(row)) for row in range(5)] == SOME
    objects = these.records()
    assert (objects.topic, objects.topic_id, objects.partitions) == ("events", "topic-1", [3] * 5)
    assert objects.offsets == [40, 41, 42, 50, 54]
    assert objects.broker_ms == [BROKER_MS, BROKER_MS + 1, BROKER_MS + 2, BROKER_MS, BROKER_MS + 4]
    assert [*zip(objects.keys, objects.values, strict=True)] == SOME
    for row in range(5):
        assert these.dead_letter(row, "why", "and how") == objects.dead_letter(row, "why", "and how")


@pytest.mark.parametrize("rows", [[0, 2, 4], [4], [], np.array([True, False, True, False, True])])
def test_a_part_of_a_block(rows: Any) -> None:
    these = Block.of(*TOPIC, [batch(SOME, 40)])
    kept = np.arange(5)[rows].tolist()
    part = these.take(rows)
    assert part.records() == these.records().take(kept)
    assert part.buffer is these.buffer
    assert_same(
        check(DECODER.decode(part), part),
        check(DECODER.decode(these.records().take(kept)), these.records().take(kept)),
    )
    for row, was in enumerate(kept):
        assert part.dead_letter(row, "why", "how") == these.dead_letter(was, "why", "how")


def test_the_broker_s_time_is_when_it_appended_if_it_says_so() -> None:
    created, appended = batch(SOME, 40), batch(SOME, 60, appended=BROKER_MS - 5)
    these = Block.of(*TOPIC, [created, appended])
    assert these.broker_ms.tolist() == [BROKER_MS + at for at in range(5)] + [BROKER_MS - 5] * 5
    frame = sorted_(hold_law(DECODER, these).frames[StreamStats])
    assert frame["_broker_at"].to_list() == [BROKER_MS * 1000, (BROKER_MS - 5) * 1000]


def test_headers_are_passed_by() -> None:
    headers: list[Header] = [(b"traceparent", b"00-1"), (b"empty", None), (b"", b"x" * 200)]
    data = b"".join(record(pair, at, headers=headers[:at]) for at, pair in enumerate(SOME))
    these = Block.of(*TOPIC, [RecordBatch(data, 5, 100, BROKER_MS, -1)])
    assert [(these.key(row), these.value(row)) for row in range(5)] == SOME


@pytest.mark.parametrize("batches", [[], [batch([])], [batch([]), batch([], 7)]])
def test_a_block_of_nothing(batches: list[RecordBatch]) -> None:
    these = Block.of(*TOPIC, batches)
    assert len(these) == 0
    assert not hold_law(DECODER, these).frames
    assert not these.take([]).records().values


def lying(**changed: Any) -> RecordBatch:
    good = batch([(b"7", GOOD), (b"7", GOOD)])
    parts = {field.name: getattr(good, field.name) for field in fields(RecordBatch)}
    return RecordBatch(**parts | changed)


TWO = lying().records
ONE = record((b"7", GOOD))
BAD_BATCHES = {
    "one record less": lying(count=1),
    "one record more": lying(count=3),
    "no record": lying(count=0),
    "fewer than none": lying(count=-1),
    "as many as can be said": lying(count=2**31 - 1),
    "cut off": lying(records=TWO[:-1]),
    "a byte too many": lying(records=bytes(TWO) + b"\0"),
    "nothing": lying(records=b""),
    "zeros": lying(records=bytes(len(TWO))),
    "ones": lying(records=b"\xff" * len(TWO)),
    "a record of no bytes": lying(records=b"\0" + ONE, count=1),
    "a record of fewer": lying(records=number(-5) + ONE, count=1),
    "a record of 2^62 bytes": lying(records=number(2**62) + ONE, count=1),
    "a record of 2^63 - 1 bytes": lying(records=number(2**63 - 1) + ONE, count=1),
    "a size of 2^64": lying(records=b"\xff" * 9 + b"\x03" + ONE, count=1),
    "a size spelled longer": lying(records=number(1, longer_by=2) + ONE, count=1),
    "attributes alone": lying(records=sized(b"\0") + b"\0" * 6, count=1),
    "no offset": lying(records=sized(b"\0\0") + b"\0" * 6, count=1),
    "no key": lying(records=sized(b"\0\0\0") + b"\0" * 6, count=1),
    "no value": lying(records=sized(b"\0\0\0\x01") + b"\0" * 6, count=1),
    "a key of -2 bytes": lying(records=sized(b"\0\0\0\x03\x01\0"), count=1),
    "a value of -2 bytes": lying(records=sized(b"\0\0\0\x01\x03\0"), count=1),
    "a key beyond its record": lying(records=sized(b"\0\0\0" + number(4) + b"abc") + b"\0" * 9, count=1),
    "a value beyond its record": lying(
        records=sized(b"\0\0\0\x01" + number(4) + b"abc") + b"\0" * 9, count=1
    ),
    "a value up into the next record": lying(
        records=sized(b"\0\0\0\x01" + number(9) + b"abc") + record((b"7", GOOD), 1)
    ),
    "a record up into the next one": lying(records=number(len(ONE)) + ONE[2:] + record((b"7", GOOD), 1)),
    "a key of 2^63 - 1 bytes": lying(records=sized(b"\0\0\0" + number(2**63 - 1) + b"abc"), count=1),
    "a value of -2^63 bytes": lying(records=sized(b"\0\0\0\x01" + number(-(2**63)) + b"abc"), count=1),
    "the same offset twice": lying(records=ONE + ONE),
    "offsets that fall": lying(records=record((b"7", GOOD), 5) + record((b"7", GOOD), 4)),
    "an offset below zero": lying(records=record((b"7", GOOD), -101), count=1),
    "an offset of more than 64 bits": lying(records=record((b"7", GOOD), 2**63 - 1), count=1),
    "a first offset at the end": lying(first_offset=2**63 - 1),
    "a first offset below zero": lying(first_offset=-2),
    "created too late": lying(first_at=2**63 - 1),
    "created too early": lying(first_at=-2),
    "later than there are bits": lying(records=record((b"7", GOOD), later=2**63 - 1), count=1),
    "much earlier": lying(records=record((b"7", GOOD), later=-(2**63)), count=1),
    "appended after the year 9999": lying(appended_at=253_402_300_800_000),
}


@pytest.mark.parametrize("which", BAD_BATCHES)
def test_a_batch_that_is_not_what_it_says_is_refused(which: str) -> None:
    """Wherever it stands, though others would have room for what it lacks."""
    bad, good = BAD_BATCHES[which], batch(SOME, 2**40)
    for batches in ([bad], [bad, good], [batch(SOME, 10), bad], [batch([]), bad, good]):
        with pytest.raises(BadBatchError, match="topic events, partition 3"):
            Block.of(*TOPIC, batches)


@pytest.mark.parametrize("at", [-1, 0, 253_402_300_799_999])
def test_any_time_that_python_has_is_one(at: int) -> None:
    """Also none at all, as Kafka spells it."""
    these = Block.of(*TOPIC, [batch([(b"8", GOOD)], at=at)])
    (letter,) = hold_law(DECODER, these).bad
    assert letter.broker_at == kinds.EPOCH + timedelta(milliseconds=at)


def test_the_greatest_offset() -> None:
    these = Block.of(*TOPIC, [batch([(b"7", GOOD)] * 2, 2**63 - 2)])
    assert hold_law(DECODER, these).frames[StreamStats].height == 2
    assert these.next_offset == 2**63


def test_batches_that_go_back_are_refused() -> None:
    with pytest.raises(BadBatchError):
        Block.of(*TOPIC, [batch(SOME, 40), batch(SOME, 44)])
    with pytest.raises(BadBatchError):
        Block.of(*TOPIC, [batch(SOME, 40), batch(SOME, 30)])


def test_more_bytes_than_a_text_can_be_found_in_are_refused() -> None:
    """Before any is copied: these are one zero, said to be so many."""
    zeros: Any = memoryview(cast("Any", np.broadcast_to(np.uint8(0), MOST_BYTES // 2)))
    with pytest.raises(BadBatchError, match="bytes are too many"):
        Block.of(*TOPIC, [RecordBatch(zeros, 1, 100, BROKER_MS, -1)] * 3)
