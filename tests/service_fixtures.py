"""A running service of the test's own, as fixtures; tests name it in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from running_service import PATIENCE, running

from jobtrail.settings import Settings


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
