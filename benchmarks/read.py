"""How fast the HTTP interface reads among many jobs, and whether that depends on how many there are.

    make bench-read                                   # 1,000,000 jobs; some minutes and 8 GB of disk
    .venv/bin/python benchmarks/read.py --jobs 10000  # smaller

Two databases on an embedded Postgres, filled by SQL (read_rows.sql): one with --jobs jobs, one with --few.
`jobtrail api` answers as it does for users, a process of its own; `load.py` asks, another. Beside each figure
stand the processor seconds of the HTTP server and of Postgres, and the floor: the same rows by primary key,
with psycopg in a loop. Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from measured import cpu
from psycopg import sql

from jobtrail import embedded
from jobtrail.projections.migrate import migrate

HERE: Final = Path(__file__).parent
TYPES: Final = ["sync", "reset_connection", "refresh", "clear"]
#: Different requests of each kind; the same ones come again and again, so Postgres has their rows in memory.
REQUESTS: Final = 5_000
#: Seconds between two jobs.
APART: Final = 6
Figures = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of request."""

    name: str
    path: str
    #: Connections that ask at the same time.
    clients: int
    body: Callable[[random.Random, Rows], dict[str, Any]]
    #: What must hold with all jobs.
    most_p99_ms: float | None = None
    least_per_second: float | None = None


@dataclass(frozen=True)
class Rows:
    """What there is to ask for."""

    jobs: int
    connections: list[str]
    workspaces: list[str]


def _list(size: int | None, **fields: Callable[[random.Random, Rows], Any]) -> Callable[..., dict[str, Any]]:
    def body(chance: random.Random, rows: Rows) -> dict[str, Any]:
        page = {} if size is None else {"pagination": {"pageSize": size}}
        return {"configTypes": TYPES, **page, **{name: pick(chance, rows) for name, pick in fields.items()}}

    return body


def _connection(chance: random.Random, rows: Rows) -> str:
    return chance.choice(rows.connections)


def _workspace(chance: random.Random, rows: Rows) -> list[str]:
    return [chance.choice(rows.workspaces)]


KINDS: Final = (
    Kind("get_light", "get_light", 4, lambda chance, rows: {"id": chance.randint(1, rows.jobs)}, 5.0, 1500.0),
    Kind("list of a connection, 25", "list", 1, _list(25, configId=_connection), 15.0),
    Kind("list of a connection, 200", "list", 1, _list(None, configId=_connection)),
    Kind("list of a workspace, 25", "list_for_workspaces", 1, _list(25, workspaceIds=_workspace)),
    Kind("list of all, 25", "list", 1, _list(25)),
)
#: How much slower the 99th percentile may be with all jobs than with few.
MOST_RATIO: Final = 2.0


def main() -> int:
    """Measures, prints, and with --check returns 1 where a bound does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs in the large database (1,000,000)")
    parser.add_argument("--few", type=int, default=10_000, help="jobs in the small one (10,000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which each kind is asked (10)")
    parser.add_argument("--home", type=Path, help="folder that keeps the databases for the next run")
    parser.add_argument("--check", action="store_true", help="exit status 1 where a bound does not hold")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = options.home or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="jobtrail-bench-"))
        )
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # as root, another account runs Postgres
        servers = stack.enter_context(embedded.servers(home, kafka=False, durable=False, on_progress=say))
        few = measured(servers.database_url, options.few, options.seconds)
        many = measured(servers.database_url, options.jobs, options.seconds)
    verdicts = [*_verdicts(few, many)]
    if options.json:
        print(json.dumps({"few": few, "many": many, "bounds": verdicts}, indent=1))
    else:
        _print(few, many, verdicts)
    return int(options.check and not all(verdict["holds"] for verdict in verdicts))


def say(text: str) -> None:
    """For people; the figures go to the standard output alone."""
    print(text, file=sys.stderr, flush=True)


def measured(admin: str, jobs: int, seconds: float) -> Figures:
    """Figures of each kind of request among so many jobs."""
    url = filled(admin, jobs)
    with psycopg.connect(url, autocommit=True) as connection:
        # As autovacuum leaves it in a while; at the filling's end its own look at the rows was in the way.
        connection.execute("VACUUM (ANALYZE)")
        rows = Rows(jobs, *(_distinct(connection, name) for name in ("connection_id", "workspace_id")))
        floors = {
            "get_light": floor(connection, rows, 1),
            "list of a connection, 25": floor(connection, rows, 25),
        }
        postmaster = postmaster_of(connection)
        found: Figures = {"jobs": jobs, "kinds": {}}
        with serving(url) as (server, port):
            for kind in KINDS:
                chance = random.Random(kind.name)  # noqa: S311  # the same requests each time
                bodies = b"\n".join(
                    json.dumps(kind.body(chance, rows)).encode() for _ in range(min(REQUESTS, 10 * jobs))
                )
                asked(port, kind, bodies, min(2.0, seconds))  # once for nothing: connections, plans, caches
                before = cpu(server), cpu(postmaster)
                figures = asked(port, kind, bodies, seconds)
                after = cpu(server), cpu(postmaster)
                figures["server_cpu_s"], figures["postgres_cpu_s"] = (
                    round(end - begin, 2) for begin, end in zip(before, after, strict=True)
                )
                figures["floor_ms"] = floors.get(kind.name)
                found["kinds"][kind.name] = figures
                say(f"{jobs:,} jobs, {kind.name}: {figures}")
    return found


def filled(
    admin: str,
    jobs: int,
    apart: float = APART,
    name: str = "bench",
    files: tuple[str, ...] = ("read_rows.sql",),
) -> str:
    """Address of a database with so many jobs, `apart` seconds between two; `files` have their rows.

    It is made, unless an earlier run has left it.
    """
    name = f"{name}_{jobs}"
    url = f"{admin.rpartition('/')[0]}/{name}"
    with psycopg.connect(admin, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            migrate(url)  # the run may have been an older release's
            return url
        making = f"making_{os.getpid()}"
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(making)))
    url_of_making = f"{admin.rpartition('/')[0]}/{making}"
    migrate(url_of_making)
    with psycopg.connect(url_of_making, autocommit=True) as connection:
        connection.execute("SET search_path = jobtrail_g1")
        for statement in "".join((HERE / file).read_text() for file in files).split("\n;\n"):
            if statement.strip():
                begun = time.monotonic()
                written = connection.execute(statement.encode(), {"jobs": jobs, "apart": apart}).rowcount
                say(f"{written:,} rows in {time.monotonic() - begun:.0f} s")
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
    with psycopg.connect(admin, autocommit=True) as connection:
        names = sql.Identifier(making), sql.Identifier(name)
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
    return url


def _distinct(connection: psycopg.Connection[Any], column: str) -> list[str]:
    statement = sql.SQL("SELECT DISTINCT {0} FROM jobtrail.jobs ORDER BY {0}").format(sql.Identifier(column))
    return [value for (value,) in connection.execute(statement)]


def floor(connection: psycopg.Connection[Any], rows: Rows, size: int) -> dict[str, float]:
    """Milliseconds (median, 99th percentile) to read jobs, attempts and stream rows by primary key."""
    chance = random.Random(size)  # noqa: S311
    tables = ("jobs",) if size == 1 else ("jobs", "attempts")
    statements = [
        f"SELECT * FROM jobtrail_g1.{table} WHERE job_id = ANY (%s)"  # noqa: S608  # names from this file
        for table in (*tables, "stream_stats")
    ]
    took = []
    for _ in range(2_000 if size == 1 else 500):
        ids = [chance.randint(1, rows.jobs) for _ in range(size)]
        begun = time.perf_counter()
        for statement in statements:
            connection.execute(statement.encode(), (ids,), prepare=True).fetchall()
        took.append(1000 * (time.perf_counter() - begun))
    took.sort()
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


@contextlib.contextmanager
def serving(url: str) -> Iterator[tuple[int, int]]:
    """Process id and port of `jobtrail api`."""
    command = [sys.executable, "-m", "jobtrail.cli.main", "api"]
    environment = {**os.environ, "JOBTRAIL_DATABASE_URL": url, "JOBTRAIL_API_PORT": "0"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  # a pipe
        said = process.stdout.readline()
        try:
            yield process.pid, int(said.partition("127.0.0.1:")[2].partition(" ")[0])
        finally:
            process.send_signal(signal.SIGTERM)


def asked(port: int, kind: Kind, bodies: bytes, seconds: float) -> Figures:
    """What load.py measured."""
    command = [sys.executable, HERE / "load.py", str(port), f"/api/v1/jobs/{kind.path}"]
    ran = subprocess.run(
        [*command, str(kind.clients), str(seconds)], input=bodies, stdout=subprocess.PIPE, check=True
    )
    found: Figures = json.loads(ran.stdout)
    return found


def postmaster_of(connection: psycopg.Connection[Any]) -> int:
    """Process id of the server that a connection is of."""
    return int(Path(f"/proc/{connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()[1])


def _verdicts(few: Figures, many: Figures) -> Iterator[dict[str, Any]]:
    for kind in KINDS:
        figures, small = many["kinds"][kind.name], few["kinds"][kind.name]
        if kind.most_p99_ms is not None:
            ratio = figures["p99_ms"] / small["p99_ms"]
            yield _verdict(
                f"{kind.name}: p99 at most {kind.most_p99_ms:g} ms", figures["p99_ms"], kind.most_p99_ms
            )
            yield _verdict(
                f"{kind.name}: p99 at most {MOST_RATIO:g} times that of few jobs", ratio, MOST_RATIO
            )
        if kind.least_per_second is not None:
            rate = figures["per_second"]
            said = f"{kind.name}: at least {kind.least_per_second:,.0f} requests/s"
            yield {"bound": said, "found": rate, "holds": rate >= kind.least_per_second}


def _verdict(bound: str, found: float, most: float) -> dict[str, Any]:
    return {"bound": bound, "found": found, "holds": found <= most}


def _print(few: Figures, many: Figures, verdicts: list[dict[str, Any]]) -> None:
    print(
        "| request | jobs | p50 ms | p99 ms | requests/s | CPU ms HTTP server, Postgres | floor p50, p99 ms |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind in KINDS:
        for size in (few, many):
            at = size["kinds"][kind.name]
            each = [1000 * at[name] / at["requests"] for name in ("server_cpu_s", "postgres_cpu_s")]
            under = at["floor_ms"]
            print(
                f"| {kind.name} | {size['jobs']:,} | {at['p50_ms']:.2f} | {at['p99_ms']:.2f} | "
                f"{at['per_second']:,.0f} | {each[0]:.2f}, {each[1]:.2f} | "
                f"{'' if under is None else '{p50:.2f}, {p99:.2f}'.format(**under)} |"
            )
    for verdict in verdicts:
        print(
            f"{'holds' if verdict['holds'] else 'DOES NOT HOLD'}: {verdict['bound']}: {verdict['found']:,.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
