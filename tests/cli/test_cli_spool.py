"""`jobtrail spool list` and `send`, as a person types them."""

from __future__ import annotations

import json

from cli_scenes import jobtrail
from sdk_reading import published

from jobtrail import events
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings


def leave(settings: Settings, count: int) -> list[events.Event]:
    """Events that a process leaves while Kafka is away."""
    made: list[events.Event] = [
        events.AttemptHeartbeat(job_id=1, attempt_number=number) for number in range(count)
    ]
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1", "flush_timeout": 0.3})
    with Publisher(away) as publisher:
        publisher.publish_all(made)
    return made


def test_what_ended_processes_left_is_listed_and_sent_in_order(settings: Settings) -> None:
    empty = jobtrail(settings, "spool")
    assert (empty.returncode, empty.stdout.split(" /")[0]) == (0, "nothing is in the spool")
    made = leave(settings, 1_000)
    listed = jobtrail(settings, "spool", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "1,000" in listed.stdout
    assert "`jobtrail spool send`" in listed.stdout
    (segment,) = json.loads(jobtrail(settings, "spool", "list", "--json").stdout)
    assert (segment["inUse"], segment["events"], segment["tornBytes"]) == (False, 1_000, 0)
    sent = jobtrail(settings, "spool", "send", "--json")
    assert (sent.returncode, sent.stderr) == (0, "")
    assert json.loads(sent.stdout) == {"segments": 1, "events": 1_000, "torn": 0}
    assert [event.event_id for event in published(settings)] == [event.event_id for event in made]
    assert json.loads(jobtrail(settings, "spool", "list", "--json").stdout) == []
    assert "nothing was left" in jobtrail(settings, "spool", "send").stdout


def test_sending_while_kafka_is_away_loses_nothing_and_says_so(settings: Settings) -> None:
    leave(settings, 10)
    away = jobtrail(settings, "spool", "send", JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert away.returncode == 3
    assert "10 events stay in the spool" in away.stderr
    (segment,) = json.loads(jobtrail(settings, "spool", "list", "--json").stdout)
    assert segment["events"] == 10


def test_what_is_torn_is_kept_and_what_is_not_ours_is_left_alone(settings: Settings) -> None:
    made = leave(settings, 3)
    (segment,) = (settings.home / "spool").glob("*.events")
    with segment.open("ab") as file:
        file.write(b"half a record")
    other = segment.with_name("notes.events")
    other.write_text("not ours")
    assert "13 bytes torn" in jobtrail(settings, "spool", "list").stdout
    sent = jobtrail(settings, "spool", "send")
    assert (sent.returncode, sent.stderr) == (0, "")
    assert "3 events of 1 segments" in sent.stdout
    assert "*.torn" in sent.stdout
    assert len(published(settings)) == len(made)
    assert segment.with_suffix(".torn").exists()
    assert other.read_text() == "not ours"
    assert json.loads(jobtrail(settings, "spool", "list", "--json").stdout) == []
