"""The gate over columns and the event classes refuse the same messages, for the same reasons."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from wire import AT, GOOD_IDS, ID, STATS, encoded, key_of, messages, newest, records

from jobtrail import codec, kinds
from jobtrail.consumers import gate
from jobtrail.consumers.decode import FEW, Decoded, Decoder
from jobtrail.consumers.few import read_few
from jobtrail.errors import BadMessageError
from jobtrail.events import Event, Failure, JobCreated, StreamStats
from jobtrail.kinds import micros
from jobtrail.producers.scrub import shapes

DECODER = Decoder()
OFFSET_OF = attrgetter("offset")


def judged_singly(value: bytes) -> Event | tuple[str, str]:
    try:
        return codec.decode(value)
    except BadMessageError as error:
        return error.reason, error.detail


def checked(pairs: list[tuple[bytes | None, bytes | None]]) -> Decoded:
    these = records(pairs)
    return gate.check(DECODER.decode(these), these)


def on_the_wire(event: Event) -> dict[str, Any]:
    row = event.model_dump()
    return {name: micros(value) if hasattr(value, "tzinfo") else value for name, value in row.items()}


@settings(deadline=None, max_examples=300)
@given(st.lists(messages(), min_size=1, max_size=6), st.booleans())
def test_gate_and_event_classes_agree_on_every_message(
    batch: list[tuple[type[Event], dict[str, Any]]],
    bulk: bool,
) -> None:
    if bulk:
        batch = [message for message in batch for _ in range(FEW + 1)]
    pairs: list[tuple[bytes | None, bytes | None]] = [
        (key_of(event_type, row), encoded(newest(event_type), row)) for event_type, row in batch
    ]
    got = checked(pairs)

    refused = {letter.offset - 100: (letter.reason, letter.detail) for letter in got.bad}
    accepted = {
        row["_offset"] - 100: (event_type, {k: v for k, v in row.items() if not k.startswith("_")})
        for event_type, frame in got.frames.items()
        for row in frame.iter_rows(named=True)
    }
    assert len(refused) == len(got.bad)
    for at, (_, value) in enumerate(pairs):
        assert value is not None
        match judged_singly(value):
            case Event() as event:
                if isinstance(event, Failure):  # the gate lets no control character and no secret pass
                    event = shapes.failure(event)  # it is the same event
                assert accepted.pop(at) == (type(event), on_the_wire(event))
            case reason_and_detail:
                assert refused.pop(at) == reason_and_detail
    assert not accepted
    assert not refused
    these = records(pairs)
    few = read_few(DECODER, these)
    assert sorted(few.bad, key=OFFSET_OF) == sorted(got.bad, key=OFFSET_OF)
    frames = got.frames.items()
    assert few.few == {event_type: frame.sort("_offset").to_dicts() for event_type, frame in frames}


def test_a_key_that_is_not_the_event_s_own_is_refused() -> None:
    value = encoded(newest(StreamStats), STATS)
    got = checked([(b"7", value), (b"8", value), (None, value), (b"07", value)])
    assert got.frames[StreamStats]["_offset"].to_list() == [100]
    assert [(letter.offset, letter.reason) for letter in sorted(got.bad, key=lambda bad: bad.offset)] == [
        (101, "wrong_key"),
        (102, "wrong_key"),
        (103, "wrong_key"),
    ]
    assert "StreamStats.job_id: the key is b'8', not b'7'" in {letter.detail for letter in got.bad}
    few = read_few(DECODER, records([(b"7", value), (b"8", value), (None, value), (b"07", value)]))
    assert few.bad == sorted(got.bad, key=OFFSET_OF)


def test_a_bad_event_with_a_wrong_key_is_one_dead_letter() -> None:
    got = checked([(b"8", encoded(newest(StreamStats), {**STATS, "attempt_number": -1}))])
    assert [letter.reason for letter in got.bad] == ["out_of_range"]


@given(st.lists(GOOD_IDS, max_size=4), st.data())
def test_event_ids_end_to_end_are_judged_as_each_is(ids: list[str], data: st.DataObject) -> None:
    """What the gate looks at instead of the pattern."""
    assert kinds.are_event_ids("".join(ids))
    if ids:
        at = data.draw(st.integers(0, len(ids) - 1))
        place = data.draw(st.integers(0, kinds.EVENT_ID_SIZE - 1))
        put = data.draw(st.sampled_from("0f-gA/:`\0"))
        ids[at] = ids[at][:place] + put + ids[at][place + 1 :]
        assert kinds.are_event_ids("".join(ids)) == all(map(kinds.EVENT_ID.match, ids))


def test_texts_within_lists_are_checked() -> None:
    row = {"event_id": ID, "occurred_at": AT, "job_id": 7, "config_type": "sync", "config_id": "c"}
    good = {**row, "labels": [{"key": "team", "value": "data"}]}
    bad = {**row, "streams": [{"name": "users"}, {"name": "n" * 1025}]}
    got = checked([(b"7", encoded(newest(JobCreated), good)), (b"7", encoded(newest(JobCreated), bad))])
    assert got.frames[JobCreated]["labels"].to_list() == [[{"key": "team", "value": "data"}]]
    assert [letter.detail for letter in got.bad] == [
        "JobCreated.streams.1.name: 1025 bytes of UTF-8, at most 1024 fit"
    ]


def test_columns_between_decoding_and_the_gate_are_gone() -> None:
    got = checked([(b"7", encoded(newest(StreamStats), STATS))])
    assert [name for name in got.frames[StreamStats].columns if name.startswith("_")] == [
        "_partition",
        "_offset",
        "_broker_at",
    ]
