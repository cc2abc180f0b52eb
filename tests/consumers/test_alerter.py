"""The alerter tells each thing once, whatever is killed, late, doubled or rebuilt."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from alert_scenes import CONNECTION, ZERO, Scene, hours, rule, run_at
from cli_scenes import environment
from projecting import publish, query

from jobtrail import events as e
from jobtrail.consumers.alerts import alerter as module
from jobtrail.consumers.alerts.alerter import LOOKBACK, Alerter
from jobtrail.consumers.alerts.reading import read_runs
from jobtrail.consumers.alerts.rules import HOUR, MINUTE, RuleKind, RuleSet
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.consumers.rebuild import Options, rebuild
from jobtrail.errors import ConflictError
from jobtrail.settings import Settings


@pytest.fixture
def scenes(settings: Settings) -> Iterator[Callable[..., Scene]]:
    """Makes scenes, and ends them."""
    with ExitStack() as stack:
        yield lambda *rules, **more: stack.enter_context(Scene(settings, rules or (ZERO,), **more))


@pytest.fixture
def scene(scenes: Callable[..., Scene]) -> Scene:
    """An alerter that has started on Monday at midnight, of a connection that succeeded before."""
    found = scenes()
    found.happen(run_at(-24 * 9), run_at(-1))
    assert found.look(0) == 0
    return found


def test_an_alert_is_told_when_it_triggers_and_when_it_resolves(scene: Scene) -> None:
    """By events on the topic that name rule, subject and window; the ids of both are of what was decided."""
    scene.happen(run_at(1, records=0))
    assert scene.look(1) == 1
    scene.happen(run_at(2))
    assert scene.look(2) == 1
    assert scene.look(3) == 0
    assert scene.deliver() == 2
    triggered, resolved = scene.told()
    assert isinstance(triggered, e.AlertTriggered)
    assert isinstance(resolved, e.AlertResolved)
    assert triggered.event_id == triggered.alert_id == resolved.alert_id != resolved.event_id
    assert (triggered.rule, triggered.rule_version) == (ZERO.name, ZERO.version)
    assert triggered.subject == triggered.connection_id == CONNECTION
    assert triggered.window_ended_at == triggered.occurred_at == resolved.triggered_at == hours(1)
    assert resolved.occurred_at == hours(2)
    assert "moved no record" in triggered.detail
    assert scene.deliver() == 0


def test_what_was_over_before_the_first_start_is_never_told(scenes: Callable[..., Scene]) -> None:
    """It can be listed; what happens afterwards is told as ever, with a resolution of its own."""
    scene = scenes()
    scene.happen(run_at(-24 * 9), run_at(-1, records=0))
    for hour in (0, 0.5, 1):
        assert scene.look(hour) == 0
    assert scene.alerts() == [(ZERO.name, True, False)]
    scene.happen(run_at(1.5))
    assert scene.look(2) == 0
    assert scene.alerts() == [(ZERO.name, False, False)]
    assert scene.waiting() == []
    scene.happen(run_at(3, records=0))
    assert scene.look(3) == 1
    assert scene.waiting() == [("topic", "triggered")]


def test_a_new_rule_does_not_tell_of_what_was_before_it(scene: Scene) -> None:
    """Though the alerter has long been running."""
    again = rule(RuleKind.REPEATED_CONFIG_ERROR)
    scene.happen(*(run_at(hour, "failed", 0, "source: bad password") for hour in (1, 2, 3)))
    scene.look(4)
    both = scene.another(ZERO, again)
    scene.look(5, both)
    assert scene.look(6, both) == 0
    assert scene.alerts() == [(again.name, True, False)]
    scene.happen(run_at(7), *(run_at(hour, "failed", 0, "source: bad password") for hour in (8, 9)))
    assert scene.look(9, both) == 1
    assert scene.alerts() == [(again.name, False, False), (again.name, True, True)]


def test_a_rule_that_is_changed_or_removed_resolves_its_alerts(scene: Scene) -> None:
    scene.happen(run_at(1, records=0))
    assert scene.look(1) == 1
    other = rule(RuleKind.ZERO_RECORD_SUCCESS, runs=5)
    assert scene.look(1.5, scene.another(other)) == 1
    assert query(scene.settings, "SELECT resolution FROM jobtrail.alerts") == [("the rule was changed",)]
    scene.happen(run_at(2, records=0))
    back = scene.another()
    assert scene.look(2, back) == 0  # the same window: it was told of
    scene.happen(run_at(3), run_at(4, records=0))
    assert scene.look(4, back) == 1
    assert scene.look(4.5, scene.another(rule(RuleKind.LAG))) == 1
    resolutions = query(
        scene.settings, "SELECT resolution FROM jobtrail.alerts ORDER BY triggered_at DESC LIMIT 1"
    )
    assert resolutions == [("the rule was removed",)]


def test_two_alerters_tell_it_once(scene: Scene) -> None:
    """At the same moment, and one after the other; so do two that deliver."""
    alerters = [scene.another() for _ in range(4)]
    scene.happen(run_at(1, records=0))
    scene.now = hours(1) + timedelta(minutes=2)
    told: list[int] = []
    threads = [threading.Thread(target=lambda one=one: told.append(one.look())) for one in alerters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert sum(told) + scene.look(1) == 1
    deliverers = [threading.Thread(target=scene.deliver) for _ in range(3)]
    for thread in deliverers:
        thread.start()
    for thread in deliverers:
        thread.join()
    assert len(scene.told()) == 1


def test_two_alerters_with_other_rules_do_not_run_at_one_time(scene: Scene) -> None:
    """Each would resolve what the other tells. The second begins once the first has ended."""
    first, same = scene.another(), scene.another()
    other = scene.another(rule(RuleKind.LAG))
    try:
        first.begin()
        first.begin()
        same.begin()
        with pytest.raises(ConflictError, match="another alerter judges by other rules"):
            other.begin()
        first.close()
        with pytest.raises(ConflictError):
            other.begin()
        same.close()
        begin_at_last(other)
        with pytest.raises(ConflictError):
            first.begin()
    finally:
        for alerter in (first, same, other):
            alerter.close()


def begin_at_last(alerter: Alerter) -> None:
    """Postgres gives a lock back some time after who held it has gone."""
    until = time.monotonic() + 30
    while True:
        try:
            alerter.begin()
            break
        except ConflictError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_nothing_is_judged_by_half_of_what_happened(scene: Scene) -> None:
    """While the projector is behind, time stands still for the rules: a gap in read models is no silence."""
    scene.happen(run_at(1, records=0), project=False)
    assert scene.look(1) == 0
    assert scene.look(2) == 0
    project_until_caught_up(scene.settings)
    assert scene.look(3) == 1
    ((triggered_at,),) = query(scene.settings, "SELECT triggered_at FROM jobtrail.alerts")
    assert triggered_at == hours(1)  # as if it had been judged in time


def test_the_lag_itself_is_told_while_it_lasts(scenes: Callable[..., Scene]) -> None:
    lag = rule(RuleKind.LAG, longer_than=10 * MINUTE)
    scene = scenes(lag)
    scene.happen(run_at(-1))
    scene.look(0)
    scene.look(0.05)
    scene.happen(run_at(0), project=False)
    assert scene.look(0.1) == 0  # six minutes, since it was first seen
    assert scene.look(0.2) == 0
    assert scene.look(0.5) == 1
    project_until_caught_up(scene.settings)
    assert scene.look(0.6) == 1
    assert scene.alerts() == [(lag.name, False, True)]
    ((detail,),) = query(scene.settings, "SELECT detail FROM jobtrail.alerts")
    assert "behind the log for" in detail


def test_what_comes_late_resolves_an_alert(scenes: Callable[..., Scene]) -> None:
    """A success of before is told of hours later: the connection had succeeded after all."""
    silent = rule(RuleKind.NO_SUCCESS)
    scene = scenes(silent)
    scene.happen(*(run_at(hour) for hour in range(-24 * 15, 1)))
    assert scene.look(0) == 0
    assert scene.look(5) == 0
    assert scene.look(7) == 1
    late = [run_at(hour) for hour in (1, 2, 3, 4, 5, 6, 7)]
    scene.happen(*late)
    assert scene.look(7.2) == 1
    assert scene.alerts() == [(silent.name, False, True)]
    assert scene.waiting() == [("topic", "triggered"), ("topic", "resolved")]


def test_a_rebuild_in_between_tells_nothing(scene: Scene) -> None:
    """Neither what is open, nor what was resolved, nor what was before the first start."""
    scene.happen(run_at(1, records=0), run_at(2), run_at(3, records=0))
    for hour in (1.0, 2.0, 3.0):
        assert scene.look(hour) == 1
    scene.deliver()
    before = scene.alerts()
    result = rebuild(scene.settings, Options(workers=1, by="ada"), lambda *_: None)
    assert result.swapped
    fresh = scene.another()
    for hour in (3.1, 3.2, 4.0):
        assert scene.look(hour) == scene.look(hour, fresh) == 0
    assert scene.alerts() == before
    assert scene.waiting() == []
    assert len(scene.told()) == 3


def test_state_outbox_and_checkpoint_are_one_transaction(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last statement fails, nothing of the look is there, and the next look does it all."""
    scene.happen(run_at(1, records=0))
    with monkeypatch.context() as broken:
        broken.setattr(module, "SQL", {**module.SQL, "move": b"SELECT 1 / 0"})
        with pytest.raises(Exception, match="division by zero"):
            scene.look(1)
    assert scene.alerts() == scene.waiting() == []
    assert scene.look(1) == 1


#: Dies by SIGKILL before Kafka is asked, or after it has confirmed and before that is written down.
KILLED = """
import os, signal, sys
from jobtrail.consumers.alerts.outbox import Outbox
from jobtrail.settings import Settings

def die(self, rows, confirmed=Outbox._confirmed):
    if sys.argv[1] == "after":
        assert not confirmed(self, rows)
    os.kill(os.getpid(), signal.SIGKILL)

Outbox._confirmed = die
Outbox(Settings.from_env(), {}).publish()
"""


@pytest.mark.parametrize(("when", "copies"), [("before", 1), ("after", 2)])
def test_killed_between_outbox_and_topic_nothing_is_lost_and_nothing_doubled(
    when: str, copies: int, scene: Scene
) -> None:
    """What is sent again bears the same event id, and the same body."""
    scene.happen(run_at(1, records=0))
    assert scene.look(1) == 1
    died = subprocess.run(
        [sys.executable, "-c", KILLED, when], env=environment(scene.settings), timeout=60, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert scene.waiting() == [("topic", "triggered")]
    assert scene.deliver() == 1
    told = scene.told()
    assert len(told) == copies
    assert len({event.event_id for event in told}) == 1
    assert told[0] == told[-1]


def test_dead_letters_are_told_of(settings: Settings, scenes: Callable[..., Scene]) -> None:
    """By the clock of the broker, which is the clock of now."""
    letters = rule(RuleKind.DEAD_LETTERS, window=HOUR)
    scene = scenes(letters, now=datetime.now(UTC) - timedelta(minutes=5))
    assert scene.alerter.look() == 0
    publish(settings, [(b"1", b"no event")])
    project_until_caught_up(settings)
    scene.now = datetime.now(UTC) + timedelta(minutes=2)
    assert scene.alerter.look() == 1
    assert query(settings, "SELECT detail FROM jobtrail.alerts") == [
        ("1 dead letter within 60 min: 1 unknown_schema",)
    ]
    scene.now += timedelta(hours=2)
    assert scene.alerter.look() == 1
    assert scene.alerts() == [(letters.name, False, True)]


def test_what_a_retry_moved_again_counts_once(scene: Scene) -> None:
    """A full refresh that was tried twice moved what its last attempt did."""
    job: dict[str, Any] = {"job_id": 9_001, "occurred_at": hours(1)}
    users = [{"name": "users", "sync_mode": "full_refresh"}]
    made: dict[str, Any] = {
        "config_type": "sync",
        "config_id": CONNECTION,
        "connection_id": CONNECTION,
        "streams": users,
    }
    counted: dict[str, Any] = {"stream_name": "users", "reporter": "platform", "records_committed": 100}
    scene.publish(
        [
            e.JobCreated(**job, **made),
            *(
                event
                for number, ends in enumerate((e.AttemptFailed, e.AttemptSucceeded))
                for event in (
                    e.AttemptStarted(**job, attempt_number=number, worker="w"),
                    e.StreamStats(**job, **counted, attempt_number=number, sequence=1),
                    ends(**job, attempt_number=number),
                )
            ),
        ]
    )
    project_until_caught_up(scene.settings)
    assert scene.settings.database_url is not None
    with psycopg.connect(scene.settings.database_url) as connection:
        found = {run.job_id: run for run in read_runs(connection, hours(-1), hours(2), 60.0)}
    assert (found[9_001].outcome, found[9_001].records) == ("succeeded", 100)


def test_an_alert_resolves_when_nothing_is_left_to_judge_it_by(scene: Scene) -> None:
    """No run within the weeks that are kept, long after."""
    scene.happen(run_at(1, records=0))
    assert scene.look(1) == 1
    weeks = LOOKBACK / timedelta(hours=1)
    assert scene.look(weeks) == 0
    assert scene.look(weeks + 2, scene.another()) == 1
    assert scene.alerts() == [(ZERO.name, False, True)]
    ((resolution,),) = query(scene.settings, "SELECT resolution FROM jobtrail.alerts")
    assert "nothing to judge it by" in resolution
    assert scene.waiting() == [("topic", "triggered"), ("topic", "resolved")]


def test_what_one_deliverer_holds_is_not_overtaken(scene: Scene) -> None:
    """A resolution is published after what it resolves, though somebody else is to publish that."""
    scene.happen(run_at(1, records=0), run_at(2))
    assert scene.look(1) + scene.look(2) == 2
    assert scene.settings.database_url is not None
    with psycopg.connect(scene.settings.database_url) as other:
        other.execute("SELECT FROM jobtrail.alert_outbox WHERE status = 'triggered' FOR UPDATE")
        assert scene.deliver() == 0
    assert scene.deliver() == 2
    assert [type(event) for event in scene.told()] == [e.AlertTriggered, e.AlertResolved]


def test_a_minutes_lag_is_what_its_first_look_saw(scenes: Callable[..., Scene]) -> None:
    """By that it was judged; what waits to be folded is kept once a minute."""
    scene = scenes(rule(RuleKind.LAG))
    scene.look(0)
    scene.happen(run_at(0), project=False)
    seen = "SELECT behind, messages FROM jobtrail.alert_lags WHERE at > '2026-03-02 00:10Z'"
    for second in (0, 5, 10):
        scene.now = hours(0.25) + timedelta(seconds=second)
        scene.alerter.look()
    first = query(scene.settings, seen)
    assert [(behind, messages > 0) for behind, messages in first] == [(timedelta(0), True)]
    assert len(scene.alerter._unmet) == 1
    scene.now = hours(0.25) + timedelta(seconds=60)
    scene.alerter.look()
    assert len(scene.alerter._unmet) == 2
    assert query(scene.settings, f"{seen} ORDER BY at LIMIT 1") == first


def test_what_postgres_refuses_is_said_once_and_tried_again(
    settings: Settings, scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no server that is away: somebody has to do something about it."""
    monkeypatch.setattr(module, "LOOK", 0.1)
    scene.happen(run_at(1, records=0))
    assert scene.look(1) == 1
    assert settings.database_url is not None
    stop = threading.Event()
    prepared = module.Prepared(RuleSet((ZERO,)), {})
    running = threading.Thread(target=module.run_alerter, args=(settings, prepared, stop))
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        for table in (b"alert_outbox", b"alert_checkpoint"):
            connection.execute(b"ALTER TABLE jobtrail." + table + b" RENAME TO gone_" + table)
        running.start()
        try:
            time.sleep(4)
            said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            for table in (b"alert_outbox", b"alert_checkpoint"):
                connection.execute(b"ALTER TABLE jobtrail.gone_" + table + b" RENAME TO " + table)
            until = time.monotonic() + 30
            while scene.waiting():
                assert time.monotonic() < until
                time.sleep(0.1)
            assert running.is_alive()
        finally:
            stop.set()
            running.join()
    # Two that deliver: one publishes, one looks for what nobody takes.
    assert len([line for line in said if "are not delivered" in line and "alert_outbox" in line]) == 2
    assert len([line for line in said if "are not judged" in line and "alert_checkpoint" in line]) == 1
