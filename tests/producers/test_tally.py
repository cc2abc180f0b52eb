"""What is committed follows from the states that a destination gives back."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobtrail.producers.protocol import Stream
from jobtrail.producers.tally import Tally


def record(stream: str, **data: Any) -> bytes:
    return json.dumps({"type": "RECORD", "record": {"stream": stream, "data": data}}).encode()


def state(stream: str, cursor: int, **stats: Any) -> bytes:
    body = {"stream_descriptor": {"name": stream}, "stream_state": {"id": cursor}}
    return json.dumps({"type": "STATE", "state": {"type": "STREAM", "stream": body, **stats}}).encode()


def global_state(cursor: int, *streams: str) -> bytes:
    parts = [{"stream_descriptor": {"name": name}, "stream_state": {}} for name in streams]
    body = {"shared_state": {"lsn": cursor}, "stream_states": parts}
    return json.dumps({"type": "STATE", "state": {"type": "GLOBAL", "global": body}}).encode()


def committed(tally: Tally) -> dict[str, int | None]:
    return {stream.name: counts.committed_records for stream, counts in tally.snapshot().items()}


def test_a_state_commits_the_records_before_it_in_its_stream() -> None:
    tally = Tally(with_destination=True)
    tally.source([record("a"), record("b"), state("a", 1), record("a"), record("a"), state("a", 2)])
    assert committed(tally) == {"a": 0, "b": 0}
    tally.destination([state("a", 1)])
    assert committed(tally) == {"a": 1, "b": 0}
    tally.destination([state("a", 2)])
    assert committed(tally) == {"a": 3, "b": 0}


def test_a_later_state_commits_all_before_it() -> None:
    tally = Tally(with_destination=True)
    tally.source([line for n in range(5) for line in (record("a"), state("a", n))])
    tally.destination([state("a", 3)])
    assert committed(tally) == {"a": 4}
    tally.destination([state("a", 1)])
    assert (committed(tally), tally.unmatched_states) == ({"a": 4}, 1)


def test_equal_states_are_matched_in_order() -> None:
    tally = Tally(with_destination=True)
    tally.source([record("a"), state("a", 1), record("a"), state("a", 1)])
    tally.destination([state("a", 1)])
    assert committed(tally) == {"a": 1}
    tally.destination([state("a", 1)])
    assert committed(tally) == {"a": 2}


def test_a_global_state_commits_all_streams_also_those_it_does_not_name() -> None:
    tally = Tally(with_destination=True)
    tally.source([record("a"), record("b"), record("c"), global_state(1, "a", "b"), record("a")])
    tally.destination([global_state(1, "b", "a")])
    assert committed(tally) == {"a": 1, "b": 1, "c": 1}


def test_a_legacy_state_commits_all() -> None:
    tally = Tally(with_destination=True)
    legacy = b'{"type":"STATE","state":{"data":{"cursor":7}}}'
    tally.source([record("a"), record("b"), legacy])
    tally.destination([legacy])
    assert committed(tally) == {"a": 1, "b": 1}


def test_what_each_says_of_itself_is_kept_apart() -> None:
    tally = Tally(with_destination=True)
    tally.source([record("a"), state("a", 1, sourceStats={"recordCount": 2.0})])
    tally.destination([state("a", 1, destinationStats={"recordCount": 3.0, "rejectedRecordCount": 4.0})])
    counts = tally.snapshot()[Stream("a")]
    assert (counts.records, counts.committed_records) == (1, 1)
    assert (counts.said_by_source, counts.said_by_destination, counts.rejected) == (2, 3, 4)


def test_without_a_destination_nothing_is_known() -> None:
    tally = Tally()
    tally.source([record("a"), state("a", 1)])
    assert committed(tally) == {"a": None}


def test_lines_that_are_no_messages_are_counted_and_given_back() -> None:
    tally = Tally()
    rest = tally.source(
        [b"text", b"", record("a"), b'{"type":"RECORD"}', b'{"type":"STATE","state":7}', b'{"type":"LOG"}']
    )
    assert [one.index for one in rest] == [0, 3, 4, 5]
    assert tally.malformed == 3


STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["record", "state", "answer"])), max_size=60
)


@given(STEPS)
def test_counts_are_those_of_a_plain_model(steps: list[tuple[str, str]]) -> None:
    """A destination that answers states late, in order, maybe the newest only."""
    tally = Tally(with_destination=True)
    emitted = {"a": 0, "b": 0}
    given_states: dict[str, list[int]] = {"a": [], "b": []}
    confirmed = {"a": 0, "b": 0}
    for number, (stream, step) in enumerate(steps):
        if step == "record":
            tally.source([record(stream, id=number, text="ü")])
            emitted[stream] += 1
        elif step == "state":
            # The cursor is the count, so that states may repeat.
            tally.source([state(stream, emitted[stream])])
            given_states[stream].append(emitted[stream])
        elif given_states[stream]:
            newest = given_states[stream][-1]
            tally.destination([state(stream, newest)])
            confirmed[stream] = newest
            # Equal states are answered one by one.
            given_states[stream] = given_states[stream][given_states[stream].index(newest) + 1 :]
    snapshot = tally.snapshot()
    for name in "ab":
        counts = snapshot.get(Stream(name))
        assert (counts.records if counts else 0) == emitted[name]
        assert (counts.committed_records if counts else 0) == confirmed[name]
    assert tally.unmatched_states == 0
