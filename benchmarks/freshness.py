"""From an emit to where it can be read: by SQL, and by HTTP.

    make bench-freshness
    .venv/bin/python benchmarks/freshness.py --events 50 --rates 0 --no-peers

Kafka, Postgres (with fsync), `jobtrail projector` and `jobtrail api` run as for users, with their defaults. A
job is created by the SDK's publisher with its defaults, one at a time; a reader asks every half millisecond
until it is there. So the time has all of it: the publisher's linger (2 ms), the broker, the projector, one
transaction, and half a look of the reader. At 5,000 events/s another process publishes StreamStats of 500
running jobs beside it, by the SDK too.

Debezium's JDBC sink, after it, does the same with one StreamStats as JSON in a table like the read model's:
the same linger, each message fetched when it is there, synchronous_commit off too; beside it as many of them.
Exit status 1 with --check where a bound does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
from bench import Bench
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from event_log import Log, as_columns
from jvm_peers import debezium_sink
from measured import await_true
from results import table, write_section

from jobtrail import embedded
from jobtrail.events import AttemptStarted, JobCreated, StreamStats
from jobtrail.kinds import micros
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

#: Seconds between two looks of the reader.
LOOK: Final = 0.0005
#: Seconds between two emits that are measured.
PAUSE: Final = 0.02
#: Seconds after which something is wrong.
PATIENCE: Final = 30.0
#: Running jobs beside, and streams of each.
JOBS: Final = 500
STREAMS: Final = 10
#: Seconds of load before anything is measured.
WARM: Final = 3.0
#: As the SDK's publisher has it.
PRODUCER: Final = {"linger.ms": 2, "compression.type": "lz4", "enable.idempotence": True, "log_level": 2}
Figures = dict[str, float]


def main() -> int:
    """Measures, prints, and writes its section of RESULTS.md where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--events", type=int, default=300, help="emits measured by each reader at each rate (300)"
    )
    parser.add_argument(
        "--rates", type=int, nargs="+", default=[0, 5_000], help="events/s beside them (0 5000)"
    )
    parser.add_argument("--no-peers", action="store_true", help="without Debezium's sink")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--load-json", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load_json:
        return produce_at(options.load, options.load_json)
    if options.load:
        return publish_at(options.load)
    with tempfile.TemporaryDirectory(prefix="jobtrail-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # as root, another account runs the servers
        with embedded.servers(home, on_progress=_say) as servers:
            settings = Settings(
                home=home,
                kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
                database_url=servers.database_url,
            )
            found = measured(settings, options.events, options.rates)
            if not options.no_peers:
                bench = Bench(home, servers.kafka_bootstrap_servers, servers.database_url, Log())
                for rate, figures in of_debezium(bench, options.events, options.rates).items():
                    found[rate] |= figures
    verdicts = [*bounds(found)]
    text = shown(found, verdicts)
    print(json.dumps({"found": found, "bounds": verdicts}, indent=1) if options.json else text)
    if options.write:
        write_section(
            "From emit to readable",
            text,
            command="make bench-freshness",
            settings=(
                f"{options.events} emits for each line, {1000 * PAUSE:.0f} ms apart; linger 2 ms, fsync on, "
                "synchronous_commit off in the projector's transactions and in Debezium's."
            ),
        )
    return int(options.check and not all(each["holds"] for each in verdicts))


#: Milliseconds from publish to readable by SQL: median, and of the slowest hundredth.
MOST: Final = {"p50_ms": 10.0, "p99_ms": 30.0}


def bounds(found: dict[str, dict[str, Figures]]) -> Iterator[dict[str, Any]]:
    """What must hold at each rate."""
    for rate, readers in found.items():
        for name, most in MOST.items():
            figure = readers["SQL"][name]
            said = f"{int(rate):,} events/s beside, by SQL: {name.removesuffix('_ms')} at most {most:g} ms"
            yield {"bound": said, "found": figure, "holds": figure <= most}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured(settings: Settings, events: int, rates: list[int]) -> dict[str, dict[str, Figures]]:
    """Rate beside → reader → milliseconds."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JOBTRAIL_")},
        "JOBTRAIL_HOME": str(settings.home),
        "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "JOBTRAIL_DATABASE_URL": settings.database_url or "",
        "JOBTRAIL_API_PORT": "0",
        "PYTHONUNBUFFERED": "1",
    }
    found: dict[str, dict[str, Figures]] = {}
    ids = itertools.count(1_000_000)
    with (
        running(environment, "-m", "jobtrail.cli.main", "projector"),
        running(environment, "-m", "jobtrail.cli.main", "api") as (_, said),
    ):
        port = int(said.partition("127.0.0.1:")[2].partition(" ")[0])
        readers: dict[str, Callable[[], Callable[[int], bool]]] = {
            "SQL": partial(sql_reader, settings.database_url or ""),
            "HTTP": partial(http_reader, port),
        }
        with Publisher(settings) as publisher:
            for rate in rates:
                with contextlib.ExitStack() as stack:
                    if rate:
                        stack.enter_context(running(environment, str(Path(__file__)), "--load", str(rate)))
                    for name, make in readers.items():
                        reader = make()  # anew: the server closes connections that were idle
                        found.setdefault(str(rate), {})[name] = _figures(
                            lambda job_id: publisher.publish(_created(job_id)), reader, ids, events
                        )
                        _say(f"{rate:,} events/s beside, by {name}: {found[str(rate)][name]}")
    return found


def of_debezium(bench: Bench, events: int, rates: list[int]) -> dict[str, dict[str, Figures]]:
    """The same of Debezium's sink, read by SQL."""
    topic, url = "bench.freshness.json", bench.table_for("debezium")
    admin = AdminClient({"bootstrap.servers": bench.kafka, "log_level": 2})
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(30)
    ids = itertools.count(1_000_000)
    producer = Producer({**PRODUCER, "bootstrap.servers": bench.kafka})

    def publish(job_id: int) -> None:
        producer.produce(topic, _stats_as_json(job_id, 1), str(job_id).encode())
        producer.poll(0)

    connection = psycopg.connect(url, autocommit=True)
    statement = b"SELECT FROM stream_stats WHERE job_id = %s"
    reader = lambda job_id: bool(connection.execute(statement, (job_id,), prepare=True).rowcount)  # noqa: E731
    found: dict[str, dict[str, Figures]] = {}
    with debezium_sink(bench, topic, url, rows=2_000, fetch_bytes=1) as process:
        publish(0)
        await_true(lambda: reader(0), 180, "Debezium's sink begins", lambda: process.poll() is None)
        _times(publish, reader, ids, min(200, events))  # until the JVM is warm
        for rate in rates:
            with contextlib.ExitStack() as stack:
                if rate:
                    environment = {**os.environ, "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": bench.kafka}
                    load = [str(Path(__file__)), "--load", str(rate), "--load-json", topic]
                    stack.enter_context(running(environment, *load))
                    time.sleep(WARM)
                found[str(rate)] = {"Debezium's JDBC sink, SQL": _figures(publish, reader, ids, events)}
                _say(f"{rate:,} events/s beside, Debezium: {found[str(rate)]}")
    connection.close()
    return found


def _created(job_id: int) -> JobCreated:
    return JobCreated(job_id=job_id, config_type="sync", config_id="c", connection_id="c")


def stats(job_id: int, sequence: int, records: int | None = None, stream: int | None = None) -> StreamStats:
    """Of a running job; records and stream go with the sequence unless they are given."""
    records = sequence if records is None else records
    return StreamStats(
        job_id=job_id,
        attempt_number=0,
        stream_name=f"stream_{(sequence if stream is None else stream) % STREAMS}",
        reporter="platform",
        sequence=sequence,
        records_emitted=records,
        bytes_emitted=100 * records,
        records_committed=records,
    )


def _stats_as_json(job_id: int, sequence: int) -> bytes:
    event = stats(job_id, sequence)
    return as_columns({**event.model_dump(), "occurred_at": micros(event.occurred_at)})


def _figures(
    publish: Callable[[int], None], reader: Callable[[int], bool], ids: Iterator[int], events: int
) -> Figures:
    _times(publish, reader, ids, min(20, events))  # once for nothing
    took = sorted(_times(publish, reader, ids, events))
    return {
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[min(len(took) - 1, len(took) * 99 // 100)],
        "max_ms": took[-1],
    }


def _times(
    publish: Callable[[int], None], reader: Callable[[int], bool], ids: Iterator[int], events: int
) -> list[float]:
    """Milliseconds from each emit to when the reader has it."""
    took = []
    for job_id in itertools.islice(ids, events):
        begun = time.perf_counter()
        publish(job_id)
        while not reader(job_id):
            if time.perf_counter() - begun > PATIENCE:
                raise SystemExit(f"job {job_id} cannot be read after {PATIENCE:g} s")
            time.sleep(LOOK)
        took.append(1000 * (time.perf_counter() - begun))
        time.sleep(PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # no step with anybody's clock
    return took


def sql_reader(url: str) -> Callable[[int], bool]:
    """Whether the view has the job."""
    connection = psycopg.connect(url, autocommit=True)
    statement = b"SELECT FROM jobtrail.jobs WHERE job_id = %s"
    return lambda job_id: bool(connection.execute(statement, (job_id,), prepare=True).rowcount)


def http_reader(port: int) -> Callable[[int], bool]:
    """Whether jobs/get_light has the job."""
    client = http.client.HTTPConnection("127.0.0.1", port)

    def has(job_id: int) -> bool:
        client.request(
            "POST", "/api/v1/jobs/get_light", json.dumps({"id": job_id}), {"content-type": "application/json"}
        )
        answer = client.getresponse()
        answer.read()
        return answer.status == 200

    return has


def publish_at(rate: int) -> int:
    """StreamStats at a steady rate, until it is ended."""
    with Publisher(Settings.from_env()) as publisher:
        for job_id in range(JOBS):
            publisher.publish(_created(job_id))
            publisher.publish(AttemptStarted(job_id=job_id, attempt_number=0, worker="w"))

        return steadily(rate, lambda number: publisher.publish(stats(number % JOBS, number)))


def produce_at(rate: int, topic: str) -> int:
    """The same as JSON for Debezium, until it is ended."""
    producer = Producer({**PRODUCER, "bootstrap.servers": Settings.from_env().kafka_bootstrap_servers})

    def produce(number: int) -> None:
        job_id = number % JOBS
        producer.produce(topic, _stats_as_json(job_id, number), str(job_id).encode())
        producer.poll(0)

    return steadily(rate, produce)


def steadily(rate: int, publish: Callable[[int], None]) -> int:
    """Publishes 0, 1, 2 and so on, so many a second, until it is ended."""
    print("publishing", flush=True)
    begun, sent = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - begun) * rate)
        for number in range(sent, due):
            publish(number)
        sent = due
        time.sleep(0.002)


@contextlib.contextmanager
def running(environment: dict[str, str], *command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of ours, from its first line on, and that line."""
    with subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  # a pipe
        said = process.stdout.readline()
        if not said:
            raise SystemExit(f"{' '.join(command)} did not start")
        try:
            yield process, said
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def shown(found: dict[str, dict[str, Figures]], verdicts: list[dict[str, Any]]) -> str:
    """The tables."""
    rows: list[list[Any]] = [
        [f"{int(rate):,}", reader, *(f"{figures[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms"))]
        for rate, readers in found.items()
        for reader, figures in readers.items()
    ]
    held = {True: "holds", False: "**does not hold**"}
    return "\n\n".join(
        (
            table(["events/s beside", "read by", "p50 ms", "p99 ms", "longest ms"], rows),
            table(
                ["bound", "found", ""],
                [[each["bound"], f"{each['found']:.1f}", held[each["holds"]]] for each in verdicts],
            ),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
