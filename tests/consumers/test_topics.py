"""Topics are made as the log needs them, and one that would lose or misdate events is refused."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but its types do not say so
    AdminClient,
    ConfigResource,
    ConfigSource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from jobtrail.consumers.topics import TOPIC_CONFIG, TopicAdmin
from jobtrail.errors import LogError, NotFoundError, ServerAwayError
from jobtrail.settings import Settings


@pytest.fixture
def fresh(kafka: str) -> Settings:
    """Settings whose topics do not exist yet."""
    mark = uuid.uuid4().hex[:12]
    return Settings(
        kafka_bootstrap_servers=kafka,
        partitions=3,
        events_topic=f"events-{mark}",
        registry_topic=f"registry-{mark}",
        dead_letters_topic=f"dead-letters-{mark}",
        analytics_topic=f"analytics-{mark}",
    )


def test_missing_topics_are_made_and_keep_their_ids(fresh: Settings, kafka_admin: AdminClient) -> None:
    ids = TopicAdmin(fresh).ensure()
    assert list(ids) == [fresh.events_topic, fresh.registry_topic, fresh.analytics_topic]
    assert len(set(ids.values())) == 3
    assert TopicAdmin(fresh).ensure() == ids
    made = kafka_admin.list_topics(timeout=10).topics
    sizes = [
        len(made[topic].partitions)
        for topic in (fresh.events_topic, fresh.registry_topic, fresh.dead_letters_topic)
    ]
    assert sizes == [3, 1, 1]


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("cleanup.policy", "compact", "cleanup.policy=delete"),
        ("cleanup.policy", "compact,delete", "cleanup.policy=delete"),
        ("message.timestamp.type", "CreateTime", "message.timestamp.type=LogAppendTime"),
    ],
)
def test_a_topic_that_would_lose_or_misdate_events_is_refused(
    fresh: Settings, kafka_admin: AdminClient, setting: str, value: str, remedy: str
) -> None:
    config = {**TOPIC_CONFIG, setting: value}
    made = kafka_admin.create_topics([NewTopic(fresh.events_topic, 1, 1, config=config)])
    made[fresh.events_topic].result(30)
    with pytest.raises(LogError) as raised:
        TopicAdmin(fresh).ensure()
    assert fresh.events_topic in str(raised.value)
    assert remedy in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("retention.ms", "keeps events for 86400000 ms only: rebuilds need"),
        ("retention.bytes", "keeps 86400000 bytes of events in each partition only: rebuilds need"),
    ],
)
def test_short_retention_is_allowed_and_said(
    fresh: Settings,
    kafka_admin: AdminClient,
    caplog: pytest.LogCaptureFixture,
    setting: str,
    said: str,
) -> None:
    config = {**TOPIC_CONFIG, setting: "86400000"}
    made = kafka_admin.create_topics([NewTopic(fresh.events_topic, 1, 1, config=config)])
    made[fresh.events_topic].result(30)
    TopicAdmin(fresh).ensure()
    assert f"topic {fresh.events_topic} {said}" in caplog.text
    assert caplog.text.count("rebuilds need") == 1


def test_what_is_kept_for_ever_is_not_left_to_the_broker(fresh: Settings, kafka_admin: AdminClient) -> None:
    TopicAdmin(fresh).ensure()
    made = {fresh.events_topic, fresh.registry_topic, fresh.dead_letters_topic, fresh.alerts_topic}
    until = time.monotonic() + 30
    while not made <= kafka_admin.list_topics(timeout=30).topics.keys():  # the broker learns of them later
        assert time.monotonic() < until
    for topic in made:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        config = kafka_admin.describe_configs([resource])[resource].result(30)
        own = {
            name: entry.value
            for name, entry in config.items()
            if ConfigSource(entry.source) is ConfigSource.DYNAMIC_TOPIC_CONFIG
        }
        assert own.items() >= TOPIC_CONFIG.items()
        assert own["retention.ms"] == own["retention.bytes"] == "-1"


def test_the_id_of_a_topic_that_is_not_there(fresh: Settings) -> None:
    with pytest.raises(NotFoundError, match=fresh.events_topic):
        TopicAdmin(fresh).ids([fresh.events_topic])


def test_a_broker_that_is_away_is_named_with_its_setting(
    fresh: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobtrail.consumers.topics.ANSWER_TIMEOUT", 1.0)
    away = fresh.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(ServerAwayError, match=r"127\.0\.0\.1:1 .* JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS"):
        TopicAdmin(away).ensure()
