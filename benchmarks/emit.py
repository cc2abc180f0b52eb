"""What the SDK costs above the Kafka client: emitting events, against raw `produce` of the very same records.

    make bench-emit
    .venv/bin/python benchmarks/emit.py [--events N] [--rounds N] [--json]

Both publish to an embedded broker, with the same client settings, from one thread, in turns. An emit is what
the SDK's reporters do: facts become a checked event with an id and a time, the event becomes bytes with a key
and CloudEvents headers, they are queued, and what Kafka answers is counted. The raw side has all of that
ready beforehand. Three of it: with answers counted, without, and without the headers too. A round ends when
Kafka has confirmed everything; at the end the topic must hold all that was sent.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from results import table, write_section

from jobtrail import codec, embedded
from jobtrail import events as e
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.producers.attempt import Attempt
from jobtrail.producers.facts import make
from jobtrail.producers.publisher import Publisher
from jobtrail.quick_events import DoubtError, speller
from jobtrail.settings import Settings

Figures = dict[str, float]
Facts = dict[str, Any]
T = TypeVar("T")
Header = tuple[str, str | bytes | None]
#: Different events of each kind; they come again and again, but for ids and times.
DIFFERENT: Final = 20_000
#: Calls of the raw side between two looks at Kafka's answers; as the publisher does.
POLL_EVERY: Final = 512
LEAST_RATIO: Final = 0.35
MOST_P99_US: Final = 50.0
#: Like the publisher's.
CLIENT: Final = {
    "client.id": "jobtrail",
    "linger.ms": 2,
    "compression.type": "lz4",
    "acks": "all",
    "partitioner": "murmur2_random",
    "enable.idempotence": True,
    "message.timeout.ms": 0,
    "reconnect.backoff.max.ms": 1000,
    "log_level": 2,
}


@dataclass(frozen=True)
class Said:
    """What a caller says of one event."""

    event_type: type[e.Event]
    facts: Facts


@dataclass(frozen=True)
class Raw:
    """One record, ready."""

    value: bytes
    key: bytes
    headers: list[Header]


def stream_stats(chance: random.Random) -> Iterator[Said]:
    """Jobs of ten streams, fifty at once; counters grow as batches of 1 to 1,000 records do."""
    jobs = [chance.randrange(2**52, 2**53) for _ in range(50)]
    counts = {(job, name): [0, 0, 0] for job in jobs for name in range(10)}
    streams = [*counts]
    for sequence in itertools.count(1_760_000_000_000_000, 137):
        job_id, name = chance.choice(streams)
        count = counts[job_id, name]
        batch = chance.randint(1, 1000)
        count[0] += batch
        count[1] += batch * chance.randint(80, 2000)
        count[2] += 1
        yield Said(
            e.StreamStats,
            {
                "job_id": job_id,
                "attempt_number": 0,
                "stream_namespace": "public",
                "stream_name": f"customer_orders_{name}",
                "reporter": "platform",
                "sequence": sequence,
                "records_emitted": count[0],
                "bytes_emitted": count[1],
                "state_messages_emitted": count[2],
                "records_committed": count[0] - batch,
                "bytes_committed": count[1] * 9 // 10,
            },
        )


def life_cycles(chance: random.Random) -> Iterator[Said]:
    """The other events of jobs: created, tried, streams that start and end; some fail or are cancelled."""
    while True:
        job = {"job_id": chance.randrange(2**52, 2**53)}
        names = [f"customer_orders_{n}" for n in range(10)]
        streams = [
            e.ConfiguredStream(namespace="public", name=name, sync_mode="incremental") for name in names
        ]
        connection = f"{chance.getrandbits(64):016x}-9924bcd0"
        labels = [e.Label(key="team", value="data")]
        yield Said(
            e.JobCreated,
            {
                **job,
                "config_type": "sync",
                "config_id": connection,
                "connection_id": connection,
                "workspace_id": "ws-1",
                "streams": streams,
                "labels": labels,
            },
        )
        attempt = {**job, "attempt_number": 0}
        image = "airbyte/source-postgres:3.6.1"
        yield Said(
            e.AttemptStarted, {**attempt, "worker": "pod-7", "dataplane": "eu-1", "source_image": image}
        )
        ends = chance.choices(["succeeds", "fails", "is cancelled"], [8, 1, 1])[0]
        for name, state in itertools.product(
            names, ("RUNNING", "COMPLETE" if ends == "succeeds" else "INCOMPLETE")
        ):
            about = {**attempt, "stream_namespace": "public", "stream_name": name}
            yield Said(e.StreamStatus, {**about, "run_state": state})
        yield Said(e.AttemptHeartbeat, attempt)
        if ends == "succeeds":
            yield Said(e.AttemptSucceeded, attempt)
        elif ends == "fails":
            trace = "\n".join(f'  File "connector.py", line {n}, in read' for n in range(30))
            why = {
                "failure_origin": "source",
                "failure_type": "system_error",
                "internal_message": "timed out",
            }
            more = {"stacktrace": trace, "metadata": '{"lastLines": ["ERROR timed out"]}'}
            yield Said(e.Failure, {**attempt, **why, **more})
            yield Said(e.AttemptFailed, attempt)
            yield Said(e.JobFailed, job)
        else:
            yield Said(e.CancelRequested, {**job, "requested_by": "alice"})
            yield Said(e.Cancelled, {**job, "cancelled_by": "alice"})


KINDS: Final[dict[str, Callable[[random.Random], Iterator[Said]]]] = {
    "StreamStats": stream_stats,
    "life-cycle events": life_cycles,
}


class Bench:
    """The broker, and what was sent to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sent = 0
        TopicAdmin(settings).ensure()

    def sdk(self, said: list[Said], number: int) -> Figures:
        """Emits so many events."""
        with Publisher(self.settings) as publisher:
            publisher.reach(10)
            emit = publisher.emit

            def call(one: Said) -> None:
                emit(one.event_type, **one.facts)

            figures = timed(said, number, call, lambda: publisher.flush(120))
            assert publisher.counts.delivered == number, publisher.counts  # noqa: S101  # what is measured
        self.sent += number
        return figures

    def raw(self, ready: list[Raw], number: int, *, headers: bool = True, counted: bool = True) -> Figures:
        """Produces so many records."""
        producer = Producer({**CLIENT, "bootstrap.servers": self.settings.kafka_bootstrap_servers})
        topic = self.settings.events_topic
        producer.list_topics(topic, timeout=10)
        delivered = 0

        def count(error: KafkaError | None, _message: Message) -> None:
            nonlocal delivered
            delivered += error is None

        on_delivery = count if counted else None
        calls = itertools.count(1)

        def call(one: Raw) -> None:
            while True:
                try:
                    if headers:
                        producer.produce(
                            topic, one.value, one.key, on_delivery=on_delivery, headers=one.headers
                        )
                    else:
                        producer.produce(topic, one.value, one.key, on_delivery=on_delivery)
                    break
                except BufferError:
                    producer.poll(0.005)
            if next(calls) % POLL_EVERY == 0:
                producer.poll(0)

        figures = timed(ready, number, call, lambda: producer.flush(120))
        assert not counted or delivered == number, delivered  # noqa: S101  # what is measured
        self.sent += number
        return figures

    def counters(self, number: int) -> Figures:
        """Calls of `StreamReporter.emitted`, as connectors make for each batch, while the pulse publishes."""
        with Publisher(self.settings) as publisher:
            attempt = Attempt.start(job_id=1, attempt_number=0, publisher=publisher)
            streams = [attempt.stream(f"customer_orders_{n}", "public") for n in range(10)]
            figures = timed(streams, number, lambda one: one.emitted(1000, 400_000), lambda: None)
            attempt.succeed()
            publisher.flush(60)
            self.sent += publisher.counts.delivered
        return figures

    def in_topic(self) -> int:
        """Records in the topic of events."""
        address = self.settings.kafka_bootstrap_servers
        consumer = Consumer({"bootstrap.servers": address, "group.id": "bench", "log_level": 2})
        try:
            topic = self.settings.events_topic
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            ends = [consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in partitions]
            return sum(last - first for first, last in ends)
        finally:
            consumer.close()


def timed(items: list[T], number: int, call: Callable[[T], object], flush: Callable[[], object]) -> Figures:
    """Calls with the items in turn, so many times, then flushes: events/s until then, µs of one call."""
    took = []
    clock = time.perf_counter
    gc.collect()
    cpu, begun = time.process_time(), clock()
    for one in itertools.islice(itertools.cycle(items), number):
        before = clock()
        call(one)
        took.append(clock() - before)
    queued = clock() - begun
    flush()
    elapsed, cpu = clock() - begun, time.process_time() - cpu
    took.sort()
    return {
        "per_second": number / elapsed,
        "queued_per_second": number / queued,
        "cpu_us": 1e6 * cpu / number,
        "p50_us": 1e6 * took[number // 2],
        "p99_us": 1e6 * took[number * 99 // 100],
        "max_us": 1e6 * took[-1],
    }


def ready_of(said: list[Said], source: str) -> list[Raw]:
    """The records that the SDK makes of it."""
    found = []
    for one in said:
        event = make(one.event_type, **one.facts)
        headers: list[Header] = [
            ("ce_specversion", "1.0"),
            ("ce_id", event.event_id),
            ("ce_type", f"jobtrail.{one.event_type.__name__}"),
            ("ce_source", source),
            ("content-type", "application/avro"),
        ]
        found.append(Raw(codec.encode(event), event.key, headers))
    return found


def steps(said: list[Said]) -> Figures:
    """Processor µs of this thread for each step of an emit taken alone, the best of five."""
    made = [make(one.event_type, **one.facts) for one in said]
    return {
        "id and time": _best(lambda: [(e.new_event_id(), e.utc_now()) for _ in said], len(said)),
        "checked event, with id and time": _best(
            lambda: [make(one.event_type, **one.facts) for one in said], len(said)
        ),
        "Avro": _best(lambda: [codec.encode(event) for event in made], len(said)),
        "all three at once, where all is plainly good": _best(
            lambda: [_spelled(one) for one in said], len(said)
        ),
        "key": _best(lambda: [event.key for event in made], len(said)),
    }


def _spelled(one: Said) -> object:
    try:
        return speller(one.event_type)(**one.facts)
    except DoubtError:
        return codec.encode(make(one.event_type, **one.facts))


def _best(work: Callable[[], object], number: int) -> float:
    took = []
    for _ in range(5):
        begun = time.thread_time()
        work()
        took.append(time.thread_time() - begun)
    return 1e6 * min(took) / number


SIDES: Final = ("SDK", "raw, answers counted", "raw, not counted", "raw, without headers")


def measured(bench: Bench, number: int, rounds: int) -> dict[str, Any]:
    """Medians of each kind and side, and the ratios of each round's medians."""
    found: dict[str, Any] = {"kinds": {}}
    for kind, generate in KINDS.items():
        said = [*itertools.islice(generate(random.Random(kind)), min(DIFFERENT, number))]  # noqa: S311  # same each time
        ready = ready_of(said, "/jobtrail/bench:1")
        gc.freeze()  # what stands ready is nobody's work to look through
        sides: dict[str, Callable[[], Figures]] = {
            SIDES[0]: lambda said=said: bench.sdk(said, number),  # type: ignore[misc]
            SIDES[1]: lambda ready=ready: bench.raw(ready, number),  # type: ignore[misc]
            SIDES[2]: lambda ready=ready: bench.raw(ready, number, counted=False),  # type: ignore[misc]
            SIDES[3]: lambda ready=ready: bench.raw(ready, number, headers=False, counted=False),  # type: ignore[misc]
        }
        took: dict[str, list[Figures]] = {side: [] for side in sides}
        for turn in range(rounds):
            for side in (*SIDES[turn % 4 :], *SIDES[: turn % 4]):
                took[side].append(sides[side]())
                _say(f"{kind}, {side}: {took[side][-1]['per_second']:,.0f} events/s")
        found["kinds"][kind] = {
            "bytes": statistics.mean(len(one.value) + len(one.key) for one in ready),
            "header_bytes": statistics.mean(
                sum(len(name) + len(value or "") for name, value in one.headers) for one in ready
            ),
            "sides": {side: _medians(figures) for side, figures in took.items()},
            "ratios": {
                side: statistics.median(
                    ours["per_second"] / raw["per_second"]
                    for ours, raw in zip(took[SIDES[0]], took[side], strict=True)
                )
                for side in SIDES[1:]
            },
            "steps": steps(said),
        }
    found["emitted"] = _medians([bench.counters(number) for _ in range(rounds)])
    found["sent"], found["in_topic"] = bench.sent, bench.in_topic()
    return found


def _medians(rounds: list[Figures]) -> Figures:
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def verdicts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What must hold."""
    stats = found["kinds"]["StreamStats"]
    ratio, p99 = stats["ratios"][SIDES[1]], stats["sides"][SIDES[0]]["p99_us"]
    return [
        {
            "bound": f"StreamStats: SDK at least {LEAST_RATIO} of {SIDES[1]}",
            "found": ratio,
            "holds": ratio >= LEAST_RATIO,
        },
        {
            "bound": f"StreamStats: p99 of a call at most {MOST_P99_US:.0f} µs",
            "found": p99,
            "holds": p99 <= MOST_P99_US,
        },
        {
            "bound": f"the topic holds all {found['sent']:,} records",
            "found": found["in_topic"],
            "holds": found["sent"] == found["in_topic"],
        },
    ]


def rendered(found: dict[str, Any], bounds: list[dict[str, Any]]) -> str:
    """Tables."""
    rows = []
    for kind, of in found["kinds"].items():
        for side, at in of["sides"].items():
            rows.append(
                [
                    kind,
                    side,
                    f"{at['per_second']:,.0f}",
                    f"{of['ratios'][side]:.2f}" if side in of["ratios"] else "",
                    f"{at['cpu_us']:.1f}",
                    f"{at['p50_us']:.1f}, {at['p99_us']:.1f}, {at['max_us'] / 1000:.1f} ms",
                ]
            )
    header = [
        "events",
        "side",
        "events/s, all confirmed",
        "SDK against it",
        "CPU µs each",
        "a call, µs: p50, p99, max",
    ]
    at = found["emitted"]
    calls = (
        f"`users.emitted(…)`, the call that a connector makes for each batch: p50 {at['p50_us']:.2f} µs, p99 "
        f"{at['p99_us']:.2f} µs, longest {at['max_us'] / 1000:.1f} ms, {at['per_second']:,.0f} calls/s."
    )
    kinds = found["kinds"]
    names = [*next(iter(kinds.values()))["steps"]]
    step_rows = [[name, *(f"{of['steps'][name]:.2f}" for of in kinds.values())] for name in names]
    sizes = ", ".join(f"{kind} {of['bytes']:.0f} + {of['header_bytes']:.0f}" for kind, of in kinds.items())
    held = [
        [bound["bound"], f"{bound['found']:,.2f}", "holds" if bound["holds"] else "**does not hold**"]
        for bound in bounds
    ]
    return "\n\n".join(
        [
            f"Bytes of key and value, and of headers, on average: {sizes}.",
            table(header, rows),
            calls,
            "Processor µs of each step taken alone:",
            table(["step", *kinds], step_rows),
            table(["bound", "found", ""], held),
        ]
    )


def main() -> int:
    """Measures and prints; with --check returns 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=200_000, help="in each round of each side (200,000)")
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken (5)")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-bench-")))
        home.chmod(0o755)  # as root, another account may run a server
        servers = stack.enter_context(embedded.servers(home, postgres=False, on_progress=_say))
        settings = Settings(
            spool="off",  # the raw side keeps nothing on the disk either
            home=home,
            kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
            partitions=4,
            worker="bench:1",
        )
        found = measured(Bench(settings), options.events, options.rounds)
    bounds = verdicts(found)
    text = rendered(found, bounds)
    print(json.dumps({**found, "bounds": bounds}, indent=1) if options.json else text)
    if options.write:
        how = (
            f"{options.rounds} rounds of {options.events:,} events for each side, in turns, {DIFFERENT:,} "
            "different ones; medians. One broker on the same machine, 4 partitions, lz4, acks=all, "
            f"idempotent, linger {CLIENT['linger.ms']} ms, spool off."
        )
        write_section("Emitting events", text, command="make bench-emit", settings=how)
    return int(options.check and not all(bound["holds"] for bound in bounds))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
