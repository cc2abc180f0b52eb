"""The demonstration's connectors, and its three syncs with the real faker, on a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import refuse

from jobtrail.api.models import JobStatus
from jobtrail.demo import faker, scenario
from jobtrail.demo.destination import file_of
from jobtrail.demo.faker import FakerError, faker_command, find_python
from jobtrail.demo.tee import records
from jobtrail.events import Reporter, StreamStats
from jobtrail.producers.protocol import Stream
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings


def say(module: str, command: str, *options: str) -> list[dict[str, Any]]:
    """What a connector of the demonstration prints."""
    answer = subprocess.run(
        [sys.executable, "-m", f"jobtrail.demo.{module}", command, *options], capture_output=True, check=False
    )
    return [json.loads(line) for line in answer.stdout.splitlines()]


@pytest.mark.parametrize("module", ["source", "destination"])
def test_connectors_answer_spec_and_check(module: str) -> None:
    (spec,), (check,) = say(module, "spec"), say(module, "check")
    assert spec["spec"]["connectionSpecification"]["type"] == "object"
    assert check["connectionStatus"] == {"status": "SUCCEEDED"}


def test_the_source_names_its_streams_and_goes_on_from_a_state(tmp_path: Path) -> None:
    (catalog,) = say("source", "discover")
    assert [stream["name"] for stream in catalog["catalog"]["streams"]] == ["users", "purchases"]
    config, state = tmp_path / "config.json", tmp_path / "state.json"
    config.write_text('{"count": 5}')
    messages = say("source", "read", "--config", str(config))
    states = [message["state"] for message in messages if message["type"] == "STATE"]
    config.write_text('{"count": 8}')
    state.write_text(json.dumps(states))
    more = say("source", "read", "--config", str(config), "--state", str(state))
    ids = [message["record"]["data"]["id"] for message in more if message["type"] == "RECORD"]
    assert ids == [6, 7, 8, 6, 7, 8]


def test_the_kept_output_is_what_passed_and_the_exit_status_too(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    tee = [sys.executable, "-m", "jobtrail.demo.tee", str(kept), "--", sys.executable, "-c"]
    answer = subprocess.run(
        [*tee, "print('x' * 200_000); raise SystemExit(3)"], capture_output=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (3, kept.read_bytes())
    assert subprocess.run([*tee, "import os; os.kill(os.getpid(), 9)"], check=False).returncode == 137


def test_a_faker_that_cannot_be_had_is_said_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small source takes its place."""

    def refuse() -> str:
        raise FakerError("no Python is found")

    monkeypatch.setattr(faker, "find_python", refuse)
    said: list[str] = []
    made = scenario.prepare(tmp_path, said.append)
    assert made.syncs[0].title == "a small source"
    assert said == [
        "no Python is found; the small source of the demonstration takes the place of airbyte-source-faker"
    ]


def test_a_python_that_does_not_start_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in faker.VERSIONS:
        shim = tmp_path / f"python{version}"
        shim.write_text("#!/bin/sh\nexit 127\n")
        shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.12"))
    with pytest.raises(FakerError, match=r"no Python 3\.12 or 3\.11"):
        find_python()


def test_the_lock_has_hashes_and_no_addresses() -> None:
    lines = faker.REQUIREMENTS.read_text("utf-8").splitlines()
    assert not [line for line in lines if "://" in line or " @ " in line or line.startswith("-")]
    pinned = [line for line in lines if "==" in line]
    assert all(line.endswith(" \\") for line in pinned)
    assert len([line for line in lines if "--hash=sha256:" in line]) >= len(pinned)


@pytest.fixture(scope="module")
def command() -> list[str]:
    """The real faker, in the cache that all runs share."""
    from conftest import CACHE

    try:
        return faker_command(CACHE / "demo", lambda _: None)
    except FakerError as error:
        refuse(str(error))


@pytest.mark.usefixtures("command")
def test_three_syncs_end_as_they_must_and_every_record_is_counted(settings: Settings) -> None:
    """What Jobtrail reports is what a plain JSON count of the sources' output finds, and what is on disk."""
    made = scenario.prepare(settings.home, lambda _: None, settings.cache)
    succeeds, fails, slow = made.syncs
    with Publisher(settings) as publisher:
        result = scenario.play_sync(succeeds, publisher)
        sent = records(succeeds.printed)
        assert succeeds.title == "airbyte-source-faker"
        assert (result.outcome, result.exit_status, result.malformed) == ("succeeded", 0, 0)
        assert sent.total() >= 10_000
        assert {stream.name: counts.records for stream, counts in result.streams.items()} == sent
        assert {stream.name: counts.committed_records for stream, counts in result.streams.items()} == sent
        folder = succeeds.printed.parent / "written"
        assert {name: file_of(folder, name).read_bytes().count(b"\n") for name in sent} == sent
        assert {counts.said_by_source for counts in result.streams.values()} == set(sent.values())

        result = scenario.play_sync(fails, publisher)
        assert (result.outcome, [reason.origin for reason in result.failures]) == ("failed", ["source"])
        assert result.streams[Stream("purchases")].records == records(fails.printed)["purchases"] == 1500

        expected = scenario._play(slow, publisher, lambda _job_id, _title: None)
        assert expected.status == JobStatus.CANCELLED
        assert expected.sent["users"] >= scenario.CANCELLED_AFTER
    told = [event for event in _published(settings, expected.job_id) if isinstance(event, StreamStats)]
    last = {stats.stream_name: stats for stats in told if stats.reporter == Reporter.PLATFORM}
    assert {name: stats.records_emitted for name, stats in last.items()} == expected.sent
    assert 0 < (last["users"].records_committed or 0) <= expected.sent["users"]


def _published(settings: Settings, job_id: int) -> list[Any]:
    from confluent_kafka import Consumer, TopicPartition

    from jobtrail import codec

    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "tests"})
    found = []
    try:
        for partition in range(settings.partitions):
            begin, end = consumer.get_watermark_offsets(TopicPartition(settings.events_topic, partition), 10)
            consumer.assign([TopicPartition(settings.events_topic, partition, begin)])
            while begin < end:
                message = consumer.poll(10)
                assert message is not None
                begin = (message.offset() or 0) + 1
                value = message.value()
                assert isinstance(value, bytes)
                found.append(codec.decode(value))
    finally:
        consumer.close()
    return [event for event in found if getattr(event, "job_id", None) == job_id]
