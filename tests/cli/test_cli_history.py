"""`jobtrail jobs history`: events of a job, and the job at a moment."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cli_scenes import NASTY, failed_job, jobtrail, made, publish, start

from jobtrail import events as e
from jobtrail.api import past
from jobtrail.api.past import READING_ORDER
from jobtrail.settings import Settings

JOB = 7


def at(seconds: float) -> str:
    """A moment of some seconds after `start`, as a person types it."""
    return (start() + timedelta(seconds=seconds)).isoformat()


def test_events_are_shown_as_they_happened(settings: Settings) -> None:
    """Nothing of what a producer wrote moves the terminal."""
    publish(settings, failed_job(JOB, stream=NASTY))
    found = jobtrail(settings, "jobs", "history", str(JOB))
    assert (found.returncode, found.stderr) == (0, "")
    head, *rows = found.stdout.splitlines()
    assert head.split() == ["time", "attempt", "event", "what"]
    shown = [next(word for word in row.split() if word in e.__dict__) for row in rows]
    assert shown == ["JobCreated", "AttemptStarted", "StreamStats", "Failure", "AttemptFailed", "JobFailed"]
    assert "records_committed=120" in rows[2]
    assert "failure_origin=source" in rows[3]
    assert "\x1b" not in found.stdout


def test_events_of_one_instant_read_from_cause_to_end(settings: Settings) -> None:
    """Whatever their ids; flags are written as in JSON."""
    about = {"job_id": JOB, "attempt_number": 0}
    types: list[type[e.Event]] = [e.JobFailed, e.AttemptFailed, e.Failure, e.AttemptStarted, e.JobCreated]
    facts: dict[type[e.Event], dict[str, Any]] = {
        e.JobFailed: {"job_id": JOB},
        e.Failure: {**about, "failure_origin": "source", "retryable": True},
        e.JobCreated: {"job_id": JOB, "config_type": "sync", "config_id": "c"},
    }
    publish(settings, [made(one, 1, **facts.get(one, about)) for one in types])
    rows = jobtrail(settings, "jobs", "history", str(JOB)).stdout.splitlines()[1:]
    shown = [next(word for word in row.split() if word in e.__dict__) for row in rows]
    assert shown == ["JobCreated", "AttemptStarted", "Failure", "AttemptFailed", "JobFailed"]
    assert "retryable=true" in rows[2]
    assert {*READING_ORDER} == {*past.TYPES}


def test_types_and_the_last_ones(settings: Settings) -> None:
    publish(settings, failed_job(JOB))
    two = jobtrail(settings, "jobs", "history", str(JOB), "--type", "Failure", "--type", "JobFailed")
    assert [line.split()[-1] for line in two.stdout.splitlines()[2:]] == ["JobFailed"]
    last = jobtrail(settings, "jobs", "history", str(JOB), "--limit", "1").stdout.splitlines()
    assert "JobFailed" in last[1]
    assert last[2] == "the last 1 of 6 events; --limit shows more"


def test_at_a_moment_the_job_is_shown_as_it_was(settings: Settings) -> None:
    """Two seconds after the start it ran; nobody knew of the failure to come."""
    publish(settings, failed_job(JOB))
    then = jobtrail(settings, "jobs", "history", str(JOB), "--at", at(2.5))
    assert (then.returncode, then.stderr) == (0, "")
    assert "Job 7 running" in then.stdout
    assert "running for 1.5 s" in then.stdout
    assert "120 records committed" in then.stdout
    assert "Failures" not in then.stdout
    now = jobtrail(settings, "jobs", "show", str(JOB)).stdout
    late = jobtrail(settings, "jobs", "history", str(JOB), "--at", "2199-01-01T00:00:00Z").stdout
    assert late.splitlines()[1:] == now.splitlines()


def test_json_is_that_of_the_http_interface(settings: Settings) -> None:
    publish(settings, failed_job(JOB))
    found = json.loads(jobtrail(settings, "jobs", "history", str(JOB), "--json", "--at", at(3)).stdout)
    assert [event["eventType"] for event in found["events"]][-2:] == ["StreamStats", "Failure"]
    assert (found["asOf"]["job"]["status"], found["complete"], found["jobId"]) == ("incomplete", True, JOB)


def test_before_the_job_there_is_none(settings: Settings) -> None:
    publish(settings, failed_job(JOB))
    early = jobtrail(settings, "jobs", "history", str(JOB), "--at", at(-1))
    assert (early.returncode, early.stdout) == (1, "")
    assert "there was no job 7 yet" in early.stderr
    other = jobtrail(settings, "jobs", "history", "8")
    assert (other.returncode, other.stderr) == (1, "jobtrail: there is no job 8\n")


def test_without_kafka_the_lifecycle_is_shown_and_what_is_missing(settings: Settings) -> None:
    publish(settings, [*failed_job(JOB), made(e.CancelRequested, 9, job_id=JOB)])
    found = jobtrail(settings, "jobs", "history", str(JOB), JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert found.returncode == 0
    assert "StreamStats" not in found.stdout
    assert "not complete: Kafka at 127.0.0.1:1" in found.stdout


@pytest.mark.parametrize("text", ["yesterday", "2026-03-01T12:00:00", "12:00"])
def test_a_moment_needs_its_offset_from_utc(settings: Settings, text: str) -> None:
    found = jobtrail(settings, "jobs", "history", "7", "--at", text)
    assert found.returncode == 2
    assert "is no moment with an offset from UTC" in found.stderr


def test_an_unknown_type_is_refused_with_the_near_one(settings: Settings) -> None:
    found = jobtrail(settings, "jobs", "history", "7", "--type", "Failed")
    assert found.returncode == 2
    assert "did you mean" in found.stderr
