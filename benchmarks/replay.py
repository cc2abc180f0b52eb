"""How fast a log is replayed: Jobtrail, the floors below it, and its peers, on the same log in one run.

    make bench-replay                                            # 3,000,000 events, three rounds of each
    .venv/bin/python benchmarks/replay.py --events 300000 --rounds 1 --only floors,live,flink
    .venv/bin/python benchmarks/replay.py --home /var/tmp/bench --write    # keeps the log; writes RESULTS.md

Embedded Kafka and Postgres, durable as in use, on the same cores. All commit without waiting for the disk
(synchronous_commit off, fsync on). Peers write the StreamStats alone, into a table like the read model's;
that all tables are the same at the end is checked. Start-up is not counted; that of `jobtrail rebuild` is
told. Slow peers get a part of the log (`--slow`). Exit status 1 with --check where a bound does not hold.
Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import floors
import jvm_peers
import ours
import python_peers
from bench import Bench, say
from event_log import SHAPES, Log, log_of, options_of_log
from measured import Round, median
from results import write_section

from jobtrail import embedded
from jobtrail.demo.apart import InstallError
from jobtrail.errors import EmbeddedError


@dataclass
class Engine:
    """What is measured, and what its row says."""

    name: str
    title: str
    settings: str
    run: Callable[[Bench], Round]
    #: Whether it gets the small log.
    slow: bool = False
    rounds: list[Round] = field(default_factory=list)
    #: Why there are no rounds.
    refused: str | None = None


#: Rebuild or live against another → at least this often as fast.
BOUNDS: Final = (
    ("rebuild", "flink", 3.0),
    ("rebuild", "debezium", 8.0),
    ("rebuild", "quix", 20.0),
    ("rebuild", "faust", 30.0),
    ("live", "flink", 2.0),
    ("rebuild", "consume", 0.5),
)
MEMORY: Final = (("live", 500.0), ("rebuild", 1_500.0))


class Filled:
    """The database of the last live run: what COPY alone copies, and what a rebuild stands beside."""

    url: str | None = None

    def live(self, bench: Bench) -> Round:
        """Fills it."""
        found, self.url = ours.live(bench)
        return found

    def of(self, bench: Bench) -> str:
        """Its address."""
        if self.url is None:
            self.live(bench)
        assert self.url is not None  # noqa: S101  # just made
        return self.url


def engines() -> list[Engine]:
    """All, floors first."""
    filled = Filled()
    return [
        Engine("consume", "floor: raw consume", "one process", lambda b: floors.raw_consume(b, 1)),
        Engine("consume2", "floor: raw consume", "two processes", lambda b: floors.raw_consume(b, 2)),
        Engine("decode", "floor: decode alone", "consuming not counted", floors.decode_alone),
        Engine("live", "Jobtrail, live catch-up", "defaults, one projector", filled.live),
        Engine(
            "copy",
            "floor: COPY alone",
            "binary, with keys and indexes",
            lambda b: floors.copy_alone(b, filled.of(b), unlogged=False),
        ),
        Engine(
            "copy-unlogged",
            "floor: COPY alone",
            "the same, unlogged",
            lambda b: floors.copy_alone(b, filled.of(b), unlogged=True),
        ),
        Engine(
            "rebuild",
            "Jobtrail, rebuild",
            "defaults",
            lambda b: ours.rebuild(b, filled.of(b)),
        ),
        Engine(
            "flink", "Flink SQL 1.20.3", "parallelism 2, flush of 50,000 rows, 3 GB heap", jvm_peers.flink
        ),
        Engine(
            "debezium",
            "Debezium JDBC sink 3.5.0 on Connect 4.3.1",
            "JSON, 2 tasks, batches of 10,000, reduction buffer, 2 GB heap",
            jvm_peers.debezium,
        ),
        Engine(
            "quix",
            "Quix Streams 3.28.1, Postgres sink",
            "2 processes, commits of 20,000",
            python_peers.quix,
            slow=True,
        ),
        Engine(
            "faust",
            "Faust 0.15.3, asyncpg 0.32 upserts",
            "2 processes, 10,000 in a statement",
            python_peers.faust,
            slow=True,
        ),
    ]


HELD: Final = {True: "holds", False: "**does not hold**"}
FLOORS: Final = frozenset({"consume", "consume2", "decode", "copy", "copy-unlogged"})


def main() -> int:
    """Measures, prints, writes, and says by its exit status whether it held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options_of_log(parser)
    parser.add_argument("--rounds", type=int, default=3, help="of each; the median counts (3)")
    parser.add_argument("--slow", type=float, default=0.1, help="part of the log for slow peers (0.1)")
    parser.add_argument("--only", help="of: floors, " + ", ".join(e.name for e in engines()))
    parser.add_argument("--home", type=Path, help="folder that keeps the log for the next run")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    log = log_of(options)
    chosen = _chosen(parser, options.only)
    with contextlib.ExitStack() as stack:
        home = options.home or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-bench-"))
        )
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # as root, another account runs the servers
        servers = stack.enter_context(embedded.servers(home, on_progress=say))
        bench = Bench(home, servers.kafka_bootstrap_servers, servers.database_url, log)
        measure(bench, chosen, options.rounds, options.slow)
    problems = different(chosen)
    verdicts = [*bounds(chosen)]
    text = report(chosen, verdicts, problems)
    command, settings = _command(options), _settings(log, options.rounds)
    if options.json:
        print(
            json.dumps(
                {
                    "log": asdict(log),
                    "engines": {e.name: [asdict(r) | {"rate": r.rate} for r in e.rounds] for e in chosen},
                    "refused": {e.name: e.refused for e in chosen if e.refused},
                    "bounds": verdicts,
                    "problems": problems,
                },
                indent=1,
            )
        )
    else:
        print(f"    {command}\n\n{settings}\n\n{text}")
    if options.write:
        write_section(_section(log), text, command=command, settings=settings)
    return int(bool(problems) or (options.check and not all(each["holds"] for each in verdicts)))


def _chosen(parser: argparse.ArgumentParser, only: str | None) -> list[Engine]:
    every = engines()
    if only is None:
        return every
    names = set(only.split(","))
    if "floors" in names:
        names = names - {"floors"} | FLOORS
    if unknown := names - {engine.name for engine in every}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return [engine for engine in every if engine.name in names]


def measure(bench: Bench, chosen: list[Engine], rounds: int, slow: float) -> None:
    """A round of each, then the next of each: what else the machine does comes to all of them."""
    small = replace(bench, log=replace(bench.log, events=max(1_000, int(bench.log.events * slow))))
    for engine in chosen:
        if engine.name == "rebuild" and not ours.has("rebuild"):
            engine.refused = "this Jobtrail has no `jobtrail rebuild` yet"
    for number in range(rounds):
        for engine in chosen:
            if engine.refused:
                continue
            try:
                found = engine.run(small if engine.slow else bench)
            except (InstallError, EmbeddedError) as error:  # what the registry does not have
                engine.refused = str(error)
                say(f"{engine.name}: left out: {engine.refused}")
                continue
            found.load = found.load or os.getloadavg()[0]
            engine.rounds.append(found)
            say(f"{engine.name}, round {number + 1}: {found.rate:,.0f} events/s, {found}")


def different(chosen: list[Engine]) -> list[str]:
    """Whose table is not what the others' are, for each size of log."""
    problems = []
    for slow in (False, True):
        tables = {
            engine.name: [
                {name: each.found.get(name) for name in ("rows", "sequences", "records", "event_ids")}
                for each in engine.rounds
            ]
            for engine in chosen
            if engine.slow == slow and engine.name not in FLOORS
        }
        first = next((found for rounds in tables.values() for found in rounds), None)
        problems += [
            f"{name}: {found} and not {first}"
            for name, rounds in tables.items()
            for found in rounds
            if found != first
        ]
    return problems


def bounds(chosen: list[Engine]) -> list[dict[str, Any]]:
    """What the figures must show, where both are there."""
    at = {engine.name: median(engine.rounds) for engine in chosen if engine.rounds}
    names = {engine.name: engine.title for engine in chosen}
    found: list[dict[str, Any]] = []
    for ours_, other, least in BOUNDS:
        if ours_ in at and other in at:
            ratio = at[ours_].rate / at[other].rate
            said = f"{names[ours_]} against {names[other]}: at least {least:g} times"
            found.append({"bound": said, "found": ratio, "holds": ratio >= least})
    for ours_, most in MEMORY:
        if ours_ in at:
            used = at[ours_].pss_mb
            said = f"{names[ours_]}: memory (PSS) at most {most:,.0f} MB"
            found.append({"bound": said, "found": used, "holds": used <= most})
    return found


def _section(log: Log) -> str:
    return "Replay" if log.shape == SHAPES[0] else f"Replay, {log.shape} log"


def report(chosen: list[Engine], verdicts: list[dict[str, Any]], problems: list[str]) -> str:
    """The tables."""
    at = {engine.name: median(engine.rounds) for engine in chosen if engine.rounds}
    lines = [
        "| | settings | events | events/s | of live | of rebuild | CPU s | µs/event | PSS MB | rows | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for engine in chosen:
        if engine.name in at:
            lines.append(_row(engine, at))
        else:
            lines.append(f"| {engine.title} | left out: {engine.refused} | | | | | | | | | |")
    if verdicts:
        lines += ["", "| bound | found | |", "|---|---|---|"]
        lines += [f"| {each['bound']} | {each['found']:,.2f} | {HELD[each['holds']]} |" for each in verdicts]
    same = "All tables of stream stats are the same: rows, sequences, counters, event ids."
    lines += ["", *(problems or [same])]
    return "\n".join(lines)


def _command(options: argparse.Namespace) -> str:
    given = f"--events {options.events} --shape {options.shape} --rounds {options.rounds}"
    only = f" --only {options.only}" if options.only else ""
    return f"python benchmarks/replay.py {given} --slow {options.slow:g}{only}"


def _settings(log: Log, rounds: int) -> str:
    return textwrap.fill(
        f"{_described(log)}. Medians of {rounds} rounds, taken in turns; embedded Kafka 4.3.1 and"
        " PostgreSQL 18 on the same cores, fsync on and synchronous_commit off for all. Peers write stream"
        " stats only. CPU: seconds of the program, of Postgres, of Kafka, and microseconds of all for each"
        " event. Load: of the machine as each round began; over 2, others worked there.",
        115,
    )


def _described(log: Log) -> str:
    shape = {
        "unkind": "5,000 jobs interleaved",
        "kind": "job after job",
        "skewed": "80 % of the events in one partition, 5,000 jobs interleaved",
    }[log.shape]
    return f"{log.events:,} events, {shape}, {log.partitions} partitions, lz4"


def _row(engine: Engine, at: dict[str, Round]) -> str:
    found = at[engine.name]
    ratios = [f"{found.rate / at[name].rate:.2f}" if name in at else "" for name in ("live", "rebuild")]
    cpu = f"{found.cpu:.0f}, {found.postgres_cpu:.0f}, {found.kafka_cpu:.0f}" if found.cpu else ""
    each = f"{found.each:.1f}" if found.cpu else ""
    tables = found.found.get("tables")
    rows = sum(tables.values()) if tables else found.found.get("rows")
    loads = ", ".join(f"{each.load:.1f}" for each in engine.rounds)
    settings = engine.settings + (f"; {found.start:.1f} s to start" if found.start else "")
    return (
        f"| {engine.title} | {settings} | {found.events:,} | {found.rate:,.0f} | {ratios[0]} | "
        f"{ratios[1]} | {cpu} | {each} | {f'{found.pss_mb:,.0f}' if found.pss_mb else ''} | "
        f"{f'{rows:,}' if rows else ''} | {loads} |"
    )


if __name__ == "__main__":
    sys.exit(main())
