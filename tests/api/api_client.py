"""The server and a client for it, as a fixture; tests name it in `pytest_plugins`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from jobtrail.api.serve import bind, serving, url
from jobtrail.settings import Settings


class Client:
    """Asks the server as a program would."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def post(self, path: str, body: Any, prefix: str = "/api/v1") -> httpx.Response:
        return self.client.post(
            f"{prefix}/jobs/{path}", content=json.dumps(body), headers={"content-type": "application/json"}
        )

    def asked(self, path: str, body: Any) -> Any:
        answer = self.post(path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def http(settings: Settings) -> Iterator[Client]:
    """The server, over a database of the test's own."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    with serving(settings, taken), httpx.Client(base_url=url(taken), timeout=60) as client:
        yield Client(client)
