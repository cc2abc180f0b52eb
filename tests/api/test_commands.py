from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobtrail import events as e
from jobtrail.api.commands import cancel_job, create_job
from jobtrail.api.context import Context
from jobtrail.errors import ConflictError
from jobtrail.settings import Settings

pytest_plugins = ["running"]
CONNECTION = "0b3f4bd4-5b5b-4a0e-9f2a-000000000001"


@pytest.fixture
def context(service: str, patient: Settings) -> Iterator[Context]:
    """A second API process, in effect: its own pools and publisher."""
    del service
    found = Context(patient)
    found.open()
    yield found
    found.close()


def sync(connection: str = CONNECTION) -> e.JobCreated:
    return e.JobCreated(job_id=0, config_type="sync", config_id=connection, connection_id=connection)


def test_x(context: Context) -> None:
    first = create_job(context, sync())
    with pytest.raises(ConflictError, match=f"job {first} is pending"):
        create_job(context, sync())
    assert create_job(context, sync("other"), "k") == create_job(context, sync("other"), "k")
    cancel_job(context, first, "me")
    second = create_job(context, sync())

    def attempt(_: int) -> Any:
        try:
            return create_job(context, sync("c3"))
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(attempt, range(8)))
    print(first, second, made)
    assert sum(isinstance(one, int) for one in made) == 1
