"""Forms: what is asked before something is done, what comes back, and what the next page says of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from jobtrail.producers.safe_text import safe_name
from jobtrail.web.pages import Page, render

#: Most bytes of a form.
FORM: Final = 10_000
#: Holds what was done until a page has said it, and most bytes of that: browsers keep 4,096 of a cookie.
DONE: Final = "jobtrail_done"
MOST_DONE: Final = 3_500


def confirmed(
    title: str,
    what: Sequence[str],
    above: Mapping[str, str],
    *,
    button: str,
    leave: str,
    hidden: Mapping[str, str] | None = None,
) -> Response:
    """A page that asks whether it is meant, and for a name; its form comes back by POST to the same address.

    `above`: address → name of the pages that lead to it; the last is where it goes back to.
    """
    values = {
        "title": title,
        "what": what,
        "above": above,
        "button": button,
        "leave": leave,
        "hidden": hidden or {},
    }
    return HTMLResponse(render(Page("confirm.html", {}, values, live=False)))


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form."""
    body = await request.body()
    if len(body) > FORM:
        raise HTTPException(413, f"the form is larger than {FORM:,} bytes")
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}


def name_in(form: Mapping[str, str], does: str) -> str:
    """Who does it."""
    by = safe_name(form.get("by", "").strip())
    if not by:
        raise HTTPException(422, f"the record needs a name: say who {does}")
    return by


def done(request: Request, address: str, *lines: str) -> Response:
    """Leads to a page that says what was done, once: the first of the lines above the others."""
    said, kept = b"", len(lines)
    while not said or len(said) > MOST_DONE:
        said, kept = base64.urlsafe_b64encode(json.dumps(lines[:kept], ensure_ascii=False).encode()), kept - 1
    answer = RedirectResponse(address, 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(DONE, said.decode(), path=address, httponly=True, samesite="strict", secure=secure)
    return answer


def done_before(request: Request) -> list[str]:
    """What was done, in lines; nothing where the cookie is not one of ours."""
    try:
        found = json.loads(base64.urlsafe_b64decode(request.cookies.get(DONE, "")))
    except (ValueError, RecursionError):
        return []
    return [line for line in found if isinstance(line, str)] if isinstance(found, list) else []
