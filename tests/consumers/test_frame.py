"""`jobtrail.frame`: a range of the log as columns."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from confluent_kafka.admin import AdminClient
from following import add_partitions, forget_before, ids, job, made, put, put_at
from projecting import publish
from samples import one_of_each

import jobtrail
from jobtrail import events as e
from jobtrail.consumers import log_frame
from jobtrail.errors import NotFoundError, UsageError
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings


def test_rows_are_the_events_that_follow_gives(settings: Settings) -> None:
    """With their places, in the order of the log; more than one chunk of them."""
    put(settings, itertools.chain.from_iterable(job(one) for one in range(40)))
    follower = jobtrail.follow(settings=settings, until="end")
    expected = {}
    for event in follower:
        expected[follower.place.partition, follower.place.offset] = event, follower.place
    found = jobtrail.frame(settings=settings)
    assert found.height == len(expected) == 200
    assert found.rows() == found.sort("partition", "offset").rows()
    for row in found.iter_rows(named=True):
        event, place = expected[row["partition"], row["offset"]]
        facts = event.model_dump()
        assert row["event_type"] == type(event).__name__
        assert {name: row[name] for name in facts} == facts
        assert (row["topic"], row["received_at"]) == (place.topic, place.received_at)


def test_every_type_has_a_frame_with_all_its_fields(settings: Settings) -> None:
    with Publisher(settings) as publisher:
        publisher.publish_all(given := one_of_each())
    for event in given:
        (row,) = jobtrail.frame(type(event), settings=settings).iter_rows(named=True)
        assert {name: row[name] for name in type(event).model_fields} == event.model_dump()
    every = jobtrail.frame(e.EVENT_TYPES, settings=settings)
    assert every.height == len(given)
    assert {*itertools.chain.from_iterable(one.model_fields for one in e.EVENT_TYPES)} < {*every.columns}


def test_columns_depend_on_the_types_alone(settings: Settings) -> None:
    empty = jobtrail.frame(["Failure", "JobFailed"], settings=settings)
    put(settings, job(1))
    full = jobtrail.frame(["Failure", "JobFailed"], settings=settings)
    assert (empty.height, full.height) == (0, 2)
    assert empty.schema == full.schema
    assert full.schema["occurred_at"] == full.schema["received_at"] == pl.Datetime("us", "UTC")
    assert full.columns[:3] == ["event_type", "event_id", "occurred_at"]
    assert full.columns[-4:] == ["topic", "partition", "offset", "received_at"]


def test_a_range_begins_at_since_and_ends_before_until(settings: Settings) -> None:
    put(settings, job(1))
    time.sleep(0.05)
    since = datetime.now(UTC)
    time.sleep(0.05)
    put(settings, job(2))
    time.sleep(0.05)
    until = datetime.now(UTC)
    time.sleep(0.05)
    put(settings, job(3))

    def jobs(**range_: Any) -> list[int]:
        return jobtrail.frame(settings=settings, **range_)["job_id"].unique().sort().to_list()

    assert jobs() == [1, 2, 3]
    assert jobs(since=since) == [2, 3]
    assert jobs(until=until) == [1, 2]
    assert jobs(since=since, until=until) == [2]
    assert jobs(since=since, until=since) == []
    assert jobs(until=until + timedelta(hours=1)) == [1, 2, 3]
    first = jobtrail.frame("JobFailed", settings=settings)["received_at"].sort()[0]
    assert jobs(since=first)[0] == 1  # it is the first instant of the range


def test_a_job_and_a_connection_choose(settings: Settings, kafka_admin: AdminClient) -> None:
    """By the job's creation, wherever it stands; also where partitions were added since."""
    put(settings, [*job(1, "a"), *job(2, "b"), *job(3)])
    time.sleep(0.05)
    middle = datetime.now(UTC)
    time.sleep(0.05)
    add_partitions(settings, kafka_admin, 5)
    put_at(settings, 4, [made(e.JobFailed, 9, job_id=1), made(e.JobFailed, 9, job_id=2)])
    assert jobtrail.frame(job_id=2, settings=settings).height == 6
    ours = jobtrail.frame(connection_id="a", settings=settings)
    assert (ours.height, ours["job_id"].unique().to_list()) == (6, [1])
    late = jobtrail.frame("JobFailed", connection_id="a", since=middle, settings=settings)
    assert late["job_id"].to_list() == [1]
    follower = jobtrail.follow(connection_id="a", start=middle, until="end", settings=settings)
    assert ids(follower) == late["event_id"].to_list()


def test_what_is_no_event_is_left_out_and_said(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    publish(settings, [(b"1", b"garbage"), (b"1", None)])
    put(settings, job(1))
    with caplog.at_level(logging.WARNING):
        assert jobtrail.frame(settings=settings).height == 5
    assert "2 messages of the range are no events; they are left out" in caplog.messages


def test_what_retention_took_is_not_in_the_log(settings: Settings, kafka_admin: AdminClient) -> None:
    put_at(settings, 0, job(1))
    forget_before(settings, kafka_admin, 0, 3)
    assert jobtrail.frame(settings=settings)["offset"].to_list() == [3, 4]


def test_more_than_fits_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_frame, "MOST", 4)
    put(settings, job(1))
    with pytest.raises(UsageError, match="more than 4 events in that range; name fewer types"):
        jobtrail.frame(settings=settings)
    assert jobtrail.frame("JobFailed", settings=settings).height == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"types": "StreamStat"}, "did you mean 'StreamStats'"),
        ({"since": datetime(2026, 3, 1)}, "since: 2026-03-01T00:00:00 has no offset from UTC"),  # noqa: DTZ001
        ({"until": "2026-03-01"}, "until: '2026-03-01' is no datetime"),
        (
            {"since": datetime(2026, 3, 2, tzinfo=UTC), "until": datetime(2026, 3, 1, tzinfo=UTC)},
            "until: 2026-03-01T.* is before since",
        ),
    ],
)
def test_each_wrong_call_is_refused(settings: Settings, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        jobtrail.frame(settings=settings, **how)


def test_an_unknown_topic_is_named(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="has no topic nowhere"):
        jobtrail.frame(settings=settings.model_copy(update={"events_topic": "nowhere"}))


@pytest.mark.parametrize("missing", ["polars", "pyruhvro"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import jobtrail\n"
        "try:\n    jobtrail.frame()\n"
        "except jobtrail.JobtrailError as error:\n    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == (
        f"jobtrail.frame needs {missing}, which is not installed: pip install 'jobtrail[analytics]'\n"
    )
