"""A few rounds of chaos, and the proof that the suite finds a projector that loses events."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from conftest import CACHE, refuse
from psycopg import sql

from chaos.faults import Plan, draw
from chaos.rounds import KEYS, PRODUCERS, REPLACED, Round
from chaos.servers import Servers, chaos_servers
from chaos.under_test import Point
from chaos.workload import share, workload
from jobtrail.errors import EmbeddedError

#: Seconds that a test waits for what must come.
PATIENCE = 60.0


@pytest.fixture(scope="module")
def chaos() -> Iterator[Servers]:
    """Servers of their own: they are killed."""
    home = Path(tempfile.mkdtemp(prefix="jobtrail-chaos-"))
    home.chmod(0o755)
    try:
        running = chaos_servers(home, CACHE)
        servers = running.__enter__()
    except EmbeddedError as error:
        refuse(f"the embedded servers do not start: {error}")
    yield servers
    running.__exit__(None, None, None)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_round_loses_and_doubles_nothing(chaos: Servers, tmp_path: Path, seed: int) -> None:
    plan = draw(seed, seconds=1.0, producers=PRODUCERS)
    found = Round(chaos, plan, tmp_path, events=1_500, seconds=1.2, batch_size=100).run()
    assert found.holds, f"{found}\n{found.lost}\n{found.doubled}\n{found.different}"
    assert len(found.faults) >= 3
    assert found.confirmed >= 900
    assert found.rows > 1_000


@pytest.mark.parametrize(("breakage", "loses"), [(None, False), ("offsets_apart", True)])
def test_a_kill_in_the_middle_of_a_merge_loses_what_a_transaction_does_not_hold(
    chaos: Servers, tmp_path: Path, breakage: str | None, *, loses: bool
) -> None:
    """Offsets in a transaction of their own, before the rows, and the suite finds rows lost."""
    this = published(chaos, tmp_path, Point("in_merge", 2, signal.SIGKILL), breakage)
    this.start_projector(this.plan.points[0])
    this.until_caught_up()
    this.end_processes()
    this.judge()
    assert this.found.faults == ["SIGKILL in_merge #2"]
    assert bool(this.found.lost) is loses
    assert this.found.holds is not loses, this.found


@pytest.mark.parametrize(("breakage", "loses"), [(None, False), ("no_expected_offset", True)])
def test_commits_that_postgres_forgot_are_lost_where_offsets_are_not_expected(
    chaos: Servers, tmp_path: Path, breakage: str | None, *, loses: bool
) -> None:
    """A projector goes on from where it was; that its rows are gone, only the checkpoint can tell it."""
    this = published(chaos, tmp_path, Point("after_commit", 4, signal.SIGSTOP), breakage)
    with psycopg.connect(chaos.postgres, autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")  # wakes the WAL writer, which then sleeps its 10 s
    projector = this.start_projector(this.plan.points[0])
    wait_for(lambda: stopped_at_its_point(this), this)
    before = this.checkpoints()
    chaos.crash_postgres()
    assert sum(this.checkpoints().values()) < sum(before.values()), "Postgres forgot nothing"
    assert projector.signal(signal.SIGCONT)
    this.until_caught_up(PATIENCE if not loses else 6.0)  # without a checkpoint for what is lost, never
    this.end_processes()
    this.judge()
    assert bool(this.found.lost) is loses
    assert this.found.holds is not loses, this.found
    assert (this.found.replaced > 0) is not loses


def test_a_projector_that_wakes_after_it_was_replaced_writes_nothing(chaos: Servers, tmp_path: Path) -> None:
    this = published(chaos, tmp_path, Point("before_transaction", 3, signal.SIGSTOP), None)
    asleep = this.start_projector(this.plan.points[0])
    wait_for(lambda: stopped_at_its_point(this), this)
    ends = this.ends()
    assert this.checkpoints() != ends
    this.start_projector(None)
    wait_for(lambda: this.checkpoints() == ends, this)
    assert asleep.signal(signal.SIGCONT)
    wait_for(lambda: REPLACED in this.log(0).read_text(), this)
    this.until_caught_up()
    this.end_processes()
    this.judge()
    assert this.found.holds, this.found


def test_the_comparison_notices_each_row_that_is_gone_changed_or_too_many(
    chaos: Servers, tmp_path: Path
) -> None:
    this = published(chaos, tmp_path, None, None)
    this.start_projector(None)
    this.until_caught_up()
    this.end_processes()
    with psycopg.connect(this.database_url, autocommit=True) as connection:
        for table in KEYS:
            connection.execute(
                sql.SQL(
                    "DELETE FROM jobtrail_g1.{0} WHERE ctid = (SELECT min(ctid) FROM jobtrail_g1.{0})"
                ).format(sql.Identifier(table))
            )
        connection.execute("UPDATE jobtrail_g1.attempts SET status = 'failed' WHERE status = 'running'")
        connection.execute(
            "INSERT INTO jobtrail_g1.workspaces (workspace_id, registered_at, event_id, is_default)"
            " VALUES ('nobody', now(), gen_random_uuid(), false)"
        )
        connection.execute("UPDATE jobtrail.checkpoints SET next_offset = next_offset - 1")
    ledger = tmp_path / "ledger-0"
    ledger.write_text(f"{ledger.read_text()}{(unknown := str(uuid.uuid4()))}\n")
    this.judge()
    assert {line.partition(" (")[0] for line in this.found.lost} == {*KEYS, f"confirmed event {unknown}"}
    assert this.found.doubled == ["workspaces ('nobody',)"]
    assert {line.partition(" ")[0] for line in this.found.different} == {"attempts", "checkpoints"}


def test_the_same_seed_makes_the_same_round() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for seed in (1, 2):
        assert workload(seed, 500, begin) == workload(seed, 500, begin)
        assert draw(seed, seconds=2, producers=3) == draw(seed, seconds=2, producers=3)
    assert workload(1, 500, begin) != workload(2, 500, begin)
    events = workload(1, 500, begin)
    shares = [{event.event_id for event in share(events, 1, each, 3)} for each in range(3)]
    assert set.union(*shares) == {event.event_id for event in events}
    assert sum(map(len, shares)) == len(events)


def published(chaos: Servers, folder: Path, point: Point | None, breakage: str | None) -> Round:
    """A round in whose topics everything is, and whose projectors did not begin."""
    plan = Plan(7, (), (point,), (True,) * PRODUCERS)
    this = Round(chaos, plan, folder, events=1_500, seconds=0.0, batch_size=50, breakage=breakage)
    this.prepare()
    for _ in range(PRODUCERS):
        this.start_producer()
    wait_for(lambda: not any(slot.process for slot in this.producers), this)
    return this


def stopped_at_its_point(this: Round) -> bool:
    return any(this.folder.glob("*.point"))


def wait_for(holds: Callable[[], bool], this: Round) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s; see {this.folder}"
        for slot in this.producers:
            assert slot.ended() in {None, 0}
        time.sleep(0.01)
