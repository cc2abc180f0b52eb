"""A log of a few jobs, and followers that run in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cli_scenes import environment
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, TopicPartition
from projecting import deliver, pair, publish

from jobtrail import events as e
from jobtrail.settings import Settings

E = TypeVar("E", bound=e.Event)
START = datetime(2026, 3, 1, tzinfo=UTC)


def made(event_type: type[E], seconds: float = 0, **fields: Any) -> E:
    return event_type(occurred_at=START + timedelta(seconds=seconds), **fields)


def job(job_id: int, connection_id: str | None = None) -> list[e.Event]:
    """Created, tried, failed."""
    about = {"job_id": job_id, "attempt_number": 0}
    return [
        made(e.JobCreated, 0, job_id=job_id, config_type="sync", config_id="c", connection_id=connection_id),
        made(e.AttemptStarted, 1, **about),
        made(e.Failure, 2, **about, failure_origin="source"),
        made(e.AttemptFailed, 3, **about),
        made(e.JobFailed, 4, job_id=job_id),
    ]


def put(settings: Settings, events: Iterable[e.Event]) -> list[e.Event]:
    """Publishes them, each by its key."""
    given = list(events)
    publish(settings, [pair(event) for event in given])
    return given


def put_at(settings: Settings, partition: int, events: Iterable[e.Event]) -> list[e.Event]:
    """Publishes them to a partition, as a producer does that distributes them in its own way."""
    given = list(events)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 2})
    deliver(producer, settings.events_topic, map(pair, given), partition=partition)
    return given


def add_partitions(settings: Settings, admin: AdminClient, count: int) -> None:
    """Until the broker, which has it from the controller, knows them."""
    topic = settings.events_topic
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(30)
    deadline = time.monotonic() + 30
    while len(admin.list_topics(topic, timeout=10).topics[topic].partitions) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def forget_before(settings: Settings, admin: AdminClient, partition: int, offset: int) -> None:
    """As retention does."""
    for deleted in admin.delete_records([TopicPartition(settings.events_topic, partition, offset)]).values():
        deleted.result(30)


def ids(events: Iterable[e.Event]) -> list[str]:
    return sorted(event.event_id for event in events)


def in_a_process(settings: Settings, program: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python program with the settings of the test, of which Kafka soon notices that it was killed."""
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", program, *arguments],
        env=environment(settings, JOBTRAIL_KAFKA_SESSION_TIMEOUT_MS="6000"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path("/"),
    )
