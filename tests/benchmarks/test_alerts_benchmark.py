"""Half a year with planted incidents: all are found, and no connection has two false alarms."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alerts_history import PLANTED, half_year
from alerts_year import Verdict, judged, sorted_out

from jobtrail.consumers.alerts.rules import DAY, RuleKind

YEAR = Path(__file__).parents[2] / "benchmarks" / "alerts_year.py"


@pytest.mark.timeout(600)  # a minute on an idle machine
def test_every_planted_incident_is_found_and_no_connection_cries_wolf_twice() -> None:
    """By the command that anybody may type; its status says whether it holds."""
    done = subprocess.run(
        [sys.executable, str(YEAR), "--seed", "1", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    planted = sum(PLANTED.values())
    assert f"{planted} of {planted} planted incidents are found" in done.stdout
    assert "at most 1 of a connection, and 0 of the one that is three days old" in done.stdout
    for kind in RuleKind:
        assert f"| `{kind}` | {PLANTED[kind]} | {PLANTED[kind]} |" in done.stdout


def test_the_half_year_is_what_it_says() -> None:
    """50 connections, a declared pause, one of three days; the same for the same seed."""
    year = half_year(2, weeks=5)
    assert year == half_year(2, weeks=5) != half_year(3, weeks=5)
    assert len(year.connections) == 50
    assert {incident.kind for incident in year.incidents} == {*RuleKind}
    young = year.connections[-1].connection_id
    runs = [plan.run for plan in year.planned]
    assert min(run.began for run in runs if run.connection_id == young) >= year.ended - 3 * DAY
    (pause,) = year.pauses
    resting = [run for run in runs if run.connection_id in pause.connections]
    assert resting
    assert not any(pause.began <= run.began < pause.ended for run in resting)
    assert {run.outcome for run in runs} == {"succeeded", "failed", "cancelled"}
    assert any(plan.retried for plan in year.planned)


@pytest.fixture(scope="module")
def seen() -> Verdict:
    """Five weeks, and what the rules say of them."""
    return judged(half_year(2, weeks=5))


@pytest.mark.parametrize("kind", [kind for kind in RuleKind if kind.by_connection])
def test_what_is_not_planted_is_not_found(seen: Verdict, kind: RuleKind) -> None:
    """An alert without its incident is false: the table does not count whatever comes."""
    without = [incident for incident in seen.year.incidents if incident.kind != kind]
    verdict = sorted_out(replace(seen.year, incidents=without), seen.fired)
    assert any(incident.kind == kind for incident in seen.found)
    assert not any(incident.kind == kind for incident in verdict.found)
    assert len(verdict.false) + len(verdict.consequences) > len(seen.false) + len(seen.consequences)
