"""What an outage of the broker costs who emits, and what a kill -9 of the worker can lose.

    make bench-outage
    .venv/bin/python benchmarks/outage.py --seconds 3

A worker publishes 2,000 StreamStatus a second by the SDK and writes into a ledger which ones were taken. The
broker is killed in the midst of it and started again after so many seconds. Three runs:

    goes on     the worker lives through it
    killed      the worker is killed (-9) in the middle of the outage; `jobtrail spool send` does the rest
    always      JOBTRAIL_SPOOL=always: the broker stops, the worker is killed a moment later; several times
    outage      the same with JOBTRAIL_SPOOL=outage: how old was the oldest event that was lost?

Exit status 1 with --check where a bound does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition
from results import table, write_section

from jobtrail import codec, embedded, events
from jobtrail.consumers.topics import TopicAdmin
from jobtrail.embedded.process import Server
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.spool_send import send
from jobtrail.settings import Settings

RATE: Final = 2_000
#: Milliseconds between the stop of the broker and the kill of the worker.
MOMENTS: Final = (20, 80, 150, 220, 300, 400, 600)
#: Longest p99 of a call in the outage, in milliseconds.
P99_MS: Final = 1.0
#: Seconds of work before and after an outage.
AROUND: Final = 3.0


@dataclass(frozen=True, slots=True)
class Call:
    """One event in the ledger: when it was emitted, and how long the caller waited, in seconds."""

    number: int
    at: float
    took: float


def main() -> int:
    """Measures, prints, and writes its section of RESULTS.md where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the outage (30)")
    parser.add_argument(
        "--moments",
        type=int,
        nargs="+",
        default=MOMENTS,
        help="milliseconds between the stop of the broker and a kill of the worker",
    )
    parser.add_argument("--fsync", default="interval", choices=["interval", "each", "none"])
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--work", metavar="LEDGER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(Path(options.work))
    with tempfile.TemporaryDirectory(prefix="jobtrail-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # as root, another account runs the broker
        found = measured(home, options.seconds, options.moments, options.fsync)
    verdicts = [*bounds(found)]
    text = shown(found, verdicts)
    print(json.dumps({"found": found, "bounds": verdicts}, indent=1) if options.json else text)
    if options.write:
        write_section(
            "An outage of the broker",
            text,
            command="make bench-outage",
            settings=f"{RATE:,} events/s, {options.seconds:g} s without a broker, fsync {options.fsync}.",
        )
    return int(options.check and not all(each["holds"] for each in verdicts))


def work(ledger: Path) -> int:
    """The worker: publishes until SIGTERM, a line in the ledger for each event that was taken."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    lines = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    begun = time.monotonic()
    with Publisher(Settings.from_env()) as publisher:
        number = 0
        while not stop:
            event = status(number)
            before = time.perf_counter()
            publisher.publish(event)
            took = time.perf_counter() - before
            os.write(lines, b"%d %.6f %.9f\n" % (number, time.time(), took))
            number += 1
            if (ahead := begun + number / RATE - time.monotonic()) > 0:
                time.sleep(ahead)
    return 0


def status(number: int) -> events.StreamStatus:
    """The event of a number."""
    return events.StreamStatus(
        job_id=1, attempt_number=0, stream_namespace="", stream_name="users", run_state=str(number)
    )


def measured(home: Path, seconds: float, moments: Sequence[int], fsync: str) -> dict[str, Any]:
    """Run → figures."""
    found: dict[str, Any] = {}
    with _broker(home) as settings:
        TopicAdmin(settings).ensure()
        found["goes on"] = _through(home, settings, seconds, fsync, kill=False)
        found["killed"] = _through(home, settings, seconds, fsync, kill=True)
        found["always"] = _moments(home, settings, moments, "always", fsync)
        found["outage"] = _moments(home, settings, moments, "outage", fsync)
    return found


@contextlib.contextmanager
def _broker(home: Path) -> Iterator[Settings]:
    with embedded.servers(home, postgres=False, on_progress=lambda _: None) as servers:
        yield Settings(home=home, kafka_bootstrap_servers=servers.kafka_bootstrap_servers)


def _through(home: Path, settings: Settings, seconds: float, fsync: str, *, kill: bool) -> dict[str, Any]:
    """An outage, with a worker that lives through it or is killed in the middle."""
    before = len(_in_topic(settings))
    with _worker(home, settings, "outage", fsync) as (process, ledger):
        time.sleep(AROUND)
        Server(home, "kafka").kill()
        gone = time.time()
        time.sleep(seconds / 2)
        if kill:
            process.kill()
        time.sleep(seconds / 2)
        with _broker(home):
            back = time.time()
            time.sleep(0 if kill else AROUND)
            if not kill:
                process.terminate()
            process.wait(60)
            _say(f"sent from the spool: {send(settings).events:,}")
            calls = _calls(ledger)
            return _outcome(settings, before, calls) | _waits(
                [call.took for call in calls if gone <= call.at <= back]
            )


def _moments(
    home: Path, settings: Settings, moments: Sequence[int], spool: str, fsync: str
) -> dict[str, Any]:
    """Kills of the worker, a moment after the broker fell silent."""
    lost = accepted = 0
    oldest = 0.0
    with _broker(home):
        for moment in moments:
            before = len(_in_topic(settings))
            with _worker(home, settings, spool, fsync) as (process, ledger):
                time.sleep(1)
                Server(home, "kafka").signal(signal.SIGSTOP)
                time.sleep(moment / 1000)
                process.kill()
                killed = time.time()
                process.wait()
                Server(home, "kafka").signal(signal.SIGCONT)
                send(settings)
                calls = _calls(ledger)
                there = Counter(_in_topic(settings)[before:])
                missing = [call for call in calls if call.number not in there]
                _say(f"{spool}, killed after {moment} ms: {len(missing)} of {len(calls):,} lost")
                lost += len(missing)
                accepted += len(calls)
                oldest = max([oldest, *(killed - call.at for call in missing)])
    return {"accepted": accepted, "lost": lost, "oldest_lost_ms": 1000 * oldest}


@contextlib.contextmanager
def _worker(
    home: Path, settings: Settings, spool: str, fsync: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    ledger = home / f"ledger-{time.monotonic_ns()}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JOBTRAIL_")},
        "JOBTRAIL_HOME": str(home),
        "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "JOBTRAIL_SPOOL": spool,
        "JOBTRAIL_SPOOL_FSYNC": fsync,
    }
    process = subprocess.Popen(
        [sys.executable, __file__, "--work", str(ledger)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        while not ledger.exists() or not ledger.stat().st_size:
            time.sleep(0.01)
        yield process, ledger
    finally:
        process.kill()
        process.wait()


def _calls(ledger: Path) -> list[Call]:
    lines = ledger.read_text().splitlines()
    return [Call(int(number), float(at), float(took)) for number, at, took in map(str.split, lines)]


def _in_topic(settings: Settings) -> list[int]:
    """Numbers of all events in the topic, as they came. They are of one job, and so in one partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": "jobtrail-bench-outage",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 5,
            "log_level": 2,
        }
    )
    found: list[int] = []
    try:
        topic = consumer.list_topics(settings.events_topic, timeout=30).topics[settings.events_topic]
        consumer.assign(
            [TopicPartition(settings.events_topic, partition, 0) for partition in topic.partitions]
        )
        open_ends = len(topic.partitions)
        while open_ends:
            for message in consumer.consume(10_000, 0.2):
                if message.error():
                    open_ends -= 1
                elif isinstance(event := codec.decode(message.value() or b""), events.StreamStatus):
                    found.append(int(event.run_state))
    finally:
        consumer.close()
    return found


def _outcome(settings: Settings, before: int, calls: list[Call]) -> dict[str, Any]:
    numbers = _in_topic(settings)[before:]
    there = Counter(numbers)
    return {
        "accepted": len(calls),
        "lost": sum(call.number not in there for call in calls),
        "in_order": _in_order(numbers),
        "sent_twice": there.total() - len(there),
    }


def _in_order(numbers: list[int]) -> bool:
    """Whether each number came first after all smaller ones had."""
    most = -1
    for number in numbers:
        if number > most + 1:
            return False
        most = max(most, number)
    return True


def _waits(took: list[float]) -> dict[str, float]:
    took = sorted(took)
    last = len(took) - 1
    places = {"p50_ms": last // 2, "p99_ms": int(0.99 * last), "max_ms": last}
    return {name: 1000 * took[place] for name, place in places.items()}


def bounds(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What must hold."""
    for run in ("goes on", "killed", "always"):
        lost, in_order = found[run]["lost"], found[run].get("in_order", True)
        yield {"bound": f"{run}: nothing that was accepted is lost", "found": lost, "holds": not lost}
        if run != "always":
            yield {"bound": f"{run}: in order", "found": in_order, "holds": in_order}
    p99 = found["goes on"]["p99_ms"]
    yield {"bound": f"p99 of a call in the outage under {P99_MS:g} ms", "found": p99, "holds": p99 < P99_MS}


def shown(found: dict[str, Any], verdicts: list[dict[str, Any]]) -> str:
    """As tables."""
    header = ["run", "accepted", "lost", "sent twice", "p50 ms", "p99 ms", "longest ms", "oldest lost, ms"]

    def cell(figures: dict[str, Any], name: str) -> str:
        value = figures.get(name)
        return "" if value is None else f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"

    names = ["accepted", "lost", "sent_twice", "p50_ms", "p99_ms", "max_ms", "oldest_lost_ms"]
    rows = [[run, *(cell(figures, name) for name in names)] for run, figures in found.items()]
    judged = [
        [each["bound"], f"{each['found']:,.3g}", "holds" if each["holds"] else "**does not hold**"]
        for each in verdicts
    ]
    return table(header, rows) + "\n\n" + table(["bound", "found", ""], judged)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
