"""The page of one connection: how its runs went, how much they moved, and how long they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jobtrail.api import reads, verdict
from jobtrail.api.models import JobRead
from jobtrail.api.reads import Database
from jobtrail.errors import NotFoundError
from jobtrail.web import charts
from jobtrail.web.jobs import ORDER
from jobtrail.web.pages import Page

#: Runs that the page looks at, the newest; streams that are plotted, those that moved most.
RUNS: Final = 50
STREAMS: Final = 12
#: Width and height of a plot of runs in its own units, and the least height of a bar.
WIDTH: Final = 440.0
HEIGHT: Final = 90.0
LEAST: Final = 2.0
#: How a run that did not succeed is drawn; without colour it is told from one that did.
BARS: Final = {"succeeded": "filled", "failed": "outlined"}


def connection_page(database: Database, connection_id: str, before: Page | None = None) -> Page:
    """Raises NotFoundError for a connection without jobs.

    `before`: the page as it was; it is given back where nothing that is read has changed.
    """
    rows = reads.jobs_page(database, reads.filters(connection_id=connection_id), ORDER, RUNS, 0)
    if not rows:
        raise NotFoundError(f"no job of a connection {connection_id!r} is known")
    streams = reads.streams_of(database, [row["job_id"] for row in rows])
    if before and before.values["read"] == (rows, streams) and all(row["ended_at"] for row in rows):
        return before
    jobs, now = [reads.job_of(row, streams[row["job_id"]]) for row in rows], datetime.now(UTC)
    ended = Counter(row["status"] for row in rows if row["ended_at"] is not None)
    judged = ended["succeeded"] + ended["failed"]  # whoever cancels says nothing about the connection
    seconds = [verdict.duration(row, now) for row in rows]
    runs = [
        {"job": job, "row": row, "seconds": took} for job, row, took in zip(jobs, rows, seconds, strict=True)
    ]
    values = {
        "read": (rows, streams),
        "connection_id": connection_id,
        "runs": runs,
        "ended": ended,
        "rate": ended["succeeded"] / judged if judged else None,
        "judged": judged,
        "plots": [
            _plot("Records committed", "records", runs, [_committed(job) for job in jobs]),
            _plot("Bytes committed", "bytes", runs, [_committed(job, "bytes") for job in jobs]),
            _plot("Duration", "seconds", runs, seconds),
        ],
        "streams": _streams(runs),
        "plotted": STREAMS,
    }
    parts = {"summary": "parts/connection_summary.html", "history": "parts/connection_history.html"}
    return Page("connection.html", {**parts, "streams": "parts/connection_streams.html"}, values)


def _committed(job: JobRead, what: str = "records") -> int | None:
    counted: int | None = getattr(job.aggregated_stats, f"{what}_committed", None)
    return counted


def _plot(
    title: str, unit: str, runs: Sequence[dict[str, Any]], values: Sequence[float | None]
) -> dict[str, Any]:
    """Marks of the runs, oldest first: for each way of drawing them a path of all that are drawn so."""
    most = max((value for value in values if value is not None), default=0) or 1
    step = WIDTH / max(len(runs), 1)
    width = round(min(step * 0.7, 24), 1)
    paths = defaultdict[str, list[str]](list)
    for number, (run, value) in enumerate(zip(reversed(runs), reversed(values), strict=True)):
        status = run["job"].status.value
        x = round(step * number + (step - width) / 2, 1)
        if value is not None:
            height = round(max(LEAST, HEIGHT * value / most), 1)
            look = BARS.get(status, "pale")
            paths[look].append(f"M{x} {HEIGHT}h{width}v{-height}h{-width}z")
        elif status == "failed":
            paths["cross"].append(f"M{round(x + width / 2 - 3, 1)} {HEIGHT - 9}l6 6m0 -6l-6 6")
        else:
            paths["dot"].append(f"M{round(x + width / 2, 1)} {HEIGHT - 5}h0")
    now = datetime.now(UTC)
    found = (
        charts.time_ticks(now - timedelta(seconds=most), now, 3)
        if unit == "seconds"
        else charts.nice_ticks(most, 3)
    )
    ticks = [{"y": round(HEIGHT * (1 - tick.value / most), 1), "value": tick.value} for tick in found]
    drawn = {look: "".join(marks) for look, marks in paths.items()}
    first, last = (_began(runs[-1]), _began(runs[0])) if runs else (None, None)
    return {"title": title, "unit": unit, "paths": drawn, "ticks": ticks, "first": first, "last": last}


def _began(run: dict[str, Any]) -> datetime:
    began: datetime = run["row"]["started_at"] or run["row"]["created_at"]
    return began


def _streams(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By stream, that which moved most first: what each of the runs, newest first, committed of it."""
    found = defaultdict[tuple[str, str], dict[int, Any]](dict)
    for number, run in enumerate(runs):
        for stream in run["job"].stream_aggregated_stats or ():
            found[stream.stream_namespace or "", stream.stream_name][number] = stream
    streams: list[dict[str, Any]] = []
    for (namespace, name), counts in found.items():
        ended = Counter(runs[number]["job"].status.value for number in counts)
        records = [counts[n].records_committed if n in counts else None for n in range(len(runs))]
        weights = [counts[n].bytes_committed if n in counts else None for n in range(len(runs))]
        streams.append(
            {
                "namespace": namespace,
                "name": name,
                "runs": len(counts),
                "succeeded": ended["succeeded"],
                "judged": ended["succeeded"] + ended["failed"],
                "records": _sum(records),
                "bytes": _sum(weights),
                "by_run": [
                    (run, number in counts, records[number], weights[number])
                    for number, run in enumerate(runs)
                ],
                "counts": (records, weights),
            }
        )
    streams.sort(key=lambda one: (-(one["records"] or 0), one["namespace"], one["name"]))
    for one in streams[:STREAMS]:
        records, weights = one["counts"]
        one["plots"] = [
            _plot("Records committed", "records", runs, records),
            _plot("Bytes committed", "bytes", runs, weights),
        ]
    return streams


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
