"""Faults one by one, on real servers, each with what must happen: nothing lost, nothing doubled, and said."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_scenes import environment
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from conftest import CACHE
from embedded_commands import kill, new_home
from following import add_partitions
from projecting import created, pair, publish, query, running, wait_for

import jobtrail
from jobtrail import embedded
from jobtrail import events as e
from jobtrail.consumers.projector import Projector, project_until_caught_up
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.spool_send import spooled
from jobtrail.projections import migrate
from jobtrail.projections.store import Store, Transaction
from jobtrail.settings import Settings

NEEDED = "min.insync.replicas"
JOBS = "SELECT array_agg(job_id ORDER BY job_id) FROM jobtrail.jobs"


class KilledError(BaseException):
    """Stands for a kill -9: nothing that comes after it in the process is done."""


def publish_jobs(settings: Settings, numbers: range) -> None:
    publish(settings, [pair(created(number)) for number in numbers])


def jobs(settings: Settings) -> list[int]:
    ((found,),) = query(settings, JOBS)
    return list(found or [])


def checkpoints(settings: Settings) -> int:
    ((found,),) = query(settings, "SELECT coalesce(sum(next_offset), 0) FROM jobtrail.checkpoints")
    return int(found)


def once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, fault: Callable[..., Any]) -> list[int]:
    """At its first call, a method does what `fault(original, *arguments)` does; gives the calls so far."""
    original, calls = getattr(owner, name), list[int]()

    def called(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            return fault(original, *arguments, **named)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, called)
    return calls


def test_killed_before_the_commit_nothing_is_there_and_all_is_read_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, checkpoints and dead letters are of one transaction."""
    publish_jobs(settings, range(20))
    publish(settings, [(b"1", b"no event")])

    def killed(original: Any, *arguments: Any, **named: Any) -> None:
        original(*arguments, **named)
        raise KilledError

    once(monkeypatch, Transaction, "derive", killed)
    with pytest.raises(KilledError):
        project_until_caught_up(settings)
    assert (jobs(settings), checkpoints(settings)) == ([], 0)
    assert query(settings, "SELECT count(*) FROM jobtrail.dead_letters") == [(0,)]
    project_until_caught_up(settings)
    assert (jobs(settings), checkpoints(settings)) == ([*range(20)], 21)
    assert query(settings, "SELECT count(*) FROM jobtrail.dead_letters") == [(1,)]


def test_killed_after_the_commit_and_before_kafka_knows_nothing_is_folded_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka's own offsets are a courtesy: the next projector begins at the checkpoints."""
    publish_jobs(settings, range(20))
    with monkeypatch.context() as patched:

        def killed(original: Any, *arguments: Any) -> None:
            original(*arguments)
            raise KilledError

        once(patched, Projector, "_written", killed)
        with pytest.raises(KilledError):
            project_until_caught_up(settings)
    folded = checkpoints(settings)  # the first batch may not have had all
    assert 0 < folded <= 20
    assert project_until_caught_up(settings).messages == 20 - folded
    assert jobs(settings) == [*range(20)]


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_lost_during_commit_is_settled_by_the_checkpoints(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Whether it took effect is not known: the checkpoints, read again, say it."""
    publish_jobs(settings, range(20))
    original = Store.transaction
    tries: list[int] = []

    @contextmanager
    def transaction(store: Store, **named: Any) -> Iterator[Transaction]:
        tries.append(1)
        lost = psycopg.OperationalError("server closed the connection unexpectedly")
        if len(tries) > 1:
            with original(store, **named) as tx:
                yield tx
        elif committed:
            with original(store, **named) as tx:
                yield tx
            raise lost
        else:
            with original(store, **named) as tx:
                yield tx
                raise lost

    monkeypatch.setattr(Store, "transaction", transaction)
    status = project_until_caught_up(settings)
    assert len(tries) > 1
    assert jobs(settings) == [*range(20)]
    assert (checkpoints(settings), status.caught_up) == (20, True)
    assert query(settings, "SELECT count(*) FROM jobtrail.job_events") == [(20,)]


#: `jobtrail projector` that Postgres soon gives up in the middle of a transaction.
PROJECTOR = """
import sys
from jobtrail.cli.main import main
from jobtrail.projections import store
store.SESSION |= {"transaction_timeout": "5s", "lock_timeout": "1s"}
sys.exit(main(["projector"]))
"""


@contextmanager
def process(settings: Settings, log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A projector in a process of its own."""
    with log.open("wb") as told:
        found = subprocess.Popen(
            [sys.executable, "-c", PROJECTOR], env=environment(settings, **more), stdout=told, stderr=told
        )
        try:
            yield found
        finally:
            found.send_signal(signal.SIGCONT)
            found.terminate()
            assert found.wait(30) == 0, log.read_text()


#: The shortest that a broker allows by default.
SESSION = {"JOBTRAIL_KAFKA_SESSION_TIMEOUT_MS": "6000"}


@contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Keeps every projector in the middle of writing a batch."""
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("SET LOCAL search_path = jobtrail_g1")
        connection.execute("LOCK TABLE jobs IN SHARE MODE")
        yield


WAITING = """
    SELECT count(*) >= 1 FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND application_name = 'jobtrail-projector'
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP")
def test_a_stopped_projector_that_wakes_up_after_it_was_replaced_writes_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    """Its batch is in its memory, the partitions and the checkpoints are another's."""
    with ExitStack() as stack:
        first = stack.enter_context(process(settings, tmp_path / "first", **SESSION))
        publish_jobs(settings, range(10))
        wait_for(settings, f"SELECT ({JOBS}) = ARRAY[0,1,2,3,4,5,6,7,8,9]::bigint[]")
        with held(settings):
            publish_jobs(settings, range(10, 20))
            wait_for(settings, WAITING)
            first.send_signal(signal.SIGSTOP)  # its transaction stays open, with the checkpoints in it
        stack.enter_context(process(settings, tmp_path / "second", **SESSION))
        wait_for(settings, "SELECT count(*) = 20 FROM jobtrail.jobs", 60)
        publish_jobs(settings, range(20, 30))
        wait_for(settings, "SELECT count(*) = 30 FROM jobtrail.jobs", 60)
        first.send_signal(signal.SIGCONT)
        publish_jobs(settings, range(30, 40))
        wait_for(settings, "SELECT count(*) = 40 FROM jobtrail.jobs", 60)
        until = time.monotonic() + 60
        while "answers again" not in (tmp_path / "first").read_text() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
    assert jobs(settings) == [*range(40)]
    assert checkpoints(settings) == 40
    assert query(settings, "SELECT count(*) FROM jobtrail.job_events") == [(40,)]
    told = (tmp_path / "first").read_text()
    assert "Postgres" in told, told  # it could not write what it held
    assert "answers again" in told


def test_a_rebalance_in_the_middle_of_a_batch_folds_each_event_once(
    settings: Settings, tmp_path: Path
) -> None:
    """The second projector gets partitions of which the first one is writing a batch."""
    with ExitStack() as stack:
        stack.enter_context(process(settings, tmp_path / "first", **SESSION))
        publish_jobs(settings, range(10))
        wait_for(settings, "SELECT count(*) = 10 FROM jobtrail.jobs")
        with held(settings):
            publish_jobs(settings, range(10, 30))
            wait_for(settings, WAITING)
            stack.enter_context(process(settings, tmp_path / "second", **SESSION))
            time.sleep(4)
        publish_jobs(settings, range(30, 50))
        wait_for(settings, "SELECT count(*) = 50 FROM jobtrail.jobs", 60)
        wait_for(settings, "SELECT sum(next_offset) = 50 FROM jobtrail.checkpoints", 60)
    assert jobs(settings) == [*range(50)]
    assert query(settings, "SELECT count(*) FROM jobtrail.job_events") == [(50,)]


def test_a_projector_that_exceeds_max_poll_interval_comes_back(settings: Settings, tmp_path: Path) -> None:
    """Postgres kept it for longer than Kafka allows: its partitions are taken, and given again."""
    short = {**SESSION, "JOBTRAIL_KAFKA_MAX_POLL_INTERVAL_MS": "6000"}
    with process(settings, tmp_path / "told", **short):
        publish_jobs(settings, range(10))
        wait_for(settings, "SELECT count(*) = 10 FROM jobtrail.jobs")
        with held(settings):
            publish_jobs(settings, range(10, 20))
            wait_for(settings, WAITING)
            publish_jobs(settings, range(20, 30))
            time.sleep(9)
        publish_jobs(settings, range(30, 40))
        wait_for(settings, "SELECT count(*) = 40 FROM jobtrail.jobs", 60)
        wait_for(settings, "SELECT sum(next_offset) = 40 FROM jobtrail.checkpoints", 60)
    assert jobs(settings) == [*range(40)]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("53100", "disk full"),
        ("53200", "out of memory"),
        ("53300", "too many connections"),
        ("57P01", "terminated by an administrator"),
        ("40P01", "deadlock"),
        ("25006", "read-only"),
    ],
)
def test_what_postgres_cannot_do_now_is_waited_for_and_blamed_on_no_event(
    settings: Settings, caplog: pytest.LogCaptureFixture, code: str, what: str
) -> None:
    """The error is raised by Postgres itself, for a while."""
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url, autocommit=True) as admin:
        admin.execute("SET search_path = jobtrail_g1")
        admin.execute(
            "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{what}' USING ERRCODE = '{code}'; END $$".encode()
        )
        admin.execute(
            "CREATE TRIGGER fault BEFORE INSERT ON jobs FOR EACH STATEMENT EXECUTE FUNCTION fault()"
        )
        with running(settings):
            publish_jobs(settings, range(10))
            time.sleep(1.5)
            assert jobs(settings) == []
            admin.execute("DROP TRIGGER fault ON jobs")
            admin.execute("DROP FUNCTION fault()")
            wait_for(settings, "SELECT count(*) = 10 FROM jobtrail.jobs")
    assert query(settings, "SELECT count(*) FROM jobtrail.dead_letters") == [(0,)]
    said = [record.getMessage() for record in caplog.records if "Postgres" in record.getMessage()]
    assert len(said) == 2, said
    assert what in said[0]


def test_a_database_made_read_only_is_waited_for(settings: Settings, postgres_admin_url: str) -> None:
    """As on a standby after a failover that went the wrong way."""
    assert settings.database_url is not None
    name = settings.database_url.rpartition("/")[2]
    with running(settings), psycopg.connect(postgres_admin_url, autocommit=True) as admin:
        publish_jobs(settings, range(5))
        wait_for(settings, "SELECT count(*) = 5 FROM jobtrail.jobs")
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        publish_jobs(settings, range(5, 10))
        time.sleep(1.5)
        assert jobs(settings) == [*range(5)]
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        wait_for(settings, "SELECT count(*) = 10 FROM jobtrail.jobs")


@pytest.mark.skipif(sys.platform == "win32", reason="embedded servers do not run there")
@pytest.mark.parametrize("older", [False, True])
def test_a_postgres_that_crashed_or_went_back_in_time_is_read_up_to_date(
    settings: Settings, older: bool
) -> None:
    """Rows and checkpoints go back together, as after a failover that lost the last transactions."""
    with new_home() as home:

        @contextmanager
        def postgres() -> Iterator[str]:
            with embedded.servers(home, kafka=False, cache=CACHE, on_progress=lambda _: None) as servers:
                yield servers.database_url

        data, kept = home / "postgres" / "data", home / "kept"
        with ExitStack() as stack:
            with postgres() as url:
                mine = settings.model_copy(update={"database_url": url})
                migrate.migrate(url)
                publish_jobs(mine, range(10))
                project_until_caught_up(mine)
            shutil.copytree(data, kept)
            for path in (data, *data.rglob("*")):
                copy, found = kept / path.relative_to(data), path.stat()
                os.chown(copy, found.st_uid, found.st_gid)
            with postgres():
                stack.enter_context(running(mine))
                publish_jobs(mine, range(10, 20))
                wait_for(mine, "SELECT count(*) = 20 FROM jobtrail.jobs")
                kill(home, "postgres")
            if older:
                shutil.rmtree(data)
                kept.rename(data)
            with postgres():
                publish_jobs(mine, range(20, 30))
                wait_for(mine, "SELECT count(*) = 30 FROM jobtrail.jobs", 60)
                assert jobs(mine) == [*range(30)]
                assert checkpoints(mine) == 30
                stack.close()


@pytest.mark.skipif(sys.platform == "win32", reason="embedded servers do not run there")
def test_a_broker_that_is_killed_and_started_again_loses_nothing(settings: Settings) -> None:
    """The projector and the publisher go on by themselves."""
    with new_home() as home, ExitStack() as stack:

        @contextmanager
        def broker() -> Iterator[str]:
            with embedded.servers(home, postgres=False, cache=CACHE, on_progress=lambda _: None) as servers:
                yield servers.kafka_bootstrap_servers

        with broker() as address:
            mine = settings.model_copy(update={"kafka_bootstrap_servers": address, "home": home / "mine"})
            TopicAdmin(mine).ensure()
            stack.enter_context(running(mine))
            publisher = stack.enter_context(Publisher(mine))
            publisher.publish_all(created(number) for number in range(10))
            wait_for(mine, "SELECT count(*) = 10 FROM jobtrail.jobs")
            kill(home, "kafka")
        publisher.publish_all(created(number) for number in range(10, 20))
        time.sleep(1)
        assert sum(left.events for left in spooled(mine)) >= 10
        with broker():
            publisher.publish_all(created(number) for number in range(20, 30))
            wait_for(mine, "SELECT count(*) = 30 FROM jobtrail.jobs", 60)
            stack.close()
    assert jobs(mine) == [*range(30)]
    assert spooled(mine) == []


@pytest.mark.skipif(sys.platform == "win32", reason="embedded servers do not run there")
@pytest.mark.parametrize("group", [None, "followers"])
def test_who_follows_waits_for_a_broker_that_is_killed(
    settings: Settings, caplog: pytest.LogCaptureFixture, group: str | None
) -> None:
    """And goes on in the same loop, without a gap."""
    with new_home() as home:
        found: list[int] = []

        @contextmanager
        def broker() -> Iterator[str]:
            with embedded.servers(home, postgres=False, cache=CACHE, on_progress=lambda _: None) as servers:
                yield servers.kafka_bootstrap_servers

        def until_found(count: int) -> None:
            deadline = time.monotonic() + 60
            while len({*found}) < count:
                assert time.monotonic() < deadline, found
                assert thread.is_alive()
                time.sleep(0.05)

        with broker() as address:
            mine = settings.model_copy(update={"kafka_bootstrap_servers": address, "home": home / "mine"})
            TopicAdmin(mine).ensure()
            publish_jobs(mine, range(10))
            follower = jobtrail.follow(settings=mine, types=e.JobCreated, group=group)
            thread = threading.Thread(target=lambda: found.extend(event.job_id for event in follower))
            thread.start()
            try:
                until_found(10)
                kill(home, "kafka")
                deadline = time.monotonic() + 30
                while not any("waiting for it" in line for line in caplog.messages):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            except BaseException:
                follower.close()
                raise
        with broker():
            try:
                publish_jobs(mine, range(10, 20))
                until_found(20)
            finally:
                follower.close()
                thread.join(30)
        assert not thread.is_alive()
        assert {*found} == {*range(20)}
        assert group is not None or len(found) == 20
        assert any("Kafka answers again" in line for line in caplog.messages)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc for how the first broker was started")
def test_not_enough_replicas_are_waited_for_on_the_disk(settings: Settings) -> None:
    """Of two brokers one is gone: Kafka refuses events, which are in the spool until it does not."""
    with (
        new_home() as home,
        embedded.servers(home, postgres=False, cache=CACHE, on_progress=lambda _: None) as servers,
    ):
        address = servers.kafka_bootstrap_servers
        mine = settings.model_copy(
            update={"kafka_bootstrap_servers": address, "home": home / "mine", "replication_factor": 2}
        )
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        with second_broker(home):
            until_true(lambda: len(admin.list_topics(timeout=10).brokers) == 2)
            TopicAdmin(mine).ensure()
            need(admin, mine, "2")
        until_true(
            lambda: all(
                part.isrs == [1]
                for part in admin.list_topics(mine.events_topic, timeout=10)
                .topics[mine.events_topic]
                .partitions.values()
            )
        )
        with Publisher(mine) as publisher:
            publisher.publish_all(created(number) for number in range(10))
            until_true(lambda: [(left.in_use, left.events) for left in spooled(mine)] == [(True, 10)])
            time.sleep(1)
            assert publisher.counts.delivered == 0
            need(admin, mine, "1")
            publisher.flush(30)
            assert (publisher.counts.delivered, publisher.counts.failed) == (10, 0)
        assert spooled(mine) == []
        project_until_caught_up(mine)
        assert jobs(mine) == [*range(10)]


def need(admin: AdminClient, settings: Settings, replicas: str) -> None:
    """So many replicas must have an event before it is confirmed."""
    entry = ConfigEntry(NEEDED, replicas, incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ConfigResource.Type.TOPIC, settings.events_topic, incremental_configs=[entry])
    admin.incremental_alter_configs([topic])[topic].result(30)


def until_true(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


@contextmanager
def second_broker(home: Path) -> Iterator[None]:
    """One more broker beside the embedded one, started as that one was; killed at the end."""
    first = Path(f"/proc/{(home / 'run' / 'kafka.pid').read_text().strip()}/cmdline").read_text()
    java = first.rstrip("\0").split("\0")[:-2]
    folder = home / "second"
    for part in ("data", "logs", "tmp"):
        (folder / part).mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = (home / "run" / "kafka.properties").read_text()
    given = re.sub(r"(?m)^(process.roles|node.id|listeners)=.*\n", "", given)
    properties = folder / "kafka.properties"
    properties.write_text(f"{given}process.roles=broker\nnode.id=2\nlisteners=PLAINTEXT://127.0.0.1:{port}\n")
    (cluster,) = re.findall(r"(?m)^cluster.id=(.*)$", (home / "kafka/data/meta.properties").read_text())
    storage = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(properties)]
    subprocess.run([*java, *storage], cwd=folder, check=True, capture_output=True)
    with subprocess.Popen(
        [*java, "kafka.Kafka", str(properties)], cwd=folder, stdout=subprocess.DEVNULL
    ) as it:
        try:
            yield
        finally:
            it.kill()


@pytest.mark.parametrize("poison", [1, 40, 6_000])
def test_poison_one_a_run_or_a_partition_full_harms_no_neighbour(settings: Settings, poison: int) -> None:
    """Each is a dead letter with its bytes, and the partition is read to its end."""
    value = b"\xc3\x01" + b"poison" * 5
    publish_jobs(settings, range(5))
    publish(settings, [(b"7", value)] * poison)
    publish_jobs(settings, range(5, 10))
    status = project_until_caught_up(settings)
    assert (status.dead_letters, status.caught_up) == (poison, True)
    assert jobs(settings) == [*range(10)]
    assert query(settings, "SELECT DISTINCT value FROM jobtrail.dead_letters") == [(value,)]
    assert query(settings, "SELECT count(*) FROM jobtrail.dead_letters") == [(poison,)]


def test_two_projectors_share_partitions_that_were_added(
    settings: Settings, kafka_admin: AdminClient
) -> None:
    """None is left out, and none is folded by both."""
    quick = settings.model_copy(update={"kafka_client": {"metadata.max.age.ms": "500"}})
    with running(quick), running(quick):
        publish_jobs(settings, range(20))
        wait_for(settings, "SELECT count(*) = 20 FROM jobtrail.jobs")
        add_partitions(settings, kafka_admin, 12)
        time.sleep(1)
        publish_jobs(settings, range(20, 100))
        wait_for(settings, "SELECT count(*) = 100 FROM jobtrail.jobs", 60)
        wait_for(settings, "SELECT sum(next_offset) = 100 FROM jobtrail.checkpoints", 60)
    assert jobs(settings) == [*range(100)]


def test_a_producer_whose_clock_is_a_day_off_is_shown_and_decides_by_what_it_said(settings: Settings) -> None:
    """Its job goes on; who reads it is told."""
    early = datetime.now(UTC) - timedelta(days=1)
    told: list[e.Event] = [
        e.JobCreated(job_id=1, config_type="sync", config_id="c", occurred_at=early),
        e.AttemptStarted(job_id=1, attempt_number=0, occurred_at=early),
        e.AttemptSucceeded(job_id=1, attempt_number=0, occurred_at=early + timedelta(seconds=5)),
    ]
    publish(settings, [pair(event) for event in told])
    project_until_caught_up(settings)
    assert query(settings, "SELECT status, ended_at FROM jobtrail.jobs") == [
        ("succeeded", early + timedelta(seconds=5))
    ]
    kinds = query(settings, "SELECT DISTINCT kind FROM jobtrail.anomalies WHERE kind = 'clock_off'")
    assert kinds == [("clock_off",)]
