"""Record batches as they lie in Kafka: the same messages as librdkafka gives, and the same errors."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from aiokafka import codec as compression
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic, TopicPartition
from conftest import CACHE
from embedded_commands import kill, new_home, pid

from jobtrail import embedded
from jobtrail.consumers import fetching, stretch
from jobtrail.consumers.block import BadBatchError, Block
from jobtrail.consumers.decode import Messages
from jobtrail.consumers.ends import Log
from jobtrail.consumers.fetching import Fetcher, UnusualError
from jobtrail.consumers.stretch import BlockReader, TopicReader
from jobtrail.errors import JobtrailError, LogError, ServerAwayError
from jobtrail.settings import Settings

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
#: Kafka protocol, "Record Batch": number of each in its attributes.
NUMBER = {name: number for number, name in enumerate(CODECS)}
DATED_BY = ("CreateTime", "LogAppendTime")
#: (partition, offset, milliseconds, key, value)
Row = tuple[int, int, int, bytes | None, bytes | None]
Reader = TopicReader | BlockReader | Fetcher
ID = "topic-1"
AT = 1_760_000_000_000


@pytest.fixture(autouse=True)
def _far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stretch is long here."""
    monkeypatch.setattr(stretch, "FAR", 1)


@pytest.fixture(autouse=True)
def _nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No thread stays, nothing is left open, and asyncio has nothing to say of tasks."""
    before = {*threading.enumerate()}
    yield
    gc.collect()  # what is not closed says so when it goes; pytest makes an error of that
    assert [one for one in threading.enumerate() if one.name == "jobtrail-fetch" and one not in before] == []
    said = [one.getMessage() for one in caplog.get_records("call") if one.name == "asyncio"]
    assert said == []


@pytest.fixture(scope="module")
def here(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(kafka, tmp_path_factory.mktemp("fetching"))


def settings_of(address: str, home: Path, **client: str) -> Settings:
    """Of a Jobtrail that reads only."""
    return Settings(home=home, kafka_bootstrap_servers=address, kafka_client=client)


@pytest.fixture(scope="module")
def as_librdkafka(here: Settings) -> Iterator[TopicReader]:
    reader = TopicReader(here)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def fetcher(here: Settings) -> Iterator[Fetcher]:
    made = Fetcher(here)
    yield made
    made.close()


@pytest.fixture(scope="module")
def block_reader(here: Settings) -> Iterator[BlockReader]:
    made = BlockReader(here)
    made._fetcher = Fetcher(here)  # its thread is there before the tests
    yield made
    made.close()


def new_topic(admin: AdminClient, partitions: int = 1, **config: str) -> str:
    name = f"fetching-{uuid.uuid4().hex[:12]}"
    named = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=named)])[name].result(30)
    deadline = time.monotonic() + 30
    while name not in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return name


@cache
def producer(address: str, compressed: str, at_once: int) -> Producer:
    """Its batches have so many messages, where that many wait."""
    return Producer(
        {
            "bootstrap.servers": address,
            "compression.codec": compressed,
            "batch.num.messages": at_once,
            "linger.ms": 0 if at_once == 1 else 50,
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 2,
        }
    )


def produce(
    address: str, topic: str, count: int, *, compressed: str = "none", at_once: int = 1000, partition: int = 0
) -> None:
    """All that a message may have: nulls, nothing, what compresses and what does not, headers, any time."""
    chance = random.Random(count * at_once)  # noqa: S311  # the same in each run
    sending = producer(address, compressed, at_once)
    for number in range(count):
        key = (None, b"", b"%d" % number, chance.randbytes(9))[number % 4]
        value = (b"x" * (number % 300), chance.randbytes(number % 70), None, b"")[number % 7 % 4]
        sending.produce(
            topic,
            value,
            key,
            partition=partition,
            timestamp=AT + chance.randrange(-100_000, 100_000),
            headers=[("a", b"b" * (number % 5)), ("none", None)] if number % 3 == 0 else None,
        )
    assert sending.flush(30) == 0


def rows(messages: Iterable[Messages]) -> list[Row]:
    found: list[Row] = []
    for some in messages:
        assert len(some) > 0
        records = some.records() if isinstance(some, Block) else some
        assert {(records.topic, records.topic_id)} == {(some.topic, ID)}
        found += zip(
            records.partitions, records.offsets, records.broker_ms, records.keys, records.values, strict=True
        )
    return found


def read(
    reader: Reader, topic: str, start: int, end: int, *, most: int = 1000, partition: int = 0
) -> list[Row]:
    return rows(reader.read(topic, ID, partition, start, end, most))


def error_of(reader: Reader, topic: str, start: int, end: int) -> str:
    with pytest.raises(JobtrailError) as raised:
        read(reader, topic, start, end)
    return f"{type(raised.value).__name__}: {raised.value}"


def batches(fetcher: Fetcher, topic: str, end: int) -> list[fetching._Packed]:
    """As they lie there, up to `end`."""
    found: list[fetching._Packed] = []
    while not found or found[-1].next_offset < end:
        at = found[-1].next_offset if found else 0
        found += fetching._batches(fetcher._asked(topic, 0, at).result(30))
    return found


# The same messages.


@pytest.mark.parametrize(
    ("compressed", "dated_by"),
    [*((one, "CreateTime") for one in CODECS), ("mixed", "CreateTime"), ("mixed", "LogAppendTime")],
)
def test_messages_are_those_of_librdkafka(
    *,
    kafka_admin: AdminClient,
    kafka: str,
    fetcher: Fetcher,
    as_librdkafka: TopicReader,
    compressed: str,
    dated_by: str,
) -> None:
    """Batches of one message and of hundreds; whole stretches, and such as begin and end within a batch."""
    topic = new_topic(kafka_admin, message_timestamp_type=dated_by)
    for one in CODECS if compressed == "mixed" else (compressed,):
        produce(kafka, topic, 12, compressed=one, at_once=1)
        produce(kafka, topic, 600, compressed=one, at_once=500)
    end = committed_end(kafka, topic)
    found = batches(fetcher, topic, end)
    wanted = {*NUMBER.values()} if compressed == "mixed" else {NUMBER[compressed]}
    assert {one.codec for one in found} >= wanted
    assert {one.codec for one in found} <= wanted | {0}  # librdkafka leaves what would become larger
    assert {one.appended_at >= 0 for one in found} == {dated_by == "LogAppendTime"}
    assert min(one.count for one in found) == 1
    large = [one for one in found if one.count > 100]
    within = large[0].first_offset + 7
    expected = read(as_librdkafka, topic, 0, end)
    assert len(expected) == end
    for start, stop in (
        (0, end),
        (within, end),
        (0, within),
        (within, within + 1),
        (within, large[0].next_offset - 3),
        (within, large[-1].next_offset - 3),
        (large[0].first_offset, large[0].next_offset),
        (3, 4),
        (3, 9),
        (end - 1, end),
    ):
        assert read(fetcher, topic, start, stop) == expected[start:stop], (start, stop)
    assert read(fetcher, topic, end, end) == read(fetcher, topic, 5, 5) == []


@pytest.mark.parametrize("compressed", CODECS[1:])
def test_messages_that_the_broker_compressed_are_those_of_librdkafka(
    kafka_admin: AdminClient, kafka: str, fetcher: Fetcher, as_librdkafka: TopicReader, compressed: str
) -> None:
    """As Java frames them, whose snappy is not that of librdkafka."""
    topic = new_topic(kafka_admin, compression_type=compressed)
    produce(kafka, topic, 12, at_once=1)
    produce(kafka, topic, 600, at_once=500)
    found = batches(fetcher, topic, 612)
    assert {one.codec for one in found} == {NUMBER[compressed]}
    assert read(fetcher, topic, 0, 612) == read(as_librdkafka, topic, 0, 612)
    assert read(fetcher, topic, 100, 600) == read(as_librdkafka, topic, 100, 600)


def test_blocks_are_as_large_as_is_said_or_one_batch(
    kafka_admin: AdminClient, kafka: str, fetcher: Fetcher, as_librdkafka: TopicReader
) -> None:
    topic = new_topic(kafka_admin)
    produce(kafka, topic, 30, at_once=1)
    produce(kafka, topic, 100, at_once=50)
    largest = max(one.count for one in batches(fetcher, topic, 130))
    expected = read(as_librdkafka, topic, 0, 130)
    for most in (1, 2, 7, 50, 1000):
        blocks = [*fetcher.read(topic, ID, 0, 0, 130, most)]
        assert rows(blocks) == expected
        assert max(map(len, blocks)) <= max(most, largest)
        small = [len(one) for one in blocks if one.next_offset <= 28]  # of batches of one message
        assert small == [most] * (28 // most)
    assert len(blocks) == 1


def test_stretches_of_many_answers_and_of_several_partitions(
    *,
    kafka_admin: AdminClient,
    kafka: str,
    fetcher: Fetcher,
    block_reader: BlockReader,
    as_librdkafka: TopicReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other, also where the one before was left in its middle."""
    monkeypatch.setattr(fetching, "FETCH", 4_000)
    topics = [new_topic(kafka_admin, 3), new_topic(kafka_admin, 1, message_timestamp_type="LogAppendTime")]
    places = [(topics[0], 0), (topics[0], 1), (topics[0], 2), (topics[1], 0)]
    for topic, partition in places:
        for one in CODECS:
            produce(kafka, topic, 60, compressed=one, at_once=7, partition=partition)
    for topic, partition in [*places, *reversed(places)]:
        left = fetcher.read(topic, ID, partition, 0, 300, 10)
        assert rows([next(left)])[0][1] == 0
        left.close()  # type: ignore[attr-defined]  # a generator
        expected = read(as_librdkafka, topic, 11, 295, partition=partition)
        assert read(fetcher, topic, 11, 295, partition=partition) == expected
        blocks = [*block_reader.read(topic, ID, partition, 11, 295, 1000)]
        assert len(blocks) > 2  # of as many answers
        assert {*map(type, blocks)} == {Block}
        assert rows(blocks) == expected


def test_a_message_larger_than_an_answer_is_read(
    kafka_admin: AdminClient,
    kafka: str,
    fetcher: Fetcher,
    as_librdkafka: TopicReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "FETCH", 1_000)
    topic = new_topic(kafka_admin)
    for _ in range(3):
        producer(kafka, "none", 1).produce(topic, os.urandom(20_000), b"large", partition=0)
        producer(kafka, "none", 1).produce(topic, b"small", None, partition=0)
    assert producer(kafka, "none", 1).flush(30) == 0
    assert read(fetcher, topic, 0, 6) == read(as_librdkafka, topic, 0, 6)


# Transactions.


@contextmanager
def transactions(address: str, topic: str) -> Iterator[Producer]:
    made = Producer({"bootstrap.servers": address, "transactional.id": topic, "log_level": 2})
    made.init_transactions(30)
    yield made


def transaction(address: str, sending: Producer, topic: str, count: int, *, kept: bool = True) -> None:
    before = committed_end(address, topic)
    sending.begin_transaction()
    for number in range(count):
        sending.produce(topic, b"kept" if kept else b"not kept", b"%d" % number, partition=0)
    assert sending.flush(30) == 0
    if kept:
        sending.commit_transaction(30)
    else:
        sending.abort_transaction(30)
    # The broker confirms it before it writes the control record.
    deadline = time.monotonic() + 30
    while committed_end(address, topic) != before + count + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def committed_end(address: str, topic: str) -> int:
    return Log(settings_of(address, Path())).topic(topic).ends[0]


@pytest.mark.parametrize("dated_by", DATED_BY)
def test_control_records_of_committed_transactions_are_passed_by(
    kafka_admin: AdminClient, kafka: str, fetcher: Fetcher, as_librdkafka: TopicReader, dated_by: str
) -> None:
    """Whatever the stretch begins or ends with: it may be nothing but a control record."""
    topic = new_topic(kafka_admin, message_timestamp_type=dated_by)
    with transactions(kafka, topic) as sending:
        for count in (1, 3):
            produce(kafka, topic, 2)
            transaction(kafka, sending, topic, count)
        transaction(kafka, sending, topic, 2)
    end = committed_end(kafka, topic)
    assert end == 2 + 2 + 2 + 4 + 3
    expected = read(as_librdkafka, topic, 0, end)
    assert [row[1] for row in expected] == [0, 1, 2, 4, 5, 6, 7, 8, 10, 11]
    for start in range(end):
        for stop in {start + 1, min(start + 3, end), end}:
            assert read(fetcher, topic, start, stop, most=1) == [
                row for row in expected if start <= row[1] < stop
            ], (start, stop)
    for stretch_of in ((3, 4), (11, 13)):
        assert read(fetcher, topic, *stretch_of) == read(as_librdkafka, topic, *stretch_of)


def test_an_aborted_transaction_is_left_to_librdkafka(
    *,
    kafka_admin: AdminClient,
    kafka: str,
    fetcher: Fetcher,
    block_reader: BlockReader,
    as_librdkafka: TopicReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was read before it is not read again, and nothing of it is given, wherever it lies."""
    monkeypatch.setattr(fetching, "FETCH", 500)
    topic = new_topic(kafka_admin)
    with transactions(kafka, topic) as sending:
        for _ in range(20):
            produce(kafka, topic, 10, at_once=5)
        transaction(kafka, sending, topic, 5)
        transaction(kafka, sending, topic, 7, kept=False)
        produce(kafka, topic, 10)
        transaction(kafka, sending, topic, 5)
    end = 200 + 6 + 8 + 10 + 6
    expected = read(as_librdkafka, topic, 0, end)
    assert len(expected) == end - 8 - 2
    assert b"not kept" not in [row[4] for row in expected]

    blocks, before = fetcher.read(topic, ID, 0, 0, end, 100), list[Row]()
    with pytest.raises(UnusualError, match="aborted"):
        before.extend(row for block in blocks for row in rows([block]))
    assert 100 <= len(before) <= 205
    assert before == expected[: len(before)]
    with pytest.raises(UnusualError, match="aborted"):
        read(fetcher, topic, 210, end)
    # Behind it all is plain again.
    assert read(fetcher, topic, 214, end) == [row for row in expected if row[1] >= 214]

    found = [*block_reader.read(topic, ID, 0, 0, end, 100)]
    assert rows(found) == expected
    kinds = [type(one) is Block for one in found]
    assert kinds == sorted(kinds, reverse=True)
    assert {*kinds} == {True, False}
    for start, stop in ((0, 207), (3, 214), (201, 206), (206, 214), (207, 208), (210, 229), (213, 230)):
        wanted = [row for row in expected if start <= row[1] < stop]
        assert read(block_reader, topic, start, stop) == wanted, (start, stop)


# What is not there.


def test_offsets_that_are_gone_are_said_as_librdkafka_says_it(
    kafka_admin: AdminClient,
    kafka: str,
    fetcher: Fetcher,
    block_reader: BlockReader,
    as_librdkafka: TopicReader,
) -> None:
    topic = new_topic(kafka_admin)
    produce(kafka, topic, 50, at_once=5)
    cut(kafka_admin, topic, 17)
    with pytest.raises(UnusualError, match="error 1"):
        read(fetcher, topic, 3, 50)
    error = error_of(as_librdkafka, topic, 3, 50)
    assert error.startswith("LogError")
    assert "offsets from 3 on are needed" in error
    assert error_of(block_reader, topic, 3, 50) == error
    assert read(fetcher, topic, 17, 50) == read(as_librdkafka, topic, 17, 50)


def cut(admin: AdminClient, topic: str, offset: int) -> None:
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(30)


def test_offsets_that_go_while_they_are_read_are_said(
    kafka_admin: AdminClient, kafka: str, block_reader: BlockReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "FETCH", 500)
    topic = new_topic(kafka_admin)
    produce(kafka, topic, 200, at_once=5)
    found = block_reader.read(topic, ID, 0, 0, 200, 10)
    at = rows([next(found)])[-1][1] + 1
    cut(kafka_admin, topic, 190)
    with pytest.raises(LogError, match=r"offsets from \d+ on are needed and are no longer in the log"):
        for some in found:
            assert rows([some])[0][1] == at
            at = rows([some])[-1][1] + 1
    assert at < 190


@pytest.mark.parametrize("open_transaction", [False, True])
def test_a_log_that_ends_early_is_said_as_librdkafka_says_it(
    kafka_admin: AdminClient,
    kafka: str,
    fetcher: Fetcher,
    block_reader: BlockReader,
    as_librdkafka: TopicReader,
    *,
    open_transaction: bool,
) -> None:
    """What is of a transaction that is not committed is not there yet."""
    topic = new_topic(kafka_admin)
    produce(kafka, topic, 20)
    with transactions(kafka, topic) as sending:
        if open_transaction:
            sending.begin_transaction()
            for _ in range(5):
                sending.produce(topic, b"not yet", partition=0)
            assert sending.flush(30) == 0
        blocks, before = fetcher.read(topic, ID, 0, 4, 24, 1000), list[Row]()
        with pytest.raises(UnusualError, match="nothing at offset 20, of 24"):
            before.extend(row for block in blocks for row in rows([block]))
        assert before == read(as_librdkafka, topic, 4, 20)
        error = error_of(as_librdkafka, topic, 4, 24)
        assert error.startswith("LogError")
        assert "it ends at offset 20" in error
        assert error_of(block_reader, topic, 4, 24) == error
        if open_transaction:
            sending.abort_transaction(30)
    with pytest.raises(UnusualError, match="error 1"):
        read(fetcher, topic, 1000, 1001)
    assert error_of(block_reader, topic, 1000, 1001) == error_of(as_librdkafka, topic, 1000, 1001)


@pytest.mark.parametrize("partition", [None, 3])
def test_a_topic_or_partition_that_is_not_there(
    kafka_admin: AdminClient,
    fetcher: Fetcher,
    block_reader: BlockReader,
    monkeypatch: pytest.MonkeyPatch,
    partition: int | None,
) -> None:
    monkeypatch.setattr(stretch, "PATIENCE", 1.0)
    topic = "fetching-no-such-topic" if partition is None else new_topic(kafka_admin)
    begun = time.monotonic()
    with pytest.raises(UnusualError, match="has no leader"):
        read(fetcher, topic, 0, 5, partition=partition or 0)
    with pytest.raises(ServerAwayError):
        read(block_reader, topic, 0, 5, partition=partition or 0)
    assert time.monotonic() - begun < 10


def test_a_topic_is_read_that_was_not_there_when_it_was_first_asked_for(
    kafka_admin: AdminClient, kafka: str, fetcher: Fetcher
) -> None:
    """Nor does another one's absence stay in mind."""
    for _ in range(2):
        with pytest.raises(UnusualError):
            read(fetcher, "fetching-no-such-topic", 0, 5)
        topic = new_topic(kafka_admin)
        produce(kafka, topic, 5)
        assert len(read(fetcher, topic, 0, 5)) == 5


# Brokers that are away.


def test_a_broker_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends come soon, and closing afterwards ends the thread."""
    monkeypatch.setattr(stretch, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = settings_of(address, tmp_path)
    begun = time.monotonic()
    fetcher, reader = Fetcher(settings), BlockReader(settings)
    try:
        for _ in range(2):
            with pytest.raises(UnusualError):
                read(fetcher, "events", 0, 5)
        with pytest.raises(ServerAwayError, match=address):
            read(reader, "events", 0, 5)
    finally:
        fetcher.close()
        reader.close()
    assert time.monotonic() - begun < 10


def test_a_server_that_takes_connections_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretch, "PATIENCE", 1.0)
    monkeypatch.setattr(fetching, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = settings_of(f"127.0.0.1:{silent.getsockname()[1]}", tmp_path)
        begun = time.monotonic()
        fetcher, reader = Fetcher(settings), BlockReader(settings)
        try:
            with pytest.raises(UnusualError):
                read(fetcher, "events", 0, 5)
            with pytest.raises(ServerAwayError):
                read(reader, "events", 0, 5)
        finally:
            fetcher.close()
            reader.close()
        assert time.monotonic() - begun < 10


@pytest.mark.skipif(sys.platform == "win32", reason="embedded servers do not run there")
def test_a_broker_that_stops_answering_or_is_killed_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads blocks hears of it within reason; who reads both goes on when it is there again."""
    monkeypatch.setattr(fetching, "FETCH", 500)
    monkeypatch.setattr(fetching, "PATIENCE", 1.0)
    with new_home() as home:

        @contextmanager
        def broker() -> Iterator[str]:
            with embedded.servers(home, postgres=False, cache=CACHE, on_progress=lambda _: None) as servers:
                yield servers.kafka_bootstrap_servers

        with broker() as address:
            topic = new_topic(AdminClient({"bootstrap.servers": address, "log_level": 0}))
            sending = Producer({"bootstrap.servers": address, "batch.num.messages": 5, "log_level": 2})
            for number in range(200):
                sending.produce(topic, b"%d" % number, partition=0)
            assert sending.flush(30) == 0
            del sending
            settings = settings_of(address, tmp_path)
            fetcher, reader = Fetcher(settings), BlockReader(settings)
            try:
                blocks = fetcher.read(topic, ID, 0, 0, 200, 10)
                next(blocks)
                os.kill(pid(home, "kafka"), signal.SIGSTOP)
                begun = time.monotonic()
                with pytest.raises(UnusualError):
                    rows(blocks)
                assert time.monotonic() - begun < 8
                os.kill(pid(home, "kafka"), signal.SIGCONT)
                assert len(read(fetcher, topic, 0, 200)) == 200

                blocks, found = fetcher.read(topic, ID, 0, 0, 200, 10), reader.read(topic, ID, 0, 0, 200, 10)
                next(blocks)
                first = next(found)
                kill(home, "kafka")
                begun = time.monotonic()
                with pytest.raises(UnusualError):
                    rows(blocks)
                with pytest.raises(UnusualError):
                    read(fetcher, topic, 0, 200)
                assert time.monotonic() - begun < 8
                with broker():
                    assert [row[4] for row in rows([first, *found])] == [b"%d" % at for at in range(200)]
                    # And the next stretch is of blocks again.
                    assert {*map(type, reader.read(topic, ID, 0, 0, 200, 10))} == {Block}
            finally:
                fetcher.close()
                reader.close()


# Closing.


def test_closing_ends_the_thread_whatever_was_done(
    kafka_admin: AdminClient, here: Settings, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything was read, in the middle of a stretch while more is coming, and after an error."""
    monkeypatch.setattr(fetching, "FETCH", 500)
    topic = new_topic(kafka_admin)
    produce(kafka, topic, 100, at_once=5)
    never = Fetcher(here)
    never.close()
    middle = Fetcher(here)
    blocks = middle.read(topic, ID, 0, 0, 100, 10)
    next(blocks)
    middle.close()
    failed = Fetcher(here)
    with pytest.raises(UnusualError):
        read(failed, topic, 0, 1000)
    failed.close()
    at_once = Fetcher(here)
    at_once._asked(topic, 0, 0)
    at_once.close()
    waiting = Fetcher(here)
    waiting._asked(topic, 0, 0).result(30)
    coming = waiting._asked(topic, 0, 100)  # at the end of the log: Kafka keeps the question for a while
    time.sleep(0.05)
    waiting.close()
    assert coming.done()


def test_who_leaves_a_stretch_while_more_is_coming_reads_another_at_once(
    kafka_admin: AdminClient, here: Settings, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it connects, or hears of the topic: a question that nobody waits for ends by itself."""
    monkeypatch.setattr(fetching, "FETCH", 500)
    topics = [new_topic(kafka_admin), new_topic(kafka_admin)]
    for topic in topics:
        produce(kafka, topic, 100, at_once=5)
    for pause in (0, 0.001, 0.003, 0.006, 0.01, 0.02):
        fetcher = Fetcher(here)
        for topic in [*topics, "fetching-no-such-topic", *topics]:
            fetcher._asked(topic, 0, 0)
            time.sleep(pause)
        assert len(read(fetcher, topics[0], 0, 100)) == 100
        fetcher.close()


# Security.


def test_what_aiokafka_cannot_do_is_read_by_librdkafka(
    kafka_admin: AdminClient, kafka: str, tmp_path: Path
) -> None:
    topic = new_topic(kafka_admin)
    produce(kafka, topic, 10)
    settings = settings_of(kafka, tmp_path, **{"sasl.oauthbearer.method": "oidc"})
    with pytest.raises(UnusualError, match="SASL_OAUTHBEARER_METHOD"):
        Fetcher(settings)
    reader = BlockReader(settings)
    found = [*reader.read(topic, ID, 0, 0, 10, 1000)]
    reader.close()
    assert Block not in map(type, found)
    assert [row[1] for row in rows(found)] == [*range(10)]


# Bytes that are not what they say.


@pytest.mark.parametrize(
    ("compressed", "data"),
    [
        ("none", bytes(100)),
        ("gzip", compression.gzip_encode(b"abc" * 50)),
        ("snappy", compression.snappy_encode(b"abc" * 50)),
        ("snappy", bytes(compression.snappy_encode(b"abc" * 50, xerial_compatible=False))),
        ("lz4", compression.lz4_encode(b"abc" * 50)),
        ("zstd", compression.zstd_encode(b"abc" * 50)),
    ],
    ids=["none", "gzip", "snappy", "snappy-raw", "lz4", "zstd"],  # gzip has the time in it
)
def test_damaged_bytes_are_a_bad_batch_and_nothing_else(compressed: str, data: bytes) -> None:
    """Whatever the library that unpacks them calls it."""
    chance = random.Random(3)  # noqa: S311
    damaged = [data[:size] for size in range(len(data))]
    for _ in range(300):
        wrong = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        damaged.append(bytes(wrong))
    refused = 0
    for one in damaged:
        packed = fetching._Packed(memoryview(one), NUMBER[compressed], 5, 0, 5, AT, -1)
        try:
            Block.of("events", ID, 0, [packed.read()])
        except BadBatchError:
            refused += 1
    assert refused > 50
    with pytest.raises(BadBatchError):
        fetching._Packed(memoryview(data), 7, 5, 0, 5, AT, -1).read()
