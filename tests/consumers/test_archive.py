"""The archive has every message of the log, untouched, wherever a run was ended; it says what it lacks."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anew import make_anew
from archive_scenes import (
    Sent,
    by_any_reader,
    copy,
    events_id,
    in_archive,
    in_log,
    publish,
    some,
    without_headers,
)
from cli_scenes import environment
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from jobtrail.consumers import archive_copy
from jobtrail.consumers.archive import Archive
from jobtrail.consumers.archive_copy import copy_log
from jobtrail.consumers.archive_store import FolderStore, Store
from jobtrail.consumers.archive_verify import Verified, verify
from jobtrail.consumers.reading import CONSUMER_CONFIG
from jobtrail.errors import ArchiveError, ConflictError, LogError, NotFoundError, ServerAwayError, UsageError
from jobtrail.settings import Settings

ODD = [
    Sent(b"7", b"value"),
    Sent(None, b"no key"),
    Sent(b"no value", None),
    Sent(None, None),
    Sent(b"", b""),
    Sent(b"\x00\xff", os.urandom(5_000), (("same", b"1"), ("same", b"2"), ("same", None), ("", b""))),
    Sent(b"long" * 2_000, os.urandom(200_000), tuple((f"name {n}", b"x" * n) for n in range(200))),
    Sent(b"\xc3\x28 is no UTF-8", b"\xc3\x28", (("ünï", b"\xc3\x28"),)),
]


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.avro"))


def findings(address: Path | str) -> list[str]:
    return list(verify(str(address), Verified(), lambda _: None))


def test_odd_messages_come_back_byte_by_byte(settings: Settings, tmp_path: Path) -> None:
    """Null and empty keys and values, repeated and empty headers: as a consumer sees them, for any reader."""
    publish(settings, ODD)
    copied = copy(settings, tmp_path / "archive")
    assert (copied.messages, copied.files, copied.done, copied.wanted) == (len(ODD), 1, len(ODD), len(ODD))
    expected = in_log(settings)
    assert [(one[2], one[3], tuple(one[4])) for one in expected] == [(o.key, o.value, o.headers) for o in ODD]
    (file,) = data_files(tmp_path)
    assert by_any_reader(file) == expected
    for most in (1, 3, 1_000):
        assert in_archive(settings, tmp_path / "archive", most=most) == without_headers(expected)
    assert findings(tmp_path / "archive") == []


def test_a_run_goes_on_where_the_last_one_ended(settings: Settings, tmp_path: Path) -> None:
    """With nothing new it writes nothing; each range begins where the one before ended, by partition."""
    for partition in (0, 3):
        publish(settings, some(10), partition)
    assert copy(settings, tmp_path).files == 2
    assert copy(settings, tmp_path).files == 0
    publish(settings, some(5, 10), 3)
    publish(settings, some(5), 1)
    assert copy(settings, tmp_path).messages == 10
    assert Archive.open(str(tmp_path)).extent(events_id(settings)) == {0: (0, 10), 1: (0, 5), 3: (0, 15)}
    for partition in range(4):
        assert in_archive(settings, tmp_path, partition) == without_headers(in_log(settings, partition))
    assert findings(tmp_path) == []


def test_any_range_can_be_read(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across files and blocks, in pieces of any size."""
    monkeypatch.setattr("jobtrail.consumers.archive_file.BLOCK_MESSAGES", 7)
    for start in range(0, 120, 40):
        publish(settings, some(40, start))
        copy(settings, tmp_path)
    expected = without_headers(in_log(settings))
    archive = Archive.open(str(tmp_path))
    topic_id = events_id(settings)
    pick = random.Random(4)  # noqa: S311  # ranges, and the same each time
    for _ in range(60):
        start, end = sorted(pick.sample(range(121), 2))
        most = pick.choice((1, 5, 7, 13, 50, 500))
        pieces = list(archive.read(settings.events_topic, topic_id, 0, start, end, most))
        assert [one for piece in pieces for one in piece.offsets] == list(range(start, end))
        assert [one for piece in pieces for one in piece.values] == [one[3] for one in expected[start:end]]
        assert {len(piece) for piece in pieces[:-1]} <= {most}
        assert {one for piece in pieces for one in piece.partitions} == {0}
        assert {(piece.topic, piece.topic_id) for piece in pieces} == {(settings.events_topic, topic_id)}
    with pytest.raises(ArchiveError, match=r"offsets 120 to 129 of topic .* are not in the archive"):
        list(archive.read(settings.events_topic, topic_id, 0, 100, 130, 50))
    with pytest.raises(ArchiveError, match=r"offsets 0 to 9 .* partition 2,"):
        list(archive.read(settings.events_topic, topic_id, 2, 0, 10, 50))
    assert archive.topic_ids("no-such-topic") == []
    assert archive.extent("no-such-id") == {}


def test_files_are_bounded(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog becomes many files, and no more than about one is held in memory."""
    monkeypatch.setattr(archive_copy, "FILE_BYTES", 200_000)
    monkeypatch.setattr(archive_copy, "BLOCK_MESSAGES", 100)  # messages taken from the client at a time
    monkeypatch.setattr("jobtrail.consumers.archive_file.BLOCK_BYTES", 50_000)
    publish(settings, [Sent(b"k", os.urandom(1_000)) for _ in range(3_000)])
    seen = []
    copied = copy(settings, tmp_path, on_progress=lambda found: seen.append((found.done, found.wanted)))
    assert copied.files >= 10
    assert max(file.stat().st_size for file in data_files(tmp_path)) < 400_000
    assert seen == sorted(seen)
    assert seen[-1] == (3_000, 3_000)
    assert in_archive(settings, tmp_path) == without_headers(in_log(settings))
    assert findings(tmp_path) == []


def test_holes_of_transactions_are_no_gap(settings: Settings, tmp_path: Path) -> None:
    """What was aborted is left out; the range goes on to the end, though the log ends in no message."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": uuid.uuid4().hex}
    )
    producer.init_transactions(30)
    for value, commit in ((b"kept", True), (b"aborted", False), (b"kept too", True), (b"aborted too", False)):
        producer.begin_transaction()
        for _ in range(3):
            producer.produce(settings.events_topic, value, b"7", partition=0)
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    assert copy(settings, tmp_path).messages == 6
    (first,) = Archive.open(str(tmp_path)).chains[settings.events_topic, events_id(settings), 0]
    assert (first.first_offset, first.next_offset, first.messages) == (0, 16, 6)
    assert in_archive(settings, tmp_path) == without_headers(in_log(settings))
    assert copy(settings, tmp_path).files == 0
    # A range without any message counts as well: once the log has lost it, nobody shall miss it.
    producer.begin_transaction()
    producer.produce(settings.events_topic, b"aborted", b"7", partition=0)
    producer.flush(30)
    # It is open: nothing of it can be read yet.
    assert copy(settings, tmp_path).files == 0
    producer.abort_transaction(30)
    copied = copy(settings, tmp_path)
    assert (copied.messages, copied.files) == (0, 1)
    publish(settings, some(2))
    copy(settings, tmp_path)
    assert Archive.open(str(tmp_path)).extent(events_id(settings)) == {0: (0, 20)}
    assert in_archive(settings, tmp_path) == without_headers(in_log(settings))
    assert findings(tmp_path) == []


def test_it_ends_while_events_arrive(settings: Settings, tmp_path: Path) -> None:
    """A run copies what is there when it comes to a partition, and leaves the rest to the next one."""
    stop = threading.Event()

    def arrive() -> None:
        start = 0
        while not stop.is_set():
            publish(settings, some(200, start))
            start += 200

    publish(settings, some(1_000))
    thread = threading.Thread(target=arrive)
    thread.start()
    try:
        runs = [copy(settings, tmp_path) for _ in range(5)]
    finally:
        stop.set()
        thread.join(60)
    assert sum(run.messages > 0 for run in runs) > 1
    copy(settings, tmp_path)
    assert in_archive(settings, tmp_path) == without_headers(in_log(settings))
    assert findings(tmp_path) == []


#: Archives in small files; ends itself as `kill -9` does, where the scenario says.
KILLED = """
import os, signal, sys
from jobtrail.cli.main import run
from jobtrail.consumers import archive_copy, archive_file, archive_store

archive_copy.FILE_BYTES, archive_copy.BLOCK_MESSAGES = 10_000, 50
archive_file.BLOCK_BYTES = 3_000
where, at = sys.argv[1], int(sys.argv[2])
real = getattr(archive_store.FolderStore, where)
calls = 0

def dying(self, *arguments):
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *arguments)

setattr(archive_store.FolderStore, where, dying)
sys.exit(run(["archive", sys.argv[3], "--topic", "events"]))
"""
#: Between writing aside and moving.
KILLED_BEFORE_MOVE = """
import os, pathlib, signal
move = pathlib.Path.replace
moves = 0

def replace(self, target):
    global moves
    moves += 1
    if moves == AT:
        os.kill(os.getpid(), signal.SIGKILL)
    return move(self, target)

pathlib.Path.replace = replace
"""


@pytest.mark.timeout(300)
def test_killed_anywhere_it_goes_on(settings: Settings, tmp_path: Path) -> None:
    """Kill -9 before a data file, before its manifest, before either is moved into place: nothing is lost."""
    publish(settings, [Sent(b"k", b"%d" % at * 30) for at in range(2_000)])
    expected = without_headers(in_log(settings))

    def ended(program: str, where: str, at: int) -> int:
        ran = subprocess.run(
            [sys.executable, "-c", program, where, str(at), str(tmp_path)],
            env=environment(settings),
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode in {0, -9}, ran.stderr
        return ran.returncode

    for where, at in (("write", 1), ("write", 4), ("write_new", 1), ("write_new", 2)):
        assert ended(KILLED, where, at) == -9
        if data_files(tmp_path):
            assert findings(tmp_path) == []
    for at in (1, 2, 3):
        program = KILLED_BEFORE_MOVE.replace("AT", str(at)) + KILLED
        assert ended(program, "write", 10_000) == -9
    assert list(tmp_path.rglob("*.part"))
    got = in_archive(settings, tmp_path)
    assert 0 < len(got) < len(expected)
    assert got == expected[: len(got)]
    assert ended(KILLED, "write", 10_000) == 0
    assert in_archive(settings, tmp_path) == expected
    assert findings(tmp_path) == []
    # What the killed ones left is gone: no more data files than manifests, and nothing half written.
    assert len(data_files(tmp_path)) == len(list(tmp_path.rglob("0*.json")))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.timeout(300)
def test_two_runs_at_once(settings: Settings, tmp_path: Path) -> None:
    """In a folder the second one is refused; the first one's work is whole."""
    publish(settings, some(500))
    store = Store.open(str(tmp_path))
    assert isinstance(store, FolderStore)
    with store.writing(), pytest.raises(ConflictError, match="another `jobtrail archive` writes to"):
        copy(settings, tmp_path)
    command = [sys.executable, "-m", "jobtrail.cli.main", "archive", str(tmp_path), "--topic", "events"]
    both = [
        subprocess.Popen(command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [one.communicate(timeout=120) for one in both]
    assert 0 in {one.returncode for one in both}, said
    assert in_archive(settings, tmp_path) == without_headers(in_log(settings))
    assert findings(tmp_path) == []


def test_two_runs_at_once_where_nothing_locks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second to a range finds the manifest there; the archive stays right."""
    address = f"memory://{uuid.uuid4().hex}/archive"
    publish(settings, some(300))
    real = Store.write_new
    others: list[Any] = []

    def overtaken(self: Store, name: str, content: bytes) -> None:
        if not others:
            others.append(None)
            publish(settings, some(50, 300))
            others.append(copy(settings, address))
        real(self, name, content)

    monkeypatch.setattr(Store, "write_new", overtaken)
    with pytest.raises(ConflictError, match=r"another run wrote memory://.*json at the same time"):
        copy(settings, address)
    assert others[1].messages == 350
    assert in_archive(settings, address) == without_headers(in_log(settings))
    assert findings(address) == []
    assert copy(settings, address).files == 0


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_any_address_of_fsspec_will_do(settings: Settings, tmp_path: Path, scheme: str) -> None:
    address = f"memory://{uuid.uuid4().hex}/a b" if scheme == "memory" else f"file://{tmp_path}/a b"
    with pytest.raises(ArchiveError, match=f"there is no archive at {scheme}://"):
        Archive.open(address)
    for start in (0, 20):
        publish(settings, some(20, start))
        assert copy(settings, address).messages == 20
    assert in_archive(settings, address) == without_headers(in_log(settings))
    assert findings(address) == []
    assert bool(data_files(tmp_path)) == (scheme == "file")


@pytest.mark.parametrize("address", ["nope://bucket/x", "s3://no-package/for-this"])
def test_an_address_that_cannot_be_is_wrong_usage(settings: Settings, address: str) -> None:
    with pytest.raises(UsageError, match="is no address of an archive"):
        copy(settings, address)
    with pytest.raises(UsageError, match="is no address of an archive"):
        Archive.open(address)


def test_a_folder_that_cannot_be_used_is_named(settings: Settings, tmp_path: Path) -> None:
    publish(settings, some(1))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArchiveError, match=rf"{tmp_path}/file/below.* cannot be used: "):
        copy(settings, tmp_path / "file" / "below")
    with pytest.raises(ArchiveError, match="there is no archive at"):
        Archive.open(str(tmp_path / "nowhere"))


def test_a_topic_made_anew_lies_beside_the_old_one(
    settings: Settings, kafka_admin: AdminClient, tmp_path: Path
) -> None:
    """Under its own id; the order of the ids is that of their messages."""
    publish(settings, some(10))
    copy(settings, tmp_path)
    before = in_archive(settings, tmp_path)
    old, new = make_anew(settings, kafka_admin)
    publish(settings, some(5, 100))
    assert copy(settings, tmp_path).messages == 5
    archive = Archive.open(str(tmp_path))
    assert archive.topic_ids(settings.events_topic) == [old, new]
    assert (archive.extent(old), archive.extent(new)) == ({0: (0, 10)}, {0: (0, 5)})
    (piece,) = archive.read(settings.events_topic, old, 0, 0, 10, 100)
    assert piece.values == [one[3] for one in before]
    assert in_archive(settings, tmp_path) == without_headers(in_log(settings))
    assert findings(tmp_path) == []


def test_a_topic_made_anew_while_it_is_copied_is_noticed(
    settings: Settings, kafka_admin: AdminClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is filed under an id that it may not have."""
    publish(settings, some(10))
    real = archive_copy._Copier._finish

    def late(self: Any, file: Any) -> None:
        make_anew(settings, kafka_admin)
        real(self, file)

    monkeypatch.setattr(archive_copy._Copier, "_finish", late)
    with pytest.raises(LogError, match="was made anew while it was copied"):
        copy(settings, tmp_path)
    assert data_files(tmp_path) == []


def delete_before(settings: Settings, admin: AdminClient, offset: int) -> None:
    """As retention does."""
    place = TopicPartition(settings.events_topic, 0, offset)
    for deleted in admin.delete_records([place]).values():
        deleted.result(30)


def test_a_gap_is_told_and_nothing_is_copied_behind_it(
    settings: Settings, kafka_admin: AdminClient, tmp_path: Path
) -> None:
    """Other partitions are copied; with consent it goes on, and the archive keeps what is missing."""
    publish(settings, some(10))
    copy(settings, tmp_path)
    publish(settings, some(10, 10))
    publish(settings, some(3), 2)
    delete_before(settings, kafka_admin, 15)
    copied = copy(settings, tmp_path)
    assert copied.messages == 3
    (gap,) = copied.gaps
    assert not gap.accepted
    assert f"offsets 10 to 14 of topic {settings.events_topic}" in str(gap)
    topic_id = events_id(settings)
    assert Archive.open(str(tmp_path)).extent(topic_id) == {0: (0, 10), 2: (0, 3)}
    assert findings(tmp_path) == []

    accepted = copy(settings, tmp_path, accept_gaps=True)
    assert (accepted.messages, [one.accepted for one in accepted.gaps]) == (5, [True])
    archive = Archive.open(str(tmp_path))
    with pytest.raises(ArchiveError, match=r"offsets 10 to 14 .* partition 0, are missing, as was accepted"):
        archive.extent(topic_id)
    assert archive.extent(topic_id, accepted_gaps=True) == {0: (0, 20), 2: (0, 3)}
    assert [one[0] for one in in_archive(settings, tmp_path)] == [*range(10), *range(15, 20)]
    verified = Verified()
    assert list(verify(str(tmp_path), verified, lambda _: None)) == []
    assert [(one.first, one.next) for one in verified.accepted] == [(10, 15)]
    # From now on it is an archive like others.
    publish(settings, some(2, 20))
    again = copy(settings, tmp_path)
    assert (again.messages, again.gaps) == (2, [])


def test_what_was_gone_before_the_first_run_is_a_gap_too(
    settings: Settings, kafka_admin: AdminClient, tmp_path: Path
) -> None:
    """Even where nothing is left; once accepted, the archive begins behind it."""
    publish(settings, some(10))
    delete_before(settings, kafka_admin, 10)
    assert [(one.first, one.next) for one in copy(settings, tmp_path).gaps] == [(0, 10)]
    copy(settings, tmp_path, accept_gaps=True)
    assert copy(settings, tmp_path).gaps == []
    publish(settings, some(4))
    assert copy(settings, tmp_path).messages == 4
    assert Archive.open(str(tmp_path)).extent(events_id(settings)) == {0: (10, 14)}
    assert in_archive(settings, tmp_path) == without_headers(in_log(settings))


def test_a_log_that_is_shorter_than_the_archive_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Its offsets will be given to other messages, or were."""
    publish(settings, some(5))
    copy(settings, tmp_path)
    (manifest,) = tmp_path.rglob("0*.json")
    said = json.loads(manifest.read_text())
    (file,) = data_files(tmp_path)
    file.rename(file.with_name(file.name.replace(f"{5:020}", f"{9:020}")))
    manifest.write_text(json.dumps({**said, "next_offset": 9}))
    with pytest.raises(LogError, match=r"the archive has it up to offset 9, but the log ends at 5"):
        copy(settings, tmp_path)


def test_kafka_away_or_without_the_topic(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobtrail.consumers.topics.ANSWER_TIMEOUT", 1.0)
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(ServerAwayError, match=r"127\.0\.0\.1:9"):
        copy(away, tmp_path)
    with pytest.raises(NotFoundError, match="no-such-topic"):
        copy_log(settings, str(tmp_path), ["no-such-topic"])


def test_a_silent_kafka_is_away(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went while a partition was read: status 3, and what is archived stays."""
    publish(settings, some(3))
    monkeypatch.setattr(archive_copy, "SILENCE", 0.5)
    # Behind the end nothing comes.
    monkeypatch.setattr(archive_copy._Copier, "_bounds", lambda *_: (0, 10))
    monkeypatch.setattr(archive_copy, "CONSUMER_CONFIG", {**CONSUMER_CONFIG, "enable.partition.eof": False})
    with pytest.raises(ServerAwayError, match="does not answer"):
        copy(settings, tmp_path)


def archived(settings: Settings, folder: Path) -> Archive:
    """Three files of ten messages."""
    for start in (0, 10, 20):
        publish(settings, some(10, start))
        copy(settings, folder)
    return Archive.open(str(folder))


def read(archive: Archive, settings: Settings) -> list[Any]:
    return list(archive.read(settings.events_topic, events_id(settings), 0, 0, 30, 100))


def test_each_changed_byte_is_found(settings: Settings, tmp_path: Path) -> None:
    """By who reads it, and by verify; both name the file."""
    archive = archived(settings, tmp_path)
    file = data_files(tmp_path)[1]
    whole = file.read_bytes()
    for at in (0, 5, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ArchiveError, match=f"{file.name} is damaged"):
            read(archive, settings)
        (finding,) = findings(tmp_path)
        assert f"{file.name} is damaged" in finding
    file.write_bytes(whole[:-1])
    with pytest.raises(ArchiveError, match=f"{file.name} is damaged"):
        read(archive, settings)


def test_each_missing_file_is_found(settings: Settings, tmp_path: Path) -> None:
    """A data file by its name; a manifest as the gap that it leaves, also at the beginning."""
    archive = archived(settings, tmp_path)
    topic_id = events_id(settings)
    file = data_files(tmp_path)[1]
    aside = file.rename(tmp_path / "aside")
    with pytest.raises(ArchiveError, match=f"{file.name} is not there"):
        read(archive, settings)
    assert [
        f"{file.name} is not there" in one or "aside is no file" in one for one in findings(tmp_path)
    ] == [True] * 2
    aside.rename(file)
    for nth, missing in ((0, "0 to 9"), (1, "10 to 19")):
        manifest = sorted(tmp_path.rglob("0*.json"))[nth]
        content = manifest.read_bytes()
        manifest.unlink()
        with pytest.raises(ArchiveError, match=f"offsets {missing} .* partition 0, are missing"):
            Archive.open(str(tmp_path)).extent(topic_id)
        with pytest.raises(
            ArchiveError, match=f"offsets {missing.split()[0]} to 29 .* are not in the archive"
        ):
            read(Archive.open(str(tmp_path)), settings)
        with pytest.raises(ArchiveError, match=f"offsets {missing}"):
            copy(settings, tmp_path)
        (finding,) = findings(tmp_path)
        assert f"offsets {missing}" in finding
        manifest.write_bytes(content)
    # The last one is no gap: what is still in the log is archived anew.
    sorted(tmp_path.rglob("0*.json"))[2].unlink()
    assert copy(settings, tmp_path).messages == 10
    assert findings(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"next_offset": 15}, "is not there"),
        ({"messages": 9}, "has 10 messages, and its manifest says 9"),
        ({"first_broker_ms": 1}, "other times than"),
        ({"first_offset": 11}, "it says that it is"),
        ({"partition": "0"}, "Expected `int`, got `str`"),
        ({"format": 2}, "is of format 2, and this version reads 1"),
        (None, "is damaged"),
    ],
)
def test_a_manifest_that_is_wrong_is_found(
    settings: Settings, tmp_path: Path, change: dict[str, Any] | None, said: str
) -> None:
    archived(settings, tmp_path)
    manifest = sorted(tmp_path.rglob("0*.json"))[2]
    text = manifest.read_text()
    manifest.write_text(
        text[:-20] if change is None else json.dumps({**json.loads(text), "first_offset": 20, **change})
    )
    if change == {"next_offset": 15}:
        # Ends before it begins.
        said = "is damaged"
    found = findings(tmp_path)
    assert any(said in one and manifest.parent.name in one for one in found), found


def test_an_overlap_is_found_and_passed_over(settings: Settings, tmp_path: Path) -> None:
    """As where two archives of one topic were put together: each message is given once."""
    publish(settings, some(10))
    copy(settings, tmp_path / "a")
    publish(settings, some(10, 10))
    copy(settings, tmp_path / "a")
    publish(settings, some(5, 20))
    monkey = tmp_path / "b"
    copy(settings, monkey)
    # The second one as if it had begun at 5.
    store = Store.open(str(tmp_path / "a"))
    for one in Archive.open(str(monkey)).chains.values():
        (whole,) = one
        data = Store.open(str(monkey)).read(whole.data_name)
        shifted = replace(whole, first_offset=5)
        store.write(shifted.data_name, data)
        store.write(shifted.name, shifted.to_json())
    found = findings(tmp_path / "a")
    assert any("offsets 5 to 9 are in another file too" in one for one in found)
    assert in_archive(settings, tmp_path / "a") == without_headers(in_log(settings))


def test_only_what_a_manifest_names_is_there(settings: Settings, tmp_path: Path) -> None:
    """A run in a folder takes away what a killed one left, once others have it; and nothing else."""
    archived(settings, tmp_path)
    file = data_files(tmp_path)[0]
    orphan, needed = (file.with_name(f"{at:020}-{at + 5:020}-{'0' * 16}.avro") for at in (25, 30))
    for each in (orphan, needed):
        each.write_bytes(b"of a run that was killed")
    (tmp_path / "README").write_text("of somebody")
    assert [one for one in findings(tmp_path) if "README" not in one] == []
    before = in_archive(settings, tmp_path)
    copy(settings, tmp_path)
    assert not orphan.exists()
    assert needed.exists()
    assert (tmp_path / "README").exists()
    assert in_archive(settings, tmp_path) == before
