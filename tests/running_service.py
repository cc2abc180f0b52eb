"""The whole service for a test: the HTTP server with a projector beside it, and a worker that runs jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any

import httpx

from jobtrail import Attempt
from jobtrail.api.serve import bind, serving, url
from jobtrail.cli.service import RoleThread
from jobtrail.consumers.projector import run_projector
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

#: Seconds that a write waits until it can be read: a projector that has just begun needs some.
PATIENCE = 60.0


@contextmanager
def running(settings: Settings, tokens: Sequence[str] = ()) -> Iterator[str]:
    """The address of a service that folds what it publishes, once it does."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    projector = RoleThread("projector", partial(run_projector, settings))
    projector.start()
    try:
        with serving(settings, taken, tokens):
            headers = {"authorization": f"Bearer {tokens[0]}"} if tokens else {}
            warm = {"workspaceId": "the service folds"}
            httpx.post(f"{url(taken)}/v1/workspaces/register", json=warm, headers=headers, timeout=120)
            projector.check()
            yield url(taken)
            projector.check()
    finally:
        projector.stop.set()
        projector.join(30)


@contextmanager
def worker(settings: Settings, job_id: int, *, obeys: bool = True) -> Iterator[None]:
    """Runs attempt 0 of the job in the background: three records, then it waits until it is to end.

    It ends as cancelled when somebody asks for that and it obeys, else as succeeded when the block is left.
    """
    leaving: list[bool] = []

    def work() -> None:
        with Publisher(settings) as publisher:
            started = Attempt.start(job_id=job_id, attempt_number=0, config_type="sync", publisher=publisher)
            with started as attempt:
                users = attempt.stream("users")
                users.emitted(records=3, bytes=30)
                users.committed(records=3, bytes=30)
                while not leaving and not (obeys and attempt.cancelled):
                    time.sleep(0.02)

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        leaving.append(True)
        thread.join(60)


def becomes(client: httpx.Client, job_id: int, status: str) -> dict[str, Any]:
    """The job of the public API once it has the status."""
    deadline = time.monotonic() + PATIENCE
    while True:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job.get("status") == status:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
