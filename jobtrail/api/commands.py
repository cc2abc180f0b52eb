"""Making and cancelling jobs: what is decided, and the event that says so.

A connection runs one job at a time, as in Airbyte: a sync, reset, refresh or clear is refused while another
one of its connection is not decided. One that waits for a retry blocks it for JOBTRAIL_PICKUP_LIMIT only: the
retry of a worker that was killed may never come. The read models show a job a moment after it was made; until
then a row of `connection_reservations` speaks for it.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC
from typing import Final

from jobtrail.api.cancellation import cancellation, standing
from jobtrail.api.context import Context, NotYetReadableError
from jobtrail.api.models import ENDED
from jobtrail.api.reads import Database, Row
from jobtrail.api.scopes import in_workspace
from jobtrail.errors import ConflictError, JobtrailError, UnconfirmedError
from jobtrail.events import JobCreated, decision_id
from jobtrail.job_types import JobType, config_types_of
from jobtrail.projections.generation import named_statements

SQL: Final = named_statements("commands.sql", "api")
#: Config types of which a connection runs one at a time.
EXCLUSIVE: Final = tuple(config_types_of(JobType.REPLICATION))
#: Seconds for which a job that the read models do not show keeps others from its connection: longer than they
#: are behind, and short where its event was never published.
RESERVED_FOR: Final = 300
#: Seconds that a cancelled job is given to end: well below those that HTTP clients wait (httpx: 5).
CONFIRMED_WITHIN: Final = 2.0
#: Seconds between two looks whether a job has ended.
LOOK: Final = 0.05


def create_job(context: Context, wanted: JobCreated, key: str | None = None) -> int:
    """Makes a job as `wanted`, except for its id, and returns that once the job can be read.

    The same `key` (the header Idempotency-Key) gives the same job, whose event is published again where it
    cannot be read yet. Raises FieldError where the scope does not fit, NotFoundError for an unknown
    organization, ConflictError where the connection is busy or the key belongs to another request, and what
    `Context.write` raises. The connection is free again where the job will surely not be.
    """
    with context.writing() as database:
        if key is None:
            wanted = wanted.model_copy(update={"job_id": _one(database, "new_job_id")["job_id"]})
        else:
            known = _by_key(database, wanted, key)
            if known["readable"]:
                return int(known["job_id"])
            wanted = wanted.model_copy(
                update={
                    "job_id": known["job_id"],
                    "event_id": decision_id("http", "JobCreated", key),
                    "occurred_at": known["used_at"].astimezone(UTC),
                }
            )
        created, taken = in_workspace(database, wanted), None
        if created.config_type in EXCLUSIVE:
            taken = _reserve(database, created, context.settings.pickup_limit)
    try:
        receipt = context.publish(created)[-1]
    except JobtrailError as error:
        if taken and not isinstance(error, UnconfirmedError):
            with context.writing() as database:
                database.execute(SQL["free_connection"], taken)
        raise
    try:
        context.await_readable(JobCreated, receipt)
    except NotYetReadableError as error:
        raise NotYetReadableError(f"job {created.job_id}: {error}", created.job_id) from None
    return created.job_id


def _one(database: Database, name: str, **values: object) -> Row:
    row = database.execute(SQL[name], values).fetchone()
    assert row is not None  # noqa: S101  # a statement that always has one
    return row


def _by_key(database: Database, wanted: JobCreated, key: str) -> Row:
    """The job of the key, which it gets here unless it has one."""
    asked = wanted.model_dump_json(exclude={"event_id", "occurred_at", "job_id"})
    values = {"key": key, "digest": hashlib.sha256(asked.encode()).hexdigest()}
    database.execute(SQL["keep_key"], values)
    known = _one(database, "job_of_key", **values)
    if not known["same_request"]:
        raise ConflictError(
            f"Idempotency-Key: it made job {known['job_id']}, of another request; take a new key",
            known["job_id"],
        )
    return known


def _reserve(database: Database, created: JobCreated, retry_within: float) -> Row | None:
    """Gives the connection to the job. Raises ConflictError where another job has it.

    Returns the reservation where it is new: before, nobody can have published the job.

    `retry_within`: seconds after its last change in which the retry of an incomplete job may still come.
    """
    connection_id = created.connection_id or created.config_id
    exclusive = list(EXCLUSIVE)
    about = {"connection_id": connection_id, "config_types": exclusive, "retry_within": retry_within}
    mine = {**about, "job_id": created.job_id, "seconds": RESERVED_FOR}
    before = database.execute(SQL["reservation"], mine).fetchone()
    taken = database.execute(SQL["reserve_connection"], mine).fetchone()
    if taken is None:
        other = _one(database, "occupant", **about, seconds=RESERVED_FOR)
        how = f"is {other['status']}; cancel it or wait for its end"
        if other["status"] is None:
            how = f"is being made; try again, in {other['lapses_in']} s at the latest"
        if other["status"] == "incomplete":
            how = "waits for a retry; start one (attempt/create_new_attempt_number) or cancel it"
        raise ConflictError(
            f"a job is already running for connection {connection_id}: job {other['job_id']} {how}",
            other["job_id"],
        )
    return taken if before is None else None


def cancel_job(context: Context, job_id: int, by: str) -> None:
    """Cancels the job and waits until it has ended, at most CONFIRMED_WITHIN seconds.

    A request that nobody has obeyed by then stands. Raises as `cancellation` and `Context.write` do.
    """
    with context.reading() as database:
        event = cancellation(database, job_id, by)
    context.write(event)
    until = time.monotonic() + CONFIRMED_WITHIN
    while time.monotonic() < until:
        with context.reading() as database:
            if standing(database, job_id)["status"] in ENDED:
                return
        time.sleep(LOOK)
