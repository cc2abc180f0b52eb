"""The log of the benchmarks is what the product would have written, only faster."""

from __future__ import annotations

import itertools
import json
import uuid
from collections import Counter

import pytest
from conftest import Servers
from event_log import ACTIVE, Log, beginning, consumer, ensure, messages, partition_of
from synthetic import STATS, STREAMS

from jobtrail import codec
from jobtrail.events import JobEvent, StreamStats
from jobtrail.wire import HEADER_SIZE

BEGINS_AT = 1_700_000_000_000_000


@pytest.mark.parametrize("shape", ["unkind", "kind", "skewed"])
def test_every_byte_is_the_codecs_own(shape: str) -> None:
    """Decoded by the product and encoded by it again, each message is what it was; ids are unique."""
    log = Log(events=4_000, shape=shape)
    seen: Counter[str] = Counter()
    ids = set()
    for partition, jobs in enumerate(log.jobs()):
        for key, value, headers in messages(log, "events", partition, jobs, BEGINS_AT):
            event = codec.decode(value)
            assert isinstance(event, JobEvent)
            assert codec.encode(event) == value
            assert key == event.key
            assert partition_of(key, log.partitions) == partition
            assert dict(headers)["ce_id"].decode() == event.event_id
            assert dict(headers)["ce_type"].decode() == f"jobtrail.{type(event).__name__}"
            assert uuid.UUID(event.event_id).version == 7
            seen[type(event).__name__] += 1
            ids.add(event.event_id)
    assert len(ids) == seen.total()
    assert {"JobCreated", "AttemptStarted", "StreamStats", "StreamStatus"} < seen.keys()


def test_a_job_is_planned_as_it_comes() -> None:
    """The size drawn beforehand is the number of its events; on average it has 1.3 attempts."""
    jobs = [job for part in Log(events=300_000).jobs() for job in part]
    for job in jobs[:200]:
        kinds = Counter(kind for kind, _ in job.events())
        attempts = kinds["AttemptStarted"]
        assert kinds.total() == job.size
        assert kinds["StreamStats"] == attempts * STREAMS * STATS
        ended = kinds["AttemptSucceeded"] + kinds["AttemptFailed"] + kinds["Cancelled"]
        assert ended == attempts
    assert 1.2 < sum(job.drawn[0] for job in jobs) / len(jobs) < 1.4
    assert {job.drawn[1] for job in jobs} == {"succeeded", "failed", "cancelled"}


def test_the_forms_for_others_hold_the_same_stats() -> None:
    """Avro without our header, and JSON by the names of columns, in the same order."""
    log = Log(events=2_000, partitions=1)
    (jobs,) = log.jobs()
    wire = codec.released().newest[StreamStats]
    ours = [codec.decode(v) for _, v, _ in messages(log, "events", 0, jobs, BEGINS_AT)]
    stats = [event for event in ours if isinstance(event, StreamStats)]
    bodies = [body for _, body, _ in messages(log, "avro", 0, jobs, BEGINS_AT)]
    assert [codec.decode(wire.header + body) for body in bodies] == stats
    assert codec.encode(stats[0])[HEADER_SIZE:] == bodies[0]
    rows = [json.loads(text) for _, text, _ in messages(log, "json", 0, jobs, BEGINS_AT)]
    assert [(row["event_id"], row["sequence"], row["records_emitted"]) for row in rows] == [
        (event.event_id, event.sequence, event.records_emitted) for event in stats
    ]


def test_shapes_differ_in_who_is_active_and_where() -> None:
    """Interleaved jobs all begin before one ends; one after the other; most events in one partition."""
    unkind, kind = Log(events=20_000, partitions=1), Log(events=20_000, partitions=1, shape="kind")
    orders = [
        [key for key, _, _ in messages(log, "events", 0, log.jobs()[0], BEGINS_AT)] for log in (unkind, kind)
    ]
    changes = [sum(a != b for a, b in itertools.pairwise(order)) for order in orders]
    jobs = len(set(orders[0]))
    assert jobs < ACTIVE
    assert changes[0] > len(orders[0]) * 0.9
    assert changes[1] == jobs - 1
    sizes = [sum(job.size for job in part) for part in Log(events=30_000, shape="skewed").jobs()]
    assert 0.75 < sizes[0] / sum(sizes) < 0.85


def test_the_brokers_log_is_complete_and_the_same_again(servers: Servers) -> None:
    """Each partition has its jobs' events in order; what is complete is not written again."""
    log = Log(events=3_000, seed=77)
    said: list[str] = []
    total = ensure(servers.kafka, log, say=said.append)
    assert ensure(servers.kafka, log, say=said.append) == total
    assert len(said) == 1
    reader = consumer(servers.kafka, **{"auto.offset.reset": "earliest"})
    reader.subscribe([log.topic("events")])
    found: list[tuple[int, int, str | None]] = []
    while len(found) < total:
        for message in reader.consume(total, 1):
            assert message.error() is None
            assert message.timestamp()[0] == 2  # TIMESTAMP_LOG_APPEND_TIME
            event = codec.decode(message.value())
            found.append((message.partition() or 0, message.offset() or 0, event.event_id))
    reader.close()
    begins_at = beginning(servers.kafka, log)
    plan = [
        [codec.decode(value).event_id for _, value, _ in messages(log, "events", part, jobs, begins_at)]
        for part, jobs in enumerate(log.jobs())
    ]
    written = [[event_id for at, _, event_id in sorted(found) if at == part] for part in range(4)]
    assert written == plan
