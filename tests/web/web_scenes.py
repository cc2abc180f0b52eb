"""A service with the pages, and jobs to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import httpx

from jobtrail import Job, codec, failures
from jobtrail import events as e
from jobtrail.api.serve import bind, serving, url
from jobtrail.cli.service import RoleThread
from jobtrail.consumers.projector import run_projector
from jobtrail.producers.publisher import Publisher
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.store import Store
from jobtrail.settings import Settings
from jobtrail.web.site import create_site

#: What a hostile user writes wherever there is room for text.
ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e{{ 7 * 7 }}"


#: An alert of a connection.
ALERT = b"""
INSERT INTO jobtrail.alerts (alert_id, rule, rule_version, kind, severity, subject, connection_id,
    window_began_at, window_ended_at, triggered_at, detail, resolved_at, resolution, sent)
VALUES (gen_random_uuid(), %(rule)s, 'v', 'failure_rate', 'critical', %(subject)s, %(connection)s, now(),
    now(), now() - make_interval(hours => %(hours)s), %(detail)s, %(resolved)s, %(resolution)s, true)
"""


@contextmanager
def site(settings: Settings, tokens: Sequence[str] = ()) -> Iterator[str]:
    """The address of the pages over a projector that folds."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    projector = RoleThread("projector", partial(run_projector, settings))
    projector.start()
    try:
        with serving(settings, taken, tokens, create=create_site):
            yield url(taken)
            projector.check()
    finally:
        projector.stop.set()
        projector.join(30)


def synced(
    settings: Settings,
    connection_id: str,
    records: int = 10,
    *,
    fails: str | None = None,
    stream: str = "users",
) -> int:
    """A job of a connection that moved so many records and then succeeded, or failed with that message."""
    with Publisher(settings) as publisher:
        job = Job.start(connection_id=connection_id, workspace_id="w-1", publisher=publisher)
        with job, job.attempt() as attempt:
            counted = attempt.stream(stream, namespace="public")
            counted.emitted(records=records, bytes=records * 10)
            counted.committed(records=records, bytes=records * 10)
            if fails is not None:
                attempt.fail(failures.source(fails, external_message=fails))
        publisher.flush()
    return job.job_id


def put_aside(settings: Settings, *found: DeadLetter) -> None:
    """Keeps dead letters as a projector does."""
    store = Store.open(settings.database_url or "")
    with store.transaction() as tx:
        tx.dead_letters(found)
    store.close()


def letter(
    offset: int, reason: str, value: bytes = b"none", topic: str = "t", detail: str = "why"
) -> DeadLetter:
    return DeadLetter(topic, "id", 0, offset, datetime.now(UTC), b"7", value, reason, detail)


def readable(job_id: int) -> bytes:
    """A value that is an event by now."""
    return codec.encode(e.JobFailed(job_id=job_id))


def until(client: httpx.Client, address: str, holds: Callable[[str], bool], seconds: float = 60) -> str:
    """The page once it holds what it must."""
    deadline = time.monotonic() + seconds
    while True:
        text = client.get(address).text
        if holds(text):
            return text
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
