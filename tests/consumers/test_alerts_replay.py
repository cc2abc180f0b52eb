"""History through Kafka and the projector: `alerts test` says of it what the engine says of the plan."""

from __future__ import annotations

import json
from pathlib import Path

from alerts_events import events_of
from alerts_history import BEGAN, half_year
from cli_scenes import jobtrail, publish

from jobtrail.consumers.alerts.engine import replay
from jobtrail.consumers.alerts.facts import Facts, histories
from jobtrail.consumers.alerts.reading import from_micros
from jobtrail.consumers.alerts.rules import RuleKind, RuleSet, every_kind
from jobtrail.settings import Settings

OF_RUNS = [kind for kind in RuleKind if kind.by_connection]


def rule_file(folder: Path) -> Path:
    file = folder / "rules.toml"
    file.write_text("\n".join(f'[[rules]]\nname = "{kind}"\nkind = "{kind}"' for kind in OF_RUNS))
    return file


def test_alerts_test_finds_in_the_read_models_what_was_planted(settings: Settings, tmp_path: Path) -> None:
    """Five weeks of a connection for each kind of incident, and of three more: the same alerts and ids."""
    year = half_year(7, weeks=5)
    slow = {connection.connection_id for connection in year.connections if connection.cadence != "hourly"}
    of_kind = {i.kind: i.connection_id for i in year.incidents if i.connection_id in slow}
    ours = {*of_kind.values(), *sorted(slow)[-3:]}
    planned = [plan for plan in year.planned if plan.run.connection_id in ours]
    publish(settings, (event for plan in planned for event in events_of(plan)))
    file = rule_file(tmp_path)
    since, until = from_micros(BEGAN).isoformat(), from_micros(year.ended).isoformat()
    shown = jobtrail(settings, "alerts", "test", str(file), "--since", since, "--until", until, "--json")
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    rules = RuleSet(tuple(rule for rule in every_kind() if rule.kind in OF_RUNS))
    expected = replay(rules, Facts(histories(plan.run for plan in planned)), BEGAN, year.ended)
    assert told["runs"] == len(planned)
    assert [(one["alertId"], one["rule"], one["subject"]) for one in told["alerts"]] == [
        (one.alert_id, one.rule.name, one.subject) for one in expected
    ]
    assert {one["kind"] for one in told["alerts"]} == {*OF_RUNS}
