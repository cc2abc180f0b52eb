"""Keeps open pages up to date: what changed on a page is rendered once for all who look at it, and sent.

A look is taken of each address that somebody has open, however many have, as often as the page says; what
changed goes out as server-sent events. Where many different addresses are open, looks are taken less often,
so that they never cost more than their share of a processor.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from jobtrail.errors import JobtrailError
from jobtrail.producers.client import log
from jobtrail.web.pages import LOOK, Page, Parts, render_parts

#: Of a processor: what all looks may cost.
SHARE: Final = 0.17
#: Milliseconds after which a browser that lost its stream comes back; seconds between two signs of life; and
#: seconds that a browser may leave what it was sent unread.
COME_BACK: Final = 1_000
PING: Final = 15.0
UNREAD: Final = 30.0
#: Pages of one server that may be open at one time.
MOST_OPEN: Final = 1_000

#: Makes a page as it is now. Raises JobtrailError.
Look = Callable[[], Page]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look saw, and what that is called."""

    page: Page | None = None
    parts: Parts = field(default_factory=dict)
    version: str = ""
    #: What was seen before that, and the event for who knows it: made once, however many look.
    version_before: str = ""
    news: bytes = b""
    #: Processor seconds that it took.
    cost: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing on it changes any more."""
        return self.page is not None and not self.page.live

    @property
    def every(self) -> float:
        """Seconds between two looks, where there is time."""
        return self.page.every if self.page else LOOK


class _Watched:
    """One address that somebody has open."""

    def __init__(self, address: str, look: Look) -> None:
        self.address = address
        self.look = look
        self.open = 0
        self.task: asyncio.Task[None] | None = None
        self.seen = _Seen()
        #: Why nothing is seen.
        self.away: str | None = None
        #: Set, and replaced, when there is something new.
        self.turn = asyncio.Event()


class LivePages:
    """All that is open. For the server's event loop alone, but `close`."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    @property
    def open(self) -> int:
        """How many pages are open."""
        return sum(one.open for one in self._watched.values())

    def close(self) -> None:
        """Ends all streams, so that the server can stop. From any thread."""
        self._closing = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_all)

    def _tell_all(self) -> None:
        for one in self._watched.values():
            _tell(one)

    async def changes(self, address: str, look: Look) -> AsyncIterator[ServerSentEvent | bytes]:
        """What is on the page at first, then what changes on it, until nothing does any more."""
        self._loop = asyncio.get_running_loop()
        one = self._watched.setdefault(address, _Watched(address, look))
        one.open += 1
        if one.task is None:
            one.task = self._loop.create_task(self._look_on(one), name="jobtrail-page")
        version, away = "", None
        try:
            while not self._closing:
                seen, turn = one.seen, one.turn  # before anything is sent, which may take its time
                if one.away != away:
                    away = one.away
                    yield ServerSentEvent(event="away", data=json.dumps(away or ""))
                if seen.version != version:
                    known = version == seen.version_before
                    version = seen.version
                    yield seen.news if known else _news({}, seen.parts, version)
                if seen.over:
                    yield ServerSentEvent(event="end", data="{}")
                    return
                await turn.wait()
        finally:
            one.open -= 1
            if not one.open:
                self._watched.pop(address, None)
                if one.task is not None:
                    one.task.cancel()

    async def _look_on(self, one: _Watched) -> None:
        while not self._closing:
            before = one.seen, one.away
            try:
                one.seen = await asyncio.to_thread(_look, one.look, one.seen)
                one.away = None
            except JobtrailError as error:
                one.away = str(error)
            except Exception:  # noqa: BLE001  # a fault of ours must not look like a page on which nothing changes
                log.exception("%s cannot be kept up to date; it is tried again", one.address)
                one.away = "this page cannot be shown at the moment; the server's log says why"
            if (one.seen.version, one.away) != (before[0].version, before[1]) or one.seen.over:
                _tell(one)
            if one.seen.over:
                return
            # What is looked at less often costs less often.
            cost = sum(each.seen.cost * LOOK / each.seen.every for each in self._watched.values())
            await asyncio.sleep(max(one.seen.every, cost / SHARE))


def _look(look: Look, before: _Seen) -> _Seen:
    begun = time.thread_time()
    page = look()
    parts = render_parts(page, before.page, before.parts)
    version = before.version if parts == before.parts else _version(parts)
    cost = time.thread_time() - begun
    if version == before.version:
        return replace(before, page=page, cost=cost)
    return _Seen(page, parts, version, before.version, _news(before.parts, parts, version), cost)


def _version(parts: Parts) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _news(seen: Parts, parts: Parts, version: str) -> bytes:
    """The event that tells what is not as it was seen."""
    changed = {name: part for name, part in parts.items() if seen.get(name) != part}
    said = json.dumps(changed, ensure_ascii=False)
    return ServerSentEvent(event="parts", data=said, id=version, retry=COME_BACK).encode()


def _tell(one: _Watched) -> None:
    turn, one.turn = one.turn, asyncio.Event()
    turn.set()


class Stream(EventSourceResponse):
    """The changes of one page, for one browser."""

    def __init__(self, pages: LivePages, address: str, look: Look) -> None:
        super().__init__(pages.changes(address, look), ping=PING, send_timeout=UNREAD)
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if self._pages.open >= MOST_OPEN:
            said: dict[str, Any] = {
                "message": f"{MOST_OPEN:,} pages are open, more than this server keeps up to date"
            }
            await JSONResponse(said, 503, {"Retry-After": "10"})(scope, receive, send)
            return
        with suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)
