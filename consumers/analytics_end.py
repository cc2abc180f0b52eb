"""A Faust application in an event loop of its own, and its end for certain.

Faust's stop waits for much, and a worker that says what ended it must end. The one wait that was seen to last
for good, for acknowledgements, is switched off (`stream_wait_empty`); this bounds the others. Nothing depends
on Faust's last words: what it had not committed is read again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Final

from mode.threads import WorkerThread

log = logging.getLogger("jobtrail")

#: Seconds that each step of an end may take.
PATIENCE: Final = 10.0


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, but tasks that do not end when they are cancelled are left behind."""
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        loop.run_until_complete(_cancelled(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


async def end(stop: Awaitable[None], others: Iterable[asyncio.Task[None]]) -> None:
    """Cancels the others, then ends the application by its `stop`, or without it."""
    await _cancelled(others)
    stopping = asyncio.ensure_future(stop)
    await asyncio.wait({stopping}, timeout=PATIENCE)
    if not stopping.done():
        log.warning("Faust does not stop within %g s and is left behind; nothing is lost", PATIENCE)
        for thread in threading.enumerate():  # one that stays would keep the process
            if isinstance(thread, WorkerThread):
                thread.service._stopped_set()  # noqa: SLF001  # its `stop` would wait for it
        await asyncio.wait({stopping}, timeout=PATIENCE)


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    tasks = {*tasks}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=PATIENCE)
