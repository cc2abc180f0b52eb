"""Decoding in bulk gives what reading each message whole and strictly gives; bad ones harm no other."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import AT, BROKER_MS, ID, encoded, messages, newest, number, records, rows

from jobtrail import codec
from jobtrail.codec import Schemas
from jobtrail.consumers import bulk
from jobtrail.consumers.bulk import BulkReader, DoubtError
from jobtrail.consumers.decode import FEW, Decoded, Decoder
from jobtrail.consumers.few import read_few
from jobtrail.errors import BadMessageError
from jobtrail.events import EVENT_TYPES, Event, Failure, JobCreated, StreamMetadata, StreamStats
from jobtrail.schemas import rendered
from jobtrail.strict import read_strictly
from jobtrail.wire import HEADER_SIZE, WireSchema

DECODER = Decoder()
SCHEMAS = codec.released()


def stats(**fields: Any) -> dict[str, Any]:
    row = {"event_id": ID, "occurred_at": AT, "job_id": 7, "attempt_number": 0, "stream_name": "users"}
    return {**row, "reporter": "source", "sequence": 1, **fields}


def good(job_id: int = 7) -> bytes:
    return encoded(newest(StreamStats), stats(job_id=job_id, records_emitted=job_id * 3))


def strictly(value: bytes) -> dict[str, Any] | None:
    wire = SCHEMAS.by_header[value[:HEADER_SIZE]]
    try:
        return read_strictly(wire, value)
    except BadMessageError:
        return None


@settings(deadline=None)
@given(st.lists(messages(), min_size=1, max_size=8))
def test_columns_hold_what_was_written(batch: list[tuple[type[Event], dict[str, Any]]]) -> None:
    batch = batch * (FEW + 1)
    got = DECODER.decode(records((b"", encoded(newest(kind), row)) for kind, row in batch))
    assert not got.bad
    found = {row["_offset"]: row for frame in got.frames.values() for row in frame.iter_rows(named=True)}
    for at, (kind, row) in enumerate(batch):
        assert 100 + at in got.frames[kind]["_offset"]
        assert {name: found[100 + at][name] for name in row} == row


def test_each_row_knows_where_it_came_from() -> None:
    frame = DECODER.decode(records([(b"7", good())] * 2)).frames[StreamStats]
    assert frame.select(pl.col("^_.*$").exclude("_key", "_row")).rows() == [
        (3, 100, BROKER_MS * 1000),
        (3, 101, BROKER_MS * 1000 + 1000),
    ]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message with a few bytes changed, put in, or taken out."""
    kind = draw(st.sampled_from(EVENT_TYPES))
    value = bytearray(encoded(newest(kind), draw(rows(kind))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(HEADER_SIZE, max(HEADER_SIZE, len(value) - 1)))
        byte = draw(st.sampled_from([0, 1, 2, 3, 4, 7, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        match draw(st.sampled_from(["change", "insert", "remove"])):
            case "insert":
                value.insert(at, byte)
            case "change" if at < len(value):
                value[at] = byte
            case _:
                del value[at : at + 1]
    return bytes(value)


@settings(deadline=None, max_examples=500)
@given(damaged())
def test_bulk_accepts_nothing_that_strict_reading_refuses_or_reads_otherwise(value: bytes) -> None:
    wire = SCHEMAS.by_header[value[:HEADER_SIZE]]
    neighbour = encoded(wire, strictly_good(wire.event_type))
    values = [neighbour, value, neighbour]
    try:
        frame = BulkReader(wire).read(values, sum(map(len, values)))
    except DoubtError:
        return
    assert frame.row(1, named=True) == strictly(value)


def strictly_good(kind: type[Event]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in newest(kind).plain["fields"]:
        match field["type"]:
            case "long":
                row[field["name"]] = AT
            case "string":
                row[field["name"]] = "text"
            case "boolean":
                row[field["name"]] = True
            case {"type": "array"}:
                row[field["name"]] = []
    return row


@settings(deadline=None, max_examples=200)
@given(damaged(), st.integers(0, 3 * FEW))
def test_a_damaged_message_harms_no_other(value: bytes, at: int) -> None:
    values = [good(job_id) for job_id in range(3 * FEW)]
    values.insert(at, value)
    got = DECODER.decode(records((b"", each) for each in values))
    refused = [letter.offset - 100 for letter in got.bad]
    assert refused == ([] if strictly(value) is not None else [at])
    frame = got.frames[StreamStats].sort("_offset").filter(pl.col("_offset") != 100 + at)
    assert frame["job_id"].to_list() == list(range(3 * FEW))
    assert frame["records_emitted"].to_list() == [3 * job_id for job_id in range(3 * FEW)]
    for letter in got.bad:
        assert letter.value == value


#: What each of these does to `good()`, whose body ends with eight nullable counters, the first of them set.
BODY = good()[HEADER_SIZE:]
ENDING = number(1) + number(21) + 7 * b"\0"
assert BODY.endswith(ENDING)
START = good()[: -len(ENDING)]
BAD = {
    "null_value": None,
    "unknown_schema": b"\xc3\x01" + bytes(8) + BODY,
    "truncated": good()[:-1],
    "trailing_bytes": good() + b"\0",
    "invalid_utf8": good().replace(b"users", b"us\xffrs"),
    "malformed": START + number(2) + number(21) + 7 * b"\0",
}


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.parametrize("neighbours", [1, 100])
def test_a_bad_message_becomes_a_dead_letter_and_its_neighbours_live(reason: str, neighbours: int) -> None:
    pairs = [(b"7", good())] * neighbours + [(b"7", BAD[reason])] + [(b"7", good())] * neighbours
    got = DECODER.decode(records(pairs))
    assert got.frames[StreamStats].height == 2 * neighbours
    (letter,) = got.bad
    assert (letter.reason, letter.value, letter.key) == (reason, BAD[reason], b"7")
    assert (letter.topic, letter.topic_id, letter.partition, letter.offset) == (
        "events",
        "topic-1",
        3,
        100 + neighbours,
    )
    assert letter.detail
    few = read_few(DECODER, records(pairs))
    assert few.bad == got.bad
    assert few.few == {StreamStats: good_rows(got)}


def good_rows(got: Decoded) -> list[dict[str, Any]]:
    """The StreamStats as rows, in the order of the log."""
    return got.frames[StreamStats].drop("_key", "_row").sort("_offset").to_dicts()


@pytest.mark.parametrize(
    ("ending", "accepted"),
    [
        (number(1) + number(21) + 7 * b"\0", True),
        (number(1, longer_by=1) + number(21, longer_by=3) + 7 * b"\0", True),
        (number(-1) + number(21) + 7 * b"\0", False),
        (number(-2) + 7 * b"\0", False),
        (number(2) + number(21) + 7 * b"\0", False),
        (number(1) + number(-5) + 7 * b"\0", True),
        (number(1) + b"\xfe" + b"\xff" * 8 + b"\x01" + 7 * b"\0", True),
        (number(1) + b"\xfe" + b"\xff" * 8 + b"\x03" + 7 * b"\0", False),
        (number(1) + b"\x80" * 10 + b"\x01" + 7 * b"\0", False),
    ],
)
@pytest.mark.parametrize("copies", [1, 2 * FEW])
def test_other_spellings_of_numbers_are_accepted_and_what_is_no_index_is_not(
    ending: bytes,
    accepted: bool,
    copies: int,
) -> None:
    got = DECODER.decode(records([(b"7", START + ending)] * copies))
    assert len(got.bad) == (0 if accepted else copies)
    assert {letter.reason for letter in got.bad} <= {"malformed"}


def test_two_wrong_indexes_do_not_make_a_right_one() -> None:
    wrong = [START + number(index) + number(21) + 7 * b"\0" for index in (-1, -2, 3)]
    got = DECODER.decode(records((b"7", value) for value in wrong * FEW))
    assert len(got.bad) == 3 * FEW
    assert not got.frames


@pytest.mark.parametrize("byte", [2, 7, 255])
@pytest.mark.parametrize("copies", [1, 2 * FEW])
def test_a_boolean_is_0_or_1(byte: int, copies: int) -> None:
    row = {"event_id": ID, "occurred_at": AT, "job_id": 7, "attempt_number": 0, "stream_name": "users"}
    value = encoded(newest(StreamMetadata), {**row, "was_resumed": True, "was_backfilled": False})
    assert DECODER.decode(records([(b"7", value)] * copies)).frames[StreamMetadata].height == copies
    got = DECODER.decode(records([(b"7", value[:-1] + bytes([byte]))] * copies))
    assert [letter.reason for letter in got.bad] == ["malformed"] * copies


LABEL = number(1) + b"k" + number(1) + b"v"


@pytest.mark.parametrize(
    ("labels", "held"),
    [
        (b"\0", 0),
        (number(2) + LABEL * 2 + b"\0", 2),
        # Two blocks of 63 take as much as one of 126, and are as legal.
        (number(63) + LABEL * 63 + number(63) + LABEL * 63 + b"\0", 126),
        (number(-1) + number(len(LABEL)) + LABEL + number(1) + LABEL + b"\0", 2),
        # A count of two bytes, or one that says the size of its block: three bytes.
        (number(-64) + number(len(LABEL) * 64) + LABEL * 64 + b"\0", 64),
        (number(-64) + number(len(LABEL) * 64 + 1) + LABEL * 64 + b"\0", None),
        (number(-(2**63)) + number(0) + b"\0", None),
        (number(3) + LABEL * 2 + b"\0", None),
        (number(1) + LABEL * 2 + b"\0", None),
        (number(1) + LABEL, None),
        (number(1) + number(1) + b"k" + number(-1) + b"v" + b"\0", None),
        (number(1) + number(1) + b"\xff" + number(1) + b"v" + b"\0", None),
    ],
)
@pytest.mark.parametrize("copies", [1, 2 * FEW])
def test_lists_are_read_as_strictly(labels: bytes, held: int | None, copies: int) -> None:
    row = {"event_id": ID, "occurred_at": AT, "job_id": 7, "config_type": "sync", "config_id": "c"}
    value = encoded(newest(JobCreated), row)
    assert value.endswith(4 * b"\0")
    got = DECODER.decode(records([(b"7", value[:-1] + labels)] * copies))
    if held is None:
        assert len(got.bad) == copies
    else:
        assert not got.bad
        assert got.frames[JobCreated]["labels"].to_list() == [[{"key": "k", "value": "v"}] * held] * copies


def test_a_schema_is_read_in_bulk_whatever_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is good and spelled as always is proven, not read one by one."""
    monkeypatch.delattr("jobtrail.consumers.decode.read_strictly")
    values = [encoded(newest(kind), strictly_good(kind)) for kind in EVENT_TYPES for _ in range(FEW + 1)]
    got = DECODER.decode(records((b"7", value) for value in values))
    assert {kind: frame.height for kind, frame in got.frames.items()} == dict.fromkeys(EVENT_TYPES, FEW + 1)


def test_a_bulk_reader_that_panics_is_replaced_by_reading_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(_values: list[bytes], _schema: str) -> None:
        raise pl.exceptions.PanicException("an index of the reader is out of bounds")

    monkeypatch.setattr(bulk, "deserialize_array", panic)
    got = DECODER.decode(records((b"7", good(job_id)) for job_id in range(100)))
    assert sorted(got.frames[StreamStats]["job_id"]) == list(range(100))
    assert not got.bad


def test_no_other_exception_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_values: list[bytes], _schema: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk, "deserialize_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        DECODER.decode(records([(b"7", good())] * 100))


@pytest.mark.parametrize("copies", [1, 2 * FEW])
def test_an_older_version_is_filled_up_to_the_newest_shape(copies: int) -> None:
    """Version 2 has two fields more; both versions come to one frame, and an unknown one is a dead letter."""
    texts = {f"{wire.event_type.__name__}.v1.avsc": released_text(wire.event_type) for wire in all_newest()}
    second = json.loads(texts["Failure.v1.avsc"])
    second["fields"] += [
        {"name": "severity", "type": "string", "default": "error"},
        {"name": "exit_status", "type": ["null", "long"], "default": None},
    ]
    schemas = Schemas({**texts, "Failure.v2.avsc": json.dumps(second)})
    row = {"event_id": ID, "occurred_at": AT, "job_id": 7, "attempt_number": 0, "stacktrace": "at line 1"}
    old = encoded(newest(Failure), row)
    new = encoded(schemas.newest[Failure], {**row, "severity": "fatal", "exit_status": 9})
    these = records([(b"7", old), (b"7", new)] * copies)

    frame = Decoder(schemas).decode(these).frames[Failure].sort("_offset")
    columns = ("stacktrace", "severity", "exit_status")
    assert frame.select(columns).rows() == [("at line 1", "error", None), ("at line 1", "fatal", 9)] * copies
    assert read_few(Decoder(schemas), these).few == {Failure: frame.drop("_key", "_row").to_dicts()}
    assert [letter.reason for letter in DECODER.decode(these).bad] == ["unknown_schema"] * copies


def all_newest() -> list[WireSchema]:
    return list(SCHEMAS.newest.values())


def released_text(kind: type[Event]) -> str:
    return rendered(kind)


def test_an_unknown_schema_is_told_with_its_whole_fingerprint() -> None:
    """Also where several begin with the same bytes."""
    starts = [b"\xc3\x01" + bytes(range(16, 23)) + bytes([last]) for last in (1, 2)]
    got = DECODER.decode(records((b"7", start + BODY) for start in starts))
    assert sorted(letter.detail for letter in got.bad) == [
        "it starts with c3 01 10 11 12 13 14 15 16 01, which is no released schema",
        "it starts with c3 01 10 11 12 13 14 15 16 02, which is no released schema",
    ]


def test_confluent_framing_without_a_registry_is_a_dead_letter_that_says_so() -> None:
    value = b"\0\0\0\0\x05" + BODY
    (letter,) = DECODER.decode(records([(b"7", value)])).bad
    assert (letter.reason, letter.value) == ("unknown_schema", value)
    assert "no schema registry is set" in letter.detail


def test_both_framings_come_to_one_frame() -> None:
    asked = []

    def registry(schema_id: int) -> str:
        asked.append(schema_id)
        return released_text(StreamStats)

    these = records([(b"7", good()), (b"7", b"\0\0\0\0\x05" + BODY)])
    decoder = Decoder(schema_by_id=registry)
    got = decoder.decode(these)
    assert got.frames[StreamStats].drop("_key", "_row", "_offset", "_broker_at").n_unique() == 1
    assert got.frames[StreamStats].height == 2
    for few in (read_few(decoder, these), read_few(Decoder(schema_by_id=registry), these)):
        assert few.few == {StreamStats: good_rows(got)}
    assert asked == [5, 5]


def test_an_empty_batch_is_nothing() -> None:
    got = DECODER.decode(records([]))
    assert not got.frames
    assert not got.bad
