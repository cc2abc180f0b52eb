"""The read models, declared: every table, its key, and which facts of which events it holds.

Naming: a column ending in `_at` is an instant, one ending in `event_id` an event's id. Frames hold instants
as microseconds since 1970 and ids as text; tables hold timestamptz and uuid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
import polars as pl

from jobtrail import events as e
from jobtrail.projections.rules import EventType, Extreme, Facts, Given, Prepare, Row, Table, Where

#: Of all that is declared here and in derive.sql, and of what `producers/scrub.py` takes out. Whoever changes
#: what the rows of an old event would be raises it: the next release then makes a new generation by a
#: rebuild, and leaves the old one to those who serve from it. A migration that only adds what old rows can go
#: without needs none.
VERSION: Final = 1

JOB_EVENTS: Final[tuple[EventType, ...]] = tuple(t for t in e.EVENT_TYPES if issubclass(t, e.JobEvent))
ATTEMPT_EVENTS: Final[tuple[EventType, ...]] = tuple(
    t for t in JOB_EVENTS if "attempt_number" in t.model_fields
)
#: Those that come by the thousand; they have rows of their own and no place in a job's history table.
FREQUENT: Final = frozenset({e.StreamStats, e.StreamStatus, e.AttemptHeartbeat})
LIFECYCLE_EVENTS: Final[tuple[EventType, ...]] = tuple(t for t in JOB_EVENTS if t not in FREQUENT)

AT = "occurred_at"
ID = "event_id"


def _key(*names: str) -> dict[str, Given]:
    return {name: Given(name) for name in names}


STREAM_KEY: Final[Mapping[str, Given]] = {
    **_key("job_id", "attempt_number"),
    # No namespace and an empty one are the same stream; a key has no nulls.
    "stream_namespace": Given("stream_namespace", otherwise=""),
    **_key("stream_name"),
}


def _json_text(_event: EventType, frame: pl.DataFrame) -> pl.DataFrame:
    """Columns of lists of records as JSON text, nulls left out."""
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
    return (
        frame.with_columns(pl.Series(name, _lists(frame, name), dtype=pl.String) for name in lists)
        if lists
        else frame
    )


def _lists(frame: pl.DataFrame, name: str) -> Iterator[str]:
    before = len(f'{{"{name}":')
    return (line[before:-1] or "[]" for line in _json_lines(frame.select(name)))


def _json_text_of(_event: EventType, row: Row) -> Row:
    """The same of one event."""
    return {name: _json(value) if isinstance(value, list) else value for name, value in row.items()}


def _with_body(event: EventType, frame: pl.DataFrame) -> pl.DataFrame:
    """Adds `event_type`, `body`, the event as JSON text, and `digest`, 63 bits of its hash."""
    bodies = _json_lines(frame.select(column for column in frame.columns if not column.startswith("_")))
    digests = [_digest(body) for body in bodies]
    number = pl.col("attempt_number") if "attempt_number" in frame.columns else pl.lit(None, dtype=pl.Int64)
    return frame.with_columns(
        pl.lit(event.__name__).alias("event_type"),
        bodies.alias("body"),
        pl.Series("digest", digests, dtype=pl.Int64),
        number.alias("attempt_number"),
    )


def _with_body_of(event: EventType, row: Row) -> Row:
    """The same of one event."""
    body = _json({name: value for name, value in row.items() if not name.startswith("_")})
    return {
        "attempt_number": None,
        **row,
        "event_type": event.__name__,
        "body": body,
        "digest": _digest(body),
    }


def _digest(body: str) -> int:
    return int.from_bytes(hashlib.blake2b(body.encode(), digest_size=8).digest()) >> 1


def _json(value: Any) -> str:
    """As `_json_lines`."""
    return msgspec.json.encode(_known(value)).decode()


def _known(value: Any) -> Any:
    match value:
        case dict():
            return {name: _known(part) for name, part in value.items() if part is not None and part != []}
        case list():
            return [_known(part) for part in value]
        case _:
            return value


#: A field that is null or an empty list: any but the first of an object, then the first. A quote within a
#: text has a backslash before it, so nothing is ever found in one.
_UNKNOWN: Final = r',"[0-9a-z_]+":(?:null|\[\])'
_UNKNOWN_FIRST: Final = r'\{"[0-9a-z_]+":(?:null|\[\]),?'


def _json_lines(frame: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object, without nulls and empty lists, so that a field added later alters none."""
    encoded = frame.select(pl.struct(pl.all()).struct.json_encode().alias("json"))
    known = pl.col("json").str.replace_all(_UNKNOWN, "").str.replace_all(_UNKNOWN_FIRST, "{")
    return encoded.select(known).to_series()


def _first(
    event: EventType,
    prefix: str,
    columns: Mapping[str, str] = MappingProxyType({}),
    where: Where | None = None,
) -> Facts:
    return Facts(
        events=(event,),
        columns={f"{prefix}_at": AT, f"{prefix}_event_id": ID, **columns},
        rank=(f"{prefix}_at", f"{prefix}_event_id"),
        where=where,
    )


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


JOB_EVENTS_TABLE: Final = Table(
    name="job_events",
    key=_key("job_id", ID),
    prepare=Prepare(_with_body, _with_body_of),
    rules=(
        Facts(
            events=LIFECYCLE_EVENTS,
            columns={
                "event_type": "event_type",
                "occurred_at": AT,
                "attempt_number": "attempt_number",
                "body": "body",
            },
            # One id has one body. Should there be two, the same one is kept everywhere; the digests differ.
            rank=("event_type", "body"),
            wins="latest",
        ),
        Extreme("digest_low", LIFECYCLE_EVENTS, "digest", "min"),
        Extreme("digest_high", LIFECYCLE_EVENTS, "digest", "max"),
        Extreme("received_at", LIFECYCLE_EVENTS, "_broker_at", "min", bookkeeping=True),
    ),
)

JOBS: Final = Table(
    name="jobs",
    key=_key("job_id"),
    prepare=Prepare(_json_text, _json_text_of),
    rules=(
        Facts(
            events=(e.JobCreated,),
            columns={
                "created_at": AT,
                "created_event_id": ID,
                **_same(
                    "config_type", "config_id", "connection_id", "scope_type", "scope_id", "workspace_id"
                ),
                **_same("streams", "streams_to_reset", "streams_to_refresh", "labels"),
            },
            rank=("created_at", "created_event_id"),
        ),
        _first(e.JobFailed, "failed"),
        _first(
            e.Cancelled, "cancelled", _same("cancelled_by"), where=Where(("attempt_number",), known=False)
        ),
        _first(e.CancelRequested, "cancel_requested", {"cancel_requested_by": "requested_by"}),
        # Of all its events: so every transaction about a job holds its row here first, and two of them, of
        # two projectors, derive one after the other.
        Extreme("first_seen_at", JOB_EVENTS, AT, "min"),
        Extreme("changed_at", LIFECYCLE_EVENTS, AT, "max"),
        Extreme("log_partition", LIFECYCLE_EVENTS, "_partition", "max", bookkeeping=True),
        Extreme("first_offset", LIFECYCLE_EVENTS, "_offset", "min", bookkeeping=True),
        Extreme("last_offset", LIFECYCLE_EVENTS, "_offset", "max", bookkeeping=True),
    ),
    derived=(
        *("status", "started_at", "ended_at", "failure_reason"),
        *("successive_complete_failures", "total_complete_failures"),
        *("successive_partial_failures", "total_partial_failures"),
        *("records_emitted", "bytes_emitted", "records_committed", "bytes_committed", "records_rejected"),
    ),
)

#: Who runs an attempt of what; a start that says any of it is a worker's.
ABOUT_WORKER: Final = (
    *("worker", "dataplane"),
    *("source_image", "source_version", "destination_image", "destination_version"),
)

ATTEMPTS: Final = Table(
    name="attempts",
    key=_key("job_id", "attempt_number"),
    rules=(
        _first(e.AttemptStarted, "started"),
        # Whoever gave out the number may have started the attempt before a worker did.
        _first(e.AttemptStarted, "taken", _same(*ABOUT_WORKER), where=Where(ABOUT_WORKER, known=True)),
        _first(e.AttemptSucceeded, "succeeded"),
        _first(e.AttemptFailed, "failed"),
        _first(e.Cancelled, "cancelled", _same("cancelled_by")),
        _first(e.Failure, "failure", where=Where(("stream_name",), known=False)),
        Extreme("first_heard_at", ATTEMPT_EVENTS, AT, "min"),
        Extreme("last_heard_at", ATTEMPT_EVENTS, AT, "max"),
        Extreme("last_received_at", ATTEMPT_EVENTS, "_broker_at", "max", bookkeeping=True),
    ),
    derived=("status", "ended_at", "failure_summary"),
)

COUNTERS: Final = (
    "records_emitted",
    "bytes_emitted",
    "state_messages_emitted",
    "records_committed",
    "bytes_committed",
    "records_rejected",
    "estimated_records",
    "estimated_bytes",
)

STREAM_STATS: Final = Table(
    name="stream_stats",
    key={**STREAM_KEY, **_key("reporter")},
    rules=(
        Facts(
            events=(e.StreamStats,),
            columns={"sequence": "sequence", "event_id": ID, "reported_at": AT, **_same(*COUNTERS)},
            rank=("sequence", "event_id"),
            wins="latest",
        ),
    ),
)

STREAM_STATUSES: Final = Table(
    name="stream_statuses",
    key={**STREAM_KEY, **_key("run_state")},
    rules=(
        Facts(
            events=(e.StreamStatus,),
            columns={
                "transitioned_at": AT,
                "event_id": ID,
                **_same("incomplete_run_cause", "quota_reset_at"),
            },
            rank=("transitioned_at", "event_id"),
            wins="latest",
        ),
    ),
)

WORKSPACES: Final = Table(
    name="workspaces",
    key=_key("workspace_id"),
    rules=(
        Facts(
            events=(e.WorkspaceRegistered,),
            columns={
                "registered_at": AT,
                "event_id": ID,
                **_same("organization_id", "is_default", "name"),
            },
            rank=("registered_at", "event_id"),
            wins="latest",
        ),
    ),
)

HEARTBEATS: Final = Table(
    name="heartbeats",
    key=_key("dataplane_id", ID),
    rules=(
        Facts(
            events=(e.DataplaneHeartbeat,),
            columns={"heard_at": AT, "dataplane_version": "dataplane_version"},
            # Should one id have two bodies, its row only gets younger: what the horizon let pass stays.
            rank=("heard_at",),
            wins="latest",
        ),
        Extreme("received_at", (e.DataplaneHeartbeat,), "_broker_at", "min", bookkeeping=True),
    ),
)

WINDOWS: Final = Table(
    name="windows",
    key=_key("window_id"),
    rules=(
        Facts(
            events=(e.WindowComputed,),
            columns={
                "sequence": "sequence",
                "event_id": ID,
                "computed_at": AT,
                "starts_at": "window_start",
                "ends_at": "window_end",
                **_same("measure", "window_type", "log_partition"),
                **_same("connection_id", "connector_role", "connector", "failure_origin", "failure_type"),
                **_same("stream_namespace", "stream_name"),
                **_same("attempts_succeeded", "attempts_failed", "attempts_cancelled"),
                **_same("attempts_timed", "duration_ms", "longest_ms"),
                **_same("records_emitted", "bytes_emitted", "records_committed", "bytes_committed"),
                **_same("streams_stalled", "messages_refused"),
            },
            rank=("sequence", "event_id"),
            wins="latest",
        ),
    ),
)

#: In the order in which a transaction merges them, so that two transactions never wait for each other.
TABLES: Final = (
    *(JOBS, ATTEMPTS, JOB_EVENTS_TABLE, STREAM_STATS, STREAM_STATUSES, WORKSPACES, HEARTBEATS),
    WINDOWS,
)
