"""Whoever published a failure: the read models do not have the secrets in it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_scrub import TEXTS, TOLD
from wire import AT, ID, encoded, newest, records

from jobtrail.consumers.decode import Decoder
from jobtrail.consumers.few import read_few
from jobtrail.consumers.gate import read_many
from jobtrail.events import Failure
from jobtrail.producers.scrub import MESSAGE_LIMIT, STACKTRACE_LIMIT
from jobtrail.projections.tables import JOB_EVENTS_TABLE

DECODER = Decoder()


def failure(**texts: str) -> bytes:
    row = {"event_id": ID, "occurred_at": AT, "job_id": 7, "attempt_number": 0, **texts}
    return encoded(newest(Failure), row)


def many(values: list[bytes]) -> list[dict[str, Any]]:
    """By way of columns, in the order of the log."""
    got = read_many(DECODER, records((b"7", value) for value in values))
    assert not got.bad
    return got.frames[Failure].sort("_offset").to_dicts()


def few(values: list[bytes]) -> list[dict[str, Any]]:
    got = read_few(DECODER, records((b"7", value) for value in values))
    assert not got.bad
    return got.few[Failure]


def test_a_secret_that_another_producer_published_is_not_folded() -> None:
    for told, secret in TOLD.items():
        value = failure(
            internal_message=told, external_message=told, stacktrace=told, metadata=json.dumps({"x": told})
        )
        for row in (*many([value]), *few([value])):
            assert secret not in json.dumps(row, ensure_ascii=False)
            assert row["internal_message"].count("***") >= 2


def test_a_name_in_the_metadata_says_that_its_value_is_secret() -> None:
    for metadata in (
        '{"credentials":"hunter2"}',
        '{"\\u0070assword":"hunter2"}',
        '{"a":[{"Token":"hunter2"}]}',
    ):
        for row in (*many([failure(metadata=metadata)]), *few([failure(metadata=metadata)])):
            assert "hunter2" not in row["metadata"]
            assert json.loads(row["metadata"])


def test_texts_are_kept_within_their_limits_with_a_note_of_what_was_cut() -> None:
    value = failure(internal_message="a" * 60_000 + "z", stacktrace="b" * 300_000, external_message="short")
    for row in (*many([value]), *few([value])):
        assert len(row["internal_message"]) == MESSAGE_LIMIT
        assert row["internal_message"].endswith("az")
        assert "10,001 of 60,001 characters" in row["internal_message"]
        assert len(row["stacktrace"]) == STACKTRACE_LIMIT
        assert row["external_message"] == "short"


WITHOUT_NUL = TEXTS.map(lambda text: text.replace("\0", ""))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(WITHOUT_NUL, WITHOUT_NUL, WITHOUT_NUL), min_size=1, max_size=5))
@example([("", "", "\x190ghp_16C7e42F292c6912E7710c838347Ae178B4a")])
def test_both_ways_give_the_same_and_what_is_kept_folds_to_itself(texts: list[tuple[str, str, str]]) -> None:
    """So a rebuild, and the past of a job from its kept events and the log, have one body for an event."""
    values = [
        failure(internal_message=first, stacktrace=second, metadata=json.dumps({third: first}))
        for first, second, third in texts
    ]
    rows = many(values)
    found = few(values)
    assert [{name: row[name] for name in found[0]} for row in rows] == found
    fields = [field["name"] for field in newest(Failure).plain["fields"]]
    again = few([encoded(newest(Failure), {name: row[name] for name in fields}) for row in rows])
    assert again == found
    prepare = JOB_EVENTS_TABLE.prepare
    assert prepare is not None
    assert [prepare.event(Failure, row)["digest"] for row in again] == [
        prepare.event(Failure, row)["digest"] for row in found
    ]
