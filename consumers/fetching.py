"""Kafka's record batches as they lie in its log, of one partition after the other.

librdkafka makes an object of every message, and Python another: that is five times the cost of having the
bytes. Here aiokafka's client asks for them, and `Block` finds the messages in them. What is not plain sailing
(a leader that moves, an aborted transaction, a log that ends early) raises UnusualError: whoever reads goes
on from there with librdkafka, which waits, filters, and says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import cramjam
from aiokafka import codec
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from jobtrail.consumers.aiokafka_client import security_of
from jobtrail.consumers.block import BadBatchError, Block, RecordBatch
from jobtrail.errors import SettingError
from jobtrail.running import kafka_address
from jobtrail.settings import Settings

#: Offsets from which on a stretch is worth what it takes to begin so: the compiler, and a client more.
FAR: Final = 100_000
#: Compressed bytes that are asked for at once, while those before are worked at.
FETCH: Final = 4 * 1024 * 1024
#: Milliseconds that Kafka may wait until there is anything.
WAIT: Final = 500
#: Seconds for an answer.
PATIENCE: Final = 30.0
#: Seconds that are left to who connects when all is closed.
CONNECTING: Final = 1.0
#: Of read_committed.
COMMITTED: Final = 1
#: Kafka protocol, "Record Batch": first offset, length of what follows; and in that: epoch, magic, checksum,
#: attributes, last offset from the first, first time, greatest time, producer, its epoch, sequence, count.
_LENGTH: Final = struct.Struct(">qi")
_HEADER: Final = struct.Struct(">ibIhiqqqhii")
_MAGIC: Final = 2
_CODEC: Final = 0x07
_APPENDED: Final = 0x08
_CONTROL: Final = 0x20
_HORIZON: Final = 0x40
_DECOMPRESS: Final = MappingProxyType[int, Callable[[memoryview], bytes | memoryview]](
    {
        0: memoryview,
        1: codec.gzip_decode,
        2: codec.snappy_decode,  # which knows Java's framing
        3: lambda data: memoryview(cramjam.lz4.decompress(data)),  # codec.lz4_decode copies what it gives
        4: codec.zstd_decode,
    }
)


class UnusualError(Exception):
    """The rest is for a client that knows how to deal with everything."""


class Fetcher:
    """Reads stretches of topics. Not thread-safe; close it."""

    def __init__(self, settings: Settings, at_once: int | None = None) -> None:
        """Raises UnusualError for security that it cannot do."""
        self._at_once = at_once
        self._address = kafka_address(settings)
        try:
            self._security = security_of(settings.kafka_client)
        except SettingError as error:
            raise UnusualError(str(error)) from None
        self._client_id = settings.kafka_client.get("client.id", "jobtrail")
        self._protocol = settings.kafka_client.get("security.protocol", "plaintext").upper()
        self._client: AIOKafkaClient | None = None
        #: One question at a time: the first one connects.
        self._turn = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobtrail-fetch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leaves Kafka."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def read(  # noqa: PLR0917  # as Archive.read
        self, topic: str, topic_id: str, partition: int, start: int, end: int, most: int
    ) -> Iterator[Block]:
        """Blocks of the messages with start ≤ offset < end, each of about `most` of them at the most.

        Raises UnusualError; what was given until then is good.
        """
        if start >= end:
            return
        at, coming = start, self._asked(topic, partition, start)
        try:
            while at < end:
                batches = [*_batches(_answered(coming))]
                if not batches or batches[-1].next_offset <= at:
                    raise UnusualError(f"nothing at offset {at}, of {end}")
                at = batches[-1].next_offset
                if at < end:
                    coming = self._asked(topic, partition, at)
                for some in _portions(batches, most):
                    block = Block.of(topic, topic_id, partition, [one.read() for one in some])
                    wanted = (block.offsets >= start) & (block.offsets < end)
                    if wanted.any():
                        yield block if wanted.all() else block.take(wanted)
        except BadBatchError as error:
            raise UnusualError(str(error)) from error

    def _asked(self, topic: str, partition: int, at: int) -> Future[memoryview]:
        """Never taken back: aiokafka leaves a connection open that it was kept from making."""
        return asyncio.run_coroutine_threadsafe(self._ask(topic, partition, at), self._loop)

    async def _ask(self, topic: str, partition: int, at: int) -> memoryview:
        async with self._turn:
            return await self._answer(topic, partition, at)

    async def _answer(self, topic: str, partition: int, at: int) -> memoryview:
        client = self._client or await self._connected()
        await client.set_topics([topic])
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is None or leader < 0:
            raise UnusualError(f"topic {topic}, partition {partition} has no leader")
        most = self._at_once or FETCH
        request = FetchRequest(WAIT, 1, most, COMMITTED, [(topic, [(partition, at, most)])])
        response = await client.send(leader, request)
        if response.API_VERSION < 5 or not response.topics:
            raise UnusualError("Kafka is too old")
        _, error, _, _, _, aborted, *_, data = response.topics[0][1][0]
        if error:
            client.force_metadata_update()  # it may have another leader
        if error or aborted:
            raise UnusualError(f"topic {topic}, partition {partition}: error {error}, aborted {aborted}")
        return memoryview(data or b"")

    async def _connected(self) -> AIOKafkaClient:
        security = self._security
        client = AIOKafkaClient(
            bootstrap_servers=self._address,
            client_id=self._client_id,
            security_protocol=self._protocol,
            ssl_context=security.context,
            sasl_mechanism=security.mechanism or "PLAIN",
            sasl_plain_username=security.username,
            sasl_plain_password=security.password,
            request_timeout_ms=int(PATIENCE * 1000),
        )
        await client.bootstrap()
        self._client = client
        return client

    async def _leave(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if self._client is None and others:
            await asyncio.wait(others, timeout=CONNECTING)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._client is not None:
            await self._client.close()


def _answered(coming: Future[memoryview]) -> memoryview:
    try:
        return coming.result(2 * PATIENCE)
    except (KafkaError, OSError, TimeoutError) as error:
        raise UnusualError(str(error) or type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class _Packed:
    """A record batch as it came."""

    data: memoryview
    codec: int
    count: int
    first_offset: int
    next_offset: int
    first_at: int
    appended_at: int

    def read(self) -> RecordBatch:
        """Its records. Raises BadBatchError."""
        try:
            records = _DECOMPRESS[self.codec](self.data)
        except (
            KeyError,
            ValueError,
            OSError,
            EOFError,
            struct.error,
            zlib.error,
            cramjam.DecompressionError,
        ) as error:
            raise BadBatchError(f"offset {self.first_offset}: {error!r}") from error
        return RecordBatch(records, self.count, self.first_offset, self.first_at, self.appended_at)


def _batches(data: memoryview) -> Iterator[_Packed]:
    """Whole ones; the last is often cut off. Those of control records have no records for us."""
    at = 0
    while at + _LENGTH.size + _HEADER.size <= len(data):
        first, length = _LENGTH.unpack_from(data, at)
        begin, end = at + _LENGTH.size + _HEADER.size, at + _LENGTH.size + length
        if end > len(data):
            return
        _, magic, _, attributes, last, first_at, greatest, _, _, _, count = _HEADER.unpack_from(
            data, at + _LENGTH.size
        )
        if magic != _MAGIC or attributes & _HORIZON or end < begin:
            raise UnusualError(f"offset {first}: a batch of format {magic}, attributes {attributes:#x}")
        count = 0 if attributes & _CONTROL else count
        appended = greatest if attributes & _APPENDED else -1
        packed_by, records = (attributes & _CODEC, data[begin:end]) if count else (0, data[:0])
        yield _Packed(records, packed_by, count, first, first + last + 1, first_at, appended)
        at = end


def _portions(batches: list[_Packed], most: int) -> Iterator[list[_Packed]]:
    """In order, so many at a time that a block is as large as it should be."""
    some: list[_Packed] = []
    for batch in batches:
        if some and sum(one.count for one in some) + batch.count > most:
            yield some
            some = []
        some.append(batch)
    yield some
