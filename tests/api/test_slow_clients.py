"""Who sends or reads slowly, or too much, holds up nobody."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from jobtrail.api import access, patience
from jobtrail.api.serve import bind, serving, url
from jobtrail.settings import Settings

#: More than there are threads for requests, and connections to Postgres.
MANY = 60


@pytest.fixture
def address(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of its own, less patient than others."""
    monkeypatch.setattr(patience, "HEAD_WITHIN", 2.0)
    monkeypatch.setattr(access, "BODY_WITHIN", 2.0)
    taken = bind(settings.model_copy(update={"api_port": 0}))
    with serving(settings, taken):
        yield url(taken)


def connected(address: str, sent: bytes) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    found = socket.create_connection((host, int(port)), timeout=30)
    found.sendall(sent)
    return found


def answer_of(connection: socket.socket) -> bytes:
    """All that is answered until the server closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            found += part
    return found


HEAD = b"POST /api/v1/jobs/list HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
PARTS = {
    "nothing": b"",
    "half a head": HEAD,
    "half a body": HEAD + b"content-length: 1000\r\n\r\n{",
    "half a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
}


@pytest.mark.parametrize("part", PARTS)
def test_who_sends_slowly_holds_up_nobody_and_is_left(address: str, part: str) -> None:
    slow = [connected(address, PARTS[part]) for _ in range(MANY)]
    begun = time.monotonic()
    for _ in range(20):
        answer = httpx.post(f"{address}/api/v1/jobs/list", json={"configTypes": ["sync"]}, timeout=30)
        assert answer.status_code == 200
    for connection in slow:
        assert answer_of(connection).startswith(b"HTTP/1.1 408 ")
        connection.close()
    assert time.monotonic() - begun < 30


def test_who_sends_a_byte_now_and_then_is_left_too(address: str) -> None:
    """It is the whole that has a limit, not each wait."""
    connection = connected(address, HEAD)
    begun = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - begun < 20:
            connection.sendall(b"x")
            time.sleep(0.1)
    assert time.monotonic() - begun < 10
    connection.close()


def test_a_head_without_an_end_is_refused(address: str) -> None:
    """Long before its time is over."""
    begun = time.monotonic()
    connection = connected(address, HEAD + b"x-more: " + b"y" * (patience.HEAD_LIMIT + 1))
    assert connection.recv(65_536).startswith(b"HTTP/1.1 431 ")
    assert time.monotonic() - begun < patience.HEAD_WITHIN
    connection.close()
    assert httpx.get(f"{address}/health", timeout=30).status_code == 200


def test_who_does_not_read_holds_up_nobody(address: str) -> None:
    """Each asks for a page of half a megabyte, again and again, and reads none."""
    asked = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    slow = [connected(address, asked * 20) for _ in range(MANY)]
    begun = time.monotonic()
    for _ in range(20):
        answer = httpx.post(f"{address}/api/v1/jobs/list", json={"configTypes": ["sync"]}, timeout=30)
        assert answer.status_code == 200
    assert time.monotonic() - begun < 20
    for connection in slow:
        connection.close()


def test_a_request_that_takes_its_time_within_the_limit_is_answered(address: str) -> None:
    body = b'{"configTypes":["sync"]}'
    connection = connected(address, HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body))
    for byte in body:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)
    assert answer_of(connection).startswith(b"HTTP/1.1 200 ")
    connection.close()


def test_a_connection_that_is_kept_is_answered_again(address: str) -> None:
    """The limit is for each head, not for the connection."""
    with httpx.Client(base_url=address, timeout=30) as client:
        for _ in range(4):
            assert client.get("/health").status_code == 200
            time.sleep(0.8)
