"""`jobtrail alerts` as people use it: in a service with a file of rules, and by its lists."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alert_scenes import CONNECTION, Scene, rule, run_at
from cli_scenes import jobtrail, unset
from cli_service import PATIENCE, Process, started
from webhook_receiver import SECRET, Receiver, receiving

from jobtrail import events as e
from jobtrail.consumers.alerts.rules import RuleKind
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

RULES = """\
[[rules]]
name = "nothing moved"
kind = "zero_record_success"
severity = "critical"
send = ["log", "ops"]

[webhooks.ops]
url_env = "OPS_URL"
secret_env = "OPS_SECRET"
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    with Scene(settings, rules=(rule(RuleKind.ZERO_RECORD_SUCCESS, "log"),)) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that takes webhooks."""
    with receiving() as found:
        yield found


def empty_run(job_id: int) -> list[e.Event]:
    """A run of now that succeeds without a record."""
    now = datetime.now(UTC)
    about: dict[str, Any] = {"job_id": job_id, "attempt_number": 0}
    return [
        e.JobCreated(
            job_id=job_id, config_type="sync", config_id=CONNECTION, connection_id=CONNECTION, occurred_at=now
        ),
        e.AttemptStarted(**about, occurred_at=now, worker="w"),
        e.StreamStats(
            **about,
            occurred_at=now,
            stream_name="users",
            reporter="platform",
            sequence=1,
            records_committed=0,
        ),
        e.AttemptSucceeded(**about, occurred_at=now),
    ]


def awaited(holds: object) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():  # type: ignore[operator]  # a function
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_service_with_rules_tells_topic_log_and_webhook(
    settings: Settings, rules: Path, receiver: Receiver
) -> None:
    """`up` judges what happens from its start on; the list says where it was told. No secret is shown."""
    settings = settings.model_copy(update={"api_port": 0, "alert_rules": rules})

    def judging() -> bool:
        with psycopg.connect(settings.database_url or "") as connection:
            return bool(connection.execute("SELECT FROM jobtrail.alert_checkpoint").rowcount)

    with started(settings, "up", OPS_URL=receiver.url, OPS_SECRET=SECRET) as service:
        assert isinstance(service, Process)
        service.url()
        awaited(judging)
        with Publisher(settings) as publisher:
            publisher.publish_all(empty_run(7))
        line = service.await_line("alert triggered")
        assert "nothing moved (zero_record_success, critical) for" in line
        awaited(lambda: receiver.heard)
        shown = jobtrail(settings, "alerts", "list", "--open")
        assert shown.returncode == 0
        assert "nothing moved" in shown.stdout
        found = json.loads(jobtrail(settings, "alerts", "list", "--json").stdout)
        (alert,) = found["alerts"]
        assert receiver.keys == [alert["alertId"]]
        assert {one["channel"] for one in alert["deliveries"]} == {"topic", "log", "webhook:ops"}
        assert service.end() == 0
        assert not any("hidden" in line or SECRET in line for line in service.lines)


def test_the_list_has_open_and_resolved_alerts_and_what_was_told(scene: Scene) -> None:
    assert jobtrail(scene.settings, "alerts", "list").stdout == "no alerts\n"
    scene.happen(run_at(-24 * 9), run_at(-1))
    scene.look(0)
    scene.happen(run_at(1, records=0), run_at(2), run_at(3, records=0))
    scene.look(3)
    shown = jobtrail(scene.settings, "alerts", "list").stdout
    assert "topic waits, log waits" in shown
    scene.deliver()
    lines = jobtrail(scene.settings, "alerts", "list").stdout.splitlines()
    assert len(lines) == 3
    assert "open" in lines[1]
    assert "open" not in lines[2]
    assert "topic, log" in lines[1]
    assert len(jobtrail(scene.settings, "alerts", "list", "--open").stdout.splitlines()) == 2
    found = json.loads(jobtrail(scene.settings, "alerts", "list", "--json", "--limit", "1").stdout)
    assert (found["open"], found["total"], len(found["alerts"])) == (1, 2, 1)
    assert found["alerts"][0]["resolvedAt"] is None


def test_alerts_test_shows_when_each_triggered_and_a_summary(scene: Scene, tmp_path: Path) -> None:
    """Over a stretch of time, by what was known before it; nothing is kept of it."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: none, kind: zero_record_success}, {name: lag, kind: lag}]")
    scene.happen(run_at(-24 * 9), run_at(-5, records=0), run_at(-4), run_at(1, records=0))
    shown = jobtrail(scene.settings, "alerts", "test", str(file))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("moved no record") == 2
    assert "4 runs of 1 connections, 2 alerts; nothing was sent" in shown.stdout
    later = jobtrail(scene.settings, "alerts", "test", str(file), "--since", "2026-03-02T00:00:00Z", "--json")
    found = json.loads(later.stdout)
    assert [one["triggeredAt"] for one in found["alerts"]] == ["2026-03-02T01:00:00+00:00"]
    assert [one["alerts"] for one in found["rules"]] == [1, 0]
    wrong = jobtrail(scene.settings, "alerts", "test", str(file), "--until", "2020-01-01T00:00:00Z")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert scene.alerts() == []


def test_without_servers_it_says_what_to_start(settings: Settings, rules: Path, tmp_path: Path) -> None:
    nothing = unset(settings, tmp_path / "empty")
    for command in (["test", str(rules)], ["list"]):
        found = jobtrail(nothing, "alerts", *command)
        assert (found.returncode, found.stderr.count("\n")) == (3, 1), found.stderr
        assert "jobtrail up" in found.stderr


def test_a_service_does_not_start_by_rules_with_mistakes(settings: Settings, rules: Path) -> None:
    rules.write_text(RULES.replace("critical", "crtical"))
    found = jobtrail(settings.model_copy(update={"alert_rules": rules}), "up")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "rules.toml:4: rules[1].severity" in found.stderr


def test_since_when_is_told_by_the_first_run(settings: Settings, rules: Path) -> None:
    """With nothing to judge it says so, and is done."""
    shown = jobtrail(settings, "alerts", "test", str(rules))
    assert shown.returncode == 0
    assert "0 runs of 0 connections, 0 alerts" in shown.stdout
