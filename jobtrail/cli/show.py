"""`jobtrail jobs show`: the answer first, then what it rests on."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jobtrail.api import reads
from jobtrail.api.anomalies import AnomalyRead, anomaly_list
from jobtrail.api.database import reading
from jobtrail.api.models import (
    AttemptInfoRead,
    AttemptRead,
    AttemptStats,
    JobInfoRead,
    JobStatus,
)
from jobtrail.api.queries import query
from jobtrail.api.reads import Database
from jobtrail.api.verdict import committed, duration, fault, kind, said
from jobtrail.cli.jobs import dump
from jobtrail.cli.terminal import amount, as_json, clock, line, size, span, style_of, table
from jobtrail.settings import Settings

Row = dict[str, Any]
#: Of one job.
MOST_ANOMALIES = 1000
STREAM_COLUMNS = (
    "attempt",
    "namespace",
    "stream",
    "state",
    "emitted",
    "committed",
    "rejected",
    "of about",
    "bytes",
)
ATTEMPT_COLUMNS = ("attempt", "id", "status", "started", "took", "emitted", "committed", "bytes", "worker")


class Seen(NamedTuple):
    """What is known of a job."""

    info: JobInfoRead
    row: Row
    attempts: list[Row]
    anomalies: list[AnomalyRead]
    #: (attempt number, namespace, name) → what the stream did last.
    states: dict[tuple[int, str | None, str], Row]
    #: The moment at which what runs has run until now.
    now: datetime


def show(settings: Settings, options: Namespace) -> int:
    """Prints one job. Raises JobNotFoundError."""
    with reading(settings) as database:
        seen = look(database, options.id, settings.home, datetime.now(UTC))
    if options.json:
        as_json({**dump(seen.info), "anomalies": [dump(one) for one in seen.anomalies]})
    else:
        tell(seen, stacktrace=options.stacktrace, lines=options.lines if options.logs else 0)
    return 0


def look(database: Database, job_id: int, home: Path | None, now: datetime) -> Seen:
    """Reads a job, with its logs where `home` is given. Raises JobNotFoundError."""
    return Seen(
        reads.job_info(database, job_id, home),
        reads.job_row(database, job_id),
        database.execute(query("attempts"), {"job_ids": [job_id]}).fetchall(),
        anomaly_list(database, job_id=job_id, limit=MOST_ANOMALIES).anomalies,
        {
            (state["attempt_number"], state["stream_namespace"], state["stream_name"]): state
            for state in database.execute(query("stream_states"), {"job_id": job_id})
        },
        now,
    )


def tell(seen: Seen, *, stacktrace: bool = False, lines: int = 0) -> None:
    """Prints a job, with stack traces and the last lines of its logs if asked for."""
    info = seen.info
    _answer(info, seen.row, seen.now)
    _attempts(
        seen.attempts, [entry.attempt.total_stats or AttemptStats() for entry in info.attempts], seen.now
    )
    _streams([entry.attempt for entry in info.attempts], seen.states)
    _failures(info.attempts, stacktrace=stacktrace)
    if seen.anomalies:
        line("")
        line("Anomalies", style="bold")
        for anomaly in seen.anomalies:
            line(
                f"{anomaly.kind}{_of(anomaly.attempt_number)}: {anomaly.detail}",
                indent=2,
                style="yellow",
            )
    _logs(info.attempts, lines)


def _of(number: int | None) -> str:
    return "" if number is None else f" (attempt {number})"


def _answer(info: JobInfoRead, row: Row, now: datetime) -> None:
    job, attempts = info.job, [entry.attempt for entry in info.attempts]
    about = f"{job.config_type} of {row['connection_id'] or job.config_id or 'an unknown connection'}"
    line(f"Job {job.id} {job.status.value}: {about}", style=f"bold {style_of(job.status)}")
    if job.status not in {JobStatus.SUCCEEDED, JobStatus.RUNNING, JobStatus.PENDING}:
        line(fault(row, attempts), indent=2)
    line(committed(info), indent=2)
    if job.started_at is None:
        line(f"created {clock(job.created_at)}, not started", indent=2)
    else:
        took = span(duration(row, now))
        lasted = f"took {took}" if row["ended_at"] else f"running for {took}"
        if job.status == JobStatus.INCOMPLETE:
            what = "is to be cancelled" if row["cancel_requested_at"] else "waits for a retry"
            lasted = f"ran for {took}, {what} since {clock(row['updated_at'])}"
        line(f"started {clock(job.started_at)}, {lasted}", indent=2)
    if row["cancel_requested_at"]:
        who = row["cancel_requested_by"] or "somebody unnamed"
        line(f"cancellation asked for by {who} at {clock(row['cancel_requested_at'])}", indent=2)
    if row["workspace_id"]:
        line(f"workspace {row['workspace_id']}", indent=2)


def _attempts(rows: list[Row], totals: list[AttemptStats], now: datetime) -> None:
    line("")
    if not rows:
        line("No attempt yet", style="bold")
        return
    line("Attempts", style="bold")
    cells = [
        [
            str(row["attempt_number"]),
            str(row["attempt_id"]),
            row["status"],
            clock(row["created_at"]),
            span(((row["ended_at"] or now) - row["created_at"]).total_seconds()),
            amount(stats.records_emitted),
            amount(stats.records_committed),
            size(stats.bytes_emitted),
            row["worker"] or "-",
        ]
        for row, stats in zip(rows, totals, strict=True)
    ]
    table(ATTEMPT_COLUMNS, cells, ("attempt", "id", "took", "emitted", "committed", "bytes"))


def _streams(attempts: list[AttemptRead], states: dict[tuple[int, str | None, str], Row]) -> None:
    rows = []
    for attempt in attempts:
        for stream in attempt.stream_stats:
            stats = stream.stats
            state = states.get((attempt.attempt_number, stream.stream_namespace, stream.stream_name))
            rows.append(
                [
                    str(attempt.attempt_number),
                    stream.stream_namespace or "",
                    stream.stream_name,
                    state_text(state),
                    amount(stats.records_emitted),
                    amount(stats.records_committed),
                    amount(stats.records_rejected),
                    amount(stats.estimated_records),
                    size(stats.bytes_emitted),
                ]
            )
    if rows:
        line("")
        line("Streams", style="bold")
        table(STREAM_COLUMNS, rows, ("attempt", "emitted", "committed", "rejected", "of about", "bytes"))


def state_text(state: Row | None) -> str:
    """A stream's run state, with its cause."""
    if state is None:
        return "-"
    cause = state["incomplete_run_cause"]
    return str(state["run_state"]) + (f" ({cause})" if cause else "")


def _failures(attempts: list[AttemptInfoRead], *, stacktrace: bool) -> None:
    found = [
        (entry.attempt.attempt_number, failure)
        for entry in attempts
        if entry.attempt.failure_summary
        for failure in entry.attempt.failure_summary.failures
    ]
    if not found:
        return
    line("")
    line("Failures", style="bold")
    for number, failure in found:
        where = f" in stream {failure.stream_descriptor.name}" if failure.stream_descriptor else ""
        origin = failure.failure_origin or "no origin"
        line(
            f"attempt {number}, {clock(failure.timestamp / 1000)}, {origin}{where}: "
            f"{said(failure)} ({kind(failure)})",
            indent=2,
            style="red",
        )
        for text in (failure.internal_message or "").splitlines():
            line(text, indent=4)
        trace = (failure.stacktrace or "").splitlines()
        if trace and not stacktrace:
            line(f"--stacktrace shows the stack trace (lines: {len(trace)})", indent=4, style="dim")
        for text in trace if stacktrace else ():
            line(text, indent=6, style="dim")
    for entry in attempts:
        if (summary := entry.attempt.failure_summary) and summary.failures_left_out:
            line(
                f"attempt {entry.attempt.attempt_number}: {amount(summary.failures_left_out)} more failures; "
                "`jobtrail jobs history ID --type Failure` lists them",
                indent=2,
            )


def _logs(attempts: list[AttemptInfoRead], lines: int) -> None:
    kept = [entry for entry in attempts if entry.logs.log_lines]
    if not kept:
        return
    line("")
    if not lines:
        count = sum(len(entry.logs.log_lines) for entry in kept)
        line(f"{count:,} lines of connector logs; --logs shows the last ones", style="dim")
        return
    last = kept[-1]
    line(f"Log of attempt {last.attempt.attempt_number}", style="bold")
    for text in last.logs.log_lines[-lines:]:
        line(text, indent=2)
