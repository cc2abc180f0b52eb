"""Rebuilds from an archive, from an archive and a topic, and with what is missing from both."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cli_scenes import jobtrail
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic, TopicPartition
from rebuild_scenes import HISTORY, contents, job_of, publish, rebuilt

from jobtrail.consumers.archive_copy import copy_log
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.consumers.rebuild_worker import stretches
from jobtrail.consumers.stretch import TopicReader
from jobtrail.consumers.topics import TOPIC_CONFIG
from jobtrail.errors import LogError
from jobtrail.projections.shadow import Part
from jobtrail.settings import Settings

#: Where in the log a job's events stand is known of the topic that is there alone.
PLACES = ("log_partition", "first_offset", "last_offset")


@pytest.fixture
def archived(settings: Settings, tmp_path: Path) -> str:
    """The history in the log, in the read models and in an archive; then some events more in the log."""
    address = str(tmp_path / "archive")
    publish(settings, HISTORY)
    copy_log(settings, address, [settings.events_topic, settings.registry_topic])
    publish(settings, job_of(900))
    project_until_caught_up(settings)
    return address


def test_the_archive_and_then_the_topic_give_the_same_rows(archived: str, settings: Settings) -> None:
    """Where both have it, --from says which is read."""
    before = contents(settings)
    result = rebuilt(settings, origin="archive", archive=archived)
    assert (result.swapped, result.same, result.messages) == (True, True, len(HISTORY) + len(job_of(900)))
    assert contents(settings) == before


def test_what_the_topic_no_longer_has_is_read_from_the_archive(
    archived: str, settings: Settings, kafka_admin: AdminClient
) -> None:
    """Without an archive, or behind its end, the gap is named."""
    before = contents(settings)
    lose(settings, kafka_admin, dict.fromkeys(range(4), 3))
    with pytest.raises(LogError, match=r"offsets 0 to 2 are needed and are missing \(.*no archive is set\)"):
        rebuilt(settings)
    assert rebuilt(settings, archive=archived).same
    assert contents(settings) == before
    lose(settings, kafka_admin, dict.fromkeys(range(4), -1))
    with pytest.raises(LogError, match="and the archive has not got them either"):
        rebuilt(settings, archive=archived)
    named = jobtrail(settings, "rebuild", "--yes", "--from", "archive")
    assert (named.returncode, "--from archive: no archive is set" in named.stderr) == (2, True)


def test_a_rebuild_that_goes_on_without_its_archive_passes_nothing_by(settings: Settings) -> None:
    """What it had not read of the archive yet is asked for, and not left out."""
    reader = TopicReader(settings)
    try:
        with pytest.raises(LogError, match="offsets 3 to 7 are to be read from the archive"):
            next(
                stretches(Part(settings.events_topic, "id", 0, archived_to=8, end=9, at=3), None, reader, 10)
            )
    finally:
        reader.close()


def lose(settings: Settings, admin: AdminClient, befores: dict[int, int]) -> None:
    """Deletes the records before these offsets; -1: all."""
    places = [TopicPartition(settings.events_topic, *one) for one in befores.items()]
    for future in admin.delete_records(places).values():
        future.result(30)


def test_a_topic_made_anew_is_noticed_and_goes_on_behind_its_archive(
    archived: str, settings: Settings, kafka_admin: AdminClient
) -> None:
    """The rows of all events, those of the old topic too; the projector, which had refused, goes on."""
    copy_log(settings, archived, [settings.events_topic, settings.registry_topic])
    before = contents(settings, without=PLACES)
    for future in kafka_admin.delete_topics([settings.events_topic]).values():
        future.result(30)
    _make(kafka_admin, settings.events_topic)
    with pytest.raises(LogError, match="was made anew"):
        project_until_caught_up(settings)
    result = rebuilt(settings, archive=archived)
    assert result.swapped
    assert "came from topics that are no more" in (result.note or "")
    assert contents(settings, without=PLACES) == before
    publish(settings, job_of(901))
    project_until_caught_up(settings)
    after = contents(settings)
    assert {row["job_id"] for row in after["jobs"]} == {row["job_id"] for row in before["jobs"]} | {901}
    assert rebuilt(settings, archive=archived, verify_only=True).same


def _make(admin: AdminClient, topic: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            admin.create_topics([NewTopic(topic, 4, 1, config=dict(TOPIC_CONFIG))])[topic].result(30)
        except Exception as error:  # the broker is still deleting the old one
            if "already exists" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
