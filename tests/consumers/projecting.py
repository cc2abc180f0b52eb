"""Publishes to a test's topics, runs projectors over them, and asks what came of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.cimpl import TopicPartition

from jobtrail import codec
from jobtrail.consumers.projector import run_projector
from jobtrail.consumers.status import Status
from jobtrail.events import Event, JobCreated, StreamStats
from jobtrail.settings import Settings

Pair = tuple[bytes | None, bytes | None]


def publish(settings: Settings, pairs: list[Pair], topic: str | None = None) -> None:
    deliver(producers(settings.kafka_bootstrap_servers), topic or settings.events_topic, pairs)


def deliver(producer: Producer, topic: str, pairs: Iterable[Pair], **more: Any) -> None:
    """All of them: a flush is also over where some could not be delivered."""
    errors: list[KafkaError] = []

    def told(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            errors.append(error)

    for key, value in pairs:
        producer.produce(topic, value, key, on_delivery=told, **more)
    assert producer.flush(30) == 0
    assert not errors, errors


@cache
def producers(address: str) -> Producer:
    return Producer({"bootstrap.servers": address, "enable.idempotence": True, "log_level": 2})


def pair(event: Event) -> Pair:
    return event.key, codec.encode(event)


def created(job_id: int) -> JobCreated:
    return JobCreated(job_id=job_id, config_type="sync", config_id="c")


def stats(job_id: int = 7, sequence: int = 1, **fields: Any) -> StreamStats:
    return StreamStats(
        job_id=job_id, attempt_number=0, stream_name="users", reporter="source", sequence=sequence, **fields
    )


def query(settings: Settings, text: str) -> list[tuple[Any, ...]]:
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url) as connection:
        return connection.execute(text.encode()).fetchall()


def consumed(settings: Settings, topic: str, count: int) -> list[Any]:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return list(consumer.consume(count, 10))
    finally:
        consumer.close()


@contextmanager
def running(settings: Settings) -> Iterator[list[Status]]:
    stop, heard, failed = threading.Event(), list[Status](), list[BaseException]()

    def run() -> None:
        try:
            run_projector(settings, stop, heard.append)
        except BaseException as error:  # noqa: BLE001  # handed on below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def wait_for(settings: Settings, condition: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while query(settings, condition) != [(True,)]:
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)
