"""Whether Jobtrail stays as fast as the log grows, and what a log costs: rates, memory, bytes per event.

    make bench-growth                                                   # 1, 10 and 50 million events
    .venv/bin/python benchmarks/growth.py --sizes 100000,300000 --home /var/tmp/growth

For each size: the log is written, a projector folds it, `jobtrail rebuild` makes it anew, `jobtrail archive`
copies it. Rates of the first and the last million (or tenth, of a smaller log) come from the checkpoints, as
they move. What this Jobtrail has no command for is left out, and said. Each reads the log once.

Logs up to --archived are archived too. All three sizes take about half an hour on two free cores, 9 minutes
of it to write the largest log, and 25 GB in the folder for temporary files or in --home. A size whose topic
is there is not written again. Should writing take more than 19 minutes, the broker's clock would be 15 from
the events', and there would be anomalies that other sizes have not. Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import ours
import psycopg
from bench import Bench, database_of, say
from event_log import log_of, options_of_log
from measured import Round
from replay import HELD
from results import write_section

from jobtrail import embedded

#: Seconds between two looks at the checkpoints.
LOOK: Final = 0.25
#: Of the smallest log's rate, what the largest log's must be.
LEAST: Final = 0.9
READ: Final = """
    SELECT sum(next_offset) FROM jobtrail.checkpoints WHERE topic = %s GROUP BY generation
    ORDER BY generation DESC LIMIT 1
"""
BYTES: Final = """
    SELECT sum(pg_total_relation_size(c.oid))::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relkind = 'r'
"""


@dataclass
class Run:
    """A replay of the whole log: of it, of its first and of its last events."""

    whole: Round
    first_rate: float
    last_rate: float


@dataclass
class Grown:
    """What was found for one size."""

    events: int
    topic_bytes: int
    live: Run
    table_bytes: int
    rebuild: Run | None = None
    archive_bytes: int | None = None
    archive_seconds: float | None = None


class Progress(threading.Thread):
    """Notes how far the newest generation in a database is."""

    def __init__(self, url: str, topic: str) -> None:
        super().__init__(daemon=True)
        self._url, self._topic = url, topic
        self._done = threading.Event()
        #: Seconds and events.
        self.seen: list[tuple[float, float]] = []

    def run(self) -> None:
        """Until `end`."""
        while not self._done.wait(LOOK):
            with (
                contextlib.suppress(psycopg.Error),  # the database is made anew, or not migrated yet
                psycopg.connect(self._url, autocommit=True) as connection,
            ):
                while not self._done.wait(LOOK):
                    row = connection.execute(READ, (self._topic,)).fetchone()
                    if row is not None:
                        self._note(float(row[0]))

    def _note(self, events: float) -> None:
        if self.seen and events < self.seen[-1][1]:
            self.seen.clear()  # another generation, or another database
        if not self.seen or events > self.seen[-1][1]:
            self.seen.append((time.monotonic(), events))

    def end(self) -> None:
        """Looks no longer."""
        self._done.set()
        self.join()

    def rate(self, begin: float, end: float) -> float:
        """Events a second between the looks around `begin` and `end`: so many or a few more; 0 without two.

        A commit has up to 100,000 events and more, and a look may miss some.
        """
        before = [at for at in self.seen if at[1] <= begin] or self.seen[:1]
        after = [at for at in self.seen if at[1] >= end and at[1] > before[-1][1]] or self.seen[-1:]
        if not before or before[-1][1] >= after[0][1]:
            return 0.0
        return (after[0][1] - before[-1][1]) / (after[0][0] - before[-1][0])


def grown(bench: Bench, archive: Path, archived: int) -> Grown:
    """One size."""
    topic, events = bench.topic("events")
    some = min(1_000_000, events / 10)
    url = database_of(bench.postgres, "live")
    noted = Progress(url, topic)
    noted.start()
    whole, url = ours.live(bench)
    noted.end()
    live = Run(whole, noted.rate(0, some), noted.rate(events - some, events))
    found = Grown(
        events, _bytes_below(bench.home / "kafka" / "data", f"{topic}-*/*"), live, _table_bytes(url)
    )
    if ours.has("rebuild"):
        noted = Progress(url, topic)
        noted.start()
        whole = ours.rebuild(bench, url)
        noted.end()
        found.rebuild = Run(whole, noted.rate(0, some), noted.rate(events - some, events))
    if ours.has("archive") and events <= archived * 1.1:
        begun = time.monotonic()
        environment = ours.environment(bench, url, topic)
        command = [*ours.COMMAND, "archive", archive]
        subprocess.run(command, env=os.environ | environment, stdout=sys.stderr, check=True)
        found.archive_seconds = time.monotonic() - begun
        found.archive_bytes = _bytes_below(archive, "**/*")
    return found


def _bytes_below(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file() and _counts(path))


def _counts(path: Path) -> bool:
    return path.suffix not in {".index", ".timeindex"}  # are made longer beforehand


def _table_bytes(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(BYTES, (ours.live_schema(url),)).fetchone()
    assert row is not None  # noqa: S101  # an aggregate
    return int(row[0])


def main() -> int:
    """Measures each size, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options_of_log(parser)
    parser.add_argument("--sizes", default="1000000,10000000,50000000", help="events, with commas")
    parser.add_argument(
        "--archived", type=int, default=10_000_000, help="logs up to this size are archived too (10000000)"
    )
    parser.add_argument("--home", type=Path, help="folder that keeps the logs for the next run")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    every = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-bench-")))
        home = options.home or scratch / "home"
        home.mkdir(parents=True, exist_ok=True)
        scratch.chmod(0o755)  # as root, another account runs the servers
        home.chmod(0o755)
        servers = stack.enter_context(embedded.servers(home, on_progress=say))
        for size in map(int, options.sizes.split(",")):
            log = replace(log_of(options), events=size)
            bench = Bench(home, servers.kafka_bootstrap_servers, servers.database_url, log)
            every.append(grown(bench, scratch / f"archive-{size}", options.archived))
            say(f"{every[-1]}")
    text, command = report(every), f"python benchmarks/growth.py --sizes {options.sizes}"
    print(
        json.dumps({"sizes": [asdict(each) for each in every], "bounds": bounds(every)}, indent=1)
        if options.json
        else text
    )
    if options.write:
        write_section("Growth", text, command=command, settings=SETTINGS)
    return 0


SETTINGS: Final = (
    "The unkind log, 4 partitions, lz4. First and last: the rate over the first and the last million events\n"
    "(of a smaller log, tenth), by the checkpoints."
)


def report(every: list[Grown]) -> str:
    """The table."""
    lines = [
        "| events | | events/s | first | last | PSS MB | load | bytes/event: topic | tables | archive |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in every:
        sizes_of = " | ".join(
            f"{size / each.events:.1f}" if size else ""
            for size in (each.topic_bytes, each.table_bytes, each.archive_bytes)
        )
        lines.append(f"| {each.events:,} | live | {_run(each.live)} | {sizes_of} |")
        if each.rebuild:
            lines.append(f"| {each.events:,} | rebuild | {_run(each.rebuild, in_steps=False)} | | | |")
    if not all(each.rebuild for each in every):
        lines += ["", "Rebuild: left out, for this Jobtrail has no `jobtrail rebuild` yet."]
    verdicts = bounds(every)
    if verdicts:
        lines += ["", "| bound | found | |", "|---|---|---|"]
        lines += [f"| {each['bound']} | {each['found']:,.2f} | {HELD[each['holds']]} |" for each in verdicts]
    return "\n".join(lines)


def bounds(every: list[Grown]) -> list[dict[str, Any]]:
    """The largest log is replayed as fast as the smallest."""
    first, last = every[0], every[-1]
    found: list[dict[str, Any]] = []
    for name, small, large in (
        ("live", first.live, last.live),
        ("rebuild", first.rebuild, last.rebuild),
    ):
        if small is not None and large is not None and last.events > first.events:
            ratio = large.whole.rate / small.whole.rate
            said = f"{name}: events/s at {last.events:,} against {first.events:,} at least {LEAST:g}"
            found.append({"bound": said, "found": ratio, "holds": ratio >= LEAST})
    return found


def _run(run: Run, *, in_steps: bool = True) -> str:
    """Without first and last where rows come in a few large steps: those of one step say nothing."""
    shown = (run.first_rate, run.last_rate) if in_steps else (0, 0)
    rates = " | ".join(f"{rate:,.0f}" if rate else "" for rate in shown)
    return f"{run.whole.rate:,.0f} | {rates} | {run.whole.pss_mb:,.0f} | {run.whole.load:.1f}"


if __name__ == "__main__":
    sys.exit(main())
