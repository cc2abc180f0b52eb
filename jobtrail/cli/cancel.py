"""`jobtrail jobs cancel`: a request to whoever runs the job, or the decision itself where nobody does."""

from __future__ import annotations

import time
from argparse import Namespace

from jobtrail.api import reads
from jobtrail.api.cancellation import cancellation
from jobtrail.api.database import reading
from jobtrail.api.models import ENDED, JobStatus
from jobtrail.api.reads import Database
from jobtrail.cli.environment import account
from jobtrail.cli.jobs import dump
from jobtrail.cli.terminal import as_json, line
from jobtrail.errors import JobtrailError
from jobtrail.events import CancelRequested
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.safe_text import safe_name
from jobtrail.running import kafka_address
from jobtrail.settings import Settings


def cancel(settings: Settings, options: Namespace) -> int:
    """Cancels the job, or raises JobtrailError saying why it is not cancelled."""
    kafka_address(settings)  # here nothing is to wait in the spool for a Kafka to come
    who = safe_name(options.by or account("jobtrail jobs cancel"))
    with reading(settings) as database:
        with database.transaction():
            event = cancellation(database, options.id, who)
        asked = isinstance(event, CancelRequested)
        with Publisher(settings) as publisher:
            publisher.deliver(event)
        if asked and not options.json:
            line(f"asked whoever runs job {options.id} to cancel it; waiting for an answer")
        status = _await_end(database, options.id, options.wait)
        if options.json:
            with database.transaction():
                as_json(dump(reads.job_light(database, options.id)))
    if status == JobStatus.CANCELLED:
        if not options.json:
            line(f"job {options.id} is cancelled", style="magenta")
        return 0
    if status in ENDED:
        raise JobtrailError(f"job {options.id} {status} before it could be cancelled")
    if asked:
        raise JobtrailError(
            f"nobody confirmed within {options.wait:g} s that job {options.id} is cancelled; "
            "the request stands. "
            f"See `jobtrail jobs show {options.id}`; --wait waits longer"
        )
    raise JobtrailError(
        f"job {options.id} is cancelled in the event log, but the read models did not show it within "
        f"{options.wait:g} s; see `jobtrail doctor`"
    )


def _await_end(database: Database, job_id: int, limit: float) -> JobStatus:
    """The job's status once it has ended, or after `limit` seconds."""
    until = time.monotonic() + limit
    while True:
        with database.transaction():
            status = JobStatus(reads.job_row(database, job_id)["status"])
        if status in ENDED or time.monotonic() >= until:
            return status
        time.sleep(0.1)
