"""How long and how large the head of a request may be: uvicorn waits for ever, and takes any size.

The body has limits of its own (`jobtrail.api.access.BodyLimit`), and so has the time between two requests
(uvicorn's timeout_keep_alive). Who reads slowly holds up nobody: an answer is made before it is sent.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds that the head of a request may take.
HEAD_WITHIN: Final = 15.0
#: Most bytes of it.
HEAD_LIMIT: Final = 65_536


class Impatient(HttpToolsProtocol):
    """One connection, which ends when a head takes too long or is too large."""

    _waiting: asyncio.TimerHandle | None = None
    _size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The first head is awaited."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._come()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._waiting is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """It is there."""
        self._come()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some bytes of the request."""
        super().data_received(data)
        if self._waiting is not None:
            self._size += len(data)
            if self._size > HEAD_LIMIT:
                self._end(b"431 Request Header Fields Too Large")

    def _wait(self) -> None:
        self._size = 0
        self._waiting = self.loop.call_later(HEAD_WITHIN, self._end, b"408 Request Timeout")

    def _come(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _end(self, status: bytes) -> None:
        self._come()
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()
