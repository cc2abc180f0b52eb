"""What is written to a data file is what any reader of Avro, and ours, finds in it."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st
from wire import number as spelled

from jobtrail.consumers import archive_file
from jobtrail.consumers.archive_file import COLUMNS, FileWriter, MalformedError, frames, number

BYTES = st.none() | st.binary(max_size=20) | st.sampled_from([b"x" * 63, b"x" * 64, b"x" * 9_000])
NAMES = st.sampled_from(["", "ce_id", "ce_type", "ünï"])
MESSAGES = st.lists(
    st.tuples(BYTES, BYTES, st.lists(st.tuples(NAMES, BYTES), max_size=4), st.integers(0, 2**45)), max_size=25
)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-20_000, 20_000))
def test_numbers_are_spelled_as_avro_does(value: int) -> None:
    assert number(value) == spelled(value)


@given(MESSAGES, st.integers(0, 2**62), st.integers(1, 9), st.integers(1, 10))
def test_every_part_of_a_message_is_there(rows: list[Any], first: int, block: int, taken: int) -> None:
    """However messages are taken, and wherever a block ends."""
    messages = [
        Message(
            topic="t",
            partition=0,
            offset=first + at,
            key=key,
            value=value,
            headers=headers,
            timestamp=(2, ms),
        )
        for at, (key, value, headers, ms) in enumerate(rows)
    ]
    writer = FileWriter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive_file, "BLOCK_MESSAGES", block)
        for at in range(0, len(messages), taken):
            writer.add(messages[at : at + taken])
        data = writer.finish()
    read: Any = list(fastavro.reader(io.BytesIO(data)))
    assert [
        (one["key"], one["value"], [(h["name"], h["value"]) for h in one["headers"]], one["broker_ms"])
        for one in read
    ] == rows
    assert [one["offset"] for one in read] == [first + at for at in range(len(rows))]
    found = list(frames(data))
    assert max((frame.height for frame in found), default=0) <= block
    for name in COLUMNS:
        assert [value for frame in found for value in frame[name]] == [one[name] for one in read]
    assert writer.messages == len(rows)


def test_what_is_no_data_file_is_said() -> None:
    writer = FileWriter()
    writer.add([Message(topic="t", partition=0, offset=7, key=b"k", value=b"v", timestamp=(2, 9))])
    data = writer.finish()
    for wrong in (b"", b"Obj\x01", data[:-1], data[:-17], data + b"\0", data[: len(archive_file.HEAD)]):
        with pytest.raises(MalformedError):
            list(frames(wrong))
