"""A topic that is deleted and made again under the same name."""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from jobtrail.consumers.topics import TOPIC_CONFIG, TopicAdmin
from jobtrail.settings import Settings


def id_of(settings: Settings) -> str:
    return TopicAdmin(settings).ids([settings.events_topic])[settings.events_topic]


def make_anew(settings: Settings, admin: AdminClient) -> tuple[str, str]:
    """Deletes the topic and makes it again; returns both ids."""
    topic, old = settings.events_topic, id_of(settings)
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 30
    while True:
        try:
            admin.create_topics([NewTopic(topic, 4, 1, config=dict(TOPIC_CONFIG))])[topic].result(30)
            break
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    while topic not in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return old, id_of(settings)
