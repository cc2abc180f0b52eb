"""The events of a job as they happened, from the read models and the log, over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_scenes import at, created, failed_job, made, stats
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from jobtrail import events as e
from jobtrail.api.database import reading
from jobtrail.api.past import QUERIES
from jobtrail.api.serve import bind, serving, url
from jobtrail.consumers.archive_copy import copy_log
from jobtrail.consumers.history import Span, read_job
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]
JOB = 7


def publish(settings: Settings, *events: e.Event) -> None:
    """To Kafka, and through the projector."""
    with Publisher(settings) as publisher:
        publisher.publish_all(events)
    project_until_caught_up(settings)


def asked(http: Any, expect: int = 200, job_id: int = JOB, **options: Any) -> Any:
    answer = http.client.get(f"/v1/jobs/{job_id}/history", params=options)
    assert answer.status_code == expect, answer.text
    return answer.json()


def types(history: Any) -> list[str]:
    return [event["eventType"] for event in history["events"]]


def long_job(job_id: int = JOB) -> list[e.Event]:
    """One attempt with 30 stats of a stream, two heartbeats and a status."""
    about = {"job_id": job_id, "attempt_number": 0}
    return [
        created(job_id),
        made(e.AttemptStarted, 1, **about),
        made(e.StreamStatus, 2, **about, stream_name="users", run_state="RUNNING"),
        *(stats(job_id, 0, "users", 3 + n, records_emitted=n, records_committed=n) for n in range(30)),
        made(e.AttemptHeartbeat, 40, **about),
        made(e.AttemptHeartbeat, 50, **about),
        made(e.AttemptSucceeded, 60, **about),
    ]


def span_of(settings: Settings, job_id: int = JOB) -> Span:
    with reading(settings) as database:
        row = database.execute(QUERIES["span"], {"job_id": job_id}).fetchone()
    assert row is not None
    return Span(**row)


@pytest.fixture
def away(settings: Settings) -> Iterator[httpx.Client]:
    """The server, with a Kafka that does not answer."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        cut = settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{taken.getsockname()[1]}"})
        door = bind(cut.model_copy(update={"api_port": 0}))
        with serving(cut, door), httpx.Client(base_url=url(door), timeout=60) as client:
            yield client


def test_events_are_listed_as_they_happened(http: Any, settings: Settings) -> None:
    """In the order of their times, not of their arrival, with what each said and when the broker took it."""
    publish(settings, *reversed(failed_job(JOB)))
    found = asked(http)
    names = ["JobCreated", "AttemptStarted", "StreamStats", "Failure", "AttemptFailed", "JobFailed"]
    assert (types(found), found["complete"], found["notes"]) == (names, True, [])
    assert (found["jobId"], found["totalEventCount"], "nextOffset" in found) == (JOB, 6, False)
    _, _, counted, failure, _, failed = found["events"]
    assert counted["occurredAt"] == "2026-03-01T12:00:09Z"
    assert counted["receivedAt"] > counted["occurredAt"]
    assert (counted["attemptNumber"], counted["body"]["records_committed"]) == (0, 120)
    assert failure["body"]["failure_origin"] == "source"
    assert "attemptNumber" not in failed


def test_the_jobs_of_others_are_not_in_it(http: Any, settings: Settings) -> None:
    """Ids that begin alike, in every partition."""
    publish(settings, *(event for n in range(JOB, 80) for event in failed_job(n)))
    found = asked(http)
    assert {event["body"]["job_id"] for event in found["events"]} == {JOB}
    assert (found["totalEventCount"], found["complete"]) == (6, True)


def test_heartbeats_are_listed_only_when_asked_for(http: Any, settings: Settings) -> None:
    publish(settings, *long_job())
    assert "AttemptHeartbeat" not in types(asked(http))
    wanted = ["AttemptHeartbeat", "AttemptSucceeded"]
    assert types(asked(http, types=wanted)) == [*(2 * wanted[:1]), wanted[1]]


def test_pages_hold_each_event_once(http: Any, settings: Settings) -> None:
    publish(settings, *long_job())
    whole = asked(http)["events"]
    pages: list[Any] = []
    offset: int | None = 0
    while offset is not None:
        page = asked(http, limit=7, offset=offset)
        assert page["totalEventCount"] == 34
        pages += page["events"]
        offset = page.get("nextOffset")
    assert pages == whole
    assert asked(http, offset=9 * 10**18)["events"] == []


def test_an_event_that_came_twice_happened_once(http: Any, settings: Settings) -> None:
    """Sent again by its publisher: stats and lifecycle alike."""
    publish(settings, *failed_job(JOB)[:4])
    publish(settings, *(failed := failed_job(JOB)))
    publish(settings, *failed)
    assert asked(http, types=["JobFailed", "AttemptFailed"])["totalEventCount"] == 2
    with Publisher(settings) as publisher:
        publisher.publish_all(2 * [stats(JOB, 0, "users", 20, records_emitted=1)])
    project_until_caught_up(settings)
    assert len([name for name in types(asked(http)) if name == "StreamStats"]) == 3


def test_what_came_after_the_last_lifecycle_event_is_read_too(http: Any, settings: Settings) -> None:
    """Of a job that runs, with other jobs' events between."""
    running = long_job()[:-1]
    publish(settings, *running[:10])
    publish(settings, *(event for n in range(100, 140) for event in failed_job(n)))
    publish(settings, *running[10:])
    found = asked(http, types=["StreamStats", "AttemptHeartbeat"])
    assert (found["totalEventCount"], found["complete"]) == (32, True)


def test_as_of_a_moment_comes_with_the_events_until_then(http: Any, settings: Settings) -> None:
    """And equals jobs/get_without_logs where the moment is now."""
    publish(settings, *failed_job(JOB))
    then = asked(http, at="2026-03-01T12:00:10.5Z")
    assert types(then) == ["JobCreated", "AttemptStarted", "StreamStats", "Failure"]
    assert then["asOf"]["job"]["status"] == "incomplete"
    (attempt,) = then["asOf"]["attempts"]
    assert attempt["attempt"]["failureSummary"]["partialSuccess"] is True
    assert attempt["attempt"]["totalStats"]["recordsCommitted"] == 120
    assert then["complete"] is True
    # Another offset from UTC, the same moment; what is listed does not decide what is known.
    shifted = asked(http, at="2026-03-01T14:00:10.5+02:00", types=["JobCreated"])
    assert (shifted["asOf"], types(shifted)) == (then["asOf"], ["JobCreated"])
    live = http.asked("get_without_logs", {"id": JOB})
    assert asked(http, at="2199-01-01T00:00:00Z")["asOf"] == live


def test_what_is_not_there_is_404_with_its_id(http: Any, settings: Settings) -> None:
    """No such job, and no such job yet."""
    publish(settings, *failed_job(JOB))
    assert asked(http, 404, job_id=8) == {"message": "there is no job 8", "id": 8}
    early = asked(http, 404, at="2026-03-01T11:59:59Z")
    assert early["id"] == JOB
    assert early["message"] == "at 2026-03-01T11:59:59+00:00 there was no job 7 yet"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("at", "2026-03-01T12:00:00"),
        ("at", "yesterday"),
        ("types", "WorkspaceRegistered"),
        ("limit", 1001),
        ("offset", -1),
        ("offset", 2**63),
    ],
)
def test_what_does_not_fit_is_422_naming_the_field(http: Any, name: str, value: object) -> None:
    """A moment without an offset from UTC would be another one elsewhere."""
    answer = http.client.get(f"/v1/jobs/{JOB}/history", params={name: value})
    assert answer.status_code == 422
    found = answer.json()
    assert found["validationErrors"][0]["propertyPath"].startswith(name)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_ends_of_time_are_moments_too(http: Any, settings: Settings, moment: str) -> None:
    publish(settings, *failed_job(JOB))
    asked(http, 404 if moment.startswith("0") else 200, at=moment)


def test_without_kafka_the_lifecycle_is_told_and_that_it_is_not_all(
    away: httpx.Client, settings: Settings
) -> None:
    """A question about lifecycle events alone needs no Kafka."""
    publish(settings, *failed_job(JOB))
    found = away.get(f"/v1/jobs/{JOB}/history").json()
    assert types(found) == ["JobCreated", "AttemptStarted", "Failure", "AttemptFailed", "JobFailed"]
    assert found["complete"] is False
    assert "Kafka at 127.0.0.1" in found["notes"][0]
    alone = away.get(f"/v1/jobs/{JOB}/history", params={"types": ["Failure"]}).json()
    assert (types(alone), alone["complete"]) == (["Failure"], True)


def test_a_log_that_no_longer_has_the_events_is_said(
    http: Any, settings: Settings, kafka_admin: AdminClient
) -> None:
    """As retention does: the first offsets are gone."""
    publish(settings, *long_job())
    span = span_of(settings)
    gone = TopicPartition(settings.events_topic, span.log_partition, span.first_offset + 20)
    for done in kafka_admin.delete_records([gone]).values():
        done.result(30)
    found = asked(http)
    assert (found["complete"], types(found)[:2]) == (False, ["JobCreated", "AttemptStarted"])
    assert f"begins at offset {span.first_offset + 20}" in found["notes"][0]
    assert 0 < types(found).count("StreamStats") < 30


def test_what_the_topic_no_longer_has_comes_from_the_archive(
    settings: Settings, kafka_admin: AdminClient, tmp_path: Path
) -> None:
    publish(settings, *long_job())
    archived = settings.model_copy(update={"archive": str(tmp_path / "archive")})
    copy_log(archived, str(archived.archive), [settings.events_topic])
    span = span_of(settings)
    gone = TopicPartition(settings.events_topic, span.log_partition, span.first_offset + 20)
    for done in kafka_admin.delete_records([gone]).values():
        done.result(30)
    lacking, whole = read_job(settings, JOB, span), read_job(archived, JOB, span)
    assert "begins at offset" in (lacking.gap or "")
    assert whole.gap is None
    assert [len(lacking), len(whole)] == [len(long_job()) - 20, len(long_job())]


def test_a_topic_that_lost_its_end_is_said(settings: Settings) -> None:
    publish(settings, *failed_job(JOB))
    span = span_of(settings)
    found = read_job(settings, JOB, Span(span.log_partition, 0, 10**6, span.last_received_at))
    assert (len(found), "ends at offset" in (found.gap or "")) == (0, True)


def test_reading_the_log_is_bounded_in_time_and_messages(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read until then is given, and where it ended."""
    publish(settings, *long_job())
    span = span_of(settings)
    whole = read_job(settings, JOB, span)
    assert (len(whole), whole.gap) == (36, None)
    late = read_job(settings, JOB, span, seconds=0)
    assert (late.gap or "").startswith("0 s were not enough")
    monkeypatch.setattr("jobtrail.consumers.history.CHUNK", 10)
    many = read_job(settings, JOB, span, most=15)
    assert 15 < len(many) <= 25
    assert "more than 15 messages" in (many.gap or "")


def test_stats_from_before_the_first_lifecycle_event_are_not_passed_over_in_silence(
    http: Any, settings: Settings
) -> None:
    """Their producer was faster than the one that made the job: the span does not hold them."""
    publish(settings, stats(JOB, 0, "users", 5, records_emitted=1))
    found = asked(http)
    assert (found["events"], found["complete"]) == ([], False)
    assert "where in the log" in found["notes"][0]
    publish(settings, created(JOB), made(e.AttemptStarted, 1, job_id=JOB, attempt_number=0))
    found = asked(http)
    assert (types(found), found["complete"]) == (["JobCreated", "AttemptStarted"], False)
    assert "1 stats or statuses" in found["notes"][0]


def test_a_message_that_is_no_event_is_noted(http: Any, settings: Settings) -> None:
    """Unknown schemas and broken bodies are passed over, and nothing falls."""
    publish(settings, *failed_job(JOB)[:3])
    span = span_of(settings)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for value in (b"\xc3\x01unknown-", b"{}", None):
        producer.produce(settings.events_topic, value, str(JOB).encode(), partition=span.log_partition)
    assert producer.flush(30) == 0
    publish(settings, *failed_job(JOB)[3:])
    found = asked(http)
    assert (len(found["events"]), found["complete"]) == (6, True)
    assert "3 messages are no events" in found["notes"][0]


def test_a_moment_is_not_moved_by_the_bounds_of_int(http: Any, settings: Settings) -> None:
    """Microseconds decide: an event at the very moment has happened."""
    publish(settings, created(JOB, 0), created(JOB, 0.000001))
    assert at(0.000001).microsecond == 1
    assert asked(http, at="2026-03-01T12:00:00.000000Z")["totalEventCount"] == 1
    assert asked(http, at="2026-03-01T12:00:00.000001Z")["totalEventCount"] == 2
