"""A projector that is far behind reads blocks, and what comes of it is the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import Any

import psycopg
import pytest
from api_scenes import created
from confluent_kafka import Producer
from projecting import Pair, pair, query, running, wait_for
from rebuild_scenes import HISTORY, contents, interleaved, job_of, publish, rebuilt

from jobtrail.consumers import far_behind, fetching, stretch
from jobtrail.consumers import source as source_module
from jobtrail.consumers.block import Block
from jobtrail.consumers.far_behind import FarBehind
from jobtrail.consumers.fetching import UnusualError
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.consumers.rebuild_worker import Worker
from jobtrail.consumers.records import Place
from jobtrail.consumers.source import Source
from jobtrail.consumers.stretch import TopicReader
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.events import Event, Label
from jobtrail.projections.shadow import Part
from jobtrail.settings import Settings

NEVER = 1 << 40


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """What far behind is here, in many small answers; and the blocks that are given."""
    monkeypatch.setattr(far_behind, "FAR", 20)
    monkeypatch.setattr(stretch, "FAR", 20)
    monkeypatch.setattr(far_behind, "FETCH", 2_000)
    monkeypatch.setattr(source_module, "BEHIND", 5)
    monkeypatch.setattr(fetching, "FETCH", 2_000)
    found: list[Block] = []
    original = FarBehind.next

    def heard(self: FarBehind) -> Block | None:
        block = original(self)
        if block is not None:
            found.append(block)
        return block

    monkeypatch.setattr(FarBehind, "next", heard)
    return found


def small(settings: Settings, **more: Any) -> Settings:
    """Reads a few at once, and soon hears that the group has another member."""
    client = {"heartbeat.interval.ms": "100", **settings.kafka_client}
    return settings.model_copy(update={"batch_size": 10, "kafka_client": client, **more})


def plain(settings: Settings, partition: int, count: int, *, first: int = 0) -> None:
    """Messages 0, 1, 2 … of a partition."""
    batched(settings, partition, [(b"7", b"%d" % number) for number in range(first, first + count)])


def batched(settings: Settings, partition: int, pairs: Iterable[Pair]) -> None:
    """In record batches of five."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "batch.num.messages": 5, "log_level": 2}
    )
    for key, value in pairs:
        producer.produce(settings.events_topic, value, key, partition=partition)
    assert producer.flush(30) == 0


class Follower:
    """Takes what a source gives, and holds that nothing is left out or comes twice. Its own checkpoints."""

    def __init__(self, settings: Settings) -> None:
        self.of: dict[Place, list[int]] = {}
        self.blocks = 0
        self.source = Source(small(settings), self, threading.Event())
        self._batches = iter(self.source)

    def checkpoints(self, topic_id: str) -> Mapping[int, int]:
        return {part: len(found) for (topic, part), found in self.of.items() if self.id_of(topic) == topic_id}

    def known_topic_ids(self, _topic: str) -> set[str]:
        return set()

    def id_of(self, topic: str) -> str:
        return self.source._ids[topic]

    def take(self) -> None:
        batch = next(self._batches)
        if batch is None:
            return
        for move in batch.moves:
            assert move.expected == len(self.of.get((move.topic, move.partition), []))
        for part in batch.records:
            self.blocks += isinstance(part, Block)
            records = part.records() if isinstance(part, Block) else part
            for partition, value in zip(records.partitions, records.values, strict=True):
                self.of.setdefault((records.topic, partition), []).append(int(value or b""))
        for move in batch.moves:
            assert move.next == len(self.of[move.topic, move.partition])
        self.source.folded(batch)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline, slowest = time.monotonic() + 30, 0.0
        while not holds():
            begun = time.monotonic()
            assert begun < deadline, (self.source.positions, self.source._ended, slowest)
            self.take()
            slowest = max(slowest, time.monotonic() - begun)

    def until_there(self, topic: str, counts: Mapping[int, int]) -> None:
        """All of it was read, in order, and every partition is at its end."""
        wanted = {(topic, part): [*range(count)] for part, count in counts.items()}
        self.until(lambda: self.of == wanted and self.source.caught_up)


@pytest.fixture
def follower(settings: Settings) -> Iterator[Follower]:
    made = Follower(settings)
    yield made
    made.source.close()


# The source.


def test_it_goes_on_with_librdkafka_behind_the_stretch(settings: Settings, follower: Follower) -> None:
    """On all partitions: none stays paused, whether it was read as blocks or waited."""
    counts = {0: 200, 1: 100, 2: 3}
    for partition, count in counts.items():
        plain(settings, partition, count)
    follower.until_there(settings.events_topic, counts)
    assert follower.blocks >= 5
    was = follower.blocks
    for partition in range(4):
        plain(settings, partition, 4, first=counts.get(partition, 0))
    follower.until_there(settings.events_topic, {part: counts.get(part, 0) + 4 for part in range(4)})
    assert follower.blocks == was  # a few are no stretch
    assert follower.source._far_behind.place is None
    # And far behind once more.
    plain(settings, 3, 150, first=4)
    follower.until_there(settings.events_topic, {0: 204, 1: 104, 2: 7, 3: 154})
    assert follower.blocks > was
    assert follower.source.lag() == dict.fromkeys(follower.source.positions, 0)


def test_what_comes_meanwhile_is_read_too(settings: Settings, follower: Follower) -> None:
    """On the partition that is read as blocks, and on one that waits."""
    plain(settings, 0, 200)
    plain(settings, 1, 3)
    follower.until(lambda: follower.blocks > 0)
    assert follower.source._far_behind.place == (settings.events_topic, 0)
    assert not follower.source.caught_up
    plain(settings, 0, 100, first=200)
    plain(settings, 1, 100, first=3)
    plain(settings, 2, 5)
    follower.until_there(settings.events_topic, {0: 300, 1: 103, 2: 5})


def test_a_rewind_in_the_middle_of_a_stretch_goes_back_to_the_checkpoints(
    settings: Settings, follower: Follower
) -> None:
    plain(settings, 0, 300)
    follower.until(lambda: follower.blocks > 2)
    place = settings.events_topic, 0
    follower.of[place] = follower.of[place][:17]
    follower.source.rewind()
    assert follower.source._far_behind.place is None
    assert follower.source.positions[place] == 17
    follower.until_there(settings.events_topic, {0: 300})


def test_after_something_unusual_librdkafka_reads_on_for_a_while(
    settings: Settings, follower: Follower, given: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PAUSE: an aborted transaction is not run into again and again."""
    plain(settings, 0, 100)
    asked = list[int]()

    def read(*arguments: Any) -> Iterator[Block]:
        asked.append(arguments[3])
        yield from ()
        raise UnusualError

    monkeypatch.setattr(far_behind, "PAUSE", 3600.0)
    with monkeypatch.context() as patched:
        patched.setattr(fetching.Fetcher, "read", read)
        follower.until_there(settings.events_topic, {0: 100})
        plain(settings, 0, 100, first=100)
        follower.until_there(settings.events_topic, {0: 200})
    assert len(asked) == 1
    assert follower.blocks == 0
    assert given == []
    follower.source._far_behind._not_before = time.monotonic()  # the pause is over
    plain(settings, 0, 100, first=200)
    follower.until_there(settings.events_topic, {0: 300})
    assert follower.blocks > 0


def test_security_that_aiokafka_cannot_do_is_not_tried_again(settings: Settings) -> None:
    client = {"sasl.oauthbearer.method": "oidc"}
    with_oidc = settings.model_copy(update={"kafka_client": client})
    plain(settings, 0, 200)
    follower = Follower(with_oidc)
    try:
        follower.until_there(settings.events_topic, {0: 200})
        assert follower.blocks == 0
        assert follower.source._far_behind._not_before == float("inf")
    finally:
        follower.source.close()


def test_members_that_come_and_go_in_the_middle_of_a_stretch(settings: Settings, follower: Follower) -> None:
    """Whoever has a partition reads it from where it stands; what is left to a member is read on."""
    for partition in range(4):
        plain(settings, partition, 200)
    topic = settings.events_topic
    follower.until(lambda: follower.blocks > 0)
    assert follower.source._far_behind.place is not None
    second = Follower(settings)
    try:
        deadline = time.monotonic() + 30
        mine = theirs = set[int]()
        while not mine or not theirs or mine | theirs != {*range(4)}:
            assert time.monotonic() < deadline
            if mine:  # the more is left for later: only the group's sake asks for more
                time.sleep(0.05)
            follower.take()
            second.take()
            mine, theirs = (
                {part for name, part in one.source.positions if name == topic} for one in (follower, second)
            )
        assert not mine & theirs
        wanted = [*range(200)]
        follower.until(lambda: all(follower.of.get((topic, part)) == wanted for part in mine))
        second.until(lambda: all(second.of.get((topic, part)) == wanted for part in theirs))
        assert all(follower.of.get((topic, part), [])[200:] == [] for part in theirs)
    finally:
        second.source.close()
    # All are the first one's again, who goes on with the rest where it was.
    follower.until_there(topic, dict.fromkeys(range(4), 200))


# The projector.


def backlog() -> list[Event | tuple[str, bytes, bytes]]:
    return [*HISTORY, *interleaved([job_of(job_id) for job_id in range(400, 440)])]


def test_blocks_give_the_same_rows(
    settings: Settings, second_database: str, given: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without them, dead letters and checkpoints too."""
    publish(settings, backlog())
    publish(settings, [(settings.events_topic, b"no event", b"7")] * 3)
    status = project_until_caught_up(small(settings))
    assert {block.topic for block in given} == {settings.events_topic}
    assert sum(map(len, given)) > len(backlog()) / 2
    other = small(settings, database_url=second_database, projector_group=settings.projector_group + "-2")
    given.clear()
    monkeypatch.setattr(far_behind, "FAR", NEVER)
    without = project_until_caught_up(other)
    assert given == []
    assert (status.messages, status.dead_letters) == (without.messages, without.dead_letters)
    assert status.dead_letters == 3
    assert contents(settings) == contents(other)
    letters = """
        SELECT topic_id, partition, "offset", broker_at, key, value, reason, detail
        FROM jobtrail.dead_letters ORDER BY 1, 2, 3
    """
    places = "SELECT topic_id, log_partition, next_offset FROM jobtrail.checkpoints ORDER BY 1, 2"
    for asked in (letters, places):
        assert query(settings, asked) == query(other, asked)


def test_what_postgres_refuses_is_found_in_a_block(settings: Settings, given: list[Block]) -> None:
    """By halving it, down to the one message."""
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE jobtrail_g1.jobs ADD CHECK (job_id NOT IN (33, 60, 61))")
    publish(settings, [created(job_id) for job_id in range(100)], partition=1)

    status = project_until_caught_up(small(settings, batch_size=16))

    assert given
    assert {33, 60, 61} <= {int(block.key(row) or b"") for block in given for row in range(len(block))}
    assert (status.dead_letters, status.caught_up) == (3, True)
    letters = query(
        settings, 'SELECT reason, key, "offset", partition FROM jobtrail.dead_letters ORDER BY "offset"'
    )
    assert letters == [("refused_by_postgres", b"%d" % job_id, job_id, 1) for job_id in (33, 60, 61)]
    assert query(settings, "SELECT count(*) FROM jobtrail.jobs") == [(97,)]
    assert query(settings, "SELECT sum(next_offset)::int FROM jobtrail.checkpoints") == [(100,)]
    assert project_until_caught_up(settings).messages == 0


def folded(settings: Settings) -> tuple[int, int]:
    """Jobs, and offsets passed."""
    ((jobs,),) = query(settings, "SELECT count(*) FROM jobtrail.jobs")
    ((offsets,),) = query(settings, "SELECT sum(next_offset) FROM jobtrail.checkpoints")
    return jobs, int(offsets or 0)


def test_a_second_projector_that_joins_in_the_middle_of_a_stretch(
    settings: Settings, given: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event is folded once, by one of them; what comes meanwhile too."""
    left: list[Place | None] = []
    following, revoked = FarBehind.next, Source._on_revoke

    def slowly(self: FarBehind) -> Block | None:
        if not left:
            time.sleep(0.05)
        return following(self)

    def heard(self: Source, *arguments: Any) -> None:
        left.append(self._far_behind.place)
        revoked(self, *arguments)

    monkeypatch.setattr(FarBehind, "next", slowly)
    monkeypatch.setattr(Source, "_on_revoke", heard)
    quick, count = small(settings), 0
    for partition in range(4):
        batched(settings, partition, [pair(created(count + number)) for number in range(400)])
        count += 400
    with ExitStack() as stack:
        first = stack.enter_context(running(quick))
        wait_for(settings, "SELECT count(*) > 50 FROM jobtrail.jobs")
        assert given
        second = stack.enter_context(running(quick))
        deadline = time.monotonic() + 30
        while not second or not second[-1].messages:
            assert time.monotonic() < deadline
            publish(settings, [created(count + number) for number in range(4)])
            count += 4
            time.sleep(0.05)
        deadline = time.monotonic() + 60
        while folded(settings) != (count, count):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert any(left)  # it was in the middle of one
    assert query(settings, "SELECT count(*) FROM jobtrail.job_events") == [(count,)]
    assert query(settings, "SELECT count(*) FROM jobtrail.dead_letters") == [(0,)]
    assert first[-1].messages + second[-1].messages == count


def test_holes_of_transactions_are_passed_while_far_behind(settings: Settings, given: list[Block]) -> None:
    """Committed ones within blocks; at an aborted one librdkafka goes on."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "transactional.id": settings.events_topic}
    )
    producer.init_transactions(30)
    for first in range(0, 100, 5):
        # Kafka's index tells what is aborted; it has an entry for each 4 KiB of batches.
        large = [Label(key="k", value="v" * 200)]
        publish(settings, [created(at, labels=large) for at in range(first, first + 5)], partition=0)
    for first, kept in ((100, True), (130, False), (160, True)):
        producer.begin_transaction()
        for number in range(first, first + 30):
            key, value = pair(created(number))
            producer.produce(settings.events_topic, value, key, partition=0)
        if kept:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
    del producer
    publish(settings, [created(number) for number in range(190, 250)], partition=0)

    status = project_until_caught_up(small(settings))

    assert given
    assert (status.messages, status.dead_letters) == (220, 0)
    wanted = [*range(130), *range(160, 250)]
    assert query(settings, "SELECT array_agg(job_id ORDER BY job_id) FROM jobtrail.jobs") == [(wanted,)]
    assert query(settings, "SELECT next_offset FROM jobtrail.checkpoints") == [(253,)]
    assert project_until_caught_up(settings).messages == 0


# The rebuild.


def test_a_worker_of_a_rebuild_reads_blocks_without_what_postgres_refused(settings: Settings) -> None:
    """Those are known by their places; all else is as librdkafka gives it."""
    topic_id = TopicAdmin(settings).ids([settings.events_topic])[settings.events_topic]
    plain(settings, 2, 100)
    refuse = (
        "INSERT INTO jobtrail.dead_letters"
        """
        (topic_id, partition, "offset", topic, broker_at, reason, detail)
        SELECT %s, 2, place, 'x', now(), 'refused_by_postgres', 'x' FROM unnest(%s) AS place
    """
    )
    with psycopg.connect(settings.database_url or "") as connection:
        connection.execute(refuse.encode(), (topic_id, [0, 7, 8, 9, 55, *range(60, 75), 99, 100]))
    wanted = [at for at in range(3, 98) if at not in {7, 8, 9, 55, *range(60, 75)}]
    worker = Worker(small(settings), 1, 1000, None)
    reader = TopicReader(settings)
    try:
        part = Part(settings.events_topic, topic_id, 2, archived_to=0, end=98, at=3)
        found = [*worker._messages(part)]
        assert {*map(type, found)} == {Block}
        (expected,) = reader.read(settings.events_topic, topic_id, 2, 3, 98, 1000)
        expected = expected.take([at - 3 for at in wanted])
        blocks = [block.records() for block in found if isinstance(block, Block)]
        for name in ("offsets", "keys", "values", "broker_ms"):
            assert [*chain.from_iterable(getattr(block, name) for block in blocks)] == getattr(expected, name)
        assert expected.offsets == wanted
    finally:
        reader.close()
        worker._reader.close()
        worker._shadow.close()


def test_a_rebuild_by_blocks_says_the_same(settings: Settings) -> None:
    """Its process ends with nothing left to say."""
    publish(settings, HISTORY)
    project_until_caught_up(settings)
    result = rebuilt(settings, workers=1, verify_only=True)
    assert (result.same, result.messages) == (True, len(HISTORY))
