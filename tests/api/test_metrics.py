"""What a monitor sees of dead letters and lag: at /ready in words, at /metrics in numbers."""

from __future__ import annotations

import time
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from jobtrail import events as e
from jobtrail.api import readiness
from jobtrail.api.serve import bind, serving, url
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]
TOKEN = "a-token-of-sixteen-or-more"


def publish(settings: Settings, count: int = 1) -> None:
    with Publisher(settings) as publisher:
        publisher.publish_all(e.JobFailed(job_id=7) for _ in range(count))


def publish_bad(settings: Settings, count: int) -> None:
    """Messages of no schema, and one without a value."""
    assert settings.kafka_bootstrap_servers
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for value in (*[b"no event"] * count, None):
        producer.produce(settings.events_topic, value, b"7")
    assert producer.flush(30) == 0


def execute(settings: Settings, statement: str) -> None:
    with psycopg.connect(settings.database_url or "") as connection:
        connection.execute(statement.encode())


def scraped(http: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Metric → values of its labels, in the order of their names → value."""
    answer = http.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        family.name: {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for sample in family.samples
        }
        for family in text_string_to_metric_families(answer.text)
    }


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "LOOK_AGAIN", 0.0)


def test_new_dead_letters_degrade_and_keep_the_service_ready(http: Any, settings: Settings) -> None:
    """200 with a warning that names reasons; after an hour they are counted only; resolved ones are not."""
    publish_bad(settings, 2)
    project_until_caught_up(settings)
    answer = http.client.get("/ready")
    found = answer.json()
    assert (answer.status_code, found["ready"], found["reasons"]) == (200, True, [])
    assert (found["degraded"], found["deadLetters"]) == (True, 3)
    (warning,) = found["warnings"]
    assert warning.startswith("dead letters: 1 null_value, 2 unknown_schema in the last hour;")
    execute(settings, "UPDATE jobtrail.dead_letters SET kept_at = now() - interval '61 minutes'")
    found = http.client.get("/ready").json()
    assert (found["ready"], found["degraded"], found["warnings"], found["deadLetters"]) == (
        True,
        False,
        [],
        3,
    )
    execute(
        settings,
        "UPDATE jobtrail.dead_letters SET resolution = 'dropped', resolved_at = now(), resolved_by = 'ada',"
        " kept_at = now()",
    )
    found = http.client.get("/ready").json()
    assert (found["degraded"], found["deadLetters"]) == (False, 0)


def test_a_late_projector_tells_when_it_put_them_aside(http: Any, settings: Settings) -> None:
    """What counts as new is when it became known, not when the message was sent."""
    publish_bad(settings, 1)
    project_until_caught_up(settings)
    with psycopg.connect(settings.database_url or "") as connection:
        (late,) = connection.execute(
            "SELECT min(kept_at - broker_at) FROM jobtrail.dead_letters"
        ).fetchone() or (None,)
        assert late is not None
        assert late.total_seconds() > 0
        connection.execute("UPDATE jobtrail.dead_letters SET broker_at = now() - interval '2 days'")
    assert http.client.get("/ready").json()["degraded"] is True


def test_metrics_tell_of_lag_by_partition_and_letters_by_reason(http: Any, settings: Settings) -> None:
    publish_bad(settings, 2)
    publish(settings, 3)
    project_until_caught_up(settings)
    events, registry, analytics = settings.projected_topics
    before = scraped(http)
    assert before["jobtrail_ready"] == {(): 1}
    assert before["jobtrail_events_behind"] == {(): 0}
    assert before["jobtrail_dead_letters_open"] == {("null_value",): 1, ("unknown_schema",): 2}
    # Labels by name: partition, topic.
    places = {*((str(partition), events) for partition in range(4)), ("0", registry), ("0", analytics)}
    assert before["jobtrail_projector_lag"] == dict.fromkeys(places, 0)
    publish(settings, 5)
    with Publisher(settings) as publisher:
        publisher.publish(e.WorkspaceRegistered(workspace_id="w"))
    after = scraped(http)
    assert after["jobtrail_events_behind"] == {(): 5}
    lag = after["jobtrail_projector_lag"]
    assert lag["0", registry] == 1
    assert sorted(late for (_, topic), late in lag.items() if topic == events) == [0, 0, 0, 5]


def test_what_is_away_is_left_out_and_the_rest_is_told(settings: Settings) -> None:
    """Without Kafka no lag, without Postgres no letters; a scrape is answered all the same."""
    publish_bad(settings, 1)
    project_until_caught_up(settings)
    kafka_away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    both_away = kafka_away.model_copy(update={"database_url": "postgresql://me:secret@127.0.0.1:1/there"})
    for away, letters in (
        (kafka_away, {("null_value",): 1.0, ("unknown_schema",): 1.0}),
        (both_away, dict[tuple[str, ...], float]()),
    ):
        taken = bind(away.model_copy(update={"api_port": 0}))
        with serving(away, taken), httpx.Client(base_url=url(taken), timeout=60) as client:
            found = scraped(type("Http", (), {"client": client}))
        assert found["jobtrail_ready"] == {(): 0}
        assert found["jobtrail_events_behind"] == found["jobtrail_projector_lag"] == {}
        assert found["jobtrail_dead_letters_open"] == letters


def test_metrics_need_a_token_where_there_are_tokens(settings: Settings) -> None:
    """They name topics and faults; a scraper can show one, unlike a probe."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    with serving(settings, taken, [TOKEN]), httpx.Client(base_url=url(taken), timeout=60) as client:
        assert client.get("/metrics").status_code == 401
        shown = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
        described = client.get("/openapi.json").json()["paths"]["/metrics"]["get"]
    assert shown.status_code == 200
    assert "jobtrail_dead_letters_open" in described["responses"]["200"]["content"]["text/plain"]["example"]
    assert "401" in described["responses"]


def test_a_look_is_kept_for_a_second(http: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked, Kafka and Postgres are not."""
    monkeypatch.setattr(readiness, "LOOK_AGAIN", 2.0)
    begun = time.monotonic()
    assert scraped(http)["jobtrail_events_behind"] == {(): 0}
    publish(settings, 2)
    found = scraped(http)["jobtrail_events_behind"]
    assert found == {(): 0} or time.monotonic() - begun > 2
