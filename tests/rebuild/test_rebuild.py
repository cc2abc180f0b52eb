"""Rebuilds on real servers: the same rows, whatever is done to them meanwhile."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from cli_scenes import COMMAND, environment, jobtrail
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import TopicPartition
from rebuild_scenes import HISTORY, contents, interleaved, job_of, publish, rebuilt, state_of

from jobtrail.cli.service import RoleThread
from jobtrail.consumers.projector import project_until_caught_up, run_projector
from jobtrail.consumers.rebuild import CancelledError, Options, cancel, rebuild
from jobtrail.errors import ConflictError, LogError
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]


@pytest.fixture
def projected(settings: Settings) -> Settings:
    """The history in the log and in the read models."""
    publish(settings, HISTORY)
    project_until_caught_up(settings)
    return settings


def execute(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_a_rebuild_gives_the_same_rows_and_readers_see_the_new_generation(projected: Settings) -> None:
    """Every table, bookkeeping too; of the old generation nothing is left."""
    before = contents(projected)
    result = rebuilt(projected)
    assert [table for table in result.tables if table.differing] == []
    assert (result.swapped, result.generation, result.note) == (True, 2, None)
    assert result.messages == len(HISTORY)
    assert contents(projected) == before
    schemas = execute(projected, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'jobtrail%'")
    assert {name for (name,) in schemas} == {"jobtrail", "jobtrail_analytics", "jobtrail_g2"}
    assert execute(projected, "SELECT DISTINCT generation FROM jobtrail.checkpoints") == [(2,)]
    assert state_of(projected).unfinished is None


def test_keys_and_indexes_are_those_of_the_live_generation(projected: Settings) -> None:
    """What was taken off for the reading is all made again, by the same definitions."""
    definitions = (
        "SELECT replace(pg_get_indexdef(i.indexrelid), n.nspname, '') FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname ~ '^jobtrail_g' ORDER BY 1"
    )
    keys = (
        "SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(c.oid) FROM pg_constraint c"
        " JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname ~ '^jobtrail_g' ORDER BY 1, 2"
    )
    before = execute(projected, definitions), [row[1:] for row in execute(projected, keys)]
    assert rebuilt(projected).swapped
    assert (execute(projected, definitions), [row[1:] for row in execute(projected, keys)]) == before


def test_rows_of_one_key_from_several_goes_and_partitions_become_one(settings: Settings) -> None:
    """Little memory, so that each job is appended in several goes, and its events in two partitions."""
    settings = settings.model_copy(update={"batch_size": 100, "rebuild_rows": 1_000})
    events = interleaved([job_of(job_id) for job_id in range(200, 320)])
    half = len(events) // 2
    publish(settings, events[:half], partition=0)
    publish(settings, events[half:], partition=1)
    project_until_caught_up(settings)
    before = contents(settings)
    assert rebuilt(settings).same
    assert contents(settings) == before


def test_what_was_changed_by_hand_is_found_and_repaired(projected: Settings) -> None:
    """--verify-only names each row and column, and changes nothing; a rebuild puts it right."""
    before = contents(projected)
    execute(projected, "UPDATE jobtrail_g1.stream_stats SET records_emitted = 1 WHERE job_id = 101")
    execute(projected, "DELETE FROM jobtrail_g1.attempts WHERE job_id = 102 AND attempt_number = 0")
    execute(projected, "UPDATE jobtrail_g1.jobs SET status = 'running' WHERE job_id = 103")
    found = jobtrail(projected, "rebuild", "--verify-only")
    assert found.returncode == 1
    assert "stream_stats (job_id 101, attempt_number 0, stream_namespace , stream_name orders" in found.stdout
    assert "records_emitted: 1 → 110" in found.stdout
    assert "attempts (job_id 102, attempt_number 0): only in the new generation" in found.stdout
    assert "status: 'running' → 'succeeded'" in found.stdout
    assert state_of(projected).live == 1
    assert state_of(projected).unfinished is None
    result = rebuilt(projected)
    assert (result.swapped, result.same) == (True, False)
    assert sum(table.differing for table in result.tables) == 4
    assert contents(projected) == before


def test_readers_and_a_live_projector_notice_nothing(projected: Settings, http: Any, database: str) -> None:
    """Events arrive and readers ask all the time; none of them sees an error or a job that goes back."""
    stop = Event()
    projector = RoleThread("projector", lambda over: run_projector(projected, over))
    errors: list[BaseException] = []
    looks: list[int] = []

    def publishes() -> None:
        number = 1_000
        while not stop.is_set():
            publish(projected, job_of(number))
            number += 1
            stop.wait(0.05)

    def reads() -> None:
        try:
            with psycopg.connect(database, autocommit=True) as connection:
                seen = 0
                while not stop.is_set():
                    (jobs,) = connection.execute("SELECT count(*) FROM jobtrail.jobs").fetchone() or (0,)
                    assert jobs >= seen
                    seen = jobs
                    assert http.asked("get_light", {"id": 99})["job"]["status"] == "failed"
                    looks.append(jobs)
        except BaseException as error:  # noqa: BLE001  # told below
            errors.append(error)

    threads = [Thread(target=publishes), Thread(target=reads), Thread(target=reads)]
    projector.start()
    for thread in threads:
        thread.start()
    try:
        first, second = rebuilt(projected), rebuilt(projected)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        projector.stop.set()
        projector.join(30)
    projector.check()
    assert errors == []
    assert len(looks) > 20
    assert (first.swapped, second.swapped, second.generation) == (True, True, 3)
    assert first.same, list(first.differences)
    assert second.same, list(second.differences)
    project_until_caught_up(projected)
    assert rebuilt(projected, verify_only=True).same


def test_killed_five_times_it_goes_on_and_gives_the_same_rows(settings: Settings) -> None:
    """By kill -9 of the leading process, at random: its workers end with it, what was appended stays."""
    settings = settings.model_copy(update={"batch_size": 50, "rebuild_rows": 1_000})
    publish(settings, interleaved([job_of(job_id) for job_id in range(400, 700)]))
    project_until_caught_up(settings)
    before = contents(settings)
    chance = random.Random(5)  # noqa: S311
    command, generations = [*COMMAND, "rebuild", "--yes"], set()
    for _ in range(5):
        process = subprocess.Popen(command, env=environment(settings), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while (found := state_of(settings).unfinished) is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.5))
        assert found is not None
        generations.add(found.generation)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if state_of(settings).live == 2:
            break
    assert generations == {2}
    until = time.monotonic() + 30
    while _workers() and time.monotonic() < until:
        time.sleep(0.05)
    assert _workers() == []
    assert state_of(settings).outcome != "running"
    last = jobtrail(settings, "rebuild", "--yes", "--json")
    assert last.returncode == 0, last.stderr
    assert contents(settings) == before


def _workers() -> list[str]:
    """Processes of rebuilds that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if "jobtrail.consumers.rebuild_worker" in words:
                found.append(" ".join(words))
    return found


def test_an_empty_or_shorter_result_is_refused(projected: Settings) -> None:
    """It stays beside the live generation, which serves on; --force swaps it, without being made again."""
    execute(projected, "INSERT INTO jobtrail_g1.jobs (job_id, first_seen_at) VALUES (7, now())")
    refused = jobtrail(projected, "rebuild", "--yes")
    assert refused.returncode == 1
    assert "the result is shorter: jobs has 31 rows instead of 32; nothing was swapped" in refused.stdout
    assert state_of(projected).live == 1
    assert jobtrail(projected, "rebuild", "status").stdout.splitlines()[1].endswith(" (100 %)") is False
    forced = rebuilt(projected, force=True)
    assert (forced.swapped, forced.generation, forced.messages) == (True, 2, 0)


def test_an_empty_log_is_refused(settings: Settings) -> None:
    result = rebuilt(settings)
    assert not result.swapped
    assert "the result is empty" in (result.note or "")


def test_one_at_a_time(projected: Settings) -> None:
    """A second one says so; a cancel ends the first, and leaves nothing of it."""
    started, go_on = Event(), Event()
    raised: list[BaseException] = []

    def tell(phase: str, done: int = 0, total: int = 0) -> None:  # noqa: ARG001
        started.set()
        go_on.wait(60)

    def first() -> None:
        try:
            rebuild(projected, Options(workers=1, by="ada"), tell)
        except CancelledError as error:
            raised.append(error)

    thread = Thread(target=first)
    thread.start()
    assert started.wait(60)
    with pytest.raises(ConflictError, match="a rebuild runs already"):
        rebuilt(projected)
    assert (state_of(projected).running, state_of(projected).outcome) == (True, "running")
    cancelling = Thread(target=cancel, args=[projected])
    cancelling.start()
    time.sleep(0.5)
    go_on.set()
    thread.join(60)
    cancelling.join(60)
    assert [type(error) for error in raised] == [CancelledError]
    assert state_of(projected).outcome == "cancelled"
    assert state_of(projected).unfinished is None
    assert execute(projected, "SELECT nspname FROM pg_namespace WHERE nspname = 'jobtrail_g2'") == []
    assert jobtrail(projected, "rebuild", "cancel").returncode == 1


def test_a_gap_in_the_log_is_named(projected: Settings, kafka_admin: AdminClient) -> None:
    """Events that the topic has lost are not passed over in silence."""
    place = TopicPartition(projected.events_topic, 0, 5)
    for future in kafka_admin.delete_records([place]).values():
        future.result(30)
    with pytest.raises(LogError, match="partition 0: offsets 0 to 4 are needed and are missing"):
        rebuilt(projected)
    found = state_of(projected)
    assert (found.unfinished, found.outcome) == (None, "failed")
    assert found.last is not None
    assert "partition" in (found.last.detail or "")


def test_what_postgres_once_refused_stays_out_and_dead_letters_stay(settings: Settings) -> None:
    """They are known by their places; nothing is published while replaying."""
    publish(settings, HISTORY)
    publish(settings, [(settings.events_topic, b"no event", b"7")])
    project_until_caught_up(settings)
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        connection.execute(
            "INSERT INTO jobtrail.dead_letters"
            ' (topic_id, partition, "offset", topic, broker_at, reason, detail)'
            " SELECT topic_id, log_partition, 0, topic, now(), 'refused_by_postgres', 'x'"
            " FROM jobtrail.checkpoints WHERE topic = %s AND next_offset > 0 LIMIT 1",
            (settings.events_topic,),
        )
    letters = execute(settings, "SELECT * FROM jobtrail.dead_letters ORDER BY 1, 2, 3")
    result = rebuilt(settings, force=True)
    assert result.messages == len(HISTORY)
    assert result.swapped
    assert execute(settings, "SELECT * FROM jobtrail.dead_letters ORDER BY 1, 2, 3") == letters


def test_the_command_says_what_it_did_and_asks_only_a_person(projected: Settings) -> None:
    """Without a terminal --yes must be said; progress goes to stderr, the outcome to stdout."""
    unasked = jobtrail(projected, "rebuild")
    assert unasked.returncode == 2
    assert "say --yes, or --verify-only" in unasked.stderr
    done = jobtrail(projected, "rebuild", "--yes", "--by", "ada")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "readers now see generation 2")
    assert f"reading: {len(HISTORY):,} of {len(HISTORY):,} (100 %)" in done.stderr
    status = jobtrail(projected, "rebuild", "status")
    live, last, unfinished = status.stdout.splitlines()
    assert (live, unfinished) == ("live: generation 2, version 1", "no rebuild")
    assert last.startswith("last: swapped, begun ")
    assert last.endswith(f" by ada: {len(HISTORY)} messages read; all rows were the same")
