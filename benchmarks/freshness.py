"""From an emit to where it can be read: by SQL, and by HTTP.

    make bench-freshness
    .venv/bin/python benchmarks/freshness.py --events 50 --rates 0

Kafka, Postgres (with fsync), `jobtrail projector` and `jobtrail api` run as for users, with their defaults. A
job is created by the SDK's publisher with its defaults, one at a time; a reader asks every half millisecond
until it is there. So the time has all of it: the client's linger (5 ms, librdkafka's default), the broker,
the projector, one transaction, and half a look of the reader. At 5,000 events/s another process publishes
StreamStats of 500 running jobs beside it, by the SDK too.
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
from results import table, write_section

from jobtrail import embedded
from jobtrail.events import AttemptStarted, JobCreated, StreamStats
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

#: Seconds between two looks of the reader.
LOOK: Final = 0.0005
#: Seconds between two emits that are measured.
PAUSE: Final = 0.02
#: Seconds after which something is wrong.
PATIENCE: Final = 30.0
JOBS: Final = 500
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
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        return publish_at(options.load)
    with tempfile.TemporaryDirectory(prefix="jobtrail-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # as root, another account runs the servers
        with embedded.servers(home, on_progress=_say) as servers:
            found = measured(
                Settings(
                    home=home,
                    kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
                    database_url=servers.database_url,
                ),
                options.events,
                options.rates,
            )
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    text = shown(found)
    print(text)
    if options.write:
        write_section(
            "From emit to readable",
            text,
            command="make bench-freshness",
            settings=(
                f"{options.events} emits for each line, {1000 * PAUSE:.0f} ms apart; linger 5 ms, fsync on, "
                "synchronous_commit off in the projector's transactions."
            ),
        )
    return 0


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
        _running(environment, "-m", "jobtrail.cli.main", "projector"),
        _running(environment, "-m", "jobtrail.cli.main", "api") as said,
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
                        stack.enter_context(_running(environment, str(Path(__file__)), "--load", str(rate)))
                    for name, make in readers.items():
                        reader = make()  # anew: the server closes connections that were idle
                        _times(publisher, reader, ids, min(20, events))  # once for nothing
                        took = sorted(_times(publisher, reader, ids, events))
                        found.setdefault(str(rate), {})[name] = {
                            "p50_ms": took[len(took) // 2],
                            "p99_ms": took[min(len(took) - 1, len(took) * 99 // 100)],
                            "max_ms": took[-1],
                        }
                        _say(f"{rate:,} events/s beside, by {name}: {found[str(rate)][name]}")
    return found


def _times(
    publisher: Publisher, reader: Callable[[int], bool], ids: Iterator[int], events: int
) -> list[float]:
    """Milliseconds from each emit to when the reader has it."""
    took = []
    for job_id in itertools.islice(ids, events):
        event = JobCreated(job_id=job_id, config_type="sync", config_id="c", connection_id="c")
        begun = time.perf_counter()
        publisher.publish(event)
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
            publisher.publish(JobCreated(job_id=job_id, config_type="sync", config_id="c", connection_id="c"))
            publisher.publish(AttemptStarted(job_id=job_id, attempt_number=0, worker="w"))
        print("publishing", flush=True)
        begun, sent = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - begun) * rate)
            for number in range(sent, due):
                publisher.publish(
                    StreamStats(
                        job_id=number % JOBS,
                        attempt_number=0,
                        stream_name=f"stream_{number % 10}",
                        reporter="platform",
                        sequence=number,
                        records_emitted=number,
                        bytes_emitted=100 * number,
                        records_committed=number,
                    )
                )
            sent = due
            time.sleep(0.002)


@contextlib.contextmanager
def _running(environment: dict[str, str], *command: str) -> Iterator[str]:
    """A process of ours, from its first line on, which it gives."""
    with subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  # a pipe
        said = process.stdout.readline()
        if not said:
            raise SystemExit(f"{' '.join(command)} did not start")
        try:
            yield said
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def shown(found: dict[str, dict[str, Figures]]) -> str:
    """The table."""
    rows: list[list[Any]] = [
        [f"{int(rate):,}", reader, *(f"{figures[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms"))]
        for rate, readers in found.items()
        for reader, figures in readers.items()
    ]
    return table(["events/s beside", "read by", "p50 ms", "p99 ms", "longest ms"], rows)


if __name__ == "__main__":
    sys.exit(main())
