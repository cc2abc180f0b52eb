"""`jobtrail tail`: what comes is on the terminal, and nothing of it moves it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from datetime import datetime

import pytest
from cli_scenes import COMMAND, NASTY, environment, failed_job, jobtrail, made, succeeded_job

from jobtrail import events as e
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

JOB = 7


def publish(settings: Settings, events: list[e.Event]) -> None:
    """To Kafka alone: no database is needed."""
    with Publisher(settings) as publisher:
        publisher.publish_all(events)


def following(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "tail", *arguments],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], seconds: float = 30) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def test_a_line_tells_when_which_job_and_what(settings: Settings) -> None:
    publish(settings, failed_job(JOB, stream=NASTY))
    found = jobtrail(settings, "tail", "--no-follow")
    assert (found.returncode, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    shown = [next(word for word in text.split() if word in e.__dict__) for text in lines]
    assert shown == ["JobCreated", "AttemptStarted", "StreamStats", "Failure", "AttemptFailed", "JobFailed"]
    date, clock, *rest = lines[3].split()
    assert (
        datetime.fromisoformat(f"{date} {clock}").astimezone() == made(e.JobFailed, 3, job_id=1).occurred_at
    )
    assert rest[:4] == ["job", "7", "attempt", "0"]
    assert "failure_origin=source" in lines[3]
    assert "retryable=true" in lines[3]
    assert "stacktrace" not in lines[3]
    assert "\x1b" not in found.stdout
    assert r"\x1b" in lines[2]


def test_json_is_one_object_a_line_with_the_place(settings: Settings) -> None:
    given = failed_job(JOB, stream=NASTY)
    publish(settings, given)
    found = jobtrail(settings, "tail", "--no-follow", "--json", "--job", "7")
    assert found.stdout.isascii()
    told = [json.loads(text) for text in found.stdout.splitlines()]
    assert [one["event_id"] for one in told] == [event.event_id for event in given]
    assert told[2]["stream_name"] == NASTY
    assert [one["offset"] for one in told] == [*range(6)]
    assert {one["topic"] for one in told} == {settings.events_topic}
    assert datetime.fromisoformat(told[0]["occurred_at"]) == given[0].occurred_at


def test_job_connection_and_type_choose(settings: Settings) -> None:
    publish(settings, [*failed_job(1), *succeeded_job(2)])

    def shown(*arguments: str) -> list[str]:
        found = jobtrail(settings, "tail", "--no-follow", "--json", *arguments)
        return [json.loads(text)["event_type"] for text in found.stdout.splitlines()]

    assert shown("--job", "2") == ["JobCreated", "AttemptStarted", "AttemptSucceeded"]
    assert shown("--connection", "connection-2") == ["JobCreated", "AttemptStarted", "AttemptSucceeded"]
    assert sorted(shown("--type", "Failure", "--type", "AttemptSucceeded")) == ["AttemptSucceeded", "Failure"]


def test_since_a_time_or_how_long_ago(settings: Settings) -> None:
    publish(settings, succeeded_job(1))
    time.sleep(1.1)
    middle = datetime.now().astimezone().isoformat()
    publish(settings, succeeded_job(2))

    def count(*arguments: str) -> int:
        return len(jobtrail(settings, "tail", "--no-follow", *arguments).stdout.splitlines())

    assert count("--since", middle) == 3
    assert count("--since", "1h") == 6
    assert count("--since", "999999w") == 6
    assert count("--since", "earliest") == 6
    assert count("--since", "latest") == 0


def test_it_follows_until_ctrl_c(settings: Settings) -> None:
    publish(settings, succeeded_job(1))
    process = following(settings, "--since", "earliest")
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(3)]
    publish(settings, succeeded_job(2))
    seen += [process.stdout.readline() for _ in range(3)]  # each as it comes, though it is a pipe
    process.send_signal(signal.SIGINT)
    status, rest, err = ended(process)
    assert (status, rest, err) == (130, "", "")
    assert ["job 1" in text for text in seen] == [True] * 3 + [False] * 3


def test_it_ends_when_nobody_reads_on(settings: Settings) -> None:
    publish(settings, succeeded_job(1))
    process = following(settings, "--since", "earliest")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    deadline = time.monotonic() + 30
    while process.poll() is None:
        publish(settings, succeeded_job(2))  # it learns of it when it writes
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read()) == (141, "")
    process.stderr.close()


def test_a_group_goes_on_and_keeps_its_filters(settings: Settings) -> None:
    group = f"tail-{uuid.uuid4().hex[:8]}"
    publish(settings, succeeded_job(1))
    first = jobtrail(settings, "tail", "--no-follow", "--group", group)
    assert len(first.stdout.splitlines()) == 3
    assert jobtrail(settings, "tail", "--no-follow", "--group", group).stdout == ""
    other = jobtrail(settings, "tail", "--no-follow", "--group", group, "--type", "Failure")
    assert (other.returncode, other.stdout) == (1, "")
    assert "it reads every event, and this is types Failure" in other.stderr
    assert len(other.stderr.splitlines()) == 1


def test_what_is_no_event_is_told_of_beside_the_lines(settings: Settings) -> None:
    from projecting import publish as put

    put(settings, [(b"1", b"garbage"), (b"1", None)])
    publish(settings, succeeded_job(1))
    found = jobtrail(settings, "tail", "--no-follow")
    assert (found.returncode, len(found.stdout.splitlines())) == (0, 3)
    first, last = found.stderr.splitlines()
    assert "is no event (unknown_schema" in first or "is no event (null_value" in first
    assert last == "jobtrail: 2 messages were no events"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--type", "Failed"], 2, "did you mean 'JobFailed'"),
        (["--since", "yesterday"], 2, "'yesterday' is no time: write 2026-03-01T12:00:09Z, how long ago"),
        (["--since", "2026-03-01T12:00:00"], 2, "is no time"),
        (["--job", "x"], 2, "'x' is no job id"),
        (["--connection", ""], 2, "connection_id: it is empty"),
        (["--group", "jobtrail-projector"], 2, "is one of Jobtrail's own"),
        (["--folow"], 2, "'--folow' is not known"),
    ],
)
def test_wrong_usage_is_one_line(settings: Settings, arguments: list[str], status: int, message: str) -> None:
    found = jobtrail(settings, "tail", *arguments)
    assert (found.returncode, found.stdout) == (status, "")
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_an_unknown_topic_and_a_kafka_that_is_away(settings: Settings) -> None:
    unknown = jobtrail(settings, "tail", JOBTRAIL_EVENTS_TOPIC="jobtrail.evnets")
    assert unknown.returncode == 1
    assert "has no topic jobtrail.evnets" in unknown.stderr
    away = jobtrail(settings, "tail", JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert away.returncode == 3
    assert len(away.stderr.splitlines()) == len(unknown.stderr.splitlines()) == 1
