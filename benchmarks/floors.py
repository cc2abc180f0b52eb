"""What nothing that reads this log and writes these rows can beat: consume, decode, COPY, each alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any, Final

import ours
import psycopg
from bench import Bench
from confluent_kafka import Message, TopicPartition
from event_log import consumer, ends
from measured import Round, spent
from psycopg import sql

from jobtrail.consumers.decode import Decoder
from jobtrail.consumers.records import Records
from jobtrail.consumers.source import AT_ONCE
from jobtrail.consumers.taking import PIECE

CONSUMER: Final[dict[str, Any]] = {
    "queued.max.messages.kbytes": 64 * 1024,
    "fetch.message.max.bytes": 8 * 1024 * 1024,
    "fetch.wait.max.ms": 10,
    "fetch.queue.backoff.ms": 5,
}
TABLES: Final = ("jobs", "attempts", "job_events", "stream_stats", "stream_statuses")


def batches(address: str, topic: str, partitions: dict[int, int]) -> Iterator[list[Message]]:
    """All messages of some partitions, a few hundred at once: the fastest that this client does."""
    reader = consumer(address, **CONSUMER)
    try:
        reader.assign([TopicPartition(topic, part, 0) for part in partitions])
        left = sum(partitions.values())
        while left:
            message = reader.poll(30)
            if message is None:
                raise RuntimeError(f"{topic}: no message for 30 s, and {left:,} to come")
            got = [message, *reader.consume(min(left, PIECE) - 1, 0)] if left > 1 else [message]
            left -= len(got)
            yield got
    finally:
        reader.close()


def _consumed(address: str, topic: str, partitions: dict[int, int], begin: Any, counts: Any) -> None:
    begin.wait()
    counts.put(sum(map(len, batches(address, topic, partitions))))


def raw_consume(bench: Bench, processes: int) -> Round:
    """Every message as the client gives it, nothing done with it; start-up excluded."""
    topic, events = bench.topic("events")
    bounds = ends(bench.kafka, topic)
    context = multiprocessing.get_context("spawn")
    begin, counts = context.Barrier(processes + 1), context.Queue()
    parts = [{p: end for p, end in bounds.items() if p % processes == turn} for turn in range(processes)]
    workers = [
        context.Process(target=_consumed, args=(bench.kafka, topic, part, begin, counts)) for part in parts
    ]
    before = spent()
    for worker in workers:
        worker.start()
    begin.wait()
    begun = time.perf_counter()
    found = sum(counts.get() for _ in workers)
    seconds = time.perf_counter() - begun
    for worker in workers:
        worker.join()
    if found != events:
        raise RuntimeError(f"{found:,} of {events:,} messages came")
    return Round(events, seconds, spent() - before)


def decode_alone(bench: Bench) -> Round:
    """Columns of each message's values, by the product's decoder; the time of consuming is not counted."""
    topic, events = bench.topic("events")
    decoder, seconds, cpu, found = Decoder(), 0.0, 0.0, 0
    messages: list[Message] = []
    bounds = ends(bench.kafka, topic)
    left = sum(bounds.values())
    for piece in batches(bench.kafka, topic, bounds):
        messages += piece
        left -= len(piece)
        if left and len(messages) < AT_ONCE:
            continue
        records = Records(topic, "bench", [], [], [], [], [])
        records.extend(messages)
        messages.clear()
        begun, before = time.perf_counter(), time.process_time()
        decoded = decoder.decode(records)
        seconds += time.perf_counter() - begun
        cpu += time.process_time() - before
        found += sum(frame.height for frame in decoded.frames.values())
    if found != events:
        raise RuntimeError(f"{found:,} of {events:,} messages were decoded")
    return Round(events, seconds, cpu)


def copy_alone(bench: Bench, filled: str, *, unlogged: bool) -> Round:
    """The rows that Jobtrail ended with, as bytes of binary COPY, into tables with their keys.

    `filled` is a database with the rows; `events` are those that the rows came from.
    """
    _, events = bench.topic("events")
    kept: dict[str, list[bytes]] = {}
    rows = 0
    with psycopg.connect(filled) as connection:
        for table in TABLES:
            named = sql.Identifier(ours.live_schema(filled), table)
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(named)) as copy:
                kept[table] = [bytes(part) for part in copy]
    url = bench.database("copy")
    with psycopg.connect(url, autocommit=True) as connection:
        if unlogged:
            for table in TABLES:
                named = sql.Identifier("jobtrail_g1", table)
                connection.execute(sql.SQL("ALTER TABLE {} SET UNLOGGED").format(named))
        begun = time.perf_counter()
        with connection.transaction():
            for table, parts in kept.items():
                named = sql.Identifier("jobtrail_g1", table)
                cursor = connection.cursor()
                with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(named)) as copy:
                    for part in parts:
                        copy.write(part)
                rows += cursor.rowcount
        seconds = time.perf_counter() - begun
    return Round(events, seconds, found={"rows": rows})
