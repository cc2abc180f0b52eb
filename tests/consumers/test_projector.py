"""From Kafka to the read models: nothing lost, nothing twice, bad messages put aside, servers waited for."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import threading
import time
from collections import Counter

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import TopicPartition
from following import add_partitions, put_at
from projecting import Pair, consumed, created, pair, publish, query, running, stats, wait_for
from wire import STATS, encoded, newest

from jobtrail.consumers.dead_letters import relay_once
from jobtrail.consumers.projector import project_until_caught_up, run_projector
from jobtrail.consumers.status import Status
from jobtrail.errors import LogError
from jobtrail.events import (
    CancelRequested,
    JobCreated,
    JobFailed,
    Label,
    StreamStats,
    WorkspaceRegistered,
)
from jobtrail.settings import Settings


def test_events_become_rows(settings: Settings) -> None:
    publish(settings, [pair(created(job_id)) for job_id in range(50)])
    publish(settings, [pair(stats(job_id, n, records_emitted=n)) for job_id in range(50) for n in range(20)])
    publish(settings, [pair(WorkspaceRegistered(workspace_id="w"))], settings.registry_topic)

    status = project_until_caught_up(settings)

    assert (status.messages, status.dead_letters, status.caught_up) == (1051, 0, True)
    assert set(status.lag.values()) == {0}
    assert query(settings, "SELECT count(*) FROM jobtrail.jobs") == [(50,)]
    assert query(
        settings, "SELECT count(*), min(records_emitted), max(records_emitted) FROM jobtrail.stream_stats"
    ) == [(50, 19, 19)]


def test_a_second_run_goes_on_where_the_first_ended(settings: Settings) -> None:
    publish(settings, [pair(created(1))])
    assert project_until_caught_up(settings).messages == 1
    publish(settings, [pair(created(2))])
    assert project_until_caught_up(settings).messages == 1
    assert project_until_caught_up(settings).messages == 0
    assert query(settings, "SELECT job_id FROM jobtrail.jobs ORDER BY 1") == [(1,), (2,)]


VALUE = encoded(newest(StreamStats), STATS)
#: Reason → a message that has it, one of each kind.
BAD: list[tuple[str, Pair]] = [
    ("unknown_schema", (b"7", b"\xc3\x01" + bytes(8) + VALUE[10:])),
    ("unknown_schema", (b"7", b"{}")),
    ("truncated", (b"7", VALUE[:-1])),
    ("trailing_bytes", (b"7", VALUE + b"\0")),
    ("invalid_utf8", (b"7", VALUE.replace(b"users", b"us\xffrs"))),
    ("nul_in_text", (b"7", encoded(newest(StreamStats), {**STATS, "stream_name": "us\0rs"}))),
    ("too_long", (b"7", encoded(newest(StreamStats), {**STATS, "stream_name": "n" * 5_000}))),
    ("out_of_range", (b"7", encoded(newest(StreamStats), {**STATS, "attempt_number": -1}))),
    ("null_value", (b"7", None)),
    ("wrong_key", (b"8", VALUE)),
    ("wrong_key", (None, VALUE)),
]


def test_bad_messages_are_kept_and_told_and_their_neighbours_live(settings: Settings) -> None:
    mixed: list[Pair] = []
    for sequence, (_, bad) in enumerate(BAD):
        mixed += [pair(stats(7, sequence, records_emitted=sequence)), bad, pair(created(100 + sequence))]
    publish(settings, mixed)

    status = project_until_caught_up(settings)

    assert (status.messages, status.dead_letters) == (len(mixed), len(BAD))
    rows = query(settings, "SELECT reason, key, value, detail, published_at FROM jobtrail.dead_letters")
    assert Counter(row[:3] for row in rows) == Counter((reason, *bad) for reason, bad in BAD)
    assert all(detail and published for _, _, _, detail, published in rows)
    assert query(settings, "SELECT count(*) FROM jobtrail.jobs WHERE job_id >= 100") == [(len(BAD),)]
    assert query(settings, "SELECT records_emitted FROM jobtrail.stream_stats") == [(len(BAD) - 1,)]

    told = consumed(settings, settings.dead_letters_topic, len(BAD))
    assert sorted(dict(m.headers())["jobtrail_reason"].decode() for m in told) == sorted(r for r, _ in BAD)
    assert {(m.key(), m.value()) for m in told} == {bad for _, bad in BAD}
    assert relay_once(settings) == 0


def test_what_postgres_refuses_is_put_aside_alone(settings: Settings) -> None:
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE jobtrail_g1.jobs ADD CHECK (job_id <> 33)")
    publish(settings, [pair(created(job_id)) for job_id in range(60)])

    status = project_until_caught_up(settings)

    assert (status.messages, status.dead_letters) == (60, 1)
    ((reason, detail, key),) = query(settings, "SELECT reason, detail, key FROM jobtrail.dead_letters")
    assert (reason, key) == ("refused_by_postgres", b"33")
    assert "violates check constraint" in detail
    assert query(settings, "SELECT count(*) FROM jobtrail.jobs") == [(59,)]
    assert project_until_caught_up(settings).messages == 0


def random_text(size: int) -> str:
    """Of `size` bytes, none of which compress: Postgres compresses before it measures."""
    return base64.b64encode(os.urandom(size))[:size].decode()


def test_the_longest_names_that_are_accepted_fit_a_key_of_postgres(settings: Settings) -> None:
    longest = StreamStats(
        job_id=7,
        attempt_number=1023,
        stream_namespace=random_text(1024),
        stream_name=random_text(1023) + "x",
        reporter=random_text(255),
        sequence=1,
    )
    publish(settings, [pair(created(7)), pair(longest)])
    assert project_until_caught_up(settings).dead_letters == 0
    assert query(settings, "SELECT count(*) FROM jobtrail.stream_stats") == [(1,)]


def test_a_limit_of_postgres_is_about_the_message_and_not_about_the_server(settings: Settings) -> None:
    """It is an OperationalError to psycopg; waiting for the server would be for ever."""
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("CREATE INDEX ON jobtrail_g1.jobs (labels)")
    label = Label(key="k", value=random_text(5000))
    large = JobCreated(job_id=5, config_type="sync", config_id="c", labels=[label])
    publish(settings, [pair(created(4)), pair(large), pair(created(6))])

    status = project_until_caught_up(settings)

    assert (status.messages, status.dead_letters) == (3, 1)
    ((reason, detail),) = query(settings, "SELECT reason, detail FROM jobtrail.dead_letters")
    assert reason == "refused_by_postgres"
    assert "exceeds" in detail
    assert query(settings, "SELECT job_id FROM jobtrail.jobs ORDER BY 1") == [(4,), (6,)]


def test_two_projectors_share_the_partitions_and_nothing_is_lost_or_folded_twice(settings: Settings) -> None:
    with running(settings) as first:
        for job_id in range(300):
            publish(settings, [pair(created(job_id))])
            if job_id == 100:
                second_stop, second = threading.Event(), list[Status]()
                thread = threading.Thread(
                    target=run_projector, args=(settings, second_stop, second.append), daemon=True
                )
                thread.start()
        wait_for(settings, "SELECT count(*) = 300 FROM jobtrail.jobs")
        second_stop.set()
        thread.join(30)
        publish(settings, [pair(created(job_id)) for job_id in range(300, 400)])
        wait_for(settings, "SELECT count(*) = 400 FROM jobtrail.jobs")
    assert second
    assert first[-1].messages + second[-1].messages == 400
    assert query(settings, "SELECT sum(next_offset)::int FROM jobtrail.checkpoints") == [(400,)]


def test_a_gap_is_a_loud_stop_that_names_it(settings: Settings, kafka_admin: AdminClient) -> None:
    publish(settings, [pair(created(7)), pair(created(7))])
    project_until_caught_up(settings)
    publish(settings, [pair(created(7))] * 5)
    (partition,) = {p for (p,) in query(settings, "SELECT log_partition FROM jobtrail.checkpoints")}
    cut = TopicPartition(settings.events_topic, partition, 5)
    for deleted in kafka_admin.delete_records([cut]).values():
        deleted.result(30)
    with pytest.raises(LogError, match=rf"partition {partition}: offsets 2 to 4 .* begins at 5"):
        project_until_caught_up(settings)


def test_events_that_aged_out_before_the_first_run_are_a_gap_too(
    settings: Settings, kafka_admin: AdminClient
) -> None:
    publish(settings, [pair(created(7))] * 5)
    cuts = [TopicPartition(settings.events_topic, partition, -1) for partition in range(4)]
    for deleted in kafka_admin.delete_records(cuts).values():
        deleted.result(30)
    with pytest.raises(LogError, match=r"offsets 0 to 4 .* begins at 5"):
        project_until_caught_up(settings)


def test_a_checkpoint_beyond_the_log_is_a_loud_stop(settings: Settings) -> None:
    publish(settings, [pair(created(7))])
    project_until_caught_up(settings)
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("UPDATE jobtrail.checkpoints SET next_offset = 9")
    with pytest.raises(LogError, match="the checkpoint is 9, but the log ends at 1"):
        project_until_caught_up(settings)


def test_a_topic_made_anew_is_a_loud_stop_that_names_both_ids(
    settings: Settings, kafka_admin: AdminClient
) -> None:
    publish(settings, [pair(created(7))])
    project_until_caught_up(settings)
    ((old,),) = query(settings, "SELECT DISTINCT topic_id FROM jobtrail.checkpoints")
    kafka_admin.delete_topics([settings.events_topic])[settings.events_topic].result(30)
    while settings.events_topic in kafka_admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    with pytest.raises(LogError, match="was made anew") as raised:
        project_until_caught_up(settings)
    assert old in str(raised.value)


def test_partitions_added_while_running_are_read(settings: Settings, kafka_admin: AdminClient) -> None:
    quick = settings.model_copy(update={"kafka_client": {"topic.metadata.refresh.interval.ms": "300"}})
    with running(quick) as heard:
        publish(settings, [pair(created(1))])
        wait_for(settings, "SELECT count(*) = 1 FROM jobtrail.jobs")
        add_partitions(settings, kafka_admin, 6)
        put_at(settings, 4, [created(2)])
        put_at(settings, 5, [created(3)])
        wait_for(settings, "SELECT count(*) = 3 FROM jobtrail.jobs")
    assert len([place for place in heard[-1].lag if place[0] == settings.events_topic]) == 6


def test_postgres_away_is_waited_for_and_said_once(
    settings: Settings, postgres_admin_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert settings.database_url is not None
    name = settings.database_url.rpartition("/")[2]
    with running(settings), psycopg.connect(postgres_admin_url, autocommit=True) as admin:
        publish(settings, [pair(created(1))])
        wait_for(settings, "SELECT count(*) = 1 FROM jobtrail.jobs")
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        publish(settings, [pair(created(2))])
        time.sleep(1.5)
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        wait_for(settings, "SELECT count(*) = 2 FROM jobtrail.jobs")
    said = [record.getMessage() for record in caplog.records if "Postgres" in record.getMessage()]
    assert len(said) == 2, said
    assert "JOBTRAIL_DATABASE_URL" in said[0]
    assert f"/{name}" in said[0]
    assert "answers again" in said[1]
    assert query(settings, "SELECT count(*) FROM jobtrail.dead_letters") == [(0,)]


def test_kafka_away_is_waited_for_and_said_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    publish(settings, [pair(created(1))])
    assert settings.kafka_bootstrap_servers is not None
    host, port = settings.kafka_bootstrap_servers.split(",")[0].rsplit(":", 1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        away = settings.model_copy(update={"kafka_bootstrap_servers": address})
        with running(away):
            time.sleep(2)
            listener.listen()
            forwarder = threading.Thread(target=forward, args=(listener, (host, int(port))), daemon=True)
            forwarder.start()
            wait_for(settings, "SELECT count(*) = 1 FROM jobtrail.jobs", 60)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Kafka")]
    assert len(said) == 2, said
    assert address in said[0]
    assert "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in said[0]
    assert "answers again" in said[1]


def forward(listener: socket.socket, target: tuple[str, int]) -> None:
    """Passes connections on, until the listener is closed."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()

    listener.settimeout(0.1)
    while listener.fileno() >= 0:
        try:
            inner, _ = listener.accept()
        except OSError:
            continue
        outer = socket.create_connection(target)
        for ends in ((inner, outer), (outer, inner)):
            threading.Thread(target=pump, args=ends, daemon=True).start()


def test_holes_of_aborted_transactions_do_not_keep_it_from_catching_up(settings: Settings) -> None:
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": settings.events_topic}
    )
    producer.init_transactions(30)
    for job_id, kept in ((1, True), (2, False), (3, True), (4, False)):
        producer.begin_transaction()
        key, value = pair(created(job_id))
        producer.produce(settings.events_topic, value, key, partition=0)
        if kept:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)

    assert project_until_caught_up(settings).messages == 2

    assert query(settings, "SELECT job_id FROM jobtrail.jobs ORDER BY 1") == [(1,), (3,)]
    assert query(settings, "SELECT next_offset FROM jobtrail.checkpoints") == [(8,)]
    assert project_until_caught_up(settings).messages == 0


def test_a_redelivered_batch_that_another_projector_folded_is_dropped(settings: Settings) -> None:
    """The checkpoint moved behind our back: nothing is written twice, and we go on from where it is."""
    with running(settings) as heard:
        publish(settings, [pair(created(7))])
        wait_for(settings, "SELECT count(*) = 1 FROM jobtrail.jobs")
        assert settings.database_url is not None
        with psycopg.connect(settings.database_url) as connection:
            connection.execute("UPDATE jobtrail.checkpoints SET next_offset = 2")
        publish(settings, [pair(JobFailed(job_id=7)), pair(CancelRequested(job_id=7))])
        wait_for(settings, "SELECT next_offset = 3 FROM jobtrail.checkpoints")
    assert heard[-1].messages == 2
    assert query(settings, "SELECT event_type FROM jobtrail.job_events ORDER BY 1") == [
        ("CancelRequested",),
        ("JobCreated",),
    ]
