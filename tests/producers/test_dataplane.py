"""A dataplane is alive while it says so, and while attempts run in it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sdk_reading import Topics, messages, sdk_settings, value_of

from jobtrail import Dataplane, Job, codec
from jobtrail.errors import UsageError
from jobtrail.events import DataplaneHeartbeat
from jobtrail.producers import dataplane as module
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

#: HTTP answers DEGRADED after so many seconds.
HEALTHY_SECONDS = 60


def heartbeats(settings: Settings) -> list[DataplaneHeartbeat]:
    """What the registry topic has."""
    found = [codec.decode(value_of(message)) for message in messages(settings, settings.registry_topic)]
    assert all(isinstance(event, DataplaneHeartbeat) for event in found)
    return [event for event in found if isinstance(event, DataplaneHeartbeat)]


@pytest.fixture
def publisher(kafka: str, topics: Topics, tmp_path: Path) -> Publisher:
    return Publisher(sdk_settings(kafka, topics, tmp_path / "home", dataplane="eu-1"))


def fast(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.1) -> None:
    monkeypatch.setattr(module, "INTERVAL", seconds)
    monkeypatch.setattr(module._Heart, "beat_interval", seconds)


def test_two_heartbeats_may_be_lost_before_it_counts_as_degraded() -> None:
    assert 3 * module.INTERVAL <= HEALTHY_SECONDS
    assert module._Heart.beat_interval == module.INTERVAL


def test_it_is_alive_from_the_start_and_again_and_again(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, then at every interval, with its version, until the block ends."""
    fast(monkeypatch)
    with Dataplane.start("us-1", version="1.2", publisher=publisher):
        until = time.monotonic() + 10
        while publisher.counts.accepted < 4 and time.monotonic() < until:
            time.sleep(0.01)
    accepted = publisher.counts.accepted
    time.sleep(0.3)
    assert publisher.counts.accepted == accepted >= 4
    publisher.close()
    found = heartbeats(publisher.settings)
    assert len(found) == accepted
    assert {(event.dataplane_id, event.dataplane_version) for event in found} == {("us-1", "1.2")}
    assert len({event.event_id for event in found}) == len(found)


def test_attempts_of_a_process_share_one_heartbeat(publisher: Publisher) -> None:
    """However many run at once or one after the other: one event for each interval."""
    with Job.start(connection_id="c", publisher=publisher) as job:
        for _ in range(3):
            with job.attempt() as attempt:
                attempt.stream("users").emitted(records=1)
                with Job.start(connection_id="d", publisher=publisher) as other, other.attempt():
                    pass
    publisher.close()
    (found,) = heartbeats(publisher.settings)
    assert (found.dataplane_id, found.dataplane_version) == ("eu-1", None)


def test_it_beats_until_the_last_attempt_ends(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    fast(monkeypatch)
    with Job.start(connection_id="c", publisher=publisher) as first:
        running = first.attempt()
        with Job.start(connection_id="d", publisher=publisher) as second, second.attempt():
            pass
        publisher.flush()
        before = len(heartbeats(publisher.settings))
        time.sleep(0.5)
        publisher.flush()
        assert len(heartbeats(publisher.settings)) > before
        running.succeed()
    publisher.flush()
    ended = len(heartbeats(publisher.settings))
    time.sleep(0.3)
    publisher.close()
    assert len(heartbeats(publisher.settings)) == ended


def test_an_attempt_may_run_in_another_dataplane(publisher: Publisher) -> None:
    with Job.start(connection_id="c", publisher=publisher) as job, job.attempt(dataplane="asia-1"):
        pass
    publisher.close()
    assert [event.dataplane_id for event in heartbeats(publisher.settings)] == ["asia-1"]


def test_without_a_dataplane_nobody_says_that_one_is_alive(
    kafka: str, topics: Topics, tmp_path: Path
) -> None:
    publisher = Publisher(sdk_settings(kafka, topics, tmp_path / "home"))
    with Job.start(connection_id="c", publisher=publisher) as job, job.attempt():
        pass
    publisher.close()
    assert heartbeats(publisher.settings) == []


def test_while_kafka_is_away_one_heartbeat_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of a day must not end with thousands of them."""
    fast(monkeypatch, 0.02)
    away = Settings(home=tmp_path, kafka_bootstrap_servers="127.0.0.1:9", flush_timeout=0.1)
    with Publisher(away) as publisher, Dataplane.start("eu-1", publisher=publisher):
        time.sleep(0.5)
        assert publisher.counts.waiting == 1


@pytest.mark.parametrize("name", ["a\0b", "x" * 1025])
def test_a_name_that_does_not_fit_is_refused_where_it_is_given(publisher: Publisher, name: str) -> None:
    with pytest.raises(UsageError, match=r"DataplaneHeartbeat\.dataplane_id"):
        Dataplane.start(name, publisher=publisher)
    publisher.close()
