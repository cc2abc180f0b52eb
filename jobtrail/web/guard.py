"""Who may see the pages and act on them, and what browsers may do with them.

A browser shows no bearer token by itself. Who gives one on /login gets it back as a cookie that scripts
cannot read and that other sites' requests do not carry; for pages it stands for the token. Whatever changes
something must come from a page of ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobtrail.api.access import is_known
from jobtrail.producers.safe_text import shown
from jobtrail.web.pages import signed_in

COOKIE: Final = "jobtrail_token"
LOGIN: Final = "/login"
LOGOUT: Final = "/logout"
#: What needs no token: the page that asks for one, what forgets it, and files, the same for everybody.
OPEN: Final = re.compile(r"/log(?:in|out)|/static/[\w.-]+")
#: Addresses of the pages; all others are the HTTP interface's, which knows no cookie. They end as
#: routes do, for which a line break behind the path is no part of it.
PAGES: Final = re.compile(
    r"/(?:(?:live/)?(?:jobs|connections|connectors|dataplanes|operations)(?:/.*)?|log(?:in|out))?$", re.DOTALL
)
#: Our files and nothing else: no inline script, no inline style, no frame, no other host.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """In front of everything else."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str]) -> None:
        self.app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http" or not PAGES.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] not in SAFE and not is_from_us(headers):
            await PlainTextResponse(refusal(headers), 403)(scope, receive, send)
            return
        if self._tokens and not OPEN.fullmatch(scope["path"]) and "authorization" not in headers:
            token = _cookie(headers)
            if token is None or not is_known(token.encode(), self._tokens):
                back = scope["path"] + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
                await RedirectResponse(f"{LOGIN}?next={quote(back)}", 303)(scope, receive, send)
                return
            signed_in.set(True)
            shown_as = (b"authorization", f"Bearer {token}".encode())
            scope = {**scope, "headers": [*scope["headers"], shown_as]}

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(raw=message["headers"])
                told["content-security-policy"] = POLICY
                told["x-content-type-options"] = "nosniff"
                told["referrer-policy"] = "same-origin"
                told["cache-control"] = "no-store"
                message = {**message, "headers": told.raw}
            await send(message)

        await self.app(scope, receive, guarded)


def is_from_us(headers: Headers) -> bool:
    """Whether a page of this server made the request, as every browser says; what does not say it did not."""
    said = headers.get("sec-fetch-site")
    if said is not None and said != "same-origin":
        return False
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host")


def refusal(headers: Headers) -> str:
    """What is said of a request that `is_from_us` does not take."""
    said = "This was not sent by a page of this server, so nothing was done."
    origin, host = headers.get("origin"), headers.get("host")
    if origin in {None, "null"} or headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return said
    return (
        f"{said} The page is of {shown(origin or '')}, and this server was asked as {shown(host or '')}. "
        "If a proxy stands between them, have it hand on the header Host as the browser sent it "
        "(nginx: proxy_set_header Host $http_host;)."
    )


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def inside(address: str) -> str:
    """An address to go back to, where it is one of ours; else the first page's."""
    parts = urlsplit(address)
    ours = not parts.scheme and not parts.netloc and address.startswith("/") and PAGES.match(parts.path)
    return address if ours and "\\" not in address else "/"
