"""A TCP proxy between clients and a server, in a thread of its own: forwards, cuts, delays, refuses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Final

#: Bytes that are forwarded at a time.
CHUNK: Final = 65_536


class Proxy:
    """Listens on 127.0.0.1 at `port` for as long as it lives; where it forwards to may be set later."""

    def __init__(self) -> None:
        self.port = 0
        #: Port of the server on 127.0.0.1.
        self.target = 0
        #: Seconds that each chunk is held back.
        self.delay = 0.0
        #: New connections are closed at once.
        self.refusing = False
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def cut(self) -> int:
        """Resets all connections; how many there were."""
        return int(self._do(self._cut()))

    async def _cut(self) -> int:
        cut = len(self._open) // 2
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        return cut

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._open -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(chunk)
                await writer.drain()
        writer.transport.abort() if self.refusing else writer.close()

    def close(self) -> None:
        """Ends it, and every connection through it."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
