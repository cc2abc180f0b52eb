"""How a job is cancelled, for HTTP and the command line alike."""

from __future__ import annotations

from typing import Final

from jobtrail.api.models import ENDED
from jobtrail.api.reads import Database, JobNotFoundError, Row
from jobtrail.errors import ConflictError
from jobtrail.events import Cancelled, CancelRequested
from jobtrail.projections.generation import named_statements

SQL: Final = named_statements("commands.sql", "api")


def standing(database: Database, job_id: int) -> Row:
    """The job's status, when it ended, and whether an attempt of it runs. Raises JobNotFoundError."""
    row = database.execute(SQL["standing"], {"job_id": job_id}).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return row


def cancellable(database: Database, job_id: int) -> Row:
    """The same of a job that can be cancelled. Raises JobNotFoundError, ConflictError where it is over."""
    row = standing(database, job_id)
    if row["status"] in ENDED:
        raise ConflictError(
            f"job {job_id} is already over: {row['status']} since {row['ended_at']:%Y-%m-%d %H:%M:%S %Z}; "
            "nothing was done",
            job_id,
        )
    return row


def cancellation(database: Database, job_id: int, by: str) -> CancelRequested | Cancelled:
    """What cancelling the job is now: a request to whoever runs an attempt of it, else the decision itself.

    Raises as `cancellable` does.
    """
    if cancellable(database, job_id)["runs"]:
        return CancelRequested(job_id=job_id, requested_by=by)
    return Cancelled(job_id=job_id, cancelled_by=by)
