"""What the pages cost: the first paint among many jobs, and the server while many pages are open.

    make bench-pages                                                 # 1,000,000 jobs; 8 GB of disk
    .venv/bin/python benchmarks/pages.py --jobs 10000 --seconds 5    # smaller

A database is filled by SQL (read_rows.sql); Kafka, Postgres, `jobtrail projector` and `jobtrail api` run as
for users, each a process of its own. A headless Chromium opens the jobs page, each time with an empty cache.
Then another process holds pages open and reads what comes, while a third publishes stream stats of 100
running jobs: once all pages are the jobs page, once they are of all kinds. A number that is published every
half second is looked for in the open page of its job. Needs Linux (/proc) and Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from chromium import chromium
from freshness import STREAMS, running, stats, steadily
from measured import await_true, cpu
from read import filled, postmaster_of, say
from results import table, write_section

from jobtrail import embedded
from jobtrail.events import AttemptStarted, JobCreated
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

#: Running jobs.
RUNNING: Final = 100
#: Seconds until the projector folds, after one before it was killed.
FOLDS: Final = 90.0
#: Times that the jobs page is opened.
OPENED: Final = 15
#: Seconds before anything is counted.
WARM: Final = 4.0
#: Numbers that are looked for begin here; no counter of the others reaches it.
MARK: Final = 7_000_000_000
#: A page that reads nothing from Postgres: what Chromium and the server take anyhow.
FLOOR: Final = "/jobs?status=none"
#: Asked in the browser: milliseconds until something was painted, and bytes over the wire.
PAINT: Final = """() => new Promise((done) => new PerformanceObserver((seen) => {
    for (const one of seen.getEntriesByName("first-contentful-paint")) done(one.startTime);
}).observe({ type: "paint", buffered: true }))"""
WEIGHT: Final = """() => ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
    .reduce((sum, one) => sum + one.transferSize, 0)"""
#: Name of a set of open pages: all but one are the page of jobs.
JOBS: Final = "the jobs page"
#: What must hold.
MOST_PAINT_MS: Final = 300.0
MOST_BYTES: Final = 150_000
MOST_CORE: Final = 0.20
MOST_SEEN_MS: Final = 1_000.0
Figures = dict[str, Any]


def main() -> int:
    """Measures, prints, and with --check returns 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs in the database (1,000,000)")
    parser.add_argument("--pages", type=int, default=100, help="pages that are open (100)")
    parser.add_argument("--rate", type=int, default=1_000, help="events a second (1,000)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for which pages are open (30)")
    parser.add_argument("--home", type=Path, help="folder that keeps the database for the next run")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--load", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--hold", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        return publish_at(*options.load)
    if options.hold:
        return asyncio.run(hold(json.loads(options.hold)))
    with contextlib.ExitStack() as stack:
        home = options.home or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-bench-"))
        )
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # as root, another account runs the servers
        servers = stack.enter_context(embedded.servers(home, on_progress=say))
        settings = Settings(
            home=home,
            kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
            database_url=filled(servers.database_url, options.jobs),
        )
        found = measured(settings, options)
    verdicts = bounds(found)
    text = shown(found, verdicts)
    print(json.dumps({**found, "bounds": verdicts}, indent=1) if options.json else text)
    if options.write:
        write_section(
            "Pages",
            text,
            command="make bench-pages",
            settings=(
                f"{options.jobs:,} jobs, 10 times as many stream rows, beside {RUNNING} running jobs of "
                f"{STREAMS} streams that get {options.rate:,} events/s;\nembedded servers with fsync. "
                f"The jobs page is opened {OPENED} times with an empty cache; {options.pages} pages are open "
                f"for {options.seconds:g} s."
            ),
        )
    return int(options.check and not all(each["holds"] for each in verdicts))


def measured(settings: Settings, options: argparse.Namespace) -> Figures:
    """The first paint, and what open pages cost."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JOBTRAIL_")},
        "JOBTRAIL_HOME": str(settings.home),
        "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "JOBTRAIL_DATABASE_URL": settings.database_url or "",
        "JOBTRAIL_API_PORT": "0",
        "PYTHONUNBUFFERED": "1",
    }
    with (
        psycopg.connect(settings.database_url or "", autocommit=True) as connection,
        running(environment, "-m", "jobtrail.cli.main", "projector"),
        running(environment, "-m", "jobtrail.cli.main", "api") as (server, said),
    ):
        # As autovacuum leaves it in a while.
        connection.execute("VACUUM (ANALYZE)")
        postmaster = postmaster_of(connection)
        port = int(said.partition("127.0.0.1:")[2].partition(" ")[0])
        found: Figures = {"paint": painted(port, "/jobs"), "floor": painted(port, FLOOR)}
        say(f"{found['paint']}, floor {found['floor']}")
        connections = [
            str(row[0])
            for row in connection.execute("SELECT DISTINCT connection_id FROM jobtrail.jobs LIMIT 50")
        ]
        first = int(time.time())  # no job of an earlier run
        load = [__file__, "--load", str(options.rate), str(first + 1)]
        with Publisher(settings) as publisher, running(environment, *load):
            create(publisher, first)
            is_there = "SELECT FROM jobtrail.jobs WHERE job_id = %s"
            await_true(
                lambda: bool(connection.execute(is_there, (first,)).rowcount), FOLDS, "it folds", lambda: True
            )
            found["open"] = {}
            for name, paths in sets(options.pages, first, connections).items():
                given = {"port": port, "paths": paths, "seconds": options.seconds + WARM, "mark": MARK}
                with running(environment, __file__, "--hold", json.dumps(given)) as (holder, _):
                    time.sleep(WARM)
                    before = time.time(), cpu(server.pid), cpu(postmaster)
                    published = mark(publisher, first, options.seconds)
                    after = time.time(), cpu(server.pid), cpu(postmaster)
                    assert holder.stdout is not None  # noqa: S101  # a pipe
                    told = json.loads(holder.stdout.readline())
                took, ours, postgres = (end - begin for begin, end in zip(before, after, strict=True))
                seen = sorted(
                    1000 * (told["seen"][str(number)] - at)
                    for number, at in published.items()
                    if str(number) in told["seen"]
                )
                found["open"][name] = {
                    "pages": len(paths),
                    "different": len({*paths}),
                    "core": ours / took,
                    "postgres_core": postgres / took,
                    "kb_per_s": told["bytes"] / told["seconds"] / 1000,
                    "messages_per_page_s": told["messages"] / told["seconds"] / len(paths),
                    "marks": len(published),
                    "seen": len(seen),
                    "seen_p50_ms": seen[len(seen) // 2] if seen else None,
                    "seen_max_ms": seen[-1] if seen else None,
                }
                say(f"{name}: {found['open'][name]}")
    return found


def sets(pages: int, first: int, connections: Sequence[str]) -> dict[str, list[str]]:
    """What is open. The first one is of the job whose numbers are looked for."""
    marked = f"/live/jobs/{first}"
    mixed = [
        marked,
        *["/live/jobs"] * (pages * 4 // 10),
        *["/live/jobs?status=running", "/live/jobs?type=sync"] * (pages // 20),
        *[f"/live/jobs/{first + 1 + number}" for number in range(pages * 2 // 10)],
        *[f"/live/connections/{connection}" for connection in connections[: pages // 10]],
        *["/live/operations"] * (pages // 10),
        *["/live/dataplanes"] * (pages // 10),
    ]
    return {
        JOBS: [marked, *["/live/jobs"] * (pages - 1)],
        "pages of all kinds": mixed[:pages],
    }


def painted(port: int, path: str) -> Figures:
    """Milliseconds until something is painted, and bytes over the wire, with an empty cache."""
    paints, weights = [], []
    with chromium() as browser:
        for _ in range(OPENED + 1):
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}{path}", wait_until="load")
            paints.append(page.evaluate(PAINT))
            weights.append(page.evaluate(WEIGHT))
            context.close()
    del paints[0], weights[0]  # the browser itself started
    paints.sort()
    return {"p50_ms": paints[len(paints) // 2], "max_ms": paints[-1], "bytes": max(weights)}


async def hold(given: Figures) -> int:
    """Keeps pages open and reads what comes; says how much that was, and when each number was seen."""
    told: Figures = {"bytes": 0, "messages": 0, "seen": {}}
    print("open", flush=True)

    async def read(path: str, marked: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", given["port"], limit=2**24)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        while line := await reader.readline():
            told["bytes"] += len(line)
            told["messages"] += line.startswith(b"event: parts")
            if marked and line.startswith(b"data: "):
                for part in line.split(b"7,000,")[1:]:
                    told["seen"].setdefault(
                        str(given["mark"] + int(part[:7].replace(b",", b""))), time.time()
                    )

    begun = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(given["seconds"]):
            await asyncio.gather(*(read(path, number == 0) for number, path in enumerate(given["paths"])))
    told["seconds"] = time.monotonic() - begun
    print(json.dumps(told), flush=True)
    return 0


def mark(publisher: Publisher, job_id: int, seconds: float) -> dict[int, float]:
    """Publishes a number every half second or so; number → when."""
    published: dict[int, float] = {}
    begun = time.monotonic()
    while time.monotonic() - begun < seconds - 1.5:
        number = MARK + int(1000 * (time.monotonic() - begun))
        published[number] = time.time()
        publisher.publish(stats(job_id, int(1000 * published[number]), number, stream=len(published)))
        time.sleep(0.45)
    time.sleep(max(0.0, seconds - (time.monotonic() - begun)))
    return published


def create(publisher: Publisher, job_id: int) -> None:
    """A running job."""
    publisher.publish(
        JobCreated(job_id=job_id, config_type="sync", config_id="c", connection_id=f"live-{job_id % 20}")
    )
    publisher.publish(AttemptStarted(job_id=job_id, attempt_number=0, worker="w"))


def publish_at(rate: int, first: int) -> int:
    """Stream stats at a steady rate, until it is ended."""
    with Publisher(Settings.from_env()) as publisher:
        for number in range(RUNNING):
            create(publisher, first + number)
        return steadily(
            rate,
            lambda number: publisher.publish(
                stats(first + number % RUNNING, number // RUNNING, number, stream=number // RUNNING)
            ),
        )


def bounds(found: Figures) -> list[Figures]:
    """What must hold."""
    judged = [
        ("first paint of the jobs page: median at most 300 ms", found["paint"]["p50_ms"], MOST_PAINT_MS),
        ("weight of the jobs page: at most 150 KB", found["paint"]["bytes"], MOST_BYTES),
    ]
    judged += [
        (f"{figures['pages']} open, {name}: at most 0.2 of a core", figures["core"], MOST_CORE)
        for name, figures in found["open"].items()
    ]
    # Where many different pages are open, the server keeps to its share, and numbers come later.
    seen = found["open"][JOBS]["seen_max_ms"]
    judged.append((f"{JOBS}: a number is seen within 1,000 ms", seen or float("inf"), MOST_SEEN_MS))
    return [{"bound": said, "found": value, "holds": value <= most} for said, value, most in judged]


def shown(found: Figures, verdicts: list[Figures]) -> str:
    """The tables."""
    held = {True: "holds", False: "**does not hold**"}
    return "\n\n".join(
        (
            table(
                ["opened", "first paint p50 ms", "longest ms", "KB"],
                [
                    [name, f"{one['p50_ms']:.0f}", f"{one['max_ms']:.0f}", f"{one['bytes'] / 1000:.0f}"]
                    for name, one in ((JOBS, found["paint"]), ("floor: an error page", found["floor"]))
                ],
            ),
            table(
                [
                    "open",
                    "different",
                    "HTTP server, cores",
                    "Postgres, cores",
                    "KB/s",
                    "messages/s of a page",
                    "seen p50 ms",
                    "longest ms",
                ],
                [
                    [
                        f"{one['pages']}, {name}",
                        str(one["different"]),
                        f"{one['core']:.3f}",
                        f"{one['postgres_core']:.3f}",
                        f"{one['kb_per_s']:,.0f}",
                        f"{one['messages_per_page_s']:.1f}",
                        f"{one['seen_p50_ms'] or 0:.0f}",
                        f"{one['seen_max_ms'] or 0:.0f}",
                    ]
                    for name, one in found["open"].items()
                ],
            ),
            table(
                ["bound", "found", ""],
                [[one["bound"], f"{one['found']:,.2f}", held[one["holds"]]] for one in verdicts],
            ),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
