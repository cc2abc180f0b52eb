"""Commands that start, share and leave servers, end in every way, and lose no data."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from conftest import CACHE
from embedded_commands import PATIENCE, Command, kill, left, new_home, pid

from jobtrail import embedded
from jobtrail.embedded import postgres
from jobtrail.embedded.process import Server


@pytest.fixture
def home() -> Iterator[Path]:
    with new_home() as folder:
        yield folder


def test_commands_that_start_at_once_share_the_servers_and_the_last_to_leave_stops_them(home: Path) -> None:
    commands = [Command(home, "postgres") for _ in range(3)]
    addresses = {command.line() for command in commands}
    assert len(addresses) == 1
    first = pid(home, "postgres")
    told = [command.leave() for command in commands[:2]]
    assert commands[2].check() == "all there"
    assert pid(home, "postgres") == first
    told.append(commands[2].leave())
    assert sum("starting Postgres" in text for text in told) == 1
    assert [("stopping Postgres" in text) for text in told] == [False, False, True]
    assert not left(home)


def test_a_command_that_needs_more_starts_it_beside_what_runs(home: Path) -> None:
    one = Command(home, "postgres")
    assert json.loads(one.line())[0] is None
    both = Command(home, "kafka", "postgres")
    assert None not in json.loads(both.line())
    one.leave()
    assert embedded.running(home) is not None
    both.leave()
    assert embedded.running(home) is None
    assert not left(home)


def test_ctrl_c_stops_the_servers_in_good_order(home: Path) -> None:
    command = Command(home, "kafka", "postgres")
    command.line()
    told = command.signal(signal.SIGINT)
    assert not left(home)
    assert [line for line in told.splitlines() if line.startswith("stopping")] == [
        "stopping Kafka",
        "stopping Postgres",
    ]
    assert "database system is shut down" in (home / "run" / "postgres.out").read_text()
    assert "shut down completed" in (home / "kafka" / "logs" / "kafka.log").read_text()


def test_ctrl_c_during_a_start_leaves_nothing(home: Path) -> None:
    command = Command(home, "kafka", "postgres")
    deadline = time.monotonic() + PATIENCE
    while "starting Postgres" not in command.told():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    command.signal(signal.SIGINT)
    assert not left(home)


def test_what_killed_commands_leave_is_used_and_stopped_by_the_next(home: Path) -> None:
    killed = [Command(home, "postgres") for _ in range(2)]
    address = {command.line() for command in killed}
    server = pid(home, "postgres")
    for command in killed:
        command.signal(signal.SIGKILL)
    assert Server(home, "postgres").alive()
    following = Command(home, "postgres")
    assert {following.line()} == address
    assert pid(home, "postgres") == server
    following.leave()
    assert not left(home)


@pytest.mark.parametrize("moment", [0.0, 0.15, 0.4])
def test_a_command_killed_while_it_starts_servers_stops_nobody_after_it(home: Path, moment: float) -> None:
    """A half-made cluster is made anew, after the processes that made it are gone."""
    command = Command(home, "postgres")
    deadline = time.monotonic() + PATIENCE
    while "starting Postgres" not in command.told():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(moment)
    command.signal(signal.SIGKILL)
    with embedded.servers(home, kafka=False, cache=CACHE, on_progress=lambda _: None) as servers:
        query(servers.database_url, "SELECT 1")
    assert not left(home)


def test_rows_and_messages_survive_kill_9_of_servers_and_commands(home: Path) -> None:
    """The command whose servers are killed is told; the next start has the data, at the same addresses."""
    command = Command(home, "kafka", "postgres")
    addresses = command.line()
    servers = embedded.running(home)
    assert servers
    query(servers.database_url, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('row')")
    topic = "kept"
    admin = AdminClient({"bootstrap.servers": servers.kafka_bootstrap_servers, "log_level": 0})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(PATIENCE)
    producer = Producer({"bootstrap.servers": servers.kafka_bootstrap_servers, "log_level": 0})
    producer.produce(topic, b"message")
    assert producer.flush(PATIENCE) == 0
    kill(home, "kafka", "postgres")
    command.check()
    assert "ended while it was in use" in command.failed()
    assert not left(home)

    with embedded.servers(home, cache=CACHE, on_progress=lambda _: None) as servers:
        assert [servers.kafka_address, servers.postgres_address] == json.loads(addresses)
        assert query(servers.database_url, "SELECT word FROM kept") == [("row",)]
        assert first_message(servers.kafka_bootstrap_servers, topic) == b"message"
    assert not left(home)
    assert not shared_memory(home)


def test_stop_ends_servers_in_use_or_not(home: Path) -> None:
    command = Command(home, "postgres")
    command.line()
    said: list[str] = []
    assert embedded.stop(home, said.append)
    assert said == ["stopping Postgres"]
    assert not left(home)
    assert not embedded.stop(home, said.append)
    command.check()
    assert "Postgres ended while it was in use" in command.failed()


def test_a_server_that_hangs_is_started_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is alive and does not answer: stopped by SIGSTOP here."""
    monkeypatch.setattr(postgres, "ANSWER_LIMIT", 1.0)
    command = Command(home, "postgres")
    command.line()
    hanging = pid(home, "postgres")
    command.signal(signal.SIGKILL)
    os.kill(hanging, signal.SIGSTOP)
    said: list[str] = []
    with embedded.servers(home, kafka=False, cache=CACHE, on_progress=said.append) as servers:
        assert query(servers.database_url, "SELECT 1") == [(1,)]
    assert "does not answer; it is started anew" in said[0]
    assert not left(home)


def query(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def first_message(address: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        message = consumer.poll(PATIENCE)
        return message.value() if message else None
    finally:
        consumer.close()


def shared_memory(home: Path) -> list[str]:
    """Shared memory of this home's Postgres that outlived it (Linux): its key is the inode of the data."""
    key = (home / "postgres" / "data").stat().st_ino & 0xFFFFFFFF
    segments = Path("/proc/sysvipc/shm")
    lines = segments.read_text().splitlines()[1:] if segments.exists() else []
    return [line for line in lines if int(line.split()[0]) & 0xFFFFFFFF == key]
