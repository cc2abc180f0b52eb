"""Rules of what is said over HTTP, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtrail import codec
from jobtrail.api.attempt_events import failure_events, metadata_events, stats_events
from jobtrail.api.attempt_models import FailureSummaryBody, StreamMetadataBody, StreamStatsBody
from jobtrail.api.attempt_numbers import Standing, next_number
from jobtrail.api.decisions import Said
from jobtrail.api.fields import GREATEST
from jobtrail.errors import ConflictError
from jobtrail.events import AttemptFailed, AttemptSucceeded, decision_id

SAID = Said(datetime(2026, 3, 1, 12, tzinfo=UTC), ("http", "AttemptFailed", 7, 0))
#: All that JSON can hold; names are checked before, other text is made fit.
texts = st.none() | st.text(max_size=40)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
instants = st.none() | st.integers(946_684_800_000, 7_258_118_399_999)
failures = st.fixed_dictionaries(
    {
        "timestamp": instants,
        "failureOrigin": texts,
        "failureType": texts | st.sampled_from(["transient", "userError"]),
        "internalMessage": texts,
        "stacktrace": texts,
        "retryable": st.none() | st.booleans(),
        "streamDescriptor": st.none() | st.fixed_dictionaries({"name": st.text(), "namespace": texts}),
        "metadata": st.none() | st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=3),
    }
)
counters = st.none() | st.integers(0, GREATEST)
streams = st.fixed_dictionaries(
    {
        "streamName": names,
        "streamNamespace": st.sampled_from([None, "", "public"]),
        "stats": st.fixed_dictionaries({"recordsEmitted": counters, "estimatedBytes": counters}),
    }
)


@given(st.lists(failures, max_size=5))
def test_any_failure_becomes_an_event_and_the_same_one_when_it_is_said_again(found: list[Any]) -> None:
    """None is later than the end that it explains, each can be published, one id has one body."""
    summary = FailureSummaryBody.model_validate({"failures": found})
    events = failure_events(7, 0, summary, SAID)
    assert failure_events(7, 0, summary, SAID) == events
    assert len(events) == len(found)
    assert len({event.event_id for event in events}) == len({event.model_dump_json() for event in events})
    for event, failure in zip(events, found, strict=True):
        codec.decode(codec.encode(event))
        assert event.occurred_at == SAID.at
        told, now = failure["timestamp"], int(SAID.at.timestamp() * 1000)
        kept = json.loads(event.metadata or "{}")
        if told is not None and told < now:
            assert kept["failedAt"] == told
        else:
            assert kept.get("failedAt") == (failure["metadata"] or {}).get("failedAt")


@given(st.lists(streams, max_size=8))
def test_each_stream_has_one_event_with_what_was_said_of_it_last(found: list[Any]) -> None:
    """No namespace and an empty one are the same stream."""
    events = stats_events(7, 0, [StreamStatsBody.model_validate(one) for one in found], SAID)
    last = {(one["streamNamespace"] or None, one["streamName"]): one["stats"] for one in found}
    assert {(one.stream_namespace, one.stream_name): one.records_emitted for one in events} == {
        key: stats["recordsEmitted"] for key, stats in last.items()
    }
    assert len({one.event_id for one in events}) == len(events) == len(last)
    special = [StreamMetadataBody.model_validate({**one, "wasResumed": True}) for one in found]
    assert len(metadata_events(7, 0, special, SAID)) == len(last)


def test_events_of_one_saying_differ_and_something_new_has_new_ids() -> None:
    """An end and what comes with it are apart; without what was decided no two events are the same."""
    ids = {
        SAID.mark(kind, index)["event_id"] for kind in (AttemptFailed, AttemptSucceeded) for index in (0, 1)
    }
    assert len(ids) == 4
    assert SAID.mark(AttemptFailed) == SAID.mark(AttemptFailed)
    new = Said(SAID.at)
    assert new.mark(AttemptFailed)["event_id"] != new.mark(AttemptFailed)["event_id"]
    assert decision_id("a", 1) == decision_id("a", 1) != decision_id("a", 2)


NUMBERS: list[tuple[Standing, int | str]] = [
    (Standing("pending"), 0),
    (Standing("incomplete", last=0), 1),
    (Standing("incomplete", last=0, reserved=0), 1),
    (Standing("incomplete", last=4, reserved=1), 5),
    (Standing("incomplete", last=1022), 1023),
    (Standing("incomplete", last=1023), "1,024 attempts"),
    (Standing("succeeded", last=0), "over"),
    (Standing("cancelled"), "over"),
    (Standing("failed", reserved=0, lapsed=True), "over"),
    (Standing("running", last=0, running=[0]), "attempt 0 of job 7 runs"),
    (Standing("incomplete", last=2, running=[1]), "attempt 1 of job 7 runs"),
    (Standing("pending", reserved=0), "being started"),
    (Standing("incomplete", last=0, cancel_requested=True), "be cancelled"),
    (Standing("pending", reserved=0, lapsed=True, cancel_requested=True), "be cancelled"),
    (Standing("incomplete", last=0, reserved=1), "attempt 1 of job 7 is being started"),
    # Kept for its caller in vain: the next one's, whether its start became durable or not.
    (Standing("pending", reserved=0, lapsed=True), 0),
    (Standing("running", last=0, running=[0], reserved=0, lapsed=True), 0),
    (Standing("incomplete", last=0, reserved=0, lapsed=True), 1),
    (Standing("running", last=1, running=[1], reserved=0, lapsed=True), "attempt 1 of job 7 runs"),
    (Standing("running", last=1, running=[0, 1], reserved=1, lapsed=True), "attempt 0 of job 7 runs"),
    (Standing("running", last=1, running=[0], reserved=2, lapsed=True), "attempt 0 of job 7 runs"),
]


@pytest.mark.parametrize(("standing", "expected"), NUMBERS)
def test_the_next_number_follows_the_highest_unless_something_is_in_the_way(
    standing: Standing, expected: int | str
) -> None:
    if isinstance(expected, int):
        assert next_number(7, standing) == expected
    else:
        with pytest.raises(ConflictError, match=expected):
            next_number(7, standing)
