"""How long analysts' queries of 30 days take among a million jobs, and what Postgres reads for them.

    make bench-views                                   # 1,000,000 jobs; some minutes and 8 GB of disk
    .venv/bin/python benchmarks/views.py --jobs 10000  # smaller

A database on an embedded Postgres, filled by SQL (read_rows.sql, views_rows.sql). Each query asks one view of
jobtrail_analytics for the same 30 days. Cold: Postgres has just started, and the system has no page of the
database in memory. Warm: the median of --rounds more. Its plan must read stream stats by the ids of jobs.
Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from measured import cpu
from read import filled, say
from results import table, write_section

from jobtrail import embedded

#: Jobs are created evenly over so many seconds.
YEAR: Final = 365 * 86_400
#: The days that are asked for; the data begin with 2025.
FIRST_DAY: Final = date(2025, 6, 1)
DAYS: Final = 30
#: Most seconds for a warm query.
MOST: Final = 2.0
HELD: Final = {True: "holds", False: "**does not hold**"}
#: (view, what it answers) → its query.
QUERIES: Final[dict[tuple[str, str], str]] = {
    ("job_runs", "outcomes, p95 of duration and records by connection"): """
        SELECT connection_id, count(*), count(*) FILTER (WHERE status = 'succeeded'),
            percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds), sum(attempts),
            sum(records_committed)
        FROM jobtrail_analytics.job_runs
        WHERE created_at >= %(begin)s AND created_at < %(end)s
        GROUP BY connection_id""",
    ("job_runs", "all columns of those that failed"): """
        SELECT * FROM jobtrail_analytics.job_runs
        WHERE status = 'failed' AND day >= %(begin)s AND day < %(end)s""",
    ("attempt_failures", "failures by source connector, origin and type"): """
        SELECT source_image, failure_origin, failure_type, count(*), count(DISTINCT job_id)
        FROM jobtrail_analytics.attempt_failures
        WHERE day >= %(begin)s AND day < %(end)s
        GROUP BY source_image, failure_origin, failure_type""",
    ("stream_throughput", "records and mean speed by connection and stream"): """
        SELECT connection_id, stream_namespace, stream_name, sum(records_committed),
            avg(records_committed_per_second)
        FROM jobtrail_analytics.stream_throughput
        WHERE day >= %(begin)s AND day < %(end)s
        GROUP BY connection_id, stream_namespace, stream_name""",
    ("connector_reliability", "every row"): """
        SELECT * FROM jobtrail_analytics.connector_reliability WHERE day >= %(begin)s AND day < %(end)s""",
    ("daily_totals", "every row"): """
        SELECT * FROM jobtrail_analytics.daily_totals WHERE day >= %(begin)s AND day < %(end)s""",
    ("reconciliation", "every row"): """
        SELECT * FROM jobtrail_analytics.reconciliation WHERE day >= %(begin)s AND day < %(end)s""",
    ("anomalies", "every row"): """
        SELECT * FROM jobtrail_analytics.anomalies WHERE day >= %(begin)s AND day < %(end)s""",
}
RANGE: Final = {"begin": FIRST_DAY, "end": FIRST_DAY + timedelta(days=DAYS)}


@dataclass(frozen=True)
class Found:
    """What one query took."""

    view: str
    question: str
    rows: int
    cold_s: float
    warm_s: float
    longest_s: float
    #: Processor seconds of Postgres for a warm run, all its processes: what other work changes least.
    cpu_s: float
    #: Of the machine, when the warm rounds began.
    load: float
    #: Pages of 8 kB that a warm run looked at.
    pages: int
    #: How each table was read.
    reads: list[str]
    #: What breaks the law on stream stats.
    scans: list[str]


def main() -> int:
    """Measures, prints, writes, and with --check returns 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000, help="with 2 attempts and 10 stream rows each")
    parser.add_argument(
        "--rounds", type=int, default=5, help="warm runs of each query; the median counts (5)"
    )
    parser.add_argument("--home", type=Path, help="folder that keeps the database for the next run")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = options.home or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-bench-"))
        )
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # as root, another account runs Postgres
        found = [*measured(home, options.jobs, options.rounds)]
    holds = all(each.warm_s <= MOST and not each.scans for each in found)
    if options.json:
        print(json.dumps({"queries": [asdict(each) for each in found], "holds": holds}, indent=1))
    else:
        print(_told(found))
    if options.write:
        write_section(
            "Analysts' views among a million jobs",
            _told(found),
            command="make bench-views",
            settings=textwrap.fill(_settings(options.jobs, options.rounds), 120),
        )
    return int(options.check and not holds)


def measured(home: Path, jobs: int, rounds: int) -> Iterator[Found]:
    """Each query, on a server that has just started."""
    with embedded.servers(home, kafka=False, durable=False, on_progress=say) as servers:
        name = filled(
            servers.database_url, jobs, YEAR / jobs, "views", ("read_rows.sql", "views_rows.sql")
        ).rpartition("/")[2]
    for (view, question), query in QUERIES.items():
        forget(home)
        with (
            embedded.servers(home, kafka=False, durable=False, on_progress=lambda _: None) as servers,
            psycopg.connect(
                f"{servers.database_url.rpartition('/')[0]}/{name}", autocommit=True
            ) as connection,
        ):
            rows, cold = timed(connection, query)
            load = os.getloadavg()[0]
            postmaster = int((home / "run" / "postgres.pid").read_text())
            before = cpu(postmaster)
            warm = [timed(connection, query)[1] for _ in range(rounds)]
            spent = (cpu(postmaster) - before) / rounds
            plan = explained(connection, query, "ANALYZE, BUFFERS, TIMING OFF, ")
        found = Found(
            *(view, question, rows, cold, statistics.median(warm), max(warm), spent, load),
            pages=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
            reads=[*reads(plan)],
            scans=[*scans(plan)],
        )
        say(f"{view}, {question}: {cold:.2f} s cold, {found.warm_s:.2f} s warm, {spent:.2f} s of processor")
        yield found


def forget(home: Path) -> None:
    """Has the system drop what it has in memory of the database's files; needs a stopped server."""
    if hasattr(os, "posix_fadvise"):
        for path in (home / "postgres" / "data" / "base").rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(connection: psycopg.Connection[Any], query: str) -> tuple[int, float]:
    """Rows, and seconds until the client has all of them."""
    begun = time.perf_counter()
    rows = connection.execute(query.encode(), RANGE).fetchall()
    return len(rows), time.perf_counter() - begun


def explained(connection: psycopg.Connection[Any], query: str, how: str = "") -> dict[str, Any]:
    """The plan of a query, as Postgres tells it."""
    row = connection.execute(f"EXPLAIN ({how}FORMAT JSON) {query}".encode(), RANGE).fetchone()
    plan: dict[str, Any] = row[0][0]["Plan"] if row else {}
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all below it."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def reads(plan: dict[str, Any]) -> Iterator[str]:
    """Each table that a plan reads: by which index and how often; a bitmap's index is its own node."""
    for node in nodes(plan):
        times = node.get("Actual Loops", 1)
        if times and ("Relation Name" in node or node["Node Type"] == "Bitmap Index Scan"):
            index = node.get("Index Name")
            said = f" {times:,.0f} times" if times > 10 else ""
            yield f"{node.get('Relation Name', 'bitmap')} by {index or node['Node Type'].lower()}{said}"


def scans(plan: dict[str, Any], relation: str = "stream_stats") -> Iterator[str]:
    """Each read of a table that is not by the id of a job."""
    for node in nodes(plan):
        condition = node.get("Index Cond", "")
        if node.get("Relation Name") == relation and "job_id =" not in condition:
            yield f"{node['Node Type']} of {relation} {condition}".rstrip()


def _settings(jobs: int, rounds: int) -> str:
    return (
        f"{jobs:,} jobs of a year, {2 * jobs:,} attempts, {10 * jobs:,} stream rows of the platform and a "
        f"few of others; {DAYS} days asked for; warm: median of {rounds}. Embedded PostgreSQL 18 with its "
        "own settings (96 MB of shared buffers); until the client has all rows."
    )


def _told(found: list[Found]) -> str:
    rows = [
        [
            *(f"`{each.view}`", each.question, f"{each.rows:,}", f"{each.cold_s:.2f}", f"{each.warm_s:.2f}"),
            *(f"{each.longest_s:.2f}", f"{each.cpu_s:.2f}", f"{each.load:.1f}", f"{each.pages:,}"),
            "; ".join(each.scans) or "none",
            HELD[each.warm_s <= MOST and not each.scans],
        ]
        for each in found
    ]
    header = [
        *(
            "view",
            "query",
            "rows",
            "cold s",
            "warm s",
            "longest s",
            "CPU s",
            "load",
            "pages",
            "scans of stream stats",
        ),
        f"at most {MOST:g} s warm, no scan",
    ]
    plans = [f"- `{each.view}`, {each.question}: {'; '.join(each.reads)}" for each in found]
    return "\n".join([table(header, rows), "", "What the plans read:", "", *plans])


if __name__ == "__main__":
    sys.exit(main())
