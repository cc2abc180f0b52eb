"""The whole service for a test: the HTTP server with a projector beside it, on servers of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from jobtrail.api.serve import bind, serving, url
from jobtrail.cli.service import RoleThread
from jobtrail.consumers.projector import run_projector
from jobtrail.settings import Settings

#: Seconds that a write waits until it can be read: a projector that has just begun needs some.
PATIENCE = 60.0


@contextmanager
def running(settings: Settings, tokens: Sequence[str] = ()) -> Iterator[str]:
    """The address of a service that folds what it publishes."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    projector = RoleThread("projector", partial(run_projector, settings))
    projector.start()
    try:
        with serving(settings, taken, tokens):
            yield url(taken)
            projector.check()
    finally:
        projector.stop.set()
        projector.join(30)


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """The settings of a service that waits for its projector."""
    return settings.model_copy(update={"read_back_timeout": PATIENCE})


@pytest.fixture
def service(patient: Settings) -> Iterator[str]:
    """The address of a running service of the test's own."""
    with running(patient) as address:
        yield address


@pytest.fixture
def client(service: str) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=service, timeout=120) as found:
        yield found
