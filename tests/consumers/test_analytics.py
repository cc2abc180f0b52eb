"""`jobtrail analytics` on a real Kafka: windows equal those of polars, whoever is killed meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

import psycopg
import pytest
from anew import make_anew
from cli_service import Door, Process, started
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from projecting import pair, publish
from psycopg import sql
from window_scenes import ABOUT, COUNTS, Found, by_polars, delivered, log_of, said

from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers.aiokafka_client import SESSION_TIMEOUT, client_settings
from jobtrail.consumers.analytics import run_analytics
from jobtrail.consumers.analytics_offsets import GroupOffsets
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.errors import LogError, ServerAwayError, SettingError
from jobtrail.settings import Settings

#: Seconds for a worker to start, to be missed by its group, and to work.
PATIENCE = 90.0
#: The shortest session that a broker allows by default.
SESSION = "6000"


def await_(what: str, done: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < until, f"not within {PATIENCE} s: {what}"
        time.sleep(0.2)
    return found


class Results:
    """What was published so far."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "looking", "log_level": 2}
        )
        self._consumer.assign([TopicPartition(settings.analytics_topic, 0, 0)])
        self.all: list[e.WindowComputed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self) -> list[e.WindowComputed]:
        """All, until none comes for a moment."""
        while self.more(0.3):
            pass
        return self.all

    def more(self, seconds: float = 0.05) -> bool:
        """Whether any is new."""
        messages = self._consumer.consume(10_000, seconds)
        for message in messages:
            event = codec.decode(message.value())
            assert isinstance(event, e.WindowComputed)
            assert message.key() == event.window_id.encode()
            self.all.append(event)
        return bool(messages)


def await_windows(results: Results, expected: Found, *workers: Process) -> None:
    until = time.monotonic() + PATIENCE
    while (found := said(results.read())) != expected:
        names = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
        wrong = [(name, found.get(name), expected.get(name)) for name in list(names)[:3]]
        lines = [worker.lines[-5:] for worker in workers]
        assert time.monotonic() < until, f"{len(names)} of {len(expected)} differ: {wrong}; {lines}"
        time.sleep(0.2)


def committed(settings: Settings) -> dict[int, int]:
    """Partition → offset that the workers committed."""
    return GroupOffsets(settings).committed()


def ends(settings: Settings) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "looking"})
    try:
        return {
            number: consumer.get_watermark_offsets(TopicPartition(settings.events_topic, number), 10)[1]
            for number in range(settings.partitions)
        }
    finally:
        consumer.close()


def in_postgres(settings: Settings) -> Found:
    """The view jobtrail.windows."""
    assert settings.database_url is not None
    names = ["measure", "window_type", "starts_at", "ends_at", *ABOUT, *COUNTS]
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("SET timezone = 'UTC'")
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        rows = connection.execute(sql.SQL("SELECT {} FROM jobtrail.windows").format(columns)).fetchall()
    what = len(names) - len(COUNTS)
    return {
        row[:what]: {
            name: int(value) for name, value in zip(COUNTS, row[what:], strict=True) if value is not None
        }
        for row in rows
    }


def test_windows_equal_those_of_polars_though_workers_are_killed(
    settings: Settings, kafka_admin: AdminClient
) -> None:
    """Late, repeated and shuffled events; kill -9 in the middle; then two workers share the partitions."""
    settings = settings.model_copy(update={"analytics_interval": 0.5})
    log = log_of(11, 40, datetime.now(UTC))
    sent = delivered(11, log)
    expected = by_polars(log)
    third = len(sent) // 3
    more = {"JOBTRAIL_KAFKA_SESSION_TIMEOUT_MS": SESSION, "JOBTRAIL_ANALYTICS_INTERVAL": "0.5"}
    with Results(settings) as results:
        publish(settings, [pair(event) for event in sent[:third]])
        publish(settings, [(b"1", b"nonsense"), (b"2", None)])
        with started(settings, "analytics", **more) as first:
            first.await_line("windows over")
            # What was committed is not read again: the next worker has it from the changelog.
            await_("committed", lambda: committed(settings) == ends(settings))
            results.read()
            publish(settings, [pair(event) for event in sent[third : 2 * third]])
            await_("said more", results.more)  # and there is more to say: a batch is of one partition
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(PATIENCE)
            assert first.await_line("are no events and count nowhere")
        assert said(results.read()) != expected
        with started(settings, "analytics", **more) as one, started(settings, "analytics", **more) as two:
            await_("two members with partitions", lambda: _shared(settings, kafka_admin))
            publish(settings, [pair(event) for event in sent[2 * third :]])
            await_windows(results, expected, one, two)
            assert (one.end(), two.end()) == (0, 0)
        assert said(results.read()) == expected
    project_until_caught_up(settings)
    assert in_postgres(settings) == expected


def _shared(settings: Settings, admin: AdminClient) -> bool:
    group = settings.analytics_group
    members = admin.describe_consumer_groups([group])[group].result(10).members
    return len([member for member in members if member.assignment.topic_partitions]) == 2


def test_rates_in_sql_are_those_of_the_windows(settings: Settings) -> None:
    """Partials of two partitions add up; cancelled attempts count neither as success nor as failure."""
    window: dict[str, Any] = {
        "measure": "connectors",
        "window_type": "tumbling",
        "window_start": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "window_end": datetime(2026, 3, 1, 12, 5, tzinfo=UTC),
        "connector_role": "source",
        "connector": "source-faker",
    }

    def part(number: int, sequence: int, *counts: int) -> e.WindowComputed:
        names = ("attempts_succeeded", "attempts_failed", "attempts_cancelled")
        counted: dict[str, Any] = dict(zip(names, counts, strict=True))
        return e.WindowComputed(
            window_id=f"w-{number}", log_partition=number, sequence=sequence, **counted, **window
        )

    failures = e.WindowComputed(
        window_id="f",
        log_partition=0,
        sequence=3,
        attempts_failed=1,
        failure_origin="source",
        **{**window, "measure": "failures"},
    )
    publish(
        settings,
        [pair(event) for event in (part(0, 3, 2, 1, 7), part(0, 2, 9, 9, 9), part(1, 1, 1, 0, 0), failures)],
        settings.analytics_topic,
    )
    project_until_caught_up(settings)
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url) as connection:
        whole = connection.execute(
            "SELECT attempts_succeeded, attempts_failed, attempts_cancelled, failure_rate"
            " FROM jobtrail.windows WHERE measure = 'connectors'"
        ).fetchall()
        rates = connection.execute(
            "SELECT failure_origin, failure_type, attempts_failed, attempts_ended, failure_rate"
            " FROM jobtrail.failure_rates"
        ).fetchall()
    assert whole == [(3, 1, 7, 0.25)]
    assert rates == [("source", None, 1, 4, 0.25)]


def test_a_worker_waits_for_kafka_and_says_so_once(settings: Settings) -> None:
    host, _, port = str(settings.kafka_bootstrap_servers).rpartition(":")
    door = Door((host, int(port)))
    behind = settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{door.port}"})
    try:
        with started(behind, "analytics") as worker:
            worker.await_line("Kafka at 127.0.0.1")
            door.open()
            worker.await_line("Kafka answers again")
            assert worker.end() == 0
        assert [line for line in worker.lines if "does not answer" in line] == [worker.lines[1]]
    finally:
        door.close()


def test_a_changelog_has_as_many_partitions_as_the_log(settings: Settings, kafka_admin: AdminClient) -> None:
    admin = TopicAdmin(settings)
    found = admin.ensure_changelog("facts", "x+/")
    assert found == (
        "facts-x-_",
        f"{settings.analytics_group}-facts-x-_-changelog",
        settings.partitions,
    )
    assert admin.ensure_changelog("facts", "x+/") == found
    other = f"{settings.analytics_group}-other-x-changelog"
    kafka_admin.create_topics([NewTopic(other, 3, 1)])[other].result(30)
    with pytest.raises(LogError, match=r"3 partitions and events-.* has 4.*JOBTRAIL_ANALYTICS_GROUP=.*-2"):
        admin.ensure_changelog("other", "x")


def created(count: int) -> list[e.JobEvent]:
    return [
        e.JobCreated(job_id=job_id, occurred_at=datetime.now(UTC), config_type="sync", config_id="c")
        for job_id in range(count)
    ]


def work_to_the_end(settings: Settings, **more: str) -> None:
    """A worker that commits all there is, and is told to stop."""
    offsets = GroupOffsets(settings)

    def done() -> bool:
        known = {part: end for part, end in ends(settings).items() if end > 0}
        try:
            return offsets.committed() == known
        except ServerAwayError:  # the group's coordinator is not there yet
            return False

    with started(settings, "analytics", **more) as worker:
        await_("committed", done)
        assert worker.end() == 0


def test_a_gap_between_commits_and_log_is_a_loud_stop(settings: Settings, kafka_admin: AdminClient) -> None:
    """A log that begins late is read from there; what was lost after a commit is named."""
    publish(settings, [pair(event) for event in created(20)])
    begins = {part: end // 2 for part, end in ends(settings).items()}
    _cut(settings, kafka_admin, begins)
    work_to_the_end(settings, JOBTRAIL_ANALYTICS_INTERVAL="0.5")
    needed = ends(settings)
    publish(settings, [pair(event) for event in created(20)])
    lost = next(part for part, end in ends(settings).items() if end > needed[part] + 1)
    _cut(settings, kafka_admin, {lost: needed[lost] + 1})
    with started(settings, "analytics") as worker:
        line = worker.await_line("no longer in the log")
        assert worker.process.wait(PATIENCE) == 1
    assert f"partition {lost}: group {settings.analytics_group} needs offsets {needed[lost]} to" in line
    assert f"JOBTRAIL_ANALYTICS_GROUP={settings.analytics_group}-2" in line
    assert committed(settings)[lost] == needed[lost]
    work_to_the_end(settings.model_copy(update={"analytics_group": f"{settings.analytics_group}-2"}))


def _cut(settings: Settings, admin: AdminClient, begins: dict[int, int]) -> None:
    places = [TopicPartition(settings.events_topic, part, begin) for part, begin in begins.items()]
    for deleted in admin.delete_records(places).values():
        deleted.result(30)


def test_a_log_that_ends_before_what_was_committed_is_refused(
    settings: Settings, kafka_admin: AdminClient
) -> None:
    place = TopicPartition(settings.events_topic, 1, 7)
    asked = [ConsumerGroupTopicPartitions(settings.analytics_group, [place])]
    kafka_admin.alter_consumer_group_offsets(asked)[settings.analytics_group].result(30)
    with pytest.raises(LogError, match=r"partition 1: .* goes on at offset 7, but the log ends at 0"):
        GroupOffsets(settings).next()


def test_a_log_made_anew_while_no_worker_ran_is_refused(settings: Settings, kafka_admin: AdminClient) -> None:
    publish(settings, [pair(event) for event in created(20)])
    work_to_the_end(settings)
    make_anew(settings, kafka_admin)
    with started(settings, "analytics") as worker:
        line = worker.await_line("was made anew")
        assert worker.process.wait(PATIENCE) == 1
    assert f"topic {settings.events_topic} was made anew" in line
    assert f"JOBTRAIL_ANALYTICS_GROUP={settings.analytics_group}-2" in line


def test_a_kafka_that_goes_before_partitions_are_ours_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The offsets are asked by another client, which may find it away first."""
    stop, asked = threading.Event(), []

    def next_(self: GroupOffsets) -> dict[int, int]:
        asked.append(1)
        if len(asked) > 1:
            stop.set()
        gone = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
        return real(self if len(asked) > 1 else GroupOffsets(gone))

    real = GroupOffsets.next
    monkeypatch.setattr(GroupOffsets, "next", next_)
    with caplog.at_level("INFO", "jobtrail"):
        run_analytics(settings, stop)
    assert len(asked) == 2
    [said_of_it] = [line for line in caplog.messages if "does not answer" in line]
    assert said_of_it.count("Kafka at 127.0.0.1:1") == 1


def client(**given: str) -> Settings:
    return Settings(kafka_client={name.replace("_", "."): value for name, value in given.items()})


def test_kafka_settings_are_translated() -> None:
    plain = client_settings(client())
    assert (plain.security.mechanism, plain.security.context) == (None, None)
    assert plain.tuning["broker_session_timeout"] == SESSION_TIMEOUT
    found = client_settings(
        client(
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="me",
            sasl_password="secret",
            session_timeout_ms="6000",
            ssl_endpoint_identification_algorithm="none",
        )
    )
    security = found.security
    assert (security.mechanism, security.username, security.password) == ("SCRAM-SHA-512", "me", "secret")
    assert security.context is not None
    assert security.context.check_hostname is False
    assert (found.tuning["broker_session_timeout"], found.tuning["broker_heartbeat_interval"]) == (6.0, 2.0)
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("given", "said_of"),
    [
        ({"sasl_oauthbearer_method": "oidc"}, "JOBTRAIL_KAFKA_SASL_OAUTHBEARER_METHOD"),
        ({"security_protocol": "sasl_ssl", "sasl_mechanism": "GSSAPI"}, "JOBTRAIL_KAFKA_SASL_MECHANISM"),
        ({"security_protocol": "tls"}, "JOBTRAIL_KAFKA_SECURITY_PROTOCOL"),
        ({"security_protocol": "ssl", "ssl_ca_location": "/nowhere"}, "JOBTRAIL_KAFKA_SSL_CA_LOCATION"),
        ({"security_protocol": "ssl", "ssl_certificate_pem": "x"}, "JOBTRAIL_KAFKA_SSL_CERTIFICATE_PEM"),
        ({"session_timeout_ms": "soon"}, "JOBTRAIL_KAFKA_SESSION_TIMEOUT_MS"),
    ],
)
def test_security_that_this_client_cannot_do_is_refused(given: dict[str, str], said_of: str) -> None:
    with pytest.raises(SettingError, match=said_of):
        client_settings(client(**given))
