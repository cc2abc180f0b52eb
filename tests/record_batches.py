"""Kafka's record batches, spelled by hand (Kafka protocol, "Record Batch"), and blocks of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
from polars.testing import assert_frame_equal
from wire import BROKER_MS, number

from jobtrail.consumers.block import Block, RecordBatch
from jobtrail.consumers.decode import OFFSET, Decoded, Decoder
from jobtrail.consumers.gate import check
from jobtrail.projections.dead_letter import DeadLetter

Pair = tuple[bytes | None, bytes | None]
Header = tuple[bytes, bytes | None]

TOPIC = ("events", "topic-1", 3)


def sized(part: bytes | None) -> bytes:
    """Bytes behind their number; null has -1."""
    return number(-1) if part is None else number(len(part)) + part


def record(pair: Pair, further: int = 0, later: int = 0, headers: Sequence[Header] = ()) -> bytes:
    """One record, so much further and so many milliseconds later than its batch."""
    key, value = pair
    body = b"\0" + number(later) + number(further) + sized(key) + sized(value) + number(len(headers))
    return sized(body + b"".join(sized(name) + sized(said) for name, said in headers))


def batch(
    pairs: Iterable[Pair], first: int = 100, *, step: int = 1, at: int = BROKER_MS, appended: int = -1
) -> RecordBatch:
    """Records whose offsets and milliseconds rise by `step` from the first one's on."""
    found = [record(pair, row * step, row * step) for row, pair in enumerate(pairs)]
    return RecordBatch(b"".join(found), len(found), first, at, appended)


def block(pairs: Iterable[Pair]) -> Block:
    """The messages as `wire.records` has them, in batches of a few."""
    pairs = list(pairs)
    parts = [(start, pairs[start : start + 7]) for start in range(0, len(pairs), 7)]
    return Block.of(*TOPIC, [batch(part, 100 + start, at=BROKER_MS + start) for start, part in parts])


def assert_same(got: Decoded, expected: Decoded) -> None:
    """The same events and the same dead letters, in whatever order."""
    assert letters(got) == letters(expected)
    assert got.frames.keys() == expected.frames.keys()
    for event_type, frame in got.frames.items():
        assert_frame_equal(sorted_(frame), sorted_(expected.frames[event_type]))
    assert not got.good


def letters(decoded: Decoded) -> list[DeadLetter]:
    """In the order of the log."""
    return sorted(decoded.bad, key=lambda letter: letter.offset)


def sorted_(frame: pl.DataFrame) -> pl.DataFrame:
    """In the order of the log."""
    return frame.sort(OFFSET)


def hold_law(decoder: Decoder, these: Block) -> Decoded:
    """Whatever way messages are read, they come to the same; gives that."""
    objects = these.records()
    got = check(decoder.decode(these), these)
    assert_same(got, check(decoder.decode(objects), objects))
    return got
