"""What a job's answer comes to in words: whose fault it is, what was committed, how long it took."""

from __future__ import annotations

from datetime import UTC, datetime

from jobtrail.api.models import AttemptRead, FailureReason, JobInfoRead, JobStatus
from jobtrail.api.reads import Row
from jobtrail.words import amount, size


def duration(row: Row, now: datetime | None = None) -> float | None:
    """Seconds from a job's first start to its end, or to now, which is the time of day unless given.

    A job that waits for a retry runs no more: to its last change.
    """
    started: datetime | None = row["started_at"]
    if started is None:
        return None
    end: datetime | None = row["updated_at"] if row["status"] == JobStatus.INCOMPLETE else row["ended_at"]
    return max(0.0, ((end or now or datetime.now(UTC)) - started).total_seconds())


def main_failure(attempts: list[AttemptRead]) -> FailureReason | None:
    """What to name first: of the last attempt with failures, the earliest with an origin, else the first."""
    for attempt in reversed(attempts):
        failures = attempt.failure_summary.failures if attempt.failure_summary else []
        for failure in failures:
            if failure.failure_origin:
                return failure
        if failures:
            return failures[0]
    return None


def fault(row: Row, attempts: list[AttemptRead]) -> str:
    """Whose fault it is, and what users are told."""
    if row["status"] == "cancelled":
        return f"cancelled by {row['cancelled_by'] or 'somebody unnamed'}; nobody's fault"
    failure = main_failure(attempts)
    if failure is None:
        return "nobody said why"
    who = {
        "unknown": "it is not known whose fault it is",
        "airbyte_platform": "the platform is at fault",
    }.get(failure.failure_origin or "unknown", f"the {failure.failure_origin} is at fault")
    return f"{who}: {said(failure)} ({kind(failure)})"


def said(failure: FailureReason) -> str:
    """What users are told, else operators."""
    return failure.external_message or failure.internal_message or "no message"


def kind(failure: FailureReason) -> str:
    """Its type, and whether another attempt may help."""
    again = {True: "another attempt may help", False: "another attempt will not help", None: ""}[
        failure.retryable
    ]
    return ", ".join(
        part for part in ((failure.failure_type or "of no known type").replace("_", " "), again) if part
    )


def committed(info: JobInfoRead) -> str:
    """How much reached the destination."""
    totals = info.job.aggregated_stats
    if totals is None or (totals.records_emitted is None and totals.records_committed is None):
        return "no counts were reported"
    emitted = f"{amount(totals.records_emitted)} records ({size(totals.bytes_emitted)}) emitted"
    if totals.records_committed is None:
        return f"{emitted}; how many were committed is not known"
    weight = "" if totals.bytes_committed is None else f" ({size(totals.bytes_committed)})"
    said = f"{amount(totals.records_committed)} records{weight} committed; {emitted}"
    summaries = [entry.attempt.failure_summary for entry in info.attempts if entry.attempt.failure_summary]
    partial = any(summary.partial_success for summary in summaries)
    return f"{said}; a partial success" if partial and info.job.status != JobStatus.SUCCEEDED else said
