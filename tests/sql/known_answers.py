"""The answers to the questions of docs/sql.md, from the plan of what was generated, in plain Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from statistics import quantiles
from typing import Any

from planned_jobs import MARCH, Attempt, Job, Stream, in_march

Rows = list[tuple[Any, ...]]
ANSWERS: dict[str, Callable[[list[Job]], Rows]] = {}


def answers(question: str) -> Callable[[Callable[[list[Job]], Rows]], Callable[[list[Job]], Rows]]:
    def keep(function: Callable[[list[Job]], Rows]) -> Callable[[list[Job]], Rows]:
        ANSWERS[question] = function
        return function

    return keep


def tries(jobs: Iterable[Job]) -> Iterable[tuple[Job, Attempt]]:
    return ((job, attempt) for job in jobs for attempt in job.attempts)


def main_reason(attempt: Attempt) -> tuple[str, str]:
    (reason,) = [reason for reason in attempt.reasons if reason.stream is None]
    return reason.origin, reason.type


def by_connection(jobs: Iterable[Job]) -> list[tuple[str, list[Job]]]:
    found = defaultdict(list)
    for job in jobs:
        found[job.connection.name].append(job)
    return sorted(found.items())


@answers("Which connector failed most, and whose fault was it?")
def most_failing(jobs: list[Job]) -> Rows:
    found: dict[tuple[str, str, str], int] = defaultdict(int)
    for job, attempt in tries(in_march(jobs)):
        if attempt.outcome == "failed":
            found[job.connection.source, *main_reason(attempt)] += 1
    return sorted(((*key, count) for key, count in found.items()), key=lambda row: (-row[3], row))


@answers("How often does each version of a source fail by its own fault?")
def own_faults(jobs: list[Job]) -> Rows:
    decided: dict[tuple[str, str], int] = defaultdict(int)
    own: dict[tuple[str, str], int] = defaultdict(int)
    for job, attempt in tries(in_march(jobs)):
        key = job.connection.source, attempt.source_version
        decided[key] += attempt.outcome in {"succeeded", "failed"}
        own[key] += attempt.outcome == "failed" and main_reason(attempt)[0] == "source"
    return [(*key, count, own[key] / count) for key, count in sorted(decided.items())]


@answers("What did this connection move per day?")
def per_day(jobs: list[Job]) -> Rows:
    shop = [job for job in in_march(jobs) if job.connection.name == "shop-to-warehouse"]
    return [
        (job.day, 1, int(job.status == "succeeded"), job.committed, job.committed_bytes)
        for job in sorted(shop, key=lambda job: job.day)
    ]


@answers("What did each workspace move in the month?")
def per_workspace(jobs: list[Job]) -> Rows:
    return [
        (
            workspace,
            len(mine := [job for job in in_march(jobs) if job.connection.workspace == workspace]),
            sum(len(job.attempts) for job in mine),
            sum(job.committed_bytes or 0 for job in mine),
        )
        for workspace in ("growth", "retail")
    ]


@answers("Which streams became slower?")
def slower(jobs: list[Job]) -> Rows:
    moved: dict[tuple[str, Stream], list[list[float]]] = defaultdict(lambda: [[0, 0], [0, 0]])
    for job, attempt in tries(in_march(jobs)):
        if attempt.outcome == "succeeded":
            for stream in attempt.counts:
                if committed := attempt.moved(stream).committed:
                    half = moved[job.connection.name, stream][job.day >= date(2026, 3, 16)]
                    half[0] += committed
                    half[1] += (attempt.reported - attempt.start).total_seconds()
    found = []
    for (connection, (namespace, name)), (before, after) in sorted(moved.items(), key=str):
        speeds = before[0] / before[1], after[0] / after[1]
        if speeds[1] < speeds[0] / 2:
            found.append((connection, namespace, name, *speeds))
    return found


@answers("Which syncs succeeded with nothing moved?")
def nothing_moved(jobs: list[Job]) -> Rows:
    return [
        (job.job_id, job.connection.name, job.created)
        for job in sorted(in_march(jobs), key=lambda job: job.created)
        if job.status == "succeeded" and not job.committed
    ]


@answers("How long did each connection take to recover?")
def recovery(jobs: list[Job]) -> Rows:
    found: Rows = []
    for connection, mine in by_connection(in_march(jobs)):
        since: datetime | None = None
        for job in sorted(mine, key=lambda job: job.ended or datetime.max.replace(tzinfo=UTC)):
            if job.status == "failed" and since is None:
                since = job.ended
            elif job.status == "succeeded" and since is not None and job.ended is not None:
                found.append((connection, since, job.ended, (job.ended - since) / timedelta(hours=1)))
                since = None
        if since is not None:
            found.append((connection, since, None, None))
    return found


@answers("What is the 95th percentile of the duration, per connection?")
def percentiles(jobs: list[Job]) -> Rows:
    found = []
    for connection, mine in by_connection(in_march(jobs)):
        durations = [job.duration for job in mine if job.status == "succeeded" and job.duration is not None]
        cuts = quantiles(durations, n=20, method="inclusive")
        found.append((connection, len(durations), cuts[9], cuts[18]))
    return found


@answers("Which retries helped?")
def retries(jobs: list[Job]) -> Rows:
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for job in in_march(jobs):
        if len(job.attempts) > 1:
            counts = found[main_reason(job.attempts[0])]
            counts[0] += 1
            counts[1] += job.status == "succeeded"
    return [(*key, *counts) for key, counts in sorted(found.items())]


@answers("Which configuration errors come again and again?")
def config_errors(jobs: list[Job]) -> Rows:
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for job, attempt in tries(in_march(jobs)):
        for place, reason in enumerate(attempt.reasons):
            if reason.type == "config_error" and attempt.end is not None:
                at = attempt.end - timedelta(seconds=len(attempt.reasons) - place)
                found[job.connection.name, reason.message].append(
                    at.replace(microsecond=at.microsecond // 1000 * 1000)
                )
    return [(*key, len(at), min(at), max(at)) for key, at in sorted(found.items()) if len(at) > 1]


@answers("Which streams fail alone, while their attempt goes on?")
def alone(jobs: list[Job]) -> Rows:
    found: dict[tuple[str, str, str], int] = defaultdict(int)
    for job, attempt in tries(in_march(jobs)):
        for reason in attempt.reasons:
            if reason.stream is not None:
                found[job.connection.name, reason.stream[1], reason.message] += 1
    return [(*key, count) for key, count in found.items()]


def _lost(attempt: Attempt, stream: Stream) -> int:
    """What the destination has less than the platform saw confirmed; 0 where it did not count."""
    counts = attempt.counts[stream]
    return counts["destination"].committed - counts["platform"].committed if "destination" in counts else 0  # type: ignore[operator]


@answers("Where were records lost?")
def lost(jobs: list[Job]) -> Rows:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for job, attempt in tries(in_march(jobs)):
        for stream in attempt.counts:
            if attempt.end and (less := _lost(attempt, stream)):
                found[job.connection.name, stream[1]].append(less)
    return [(*key, len(less), 0, sum(less)) for key, less in sorted(found.items())]


@answers("What should not be trusted?")
def doubtful(jobs: list[Job]) -> Rows:
    differing = [
        job.job_id
        for job, attempt in tries(in_march(jobs))
        if attempt.end and any(_lost(attempt, stream) for stream in attempt.counts)
    ]
    empty = nothing_moved(jobs)
    return [
        ("counts_differ", len(differing), len({*differing})),
        ("zero_records", len(empty), len(empty)),
    ]


@answers("How much was moved in vain?")
def in_vain(jobs: list[Job]) -> Rows:
    found = []
    for connection, mine in by_connection(in_march(jobs)):
        moved = sum(
            attempt.moved(stream).committed or 0 for _, attempt in tries(mine) for stream in attempt.counts
        )
        found.append((connection, moved - sum(job.committed or 0 for job in mine)))
    return found


@answers("Which connections are cancelled often, and what had been moved until then?")
def cancelled(jobs: list[Job]) -> Rows:
    found: Rows = []
    for connection, mine in by_connection(job for job in in_march(jobs) if job.status == "cancelled"):
        moved, seconds = sum(job.committed or 0 for job in mine), sum(job.duration or 0 for job in mine)
        found.append((connection, len(mine), moved, seconds))
    return sorted(found, key=lambda row: (-row[1], row[0]))


@answers("What has not ended, and since when?")
def unfinished(jobs: list[Job]) -> Rows:
    return [
        (
            *(job.job_id, job.connection.name, job.status, job.created, job.started, len(job.attempts)),
            sum(a.moved(s).emitted or 0 for a, s in job.counted()) if job.attempts else None,
        )
        for job in sorted(jobs, key=lambda job: job.created)
        if job.ended is None and job.day >= MARCH[0]
    ]
