"""One Chromium, one service and one world for the tests of a module, which names this in `pytest_plugins`.

What a test adds is of a connection of its own, and it looks at that. A test that changes the service itself,
or counts all that is there, takes `own_address` and `settings`; others `address` and `settings_module`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
from chromium import chromium
from playwright.sync_api import Browser
from web_scenes import ALERT, letter, put_aside, site, until
from world import ATTACKED, RUNNING, hostile, marked, story, told

from jobtrail.settings import Settings


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def own_address(settings: Settings) -> Iterator[str]:
    """Of a service of the test's own, without a job."""
    with site(settings) as found:
        yield found


@pytest.fixture(scope="module")
def address(settings_module: Settings) -> Iterator[str]:
    """Of the shared service, once the world is on its pages."""
    now = datetime.now(UTC)
    long_ago = now - timedelta(days=2)
    told(settings_module, [*story(now), *hostile(marked, long_ago)], now)
    strange = letter(1, "malformed", topic=marked("DeadLetter.topic"), detail=marked("DeadLetter.detail"))
    put_aside(settings_module, strange)
    alert = {name: marked(f"Alert.{name}") for name in ("rule", "subject", "connection", "detail")}
    with psycopg.connect(settings_module.database_url or "") as connection:
        connection.execute(ALERT, {**alert, "hours": 1, "resolved": None, "resolution": None})
    with site(settings_module) as found, httpx.Client(base_url=found, timeout=60) as client:
        until(client, f"/jobs/{RUNNING}", lambda text: "order_items" in text)
        until(client, f"/jobs/{ATTACKED}", lambda text: "JobFailed" in text)
        until(client, "/operations", lambda text: "p to date" in text)
        yield found
