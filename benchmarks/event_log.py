"""Writes a log of realistic jobs into a real broker, fast: 3,000,000 events in well under a minute.

    .venv/bin/python benchmarks/event_log.py --home /var/tmp/log                      # 3,000,000, interleaved
    .venv/bin/python benchmarks/event_log.py --home /var/tmp/log --shape skewed --form avro

Shapes: `unkind`, 5,000 jobs active at once and their events interleaved at random; `kind`, job after job in
each partition; `skewed`, as unkind with 80 % of the events in one of the partitions. Forms: `events`, all
events as the product writes them (bytes, key, headers, partitioner); `avro`, the StreamStats alone, as plain
Avro bodies without the ten bytes that name their schema, which Flink's `avro` format does not skip; `json`,
the StreamStats with the columns of the table for names, for Kafka Connect. The same seed gives the same
jobs; their clock begins when the log of `events` is written. A topic that is complete is left alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from synthetic import FIRST_JOB, STATS, STREAMS, Job, stamped

from jobtrail import codec, embedded
from jobtrail.consumers.topics import TOPIC_CONFIG
from jobtrail.events import StreamStats
from jobtrail.kinds import EPOCH
from jobtrail.wire import HEADER_SIZE

SHAPES: Final = ("unkind", "kind", "skewed")
FORMS: Final = ("events", "avro", "json")
ACTIVE: Final = 5_000
SKEW: Final = 0.8
#: Fields that are lists of records.
LISTS: Final = frozenset({"streams", "streams_to_reset", "streams_to_refresh", "labels"})
#: Events between two looks at the deliveries.
POLL: Final = 2_000
#: Messages for which no processes are started.
FEW: Final = 50_000
WAIT: Final = 30.0


@dataclass(frozen=True)
class Log:
    """What is in a log."""

    events: int = 3_000_000
    shape: str = "unkind"
    partitions: int = 4
    seed: int = 5

    def topic(self, form: str) -> str:
        """Its name has all that decides what is in it."""
        return f"bench.{self.shape}.{self.events}.{self.partitions}.{self.seed}.{form}"

    def share(self, partition: int) -> float:
        """Of the events, how many of 1 go to that partition."""
        if self.shape != "skewed" or self.partitions == 1:
            return 1 / self.partitions
        return SKEW if partition == 0 else (1 - SKEW) / (self.partitions - 1)

    def jobs(self) -> list[list[Job]]:
        """The jobs of each partition: as many as it takes to have `events` in all."""
        found: list[list[Job]] = [[] for _ in range(self.partitions)]
        room = [self.events * self.share(partition) for partition in range(self.partitions)]
        for job_id in count(FIRST_JOB):
            partition = partition_of(str(job_id).encode(), self.partitions)
            if room[partition] > 0:
                job = Job(job_id, self.seed)
                found[partition].append(job)
                room[partition] -= job.size
            elif max(room) <= 0:
                return found
        raise AssertionError


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own partitioner (murmur2 of the key, as Java's clients and ours have it) puts a key."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        h = h * m & mask ^ (k ^ k >> 24) * m & mask
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


def expected(form: str, jobs: list[list[Job]]) -> int:
    """How many messages its topic has when it is complete."""
    if form == "events":
        return sum(job.size for part in jobs for job in part)
    return sum(job.drawn[0] * STREAMS * STATS for part in jobs for job in part)


def ensure(address: str, log: Log, form: str = "events", say: Callable[[str], None] = print) -> int:
    """Writes the topic of `form` unless it is there and complete; returns how many messages it has."""
    jobs = log.jobs()
    wanted, topic = expected(form, jobs), log.topic(form)
    admin = AdminClient({"bootstrap.servers": address, "log_level": 2})
    if topic in admin.list_topics(timeout=WAIT).topics:
        if sum(ends(address, topic).values()) == wanted:
            return wanted
        admin.delete_topics([topic])[topic].result(WAIT)
        _await(lambda: topic not in admin.list_topics(timeout=WAIT).topics)
    begins_at = time.time_ns() // 1000 if form == "events" else beginning(address, log, say)
    admin.create_topics([NewTopic(topic, log.partitions, 1, config=dict(TOPIC_CONFIG))])[topic].result(WAIT)
    begun = time.monotonic()
    # The largest first, so that two processes end at about the same time.
    parts = sorted(range(log.partitions), key=lambda part: -log.share(part))
    with _workers(2 if wanted > FEW and log.partitions > 1 else 0) as pool:
        work = [
            pool.submit(_write, address, log, form, partition=part, jobs=jobs[part], begins_at=begins_at)
            for part in parts
        ]
        for part in work:
            part.result()
    took = time.monotonic() - begun
    found = sum(ends(address, topic).values())
    if found != wanted:
        raise SystemExit(f"{topic} has {found:,} messages, and not {wanted:,}: the broker's log says why")
    say(f"{topic}: {wanted:,} messages in {took:.1f} s, {wanted / took:,.0f} a second")
    return wanted


def _workers(processes: int) -> Executor:
    """Processes, or a thread where starting them would take longer than the work."""
    if not processes:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def _await(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("the broker did not delete an incomplete topic in time; run it again")
        time.sleep(0.2)


def consumer(address: str, **more: Any) -> Consumer:
    """One that joins no group."""
    config = {"bootstrap.servers": address, "group.id": "bench", "enable.auto.commit": False, "log_level": 2}
    return Consumer(config | more)


def ends(address: str, topic: str) -> dict[int, int]:
    """Partition → offset of its end. A broker that has just started may need a moment."""
    reader = consumer(address)
    deadline = time.monotonic() + WAIT
    try:
        while True:
            try:
                partitions = reader.list_topics(topic, timeout=WAIT).topics[topic].partitions
                return {
                    part: reader.get_watermark_offsets(TopicPartition(topic, part), timeout=WAIT)[1]
                    for part in partitions
                }
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
    finally:
        reader.close()


def beginning(address: str, log: Log, say: Callable[[str], None] = print) -> int:
    """When the jobs of the log of events began: the instant of its first event."""
    ensure(address, log, say=say)
    reader = consumer(address)
    try:
        reader.assign([TopicPartition(log.topic("events"), 0, 0)])
        message = reader.poll(WAIT)
        if message is None or message.error():
            raise KafkaException(message and message.error())
        at = codec.decode(message.value()).occurred_at
    finally:
        reader.close()
    return round(at.timestamp() * 1_000_000)


def messages(
    log: Log, form: str, partition: int, jobs: list[Job], begins_at: int
) -> Iterator[tuple[Any, ...]]:
    """(key, value, headers) of each message of a partition, in order."""
    active = 1 if log.shape == "kind" else max(1, round(ACTIVE * log.share(partition)))
    schemas = codec.released()
    encoders = {kind.__name__: schemas.encoder(kind) for kind in schemas.newest}
    sources: dict[int, bytes] = {}
    for event_type, row in stamped(jobs, active, log.seed * 1000 + partition, begins_at):
        job_id = row["job_id"]
        key = b"%d" % job_id
        if form == "events":
            source = sources.get(job_id)
            if source is None:
                source = sources[job_id] = f"/jobtrail/worker-{job_id % 40}".encode()
            yield (
                key,
                encoders[event_type](_as_event(row)),
                [  # as producers/publisher.py writes them
                    ("ce_specversion", b"1.0"),
                    ("ce_id", row["event_id"].encode()),
                    ("ce_type", f"jobtrail.{event_type}".encode()),
                    ("ce_source", source),
                    ("content-type", b"application/avro"),
                ],
            )
        elif event_type == StreamStats.__name__:
            yield (
                key,
                encoders[event_type](_as_event(row))[HEADER_SIZE:] if form == "avro" else as_columns(row),
                None,
            )


class _Row:
    """Looks like an event to the encoder, and costs no checks: what is made here is right."""


def _as_event(row: dict[str, Any]) -> Any:
    event = _Row()
    event.__dict__ = row
    row["occurred_at"] = EPOCH + timedelta(microseconds=row["occurred_at"])
    for name in LISTS & row.keys():
        row[name] = [_part(part) for part in row[name]]
    return event


def _part(row: dict[str, Any]) -> _Row:
    part = _Row()
    part.__dict__ = row
    return part


def as_columns(row: dict[str, Any]) -> bytes:
    """StreamStats as JSON, named as the columns of its table."""
    renamed = {"reported_at" if name == "occurred_at" else name: value for name, value in row.items()}
    renamed["stream_namespace"] = row["stream_namespace"] or ""
    return json.dumps(renamed, separators=(",", ":")).encode()


def _write(address: str, log: Log, form: str, *, partition: int, jobs: list[Job], begins_at: int) -> None:
    producer = Producer(
        {
            "bootstrap.servers": address,
            "log_level": 2,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
        }
    )
    topic, produce = log.topic(form), producer.produce
    for number, (key, value, headers) in enumerate(messages(log, form, partition, jobs, begins_at)):
        while True:
            try:
                produce(topic, value, key, headers=headers)
                break
            except BufferError:
                producer.poll(0.05)
        if number % POLL == 0:
            producer.poll(0)
    producer.flush()


def options_of_log(parser: argparse.ArgumentParser, events: int = 3_000_000) -> None:
    """The options that choose a log."""
    parser.add_argument("--events", type=int, default=events, help=f"about so many events ({events:,})")
    parser.add_argument("--shape", choices=SHAPES, default="unkind")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=5)


def log_of(options: argparse.Namespace) -> Log:
    """What the options chose."""
    return Log(options.events, options.shape, options.partitions, options.seed)


def main() -> int:
    """Writes the log into an embedded broker under --home, which keeps it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options_of_log(parser)
    parser.add_argument("--form", choices=FORMS, default="events")
    parser.add_argument("--home", type=Path, required=True, help="folder of the servers; keeps the log")
    options = parser.parse_args()
    options.home.mkdir(parents=True, exist_ok=True)
    options.home.chmod(0o755)  # as root, another account runs the broker
    with embedded.servers(options.home, postgres=False, on_progress=lambda _: None) as servers:
        found = ensure(servers.kafka_bootstrap_servers, log_of(options), options.form)
    print(f"{found:,} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
