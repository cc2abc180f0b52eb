"""Who may ask, and how much: ASGI middleware in front of everything."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobtrail.errors import UsageError

TOKENS_VARIABLE: Final = "JOBTRAIL_API_TOKENS"
#: Most bytes of a request's body.
BODY_LIMIT: Final = 1_000_000
#: Seconds that a body may take.
BODY_WITHIN: Final = 30.0
TOKEN_PATH: Final = "/applications/token"  # noqa: S105  # a path
#: Where a token is given to who knows it. The SDK `airbyte-api` asks at the last one, unless told otherwise.
TOKEN_PATHS: Final = tuple(
    prefix + TOKEN_PATH for prefix in ("/api/v1", "/v1", "/public/v1", "/api/public/v1", "")
)
#: Answered without a token: probes have none, and one must be had somewhere.
OPEN_PATHS: Final = frozenset(
    {"/health", "/ready", "/v1/health", "/public/v1/health", "/api/public/v1/health", *TOKEN_PATHS}
)
#: The description of the interface, its page, and what that loads: no data, for browsers that show no token.
_DESCRIPTION: Final = re.compile(r"/openapi\.json|/docs|/static-offline-docs/[\w.-]+")
#: A short token can be guessed.
SHORTEST_TOKEN: Final = 16


def tokens_from(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The bearer tokens of JOBTRAIL_API_TOKENS, separated by commas. Raises UsageError for a short one."""
    text = (os.environ if environ is None else environ).get(TOKENS_VARIABLE, "")
    tokens = tuple(token.strip() for token in text.split(",") if token.strip())
    if any(len(token) < SHORTEST_TOKEN for token in tokens):
        raise UsageError(
            f"{TOKENS_VARIABLE}: a token has fewer than {SHORTEST_TOKEN} characters; take longer ones"
        )
    return tokens


def check_listen(host: str, tokens: Sequence[str], *, insecure: bool) -> None:
    """Raises UsageError where others could reach the server and need no token."""
    if tokens or insecure or is_loopback(host):
        return
    raise UsageError(
        f"JOBTRAIL_API_HOST: {host} can be reached from elsewhere; set {TOKENS_VARIABLE} to tokens of "
        f"{SHORTEST_TOKEN} or more characters, or say --insecure-listen if everybody there may read"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached by the name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_known(shown: bytes, tokens: Sequence[str]) -> bool:
    """Whether it is one of the tokens."""
    # All are compared, each in constant time, so that the time tells nothing.
    return any([hmac.compare_digest(shown, token.encode()) for token in tokens])  # noqa: C419


class Tokens:
    """Lets pass who shows one of the tokens; without tokens everybody."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str], also_open: re.Pattern[str] | None = None) -> None:
        """`also_open`: paths that need no token either."""
        self.app = app
        self.tokens = tokens
        self._also_open = also_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http" or not self.tokens or self._is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        kind, _, shown = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and is_known(shown.strip(), self.tokens):
            await self.app(scope, receive, send)
        else:
            wrong = kind.lower() == b"bearer" and shown.strip()
            said = "the bearer token is none of this server's tokens" if wrong else "a bearer token is needed"
            await answer(send, 401, said, (b"www-authenticate", b"Bearer"))

    def _is_open(self, path: str) -> bool:
        also = self._also_open is not None and self._also_open.fullmatch(path) is not None
        return also or path in OPEN_PATHS or _DESCRIPTION.fullmatch(path) is not None


class LocalHosts:
    """Lets pass what was sent to this machine by one of its own names: localhost, 127.*, [::1].

    A page in a browser here can have its own name point to this machine (DNS rebinding), and would then read
    what a server without tokens answers; the header Host still tells the page's name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        host = dict(scope["headers"]).get(b"host") if scope["type"] == "http" else None
        if host is None or is_loopback(_name(host.decode("latin-1"))):  # browsers always send one
            await self.app(scope, receive, send)
            return
        await answer(
            send,
            403,
            f"Host: without tokens this server answers to localhost alone; set {TOKENS_VARIABLE} to be "
            "asked by other names",
        )


def _name(host: str) -> str:
    """The name or address of a Host header, without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


class _BrokenOffError(Exception):
    pass


class BodyLimit:
    """Refuses a body of more than BODY_LIMIT bytes, whether its length was announced or not.

    And one that is not there within BODY_WITHIN seconds. Until it is, no thread and no connection to Postgres
    is taken for the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > BODY_LIMIT:
            await self._refuse(send)
            return
        seen, whole, refused = 0, False, False
        too_slow = False
        deadline = asyncio.get_running_loop().time() + BODY_WITHIN

        async def counted() -> Message:
            nonlocal seen, whole, too_slow
            try:
                # Behind the body comes nothing but that the client left, whenever that is.
                async with asyncio.timeout_at(None if whole else deadline):
                    message = await receive()
            except TimeoutError:
                too_slow = True
                raise _BrokenOffError from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > BODY_LIMIT:
                raise _BrokenOffError
            return message

        async def watched(message: Message) -> None:
            # Whatever the application makes of the broken body, the answer is ours.
            nonlocal refused
            if seen <= BODY_LIMIT and not too_slow:
                await send(message)
            elif not refused:
                refused = True
                if too_slow:
                    said = f"the request was not there within {BODY_WITHIN:g} s"
                    await answer(send, 408, said, (b"connection", b"close"))
                else:
                    await self._refuse(send)

        await self.app(scope, counted, watched)

    async def _refuse(self, send: Send) -> None:
        await answer(send, 413, f"the request is larger than {BODY_LIMIT:,} bytes")


async def answer(send: Send, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
    """A whole answer: {"message": …}."""
    body = json.dumps({"message": message}).encode()
    fixed = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})
