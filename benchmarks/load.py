"""A load that costs little: keeps some connections busy with one POST each, and prints what it took as JSON.

    python load.py PORT PATH CLIENTS SECONDS < BODIES      # one JSON body a line, used in turn

HTTP/1.1 by hand on asyncio: a client library would take the processor from the server that is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import cast

import uvloop


class Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last is whole."""

    def __init__(self, requests: Iterator[bytes], took: list[float], until: float) -> None:
        self.requests, self.took, self.until = requests, took, until
        self.done = asyncio.get_running_loop().create_future()
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self.transport = cast(asyncio.Transport, transport)  # TCP's, which uvloop's does not inherit
        self.ask()

    def ask(self) -> None:
        """Sends the next request, or ends."""
        self.sent_at = time.perf_counter()
        if self.sent_at >= self.until:
            self.done.set_result(None)
            self.transport.close()
            return
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = bytes(self.received[:head]).lower()
        length = int(headers.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self.received) < head + 4 + length:
            return
        self.took.append(time.perf_counter() - self.sent_at)
        if b" 200 " not in headers.partition(b"\r\n")[0]:
            self.done.set_exception(RuntimeError(bytes(self.received).decode()))
            self.transport.close()
            return
        self.received.clear()
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server may not leave."""
        if not self.done.done():
            self.done.set_exception(exc or RuntimeError("the server closed the connection"))


async def load(port: int, path: str, clients: int, seconds: float, bodies: list[bytes]) -> dict[str, float]:
    """Requests a second, and milliseconds of the median, the 99th percentile and the slowest."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    requests = itertools.cycle(f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies)
    took: list[float] = []
    begun = time.perf_counter()
    loop = asyncio.get_running_loop()
    connected = [
        await loop.create_connection(lambda: Client(requests, took, begun + seconds), "127.0.0.1", port)
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.done for _, client in connected))
    elapsed = time.perf_counter() - begun
    took.sort()
    return {
        "requests": len(took),
        "per_second": len(took) / elapsed,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[min(len(took) - 1, len(took) * 99 // 100)],
        "max_ms": 1000 * took[-1],
        "load_cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    port, path, clients, seconds = sys.argv[1:]
    bodies = sys.stdin.buffer.read().splitlines()
    print(json.dumps(uvloop.run(load(int(port), path, int(clients), float(seconds), bodies))))
