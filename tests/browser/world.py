"""A day of a small company's syncs, to be looked at: the same jobs each time, told back from an instant.

Its events lie in the log under the broker's times that they would have got: nothing shows that they were
written at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from web_scenes import ALERT, ATTACK

from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers.schedules import SCHEDULES, connected, run_now
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.fields import field_kind, record_type
from jobtrail.settings import Settings

WORKSPACE: Final = "northwind"
WORKERS: Final = ("replication-7f9c4", "replication-b2d81", "replication-c05ae")
#: Jobs that have a picture of their own.
FAILED: Final = 48_216
RUNNING: Final = 48_219
FIRST: Final = 48_200
#: The first of the jobs of `hostile`.
ATTACKED: Final = 66_600

#: Connection → source, destination, streams with records and bytes of each of a run.
CONNECTIONS: Final = {
    "orders": (
        "source-shopify",
        "destination-snowflake",
        {"orders": (12_480, 610), "order_items": (38_215, 240), "refunds": (311, 420)},
    ),
    "billing": (
        "source-postgres",
        "destination-bigquery",
        {"invoices": (61_400, 380), "payments": (54_020, 290), "customers": (8_810, 510)},
    ),
    "support-tickets": (
        "source-zendesk",
        "destination-snowflake",
        {"tickets": (2_140, 1_900), "comments": (9_730, 830)},
    ),
    "web-events": ("source-s3", "destination-databricks", {"page_views": (1_204_000, 310)}),
}
EXPIRED: Final = (
    'The password of the user "sync_reader" has expired. Set a new one in the settings of the source.'
)
FAILING: Final = {
    "rule": "billing-must-run",
    "subject": "billing",
    "connection": "billing",
    "detail": "1 of the last 4 runs failed: 25 %, more than 20 %",
}
TRACE: Final = """\
Traceback (most recent call last):
  File "/airbyte/integration_code/source_postgres/source.py", line 118, in read
    yield from self.cursor.read(stream, state)
  File "/airbyte/integration_code/source_postgres/cursor.py", line 64, in read
    connection.execute(self.query, self.bounds(state))
psycopg.errors.InvalidPassword: password authentication failed for user "sync_reader"
"""


@dataclass
class Run:
    """One job; times are given in seconds since it began."""

    job_id: int
    connection: str
    began: datetime
    #: Of the records of a usual run.
    share: float = 1.0
    number: int = 0

    def at(self, seconds: float) -> datetime:
        return self.began + timedelta(seconds=seconds)

    def created(self) -> Iterator[e.Event]:
        yield e.JobCreated(
            job_id=self.job_id,
            occurred_at=self.at(0),
            config_type=e.ConfigType.SYNC,
            config_id=self.connection,
            connection_id=self.connection,
            workspace_id=WORKSPACE,
            streams=[
                e.ConfiguredStream(name=name, namespace="public", sync_mode="incremental")
                for name in self.streams
            ],
        )

    @property
    def streams(self) -> dict[str, tuple[int, int]]:
        return CONNECTIONS[self.connection][2]

    def started(self, seconds: float = 4) -> e.Event:
        source, destination, _ = CONNECTIONS[self.connection]
        return e.AttemptStarted(
            job_id=self.job_id,
            attempt_number=self.number,
            occurred_at=self.at(seconds),
            worker=WORKERS[self.job_id % len(WORKERS)],
            dataplane="eu-central",
            source_image=f"airbyte/{source}",
            source_version="3.6.22",
            destination_image=f"airbyte/{destination}",
            destination_version="2.1.4",
        )

    def moved(
        self, seconds: float, name: str, shares: tuple[float, float], state: str, cause: str | None = None
    ) -> Iterator[e.Event]:
        """What a stream came to, emitted and committed, in shares of what it has."""
        records, size = self.streams[name]
        whole = int(records * self.share)
        about: dict[str, Any] = {
            "job_id": self.job_id,
            "attempt_number": self.number,
            "occurred_at": self.at(seconds),
            "stream_namespace": "public",
            "stream_name": name,
        }
        given, kept = int(whole * shares[0]), int(whole * shares[1])
        yield e.StreamStats(
            **about,
            reporter=e.Reporter.PLATFORM,
            sequence=int(self.at(seconds).timestamp() * 1e6),
            records_emitted=given,
            bytes_emitted=given * size,
            records_committed=kept,
            bytes_committed=kept * size,
            estimated_records=records if self.share == 1 else int(whole * 1.04),
        )
        yield e.StreamStatus(**about, run_state=state, incomplete_run_cause=cause)

    def failed(self, seconds: float, **why: Any) -> Iterator[e.Event]:
        """The attempt, for that reason."""
        about: dict[str, Any] = {
            "job_id": self.job_id,
            "attempt_number": self.number,
            "occurred_at": self.at(seconds),
        }
        yield e.Failure(**about, **why)
        yield e.AttemptFailed(**about)

    def whole(self, seconds: float) -> Iterator[e.Event]:
        """A run that goes well."""
        yield from self.created()
        yield self.started()
        for name in self.streams:
            yield from self.moved(seconds - 2, name, (1, 1), "COMPLETE")
        yield e.AttemptSucceeded(job_id=self.job_id, attempt_number=0, occurred_at=self.at(seconds))


def story(now: datetime) -> Iterator[e.Event]:
    """All that happened up to the instant."""

    def run(job_id: int, connection: str, hours: float, share: float = 1.0) -> Run:
        return Run(job_id, connection, now - timedelta(hours=hours), share)

    for beat in range(8):
        for plane, version, silent in (("eu-central", "1.8.2", 5), ("us-east", "1.8.1", 150)):
            heard = now - timedelta(seconds=silent + 30 * beat)
            yield e.DataplaneHeartbeat(dataplane_id=plane, dataplane_version=version, occurred_at=heard)

    # Orders run every four hours, and grow; one run was cancelled, one failed.
    grown = (0.71, 0.64, 0.78, 0.83, 0.8, 0.92, 0.0, 0.88, 0.97, 1.05, 1.12)
    for number, share in enumerate(grown):
        one = run(FIRST + number, "orders", 43.5 - 4 * number, share or 0.9)
        if number == 3:
            yield from cancelled(one)
        elif not share:
            yield from timed_out(one)
        else:
            yield from one.whole(212 * share + 31 * (number % 3))
    yield from run(48_211, "billing", 20.2, 0.97).whole(845)
    yield from run(48_212, "billing", 14.2, 0.99).whole(871)
    yield from run(48_213, "support-tickets", 6.1).whole(96)
    yield from run(48_214, "web-events", 5.3, 0.94).whole(1_930)
    yield from run(48_215, "billing", 8.2).whole(902)
    yield from expired(run(FAILED, "billing", 2.2))
    yield from run(48_217, "support-tickets", 0.9, 1.06).whole(104)
    yield from incomplete(run(48_218, "web-events", 0.2, 1.02))
    yield from under_way(run(RUNNING, "orders", 0.055, 1.15))
    yield from run(48_220, "support-tickets", 0.01).created()


def cancelled(one: Run) -> Iterator[e.Event]:
    """By somebody, half-way."""
    yield from one.created()
    yield one.started()
    yield from one.moved(100, "orders", (1, 0.55), "INCOMPLETE", "CANCELED")
    yield e.CancelRequested(job_id=one.job_id, occurred_at=one.at(110), requested_by="Maria Lindqvist")
    yield e.Cancelled(job_id=one.job_id, occurred_at=one.at(118), cancelled_by="Maria Lindqvist")


def timed_out(one: Run) -> Iterator[e.Event]:
    """The destination did not answer, twice."""
    yield from one.created()
    for number, began in enumerate((4, 170)):
        one.number = number
        yield one.started(began)
        yield from one.moved(began + 10, "orders", (0.4, 0.0), "INCOMPLETE", "FAILED")
        yield from one.failed(
            began + 124,
            failure_origin=e.FailureOrigin.DESTINATION,
            failure_type=e.FailureType.TRANSIENT_ERROR,
            external_message="The warehouse LOADING_WH is suspended and did not resume within 120 seconds.",
            retryable=True,
        )
    yield e.JobFailed(job_id=one.job_id, occurred_at=one.at(295))


def expired(one: Run) -> Iterator[e.Event]:
    """Some records came through; then, after a retry, the source's password had expired."""
    yield from one.created()
    yield one.started()
    yield from one.moved(210, "invoices", (0.68, 0.52), "INCOMPLETE", "FAILED")
    yield from one.moved(190, "customers", (1, 1), "COMPLETE")
    yield from one.failed(
        240,
        failure_origin=e.FailureOrigin.SOURCE,
        failure_type=e.FailureType.TRANSIENT_ERROR,
        external_message="The database closed the connection while invoices were read.",
        internal_message="psycopg.OperationalError: SSL connection has been closed unexpectedly",
        retryable=True,
    )
    one.number = 1
    yield one.started(300)
    yield from one.moved(520, "invoices", (0.91, 0.84), "INCOMPLETE", "FAILED")
    yield from one.moved(430, "payments", (0.37, 0.30), "INCOMPLETE", "FAILED")
    yield from one.moved(400, "customers", (1, 1), "COMPLETE")
    yield from one.failed(
        541,
        failure_origin=e.FailureOrigin.SOURCE,
        failure_type=e.FailureType.CONFIG_ERROR,
        external_message=EXPIRED,
        internal_message='FATAL: password authentication failed for user "sync_reader" (28P01)',
        stacktrace=TRACE,
        retryable=False,
        from_trace_message=True,
    )
    yield e.JobFailed(job_id=one.job_id, occurred_at=one.at(543))


def incomplete(one: Run) -> Iterator[e.Event]:
    """Waits for its next attempt."""
    yield from one.created()
    yield one.started()
    yield from one.moved(300, "page_views", (0.34, 0.31), "INCOMPLETE", "FAILED")
    yield from one.failed(
        330,
        failure_origin=e.FailureOrigin.SOURCE,
        failure_type=e.FailureType.TRANSIENT_ERROR,
        external_message="The bucket asked to slow down (503).",
        retryable=True,
    )


def under_way(one: Run) -> Iterator[e.Event]:
    """Runs at this moment."""
    yield from one.created()
    yield one.started()
    yield from one.moved(120, "orders", (1, 1), "COMPLETE")
    yield from one.moved(180, "order_items", (0.62, 0.55), "RUNNING")


def marked(place: str) -> str:
    """The attack, with the field that it stands in."""
    return f"{place}!{ATTACK}"


def hostile(spell: Callable[[str], str], now: datetime) -> Iterator[e.Event]:
    """Three jobs, failed, cancelled, running, with what `spell` makes of its place in each field for text."""
    for job_id in (ATTACKED, ATTACKED + 1, ATTACKED + 2):
        yield _filled(e.JobCreated, spell, job_id=job_id, occurred_at=now, scope_type=None)
        yield _filled(e.AttemptStarted, spell, job_id=job_id, attempt_number=0, occurred_at=now)
        about: dict[str, Any] = {"job_id": job_id, "attempt_number": 0, "occurred_at": now}
        stats = {"reporter": e.Reporter.PLATFORM, "sequence": 1, "records_emitted": 7, "records_committed": 3}
        yield _filled(e.StreamStats, spell, **about, **stats)
        same = {name: spell(f"StreamStats.{name}") for name in ("stream_namespace", "stream_name")}
        yield _filled(e.StreamStatus, spell, **about, **same, run_state=e.RunState.INCOMPLETE)
    yield _filled(e.Failure, spell, job_id=ATTACKED, attempt_number=0, occurred_at=now, stream_name=None)
    yield e.AttemptFailed(job_id=ATTACKED, attempt_number=0, occurred_at=now)
    yield e.JobFailed(job_id=ATTACKED, occurred_at=now)
    yield _filled(e.CancelRequested, spell, job_id=ATTACKED + 1, occurred_at=now)
    yield _filled(e.Cancelled, spell, job_id=ATTACKED + 1, occurred_at=now)
    yield _filled(e.CancelRequested, spell, job_id=ATTACKED + 2, occurred_at=now)
    yield _filled(e.DataplaneHeartbeat, spell, occurred_at=now)


def _filled(event_type: type[e.Event], spell: Callable[[str], str], **known: Any) -> e.Event:
    values = dict(known)
    for name, field in event_type.model_fields.items():
        place, kind = f"{event_type.__name__}.{name}", field_kind(field)
        if name in values:
            continue
        if item := record_type(field):
            values[name] = [item(**{part: spell(f"{place}.{part}") for part in item.model_fields})]
        elif kind is not None and kind.name in {"name", "text"}:
            values[name] = spell(place)
        elif kind is not None and kind.name == "json_object":
            values[name] = json.dumps({"found": spell(place)})
    return event_type(**values)


def told(settings: Settings, events: Iterable[e.Event], now: datetime) -> None:
    """Writes the events into their topics, and a message that is none; an alert; and runs the schedules."""
    TopicAdmin(settings).ensure()
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers or ""})
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers or ""})
    topics = (settings.events_topic, settings.registry_topic)
    _dated_by(admin, topics, "CreateTime")
    for event in sorted(events, key=lambda one: one.occurred_at):
        topic = settings.registry_topic if isinstance(event, e.DataplaneHeartbeat) else settings.events_topic
        at = int(event.occurred_at.timestamp() * 1000)
        producer.produce(topic, codec.encode(event), event.key, timestamp=at)
    at = int((now - timedelta(hours=3)).timestamp() * 1000)
    producer.produce(settings.events_topic, b'{"job": 48209, "state": "done"}', b"48209", timestamp=at)
    assert producer.flush(60) == 0, "the broker did not take the story within a minute"
    _dated_by(admin, topics, "LogAppendTime")
    with connected(settings) as connection:
        connection.execute(ALERT, {**FAILING, "hours": 2, "resolved": None, "resolution": None})
        for schedule in SCHEDULES:
            run_now(connection, settings, schedule, dry_run=False)


def _dated_by(admin: AdminClient, topics: tuple[str, ...], by: str) -> None:
    """Says whose clock dates what is written from now on; returns when the broker obeys."""
    name = "message.timestamp.type"
    wanted = [
        ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[ConfigEntry(name, by, incremental_operation=AlterConfigOpType.SET)],
        )
        for topic in topics
    ]
    for done in admin.incremental_alter_configs(wanted).values():
        done.result(30)
    deadline = time.monotonic() + 30
    for topic in topics:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        while admin.describe_configs([resource])[resource].result(30)[name].value != by:
            assert time.monotonic() < deadline, f"{topic} is not dated by {by} after 30 s"
            time.sleep(0.05)
