"""Attempt numbers given out over HTTP: to one caller each, and the same after every rebuild.

A number is reserved first, by a unique key of a table that is no projection, then its AttemptStarted is
published. What becomes of that decides: durable, its caller has the number for good; refused, the number is
free again; unknown, for Kafka did not answer or this process died, it goes to whoever asks next, and so does
the attempt if it came to be: its event is the same whoever publishes it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from jobtrail.api.context import Context
from jobtrail.api.models import ENDED
from jobtrail.api.reads import Database, JobNotFoundError, Row
from jobtrail.errors import ConflictError, JobtrailError, UnconfirmedError
from jobtrail.events import AttemptStarted, decision_id, utc_now
from jobtrail.kinds import ATTEMPT_NUMBER
from jobtrail.producers.receipt import Receipt
from jobtrail.projections.generation import named_statements

SQL: Final = named_statements("attempts.sql", "api")
#: For how much longer than a publish may take a number is kept for a caller that was not told it.
MARGIN: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides about the next number of a job."""

    status: str
    #: The highest number that the read models show.
    last: int | None = None
    #: The numbers of attempts that run.
    running: Collection[int] = ()
    #: The highest number that was given out over HTTP.
    reserved: int | None = None
    #: Whether that was kept for its caller for long enough, in vain.
    lapsed: bool = False
    #: Whether somebody asked that the job be cancelled.
    cancel_requested: bool = False


def next_number(job_id: int, standing: Standing) -> int:
    """The number for another attempt. Raises ConflictError where there is none to be had."""
    reserved, last = standing.reserved, -1 if standing.last is None else standing.last
    if standing.status in ENDED:
        raise ConflictError(f"job {job_id} is over ({standing.status}); make another job", job_id)
    if standing.cancel_requested:
        raise ConflictError(
            f"somebody asked that job {job_id} be cancelled; it gets no more attempts, make another job",
            job_id,
        )
    if reserved is not None and standing.lapsed:
        waits = reserved > last and not standing.running
        if waits or set(standing.running) == {reserved}:
            return reserved
    if standing.running:
        raise ConflictError(
            f"attempt {min(standing.running)} of job {job_id} runs; end it before the next one starts", job_id
        )
    if reserved is not None and reserved > last:
        raise _taken(job_id, reserved)
    if ATTEMPT_NUMBER.problem(last + 1):
        raise ConflictError(f"job {job_id} has had {last + 1:,} attempts, the most; make another job", job_id)
    return last + 1


@dataclass(frozen=True, slots=True)
class Reservation:
    """A number that a caller has."""

    job_id: int
    attempt_number: int
    #: When the attempt started.
    reserved_at: datetime
    #: Whether nobody can have published its start before.
    fresh: bool = False
    #: Whether its start is durable, and its caller was told.
    settled: bool = False

    @property
    def event(self) -> AttemptStarted:
        """The start of the attempt: the same event for everybody who ever has the number."""
        return AttemptStarted(
            event_id=decision_id("http", "AttemptStarted", self.job_id, self.attempt_number),
            occurred_at=self.reserved_at,
            job_id=self.job_id,
            attempt_number=self.attempt_number,
        )


def start_attempt(context: Context, job_id: int, key: str | None = None) -> tuple[int, Receipt | None]:
    """Starts the next attempt of the job: its number, and where its start stands in the log.

    The same `key` gives the same number, without a receipt where it was given before.
    Raises JobNotFoundError, ConflictError where the job is over or to be cancelled or an attempt runs, and
    what `Context.publish` raises.
    """
    limit = timedelta(seconds=context.settings.flush_timeout) + MARGIN
    with context.writing() as database:
        mine = reserve(database, job_id, key, limit)
    if mine.settled:
        return mine.attempt_number, None
    try:
        receipt = context.publish(mine.event)[-1]
    except JobtrailError as error:
        _let_go(context, mine, sure=not isinstance(error, UnconfirmedError))
        raise
    _execute(context, mine, "hold", until="infinity")
    return mine.attempt_number, receipt


def _let_go(context: Context, mine: Reservation, *, sure: bool) -> None:
    """Lets others have the number; `sure`: this caller's event is not, and will not be, in the log."""
    if sure and mine.fresh:
        _execute(context, mine, "free")
    else:
        _execute(context, mine, "hold", until=utc_now().isoformat())


def _execute(context: Context, mine: Reservation, name: str, **values: str) -> None:
    with context.writing() as database:
        about = {"job_id": mine.job_id, "attempt_number": mine.attempt_number}
        database.execute(SQL[name], {**about, **values})


def reserve(database: Database, job_id: int, key: str | None, limit: timedelta) -> Reservation:
    """A number that nobody else gets before `limit` is over. Raises JobNotFoundError, ConflictError."""
    if again := _of_key(database, job_id, key):
        return again
    try:
        return _reserve(database, job_id, key, limit)
    except ConflictError:
        if again := _of_key(database, job_id, key):  # the same request, at the same moment
            return again
        raise


def _of_key(database: Database, job_id: int, key: str | None) -> Reservation | None:
    row = key and database.execute(SQL["reservation_of_key"], {"job_id": job_id, "key": key}).fetchone()
    return _reservation(job_id, row, settled=row["settled"]) if row else None


def _reserve(database: Database, job_id: int, key: str | None, limit: timedelta) -> Reservation:
    now = utc_now()
    row = database.execute(SQL["number_standing"], {"job_id": job_id, "now": now}).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    number = next_number(job_id, Standing(**row))
    values = {"job_id": job_id, "attempt_number": number, "now": now, "until": now + limit, "key": key}
    won = database.execute(SQL["reserve"], values).fetchone()
    if won is None:
        raise _taken(job_id, number)
    return _reservation(job_id, won, fresh=won["reserved_at"] == now)


def _reservation(job_id: int, row: Row, *, fresh: bool = False, settled: bool = False) -> Reservation:
    return Reservation(job_id, row["attempt_number"], row["reserved_at"].astimezone(UTC), fresh, settled)


def _taken(job_id: int, number: int) -> ConflictError:
    return ConflictError(f"attempt {number} of job {job_id} is being started by somebody else", job_id)
