"""The servers that every other test stands on."""

from __future__ import annotations

import os

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from conftest import Topics

from jobtrail.settings import Settings


def test_a_database_sorts_as_people_do_where_the_machine_can(database: str) -> None:
    with psycopg.connect(database) as connection:
        provider = "SELECT datlocprovider FROM pg_database WHERE datname = current_database()"
        people = connection.execute(provider).fetchone() == ("c",)  # else: see LOCALE in conftest.py
        assert connection.execute("SELECT 'a' < 'B', 'B' < 'a' COLLATE \"C\"").fetchone() == (people, True)
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_a_topic_keeps_its_messages_for_ever_in_broker_time(kafka: str, topics: Topics) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    described = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topics.events)])
    values = {name: entry.value for done in described.values() for name, entry in done.result(10).items()}
    assert values["message.timestamp.type"] == "LogAppendTime"
    assert values["cleanup.policy"] == "delete"
    assert values["retention.ms"] == "-1"
    assert len(admin.list_topics(topics.events, timeout=10).topics[topics.events].partitions) == 4


def test_settings_point_to_servers_that_answer(settings: Settings) -> None:
    assert settings.kafka_bootstrap_servers
    assert settings.database_url
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    producer.produce(settings.events_topic, b"body")
    assert producer.flush(10) == 0
    with psycopg.connect(settings.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_callers_settings_do_not_leak_in() -> None:
    assert not [name for name in os.environ if name.startswith("JOBTRAIL_")]
    assert "DATABASE_URL" not in os.environ
