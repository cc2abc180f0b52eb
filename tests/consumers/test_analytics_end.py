"""Whatever Faust waits for, its application ends, and says what ended it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from mode import Service
from mode.threads import ServiceThread, WorkerThread

from jobtrail.consumers import analytics_end
from jobtrail.consumers.analytics_end import end, run


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics_end, "PATIENCE", 0.3)


async def deaf() -> None:
    """Does not end when it is cancelled."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


class Beside(ServiceThread):
    """A service in a thread of its own, as Faust's consumer is."""


class Waits(Service):
    """Its stop waits for an answer that never comes."""

    def __init__(self, beside: Beside) -> None:
        super().__init__()
        self._beside = beside

    async def on_start(self) -> None:
        """Starts what is beside it."""
        await self._beside.start()

    async def on_stop(self) -> None:
        """Waits."""
        await asyncio.Event().wait()


async def failing(stop: Any, *others: Any) -> None:
    try:
        raise LookupError("what ended it")
    finally:
        await end(stop, [asyncio.ensure_future(other) for other in others])


def test_what_ended_it_is_raised_though_nothing_stops() -> None:
    with pytest.raises(LookupError, match="what ended it"):
        run(failing(deaf(), deaf(), asyncio.sleep(3600)))


def test_no_thread_is_left_of_an_application_that_does_not_stop(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that stays would keep the process."""

    async def main() -> None:
        app = Waits(Beside())
        await app.start()
        assert workers()
        await failing(app.stop())

    def workers() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if isinstance(one, WorkerThread)]

    with pytest.raises(LookupError, match="what ended it"):
        run(main())
    for one in workers():
        one.join(10)
    assert not workers()
    assert "does not stop" in caplog.text


def test_one_that_stops_is_not_hurried(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        app = Beside()
        await app.start()
        await failing(app.stop(), asyncio.sleep(3600))

    with pytest.raises(LookupError, match="what ended it"):
        run(main())
    assert "does not stop" not in caplog.text
