"""`jobtrail archive`, `verify` and `list`, as a person types them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from archive_scenes import events_id, in_archive, in_log, publish, some, without_headers
from cli_scenes import jobtrail, unset
from cli_service import started
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from jobtrail.consumers.archive import Archive
from jobtrail.settings import Settings


def test_both_topics_are_copied_verified_and_listed(settings: Settings, tmp_path: Path) -> None:
    """To the address given, or that of the setting; the list has every partition with its offsets."""
    publish(settings, some(30))
    publish(settings, some(12), 2)
    publish(settings, some(3), topic=settings.registry_topic)
    address = str(tmp_path / "archive")
    one = jobtrail(settings, "archive", address, "--topic", "registry", "--json")
    assert (one.returncode, one.stderr) == (0, "")
    registry = json.loads(one.stdout)
    assert (registry["messages"], registry["files"], registry["gaps"]) == (3, 1, [])
    rest = jobtrail(settings, "archive", JOBTRAIL_ARCHIVE=address)
    assert (rest.returncode, rest.stderr) == (0, "")
    assert rest.stdout.startswith("archived 42 messages in 2 files (")
    assert jobtrail(settings, "archive", address).stdout.startswith("archived 0 messages in 0 files")
    assert in_archive(settings, address) == without_headers(in_log(settings))

    read_back = jobtrail(settings, "archive", "verify", JOBTRAIL_ARCHIVE=address)
    assert (read_back.returncode, read_back.stderr) == (0, "")
    assert "read back 45 messages of 3 files" in read_back.stdout
    assert "all is well" in read_back.stdout

    listed = jobtrail(settings, "archive", "list", address, "--json")
    topics = {one["topic"]: one["topicIds"] for one in json.loads(listed.stdout)}
    (events,) = topics[settings.events_topic]
    assert events["topicId"] == events_id(settings)
    assert [
        (part["partition"], part["firstOffset"], part["nextOffset"], part["messages"], part["missing"])
        for part in events["partitions"]
    ] == [(0, 0, 30, 30, 0), (2, 0, 12, 12, 0)]
    assert events["partitions"][0]["lastBrokerMs"] == in_log(settings)[-1][1]
    assert len(topics[settings.registry_topic]) == 1
    table = jobtrail(settings, "archive", "list", address).stdout
    assert all(word in table for word in ("1 of 1", events["topicId"], "30", settings.registry_topic))


def test_a_gap_ends_it_with_status_1_and_consent_with_0(
    settings: Settings, kafka_admin: AdminClient, tmp_path: Path
) -> None:
    """Each gap is a line that names the offsets and what to do."""
    address = str(tmp_path)
    publish(settings, some(10))
    for deleted in kafka_admin.delete_records([TopicPartition(settings.events_topic, 0, 4)]).values():
        deleted.result(30)
    found = jobtrail(settings, "archive", address, "--json")
    assert (found.returncode, found.stderr.count("\n")) == (1, 1)
    assert "offsets 0 to 3" in found.stderr
    assert "--accept-gap" in found.stderr
    (gap,) = json.loads(found.stdout)["gaps"]
    assert gap == {
        "topic": settings.events_topic,
        "topicId": events_id(settings),
        "partition": 0,
        "firstOffset": 0,
        "nextOffset": 4,
        "accepted": False,
    }
    accepted = jobtrail(settings, "archive", address, "--accept-gap")
    assert accepted.returncode == 0
    assert "offsets 0 to 3" in accepted.stderr
    assert "archived 6 messages" in accepted.stdout
    verified = jobtrail(settings, "archive", "verify", address, "--json")
    assert verified.returncode == 0
    assert [
        (one["firstOffset"], one["nextOffset"]) for one in json.loads(verified.stdout)["acceptedGaps"]
    ] == [(0, 4)]
    listed = json.loads(jobtrail(settings, "archive", "list", address, "--json").stdout)
    (part,) = listed[0]["topicIds"][0]["partitions"]
    assert (part["missing"], part["messages"], part["files"]) == (4, 6, 1)


def test_verify_names_each_finding(settings: Settings, tmp_path: Path) -> None:
    """Status 1, one line for each on stderr, and all of them in the JSON."""
    address = str(tmp_path)
    for start in (0, 10):
        publish(settings, some(10, start))
        assert jobtrail(settings, "archive", address).returncode == 0
    first, second = sorted(tmp_path.rglob("*.avro"))
    content = bytearray(first.read_bytes())
    content[-30] ^= 4
    first.write_bytes(content)
    second.unlink()
    found = jobtrail(settings, "archive", "verify", address, "--json")
    assert (found.returncode, found.stderr.count("\n")) == (1, 2)
    said = json.loads(found.stdout)["findings"]
    assert f"{first.name} is damaged" in said[0]
    assert f"{second.name} is not there" in said[1]
    plain = jobtrail(settings, "archive", "verify", address)
    assert (plain.returncode, plain.stdout.strip().endswith("2 findings")) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["archive"], 2, "JOBTRAIL_ARCHIVE"),
        (["archive", "list"], 2, "JOBTRAIL_ARCHIVE"),
        (["archive", "verify", "nope://x"], 2, "nope://x is no address of an archive"),
        (["archive", "s3://user:secret@x/y"], 2, "pip install s3fs"),
        (["archive", "verify", "/nowhere/at/all"], 1, "there is no archive at /nowhere/at/all"),
        (["archive", "x", "--topik", "all"], 2, "did you mean '--topic'?"),
        (["archive", "verify", "--jso"], 2, "jobtrail archive verify --help"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    settings: Settings, arguments: list[str], status: int, said: str
) -> None:
    found = jobtrail(settings, *arguments)
    assert (found.returncode, found.stderr.count("\n"), found.stdout) == (status, 1, "")
    assert said in found.stderr
    assert "secret" not in found.stderr


def test_with_no_kafka_it_says_what_to_start(settings: Settings, tmp_path: Path) -> None:
    found = jobtrail(unset(settings, tmp_path / "empty"), "archive", str(tmp_path))
    assert (found.returncode, found.stderr.count("\n")) == (3, 1)
    assert "jobtrail up" in found.stderr


@pytest.mark.timeout(300)
def test_it_runs_beside_a_projector(settings: Settings, kafka_admin: AdminClient, tmp_path: Path) -> None:
    """Neither disturbs the other: no group is joined, no offset committed."""
    with started(settings, "projector") as projector:
        projector.await_line("folding")
        publish(settings, some(50))
        assert jobtrail(settings, "archive", str(tmp_path)).returncode == 0
        assert projector.end(signal.SIGINT) == 0
    assert Archive.open(str(tmp_path)).extent(events_id(settings)) == {0: (0, 50)}
    groups = kafka_admin.list_consumer_groups().result(30)
    assert "jobtrail-archive" not in {group.group_id for group in groups.valid}
