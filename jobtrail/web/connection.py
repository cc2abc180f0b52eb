"""The page of one connection: how its runs went, how much they moved, and how long they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jobtrail.api import reads, verdict
from jobtrail.api.models import JobRead
from jobtrail.api.reads import Database
from jobtrail.errors import NotFoundError
from jobtrail.web import charts
from jobtrail.web.jobs import ORDER
from jobtrail.web.pages import Page

#: Runs that the page looks at, the newest.
RUNS: Final = 50
#: Height of a plot in its own units, and of what is told where nothing is known.
HEIGHT: Final = 160.0
LEAST: Final = 2.0


def connection_page(database: Database, connection_id: str) -> Page:
    """Raises NotFoundError for a connection without jobs."""
    rows = reads.jobs_page(database, reads.filters(connection_id=connection_id), ORDER, RUNS, 0)
    if not rows:
        raise NotFoundError(f"no job of a connection {connection_id!r} is known")
    jobs, now = reads.full_jobs(database, rows), datetime.now(UTC)
    ended = Counter(row["status"] for row in rows if row["ended_at"] is not None)
    judged = ended["succeeded"] + ended["failed"]  # whoever cancels says nothing about the connection
    seconds = [verdict.duration(row, now) for row in rows]
    runs = [
        {"job": job, "row": row, "seconds": took} for job, row, took in zip(jobs, rows, seconds, strict=True)
    ]
    values = {
        "connection_id": connection_id,
        "runs": runs,
        "ended": ended,
        "rate": ended["succeeded"] / judged if judged else None,
        "judged": judged,
        "plots": [
            _plot("Records committed", "records", runs, [_committed(job) for job in jobs]),
            _plot("Duration", "seconds", runs, seconds),
        ],
        "streams": _streams(jobs),
        "most_runs": RUNS,
    }
    parts = {"summary": "parts/connection_summary.html", "history": "parts/connection_history.html"}
    return Page("connection.html", {**parts, "streams": "parts/connection_streams.html"}, values)


def _committed(job: JobRead) -> int | None:
    return job.aggregated_stats.records_committed if job.aggregated_stats else None


def _plot(
    title: str, unit: str, runs: Sequence[dict[str, Any]], values: Sequence[float | None]
) -> dict[str, Any]:
    """Bars of the runs, oldest first."""
    most = max((value for value in values if value is not None), default=0) or 1
    step = charts.WIDTH / max(len(runs), 1)
    bars = []
    for number, (run, value) in enumerate(zip(reversed(runs), reversed(values), strict=True)):
        height = LEAST if not value else max(LEAST, HEIGHT * value / most)
        bars.append(
            {
                "run": run,
                "value": value,
                "x": round(step * number + step * 0.15, 1),
                "width": round(step * 0.7, 1),
                "y": round(HEIGHT - height, 1),
                "height": round(height, 1),
            }
        )
    ticks = [
        {"y": round(HEIGHT * (1 - tick.value / most), 1), "value": tick.value}
        for tick in charts.nice_ticks(most)
    ]
    return {"title": title, "unit": unit, "bars": bars, "ticks": ticks, "height": HEIGHT}


def _streams(jobs: Sequence[JobRead]) -> list[dict[str, Any]]:
    """By stream: in how many of the runs it was, what they committed of it, and its trend, oldest first."""
    found = defaultdict[tuple[str, str], list[tuple[int | None, int | None]]](list)
    for job in jobs:
        for stream in job.stream_aggregated_stats or ():
            key = stream.stream_namespace or "", stream.stream_name
            found[key].append((stream.records_committed, stream.bytes_committed))
    return [
        {
            "namespace": namespace,
            "name": name,
            "runs": len(counts),
            "records": _sum([records for records, _ in counts]),
            "bytes": _sum([weight for _, weight in counts]),
            "heights": charts.heights([records for records, _ in reversed(counts)]),
            "by_run": [records for records, _ in reversed(counts)],
        }
        for (namespace, name), counts in sorted(found.items())
    ]


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
