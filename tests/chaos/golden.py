"""The golden fold: what the read models must be, by ARCHITECTURE.md and what the events say they mean.

Written for clarity, one event after the other, and independent of the product: it knows the event classes and
nothing of `projections`. Input is the log as it stands in the topics; output, for each table, key → row.

Left out, and held elsewhere: anomalies, `failure_summary` and `failure_reason` (test_derive.py and
test_outcomes.py in tests/projections), digests of bodies (here `one_body` says that no two met under one id),
and two bodies under one event id (tests/laws).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from jobtrail import events as e
from jobtrail.kinds import micros

Key = tuple[Any, ...]
Row = dict[str, Any]
Tables = dict[str, dict[Key, Row]]
E = TypeVar("E", bound=e.Event)

#: What comes by the thousand, and has no place in a job's history.
FREQUENT = (e.StreamStats, e.StreamStatus, e.AttemptHeartbeat)
WORKER = (
    *("worker", "dataplane", "source_image", "source_version"),
    *("destination_image", "destination_version"),
)
COUNTERS = (
    *("records_emitted", "bytes_emitted", "state_messages_emitted", "records_committed", "bytes_committed"),
    *("records_rejected", "estimated_records", "estimated_bytes"),
)
#: What a job's row has of what it moved, and who knows it best after the platform.
TOTALS = {
    **dict.fromkeys(("records_emitted", "bytes_emitted"), "source"),
    **dict.fromkeys(("records_committed", "bytes_committed", "records_rejected"), "destination"),
}


class Seen(NamedTuple):
    """A message of the log: an event, and where and when the broker took it. An event may be seen twice."""

    event: e.Event
    partition: int
    offset: int
    broker_at: datetime


class End(NamedTuple):
    """How a job or an attempt ended. In order of time."""

    at: datetime
    event_id: str
    kind: str


def golden_fold(log: Iterable[Seen]) -> Tables:
    """Table → key → row, for every table that is compared."""
    tables: Tables = {
        name: {}
        for name in (
            *("jobs", "attempts", "job_events", "stream_stats", "stream_statuses"),
            *("workspaces", "heartbeats"),
        )
    }
    of_job: dict[int, list[Seen]] = defaultdict(list)
    of_workspace: dict[str, list[e.WorkspaceRegistered]] = defaultdict(list)
    for seen in log:
        match seen.event:
            case e.JobEvent() as event:
                of_job[event.job_id].append(seen)
            case e.WorkspaceRegistered() as event:
                of_workspace[event.workspace_id].append(event)
            case e.DataplaneHeartbeat() as event:
                _hear(tables["heartbeats"], event, seen.broker_at)
    for workspace_id, registered in of_workspace.items():
        newest = max(registered, key=_when)
        tables["workspaces"][workspace_id,] = {
            "workspace_id": workspace_id,
            "registered_at": newest.occurred_at,
            "event_id": newest.event_id,
            "organization_id": newest.organization_id,
            "is_default": newest.is_default,
            "name": newest.name,
        }
    for job_id, of_this in of_job.items():
        _job(tables, job_id, of_this)
    return tables


def _hear(heartbeats: dict[Key, Row], event: e.DataplaneHeartbeat, broker_at: datetime) -> None:
    key = event.dataplane_id, event.event_id
    before = heartbeats.get(key)
    heartbeats[key] = {
        "dataplane_id": event.dataplane_id,
        "event_id": event.event_id,
        "heard_at": event.occurred_at,
        "dataplane_version": event.dataplane_version,
        "received_at": min(before["received_at"], broker_at) if before else broker_at,
    }


def _job(tables: Tables, job_id: int, log: Sequence[Seen]) -> None:
    """One job's rows in all tables."""
    events = [seen.event for seen in log]
    lifecycle = [seen for seen in log if not isinstance(seen.event, FREQUENT)]
    for seen in lifecycle:
        _remember(tables["job_events"], job_id, seen)
    numbers = {number for event in events if (number := getattr(event, "attempt_number", None)) is not None}
    attempts = {number: _attempt(job_id, number, log) for number in sorted(numbers)}
    for event in events:
        if isinstance(event, e.StreamStats):
            _count(tables["stream_stats"], event)
        elif isinstance(event, e.StreamStatus):
            _change(tables["stream_statuses"], event)

    created = _first(events, e.JobCreated)
    failed = _first(events, e.JobFailed)
    cancelled = _first(events, e.Cancelled, lambda event: event.attempt_number is None)
    requested = _first(events, e.CancelRequested)
    row: Row = {
        "job_id": job_id,
        **_fact("created", created),
        **{
            name: getattr(created, name, None)
            for name in (
                "config_type",
                "config_id",
                "connection_id",
                "scope_type",
                "scope_id",
                "workspace_id",
            )
        },
        **{
            name: None if created is None else _plain(created)[name]
            for name in ("streams", "streams_to_reset", "streams_to_refresh", "labels")
        },
        **_fact("failed", failed),
        **_fact("cancelled", cancelled),
        "cancelled_by": cancelled and cancelled.cancelled_by,
        **_fact("cancel_requested", requested),
        "cancel_requested_by": requested and requested.requested_by,
        "first_seen_at": min(event.occurred_at for event in events),
        "changed_at": max((seen.event.occurred_at for seen in lifecycle), default=None),
        "log_partition": max((seen.partition for seen in lifecycle), default=None),
        "first_offset": min((seen.offset for seen in lifecycle), default=None),
        "last_offset": max((seen.offset for seen in lifecycle), default=None),
    }
    own_ends = {number: _own_end(attempt) for number, attempt in attempts.items()}
    decision = min(
        [
            *(end for end in own_ends.values() if end and end.kind == "succeeded"),
            *([End(*_when(failed), "failed")] if failed else []),
            *([End(*_when(cancelled), "cancelled")] if cancelled else []),
        ],
        default=None,
    )
    ends = {number: _end(attempts[number], own_ends[number], decision) for number in attempts}
    for number, attempt in attempts.items():
        kind, at = ends[number]
        attempt["status"] = {None: "running", "succeeded": "succeeded"}.get(kind, "failed")
        attempt["ended_at"] = at
        tables["attempts"][job_id, number] = attempt
    row["status"] = _status(ends, decision)
    row["started_at"] = min((a["started_at"] for a in attempts.values() if a["started_at"]), default=None)
    row["ended_at"] = decision.at if decision else None
    failures = {n: _partly(tables["stream_stats"], job_id, n) for n in ends if ends[n][0] == "failed"}
    for name, partly in (("complete", False), ("partial", True)):
        last_other = max((n for n, found in failures.items() if found is not partly), default=-1)
        these = [n for n, found in failures.items() if found is partly]
        row[f"successive_{name}_failures"] = len([n for n in these if n > last_other])
        row[f"total_{name}_failures"] = len(these)
    totals = _totals(tables["stream_stats"], job_id, created, events)
    row |= {name: totals[name] if decision else None for name in TOTALS}
    tables["jobs"][job_id,] = row


def _totals(
    stream_stats: dict[Key, Row], job_id: int, created: e.JobCreated | None, events: Sequence[e.Event]
) -> dict[str, int | None]:
    """What the job moved: of a full refresh, its last attempt and those that each next one resumed."""
    counted: dict[Key, dict[int, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    for (of_job, number, namespace, name, reporter), row in stream_stats.items():
        if of_job == job_id:
            counted[namespace, name][number][reporter] = row
    totals: dict[str, int | None] = dict.fromkeys(TOTALS)
    for stream, by_number in counted.items():
        for number in _counting(stream, sorted(by_number, reverse=True), created, events):
            for counter, second in TOTALS.items():
                value = _best(by_number[number], counter, second)
                if value is not None:
                    totals[counter] = (totals[counter] or 0) + value
    return totals


def _counting(
    stream: Key, numbers: Sequence[int], created: e.JobCreated | None, events: Sequence[e.Event]
) -> Sequence[int]:
    """Those of the attempts with counters of the stream, the last first, that count."""
    modes = (
        [s.sync_mode for s in created.streams or () if _same(stream, s.namespace, s.name)] if created else []
    )
    if not modes or set(modes) != {"full_refresh"}:
        return numbers
    for place, number in enumerate(numbers):
        told = [
            event
            for event in events
            if isinstance(event, e.StreamMetadata)
            and event.attempt_number == number
            and _same(stream, event.stream_namespace, event.stream_name)
        ]
        if not told or not max(told, key=_when).was_resumed:
            return numbers[: place + 1]
    return numbers


def _same(stream: Key, namespace: str | None, name: str) -> bool:
    return stream == (namespace or "", name)


def _best(by_reporter: dict[str, Row], name: str, second: str) -> int | None:
    """The platform's count, else that of the second who knows, else the greatest."""
    known: dict[str, int] = {who: row[name] for who, row in by_reporter.items() if row[name] is not None}
    return known.get("platform", known.get(second, max(known.values(), default=None)))


def _remember(job_events: dict[Key, Row], job_id: int, seen: Seen) -> None:
    event = seen.event
    before = job_events.get((job_id, event.event_id))
    job_events[job_id, event.event_id] = {
        "job_id": job_id,
        "event_id": event.event_id,
        "event_type": type(event).__name__,
        "occurred_at": event.occurred_at,
        "attempt_number": getattr(event, "attempt_number", None),
        "body": {name: value for name, value in _plain(event).items() if value is not None and value != []},
        "one_body": True,
        "received_at": min(before["received_at"], seen.broker_at) if before else seen.broker_at,
    }


def _attempt(job_id: int, number: int, log: Sequence[Seen]) -> Row:
    """What was told of an attempt; its status and end are not known yet."""
    ours = [seen for seen in log if getattr(seen.event, "attempt_number", None) == number]
    events = [seen.event for seen in ours]
    taken = _first(
        events, e.AttemptStarted, lambda event: any(getattr(event, name) is not None for name in WORKER)
    )
    cancelled = _first(events, e.Cancelled)
    return {
        "job_id": job_id,
        "attempt_number": number,
        **_fact("started", _first(events, e.AttemptStarted)),
        **_fact("taken", taken),
        **{name: getattr(taken, name, None) for name in WORKER},
        **_fact("succeeded", _first(events, e.AttemptSucceeded)),
        **_fact("failed", _first(events, e.AttemptFailed)),
        **_fact("cancelled", cancelled),
        "cancelled_by": cancelled and cancelled.cancelled_by,
        **_fact("failure", _first(events, e.Failure, lambda event: event.stream_name is None)),
        "first_heard_at": min(event.occurred_at for event in events),
        "last_heard_at": max(event.occurred_at for event in events),
        "last_received_at": max(seen.broker_at for seen in ours),
    }


def _count(stream_stats: dict[Key, Row], event: e.StreamStats) -> None:
    """Counters are cumulative: the one with the highest (sequence, event id) is valid."""
    row = {
        "job_id": event.job_id,
        "attempt_number": event.attempt_number,
        "stream_namespace": event.stream_namespace or "",
        "stream_name": event.stream_name,
        "reporter": event.reporter,
        "sequence": event.sequence,
        "event_id": event.event_id,
        "reported_at": event.occurred_at,
        **{name: getattr(event, name) for name in COUNTERS},
    }
    key = (event.job_id, event.attempt_number, row["stream_namespace"], event.stream_name, event.reporter)
    before = stream_stats.get(key)
    if before is None or (before["sequence"], before["event_id"]) < (event.sequence, event.event_id):
        stream_stats[key] = row


def _change(stream_statuses: dict[Key, Row], event: e.StreamStatus) -> None:
    row = {
        "job_id": event.job_id,
        "attempt_number": event.attempt_number,
        "stream_namespace": event.stream_namespace or "",
        "stream_name": event.stream_name,
        "run_state": event.run_state,
        "transitioned_at": event.occurred_at,
        "event_id": event.event_id,
        "incomplete_run_cause": event.incomplete_run_cause,
        "quota_reset_at": event.quota_reset_at,
    }
    key = (event.job_id, event.attempt_number, row["stream_namespace"], event.stream_name, event.run_state)
    before = stream_statuses.get(key)
    if before is None or (before["transitioned_at"], before["event_id"]) < _when(event):
        stream_statuses[key] = row


def _own_end(attempt: Row) -> End | None:
    """Its earliest success, failure or cancellation; without one, its earliest Failure."""
    told = [
        End(attempt[f"{kind}_at"], attempt[f"{kind}_event_id"], kind)
        for kind in ("succeeded", "failed", "cancelled")
        if attempt[f"{kind}_at"]
    ]
    if not told and attempt["failure_at"]:
        return End(attempt["failure_at"], attempt["failure_event_id"], "failed")
    return min(told, default=None)


def _end(attempt: Row, own: End | None, decision: End | None) -> tuple[str | None, datetime | None]:
    """The end of an attempt under what was decided of its job: kind and time, or neither while it runs."""
    if decision and decision.kind != "succeeded":
        begun_at = attempt["started_at"] or attempt["first_heard_at"]
        began_before = (begun_at, attempt["started_event_id"] or decision.event_id) <= decision[:2]
        ended_before = own is not None and own[:2] <= decision[:2]
        if ended_before and own is not None and decision.kind == "cancelled" and own.at == decision.at:
            ended_before = False  # who ends an attempt for a cancellation's sake ends both at once
        if began_before and not ended_before:
            return decision.kind, decision.at
    return (own.kind, own.at) if own else (None, None)


def _status(ends: dict[int, tuple[str | None, datetime | None]], decision: End | None) -> str:
    if decision:
        return decision.kind
    if not ends:
        return "pending"
    last, _ = ends[max(ends)]
    return "running" if last is None else "incomplete"


def _partly(stream_stats: dict[Key, Row], job_id: int, number: int) -> bool:
    """Whether an attempt committed something: the platform's count of each stream, else the destination's."""
    committed: dict[Key, dict[str, int]] = defaultdict(dict)
    for (of_job, of_number, *stream, reporter), row in stream_stats.items():
        if (of_job, of_number) == (job_id, number) and row["records_committed"] is not None:
            committed[tuple(stream)][reporter] = row["records_committed"]
    best = [by.get("platform", by.get("destination", max(by.values()))) for by in committed.values()]
    return sum(best) > 0


def _when(event: e.Event) -> tuple[datetime, str]:
    return event.occurred_at, event.event_id


def _first(events: Iterable[e.Event], kind: type[E], where: Callable[[E], bool] = lambda _: True) -> E | None:
    found = [event for event in events if isinstance(event, kind) and where(event)]
    return min(found, key=_when, default=None)


def _fact(name: str, event: e.Event | None) -> Row:
    at, event_id = _when(event) if event else (None, None)
    return {f"{name}_at": at, f"{name}_event_id": event_id}


def _plain(event: e.Event) -> Row:
    """As JSON: times in microseconds, parts of records that are unknown left out."""
    return {
        name: micros(value)
        if isinstance(value, datetime)
        else [{k: v for k, v in part.items() if v is not None} for part in value]
        if isinstance(value, list)
        else value
        for name, value in event.model_dump().items()
    }
