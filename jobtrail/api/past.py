"""The past of one job, for HTTP and the command line: its events, and what it was at a moment.

Lifecycle events are kept in job_events; stats, statuses and heartbeats come by the thousand and are read back
from the log. What both give does no harm: folding an event twice changes nothing, and it is listed once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from jobtrail import codec
from jobtrail.api import database as databases
from jobtrail.api.reads import Database, JobNotFoundError, Row
from jobtrail.consumers.decode import BROKER_AT, Decoded, Decoder, Frames, together
from jobtrail.consumers.gate import read_many
from jobtrail.consumers.history import Span, read_job
from jobtrail.consumers.records import Records
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.errors import EmbeddedError, ServerAwayError
from jobtrail.events import AttemptHeartbeat, StreamStats, StreamStatus
from jobtrail.kinds import EPOCH, micros
from jobtrail.projections.aside import projected
from jobtrail.projections.fold import fold
from jobtrail.projections.generation import named_statements
from jobtrail.projections.tables import AT, FREQUENT, ID, JOB_EVENTS, JOB_EVENTS_TABLE
from jobtrail.settings import Settings

QUERIES: Final = named_statements("history.sql", "api")
TYPES: Final = {event_type.__name__: event_type for event_type in JOB_EVENTS}
#: Heartbeats say nothing but that time passed: they are listed only when asked for.
BY_DEFAULT: Final = frozenset(TYPES) - {AttemptHeartbeat.__name__}
#: Events of one instant in the order in which they read right: why before what came of it.
READING_ORDER: Final = (
    *("JobCreated", "AttemptStarted", "AttemptHeartbeat", "StreamMetadata", "StreamStatus", "StreamStats"),
    *("CancelRequested", "Failure", "AttemptSucceeded", "AttemptFailed", "Cancelled", "JobFailed"),
)
_READING_ORDER: Final = pl.Enum(READING_ORDER)
#: Gives a connection for one answer.
Reading = Callable[[], AbstractContextManager[Database]]
#: Types of events that only the log has.
IN_THE_LOG: Final = frozenset(event_type.__name__ for event_type in FREQUENT)


@dataclass(frozen=True, slots=True)
class Past:
    """The events of a job, as far as they could be had."""

    job_id: int
    frames: Frames
    #: Why events may be missing; none: all are here.
    gap: str | None = None
    #: What else is to be said.
    notes: list[str] = field(default_factory=list)

    def until(self, at: datetime) -> Past:
        """The same without what happened later. Raises JobNotFoundError where nothing had happened."""
        earlier = {event: frame.filter(pl.col(AT) <= micros(at)) for event, frame in self.frames.items()}
        frames = {event: frame for event, frame in earlier.items() if frame.height}
        if not frames:
            raise JobNotFoundError(self.job_id, f"at {at.isoformat()} there was no job {self.job_id} yet")
        return replace(self, frames=frames)

    def table(self, types: Collection[str] = BY_DEFAULT) -> pl.DataFrame:
        """Events of some types, each once, in the order in which they happened.

        Those of one instant: in READING_ORDER, what ends an attempt before what ends the job, by event id.

        Columns: event_id, event_type, attempt_number, body (JSON text, as in job_events), occurred_at and
        received_at (microseconds since 1970).
        """
        columns = (ID, "event_type", "attempt_number", "body", AT, BROKER_AT)
        prepare = JOB_EVENTS_TABLE.prepare
        assert prepare is not None  # noqa: S101  # declared with the table
        parts = [
            prepare.frame(event_type, frame).select(columns)
            for event_type, frame in self.frames.items()
            if event_type.__name__ in types
        ]
        if not parts:
            return pl.DataFrame(schema=columns)
        return (
            pl.concat(parts)
            .group_by(ID, "body")
            .agg(pl.first("event_type", "attempt_number", AT), received_at=pl.col(BROKER_AT).min())
            .sort(
                AT, pl.col("event_type").cast(_READING_ORDER), "attempt_number", ID, "body", nulls_last=True
            )
        )


def entries(table: pl.DataFrame) -> list[Row]:
    """Rows of `Past.table` with instants and bodies as Python has them."""
    return [
        {
            **row,
            "occurred_at": _instant(row["occurred_at"]),
            "received_at": _instant(row["received_at"]),
            "body": json.loads(row["body"]),
        }
        for row in table.iter_rows(named=True)
    ]


def past_of(
    settings: Settings,
    reading: Reading,
    job_id: int,
    types: Collection[str] = frozenset(TYPES),
) -> Past:
    """The events of a job; the log is read where one of the types is found there alone.

    What the log does not give is said in the `gap`. Raises JobNotFoundError; ServerAwayError for Postgres.
    """
    of = {"job_id": job_id}
    with reading() as database:
        span = database.execute(QUERIES["span"], of).fetchone()
        if span is None:
            raise JobNotFoundError(job_id)
        lifecycle = database.execute(QUERIES["lifecycle"], of).fetchall()
        newest = database.execute(QUERIES["newest"], of).fetchall()
    known = [row for row in lifecycle if row["event_type"] in TYPES]
    kept = _as_messages(job_id, known)
    found, gap = decoded([kept]), None
    if not IN_THE_LOG.isdisjoint(types):
        found, gap = _with_the_log(settings, job_id, span, kept)
        if gap is None and (unseen := _unseen(found.frames, newest)):
            gap = f"{unseen} stats or statuses that the read models hold are not where the log was read"
    notes = []
    if found.bad:
        notes.append(f"{len(found.bad)} messages are no events; the first: {found.bad[0].reason}")
    if len(known) < len(lifecycle):
        notes.append(f"{len(lifecycle) - len(known)} events are of types that this version does not know")
    return Past(job_id, found.frames, gap, notes)


@contextmanager
def as_it_was(settings: Settings, past: Past) -> Iterator[Database]:
    """A database whose read models hold these events and no others. Raises ServerAwayError."""
    with databases.scratch(settings) as connection, projected(connection, fold(past.frames)) as database:
        yield database


def decoded(parts: list[Records], decoder: Decoder | None = None) -> Decoded:
    """The events in several records. Raises ServerAwayError where a schema registry does not answer."""
    decoder = decoder or Decoder()
    return together(read_many(decoder, part) for part in parts if len(part))


def _as_messages(job_id: int, rows: list[Row]) -> Records:
    """Rows of job_events as the messages that they came from; their places in the log are not known."""
    key = str(job_id).encode()
    return Records.from_rows(
        *("", ""),
        (
            (
                *(0, 0),
                micros(row["received_at"]) // 1000,
                key,
                codec.encode(codec.build(TYPES[row["event_type"]], row["body"])),
            )
            for row in rows
        ),
    )


def _with_the_log(settings: Settings, job_id: int, span: Row, kept: Records) -> tuple[Decoded, str | None]:
    """What is kept and what the log has, and why that may lack something."""
    if span["log_partition"] is None:
        return decoded([kept]), "without a lifecycle event of the job it is not known where in the log it is"
    try:
        read = read_job(settings, job_id, Span(**span))
        return decoded([kept, *read.parts], Decoder(schema_by_id=registry_of(settings))), read.gap
    except (ServerAwayError, EmbeddedError) as error:
        return decoded([kept]), f"stats, statuses and heartbeats could not be read: {error}"


def _unseen(frames: Frames, newest: list[Row]) -> int:
    """How many of the newest stats and statuses are not among the events."""
    columns = ("attempt_number", "stream_name", AT)
    seen = {
        row
        for event_type in (StreamStats, StreamStatus)
        if event_type in frames
        for row in frames[event_type].select(columns).iter_rows()
    }
    expected = {(row["attempt_number"], row["stream_name"], micros(row[AT])) for row in newest}
    return len(expected - seen)


def _instant(at: int) -> datetime:
    return EPOCH + timedelta(microseconds=at)
