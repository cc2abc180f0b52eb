"""What operators see on their page and do from it, as a browser without scripts does, over real servers."""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import psycopg
import pytest
from starlette.datastructures import Headers
from test_pages import TOKEN, Found
from web_scenes import ALERT, ATTACK, letter, put_aside, readable, site, synced, until

from jobtrail.consumers.rebuild import leading
from jobtrail.errors import ConflictError
from jobtrail.projections import letters
from jobtrail.projections.shadow import SQL
from jobtrail.settings import Settings
from jobtrail.web import operations
from jobtrail.web.forms import DONE
from jobtrail.web.guard import refusal

PAGE = "/operations"
RETRY, DROP, REBUILD = f"{PAGE}/letters/retry", f"{PAGE}/letters/drop", f"{PAGE}/rebuild"


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with site(settings) as address, httpx.Client(base_url=address, timeout=60) as found:
        yield found


def ours(client: httpx.Client) -> dict[str, str]:
    """The headers that a browser sends with a form of ours."""
    return {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}


def asked(client: httpx.Client, address: str) -> tuple[str, dict[str, str]]:
    """What a page asks before something is done, and the hidden fields of its form."""
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert not Found(answer.text).dangerous
    fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text)
    return " ".join(unescape(answer.text).split()), {name: unescape(value) for name, value in fields}


def did(client: httpx.Client, address: str, fields: Mapping[str, str] | None = None, by: str = "ada") -> str:
    """What the page of operations says after a form was sent; it says so once."""
    answer = client.post(address, data={**(fields or {}), "by": by}, headers=ours(client))
    assert (answer.status_code, answer.headers.get("location")) == (303, PAGE), answer.text
    first, second = client.get(PAGE).text, client.get(PAGE).text
    (said,) = re.findall(r'<div class="notice" role="status">(.*?)</div>', first, re.DOTALL)
    assert 'class="notice"' not in second
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", said)).split())


def rows(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


RESOLVED = """
SELECT "offset", resolution, resolved_by FROM jobtrail.dead_letters WHERE resolution IS NOT NULL ORDER BY 1
"""


def test_dead_letters_are_retried_and_dropped(client: httpx.Client, settings: Settings) -> None:
    """One, or all of a reason; what cannot be read stays, and the page says why; who did it is on record."""
    put_aside(
        settings,
        letter(1, "unknown_schema", readable(7)),
        letter(2, "unknown_schema", detail=ATTACK, topic=ATTACK),
        letter(3, "unknown_schema", readable(7)),
        letter(4, "malformed"),
        letter(5, "malformed"),
        letter(6, "truncated"),
    )
    shown = client.get(PAGE).text
    assert not Found(shown).dangerous
    assert "\u202e" not in shown
    assert ATTACK[:25] in unescape(shown)

    said, _ = asked(client, f"{RETRY}?place=id:0:1")
    assert "Retry dead letter t:0:1?" in said
    assert "It can be read by now." in said
    assert re.fullmatch(
        r"Retried by ada: t:0:1, published as .+:\d+:\d+\.", did(client, f"{RETRY}?place=id:0:1")
    )
    assert rows(settings, RESOLVED) == [(1, "retried", "ada")]
    again = client.post(f"{RETRY}?place=id:0:1", data={"by": "bob"}, headers=ours(client))
    assert (again.status_code, "was retried by ada; nothing was done" in again.text) == (409, True)
    assert client.get(f"{DROP}?place=t:0:1").status_code == 409

    said, _ = asked(client, f"{RETRY}?place=id:0:2")
    assert "It still cannot be read: " in said
    said, fields = asked(client, f"{RETRY}?reason=unknown_schema")
    assert "Retry 2 dead letters: unknown schema?" in said
    put_aside(settings, letter(8, "unknown_schema", readable(7)))  # came later than the question
    told = did(client, f"{RETRY}?reason=unknown_schema", fields, ATTACK)
    assert ": t:0:3, published as" in told
    assert "1 dead letter stays open:" in told
    assert "unknown schema: " in told
    assert "1 more of this reason are open and were left for now" in told
    assert [one[0] for one in rows(settings, RESOLVED)] == [1, 3]

    said, fields = asked(client, f"{DROP}?reason=malformed")
    assert "Drop 2 dead letters: malformed?" in said
    assert did(client, f"{DROP}?reason=malformed", fields) == "Dropped by ada: 2 dead letters."
    assert did(client, f"{DROP}?place=t:0:6", by="bob") == "Dropped by bob: 1 dead letter."
    assert rows(settings, RESOLVED)[2:] == [
        (4, "dropped", "ada"),
        (5, "dropped", "ada"),
        (6, "dropped", "bob"),
    ]
    shown = client.get(PAGE).text
    assert not Found(shown).dangerous
    assert "Retried or dropped last" in shown
    assert client.get(f"{RETRY}?place=t:0:6").status_code == 200, "a drop can be undone"

    gone = client.post(f"{DROP}?reason=malformed", data={**fields, "by": "ada"}, headers=ours(client))
    assert (gone.status_code, "o open dead letter has the reason" in gone.text) == (409, True)
    wrong = {
        f"{RETRY}?reason=malformed": (409, "No open dead letter has the reason"),
        f"{RETRY}?reason=nonsense": (409, "No open dead letter has the reason"),
        f"{RETRY}?place=t:0:99": (404, "No dead letter is at t:0:99"),
        f"{RETRY}?place=there": (422, "it is topic:partition:offset"),
        RETRY: (422, "Reason: say which dead letters"),
        f"{PAGE}/letters/burn?reason=malformed": (422, "Action"),
        f"{RETRY}?reason=%00": (422, "Reason: the text holds a NUL character"),
        f"{DROP}?place=%00:0:1": (422, "Place: the text holds a NUL character"),
    }
    for address, (status, why) in wrong.items():
        for answer in (
            client.get(address),
            client.post(address, data={**fields, "by": "ada"}, headers=ours(client)),
        ):
            assert (answer.status_code, why in unescape(answer.text)) == (status, True), answer.text
    unnamed = client.post(f"{RETRY}?place=id:0:2", data={"by": " "}, headers=ours(client))
    assert (unnamed.status_code, "The record needs a name" in unnamed.text) == (422, True)
    undated = client.post(f"{RETRY}?reason=unknown_schema", data={"by": "ada"}, headers=ours(client))
    assert undated.status_code == 422
    for address in (
        f"{RETRY}?place=id:0:2",
        f"{DROP}?place=id:0:2",
        f"{DROP}?reason=unknown_schema",
        REBUILD,
        f"{REBUILD}%0A",  # routes take it for the same
    ):
        for headers in (
            {},
            {"origin": "http://evil.example"},
            {**ours(client), "sec-fetch-site": "cross-site"},
        ):
            refused = client.post(address, data={**fields, "by": "ada"}, headers=headers)
            assert refused.status_code == 403, (address, headers)
    assert len(rows(settings, RESOLVED)) == 5
    assert rows(settings, "SELECT * FROM jobtrail.rebuild_runs") == []


def test_a_retry_of_very_many_ends_in_time_and_says_what_is_left(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch is done whatever the time, and all of it is told of. Drops likewise."""
    monkeypatch.setattr(operations, "DROPPED_AT_ONCE", 100)
    put_aside(settings, *(letter(one, "unknown_schema", readable(7)) for one in range(250)))
    monkeypatch.setattr(operations, "WITHIN", 0.001)
    _, fields = asked(client, f"{RETRY}?reason=unknown_schema")
    told, left = "", 250
    while left:
        told = did(client, f"{RETRY}?reason=unknown_schema", fields)
        (now_left,) = re.findall(r"([\d,]+) more of this reason are open", told) or ["0"]
        assert int(now_left) < left, told
        left = int(now_left)
    assert rows(settings, "SELECT DISTINCT resolution FROM jobtrail.dead_letters") == [("retried",)]
    put_aside(settings, *(letter(one, "malformed") for one in range(250, 400)))
    _, fields = asked(client, f"{DROP}?reason=malformed")
    told = did(client, f"{DROP}?reason=malformed", fields)
    assert "Dropped by ada: 100 dead letters." in told
    assert "50 more of this reason are open and were left for now; drop again" in told


def test_a_rebuild_is_begun_from_the_page(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one of two who ask at one time; who it was, how it ended and why it failed is on the page."""
    assert "Rebuild …" in client.get(PAGE).text
    with monkeypatch.context() as patch:
        patch.setenv("JOBTRAIL_NONSENSE", "1")
        failed = client.post(REBUILD, data={"by": "ada"}, headers=ours(client))
    assert (failed.status_code, "JOBTRAIL_NONSENSE: no such setting" in failed.text) == (409, True)

    assert did(client, REBUILD, by="eve") == "Rebuild begun by eve."
    page = until(client, PAGE, lambda text: "Last rebuild" in text)
    assert "the result is empty" in page.lower(), page
    assert "<strong>eve</strong>" in page
    assert "is unfinished (ready), and nobody is at it" in unescape(page)
    until_free(settings)

    synced(settings, "orders")
    until(client, "/jobs", lambda text: "orders" in text)
    said, _ = asked(client, REBUILD)
    assert "Generation 2 was left unfinished: it goes on from there." in said
    with ThreadPoolExecutor(2) as pool:
        answers = [
            *pool.map(
                lambda by: client.post(REBUILD, data={"by": by}, headers=ours(client)), [ATTACK, ATTACK + "!"]
            )
        ]
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    assert any("A rebuild runs already" in answer.text for answer in answers)
    page = until(client, PAGE, lambda text: "swapped" in text)
    assert "Generation 2 serves" in page
    assert "messages read" in page
    assert not Found(page).dangerous
    ((by, result),) = rows(
        settings, "SELECT begun_by, result FROM jobtrail.rebuild_runs WHERE result <> 'refused'"
    )
    assert by.startswith(ATTACK)
    assert result == "swapped"
    until_free(settings)

    with psycopg.connect(settings.database_url or "", autocommit=True) as other, leading(other):
        for refused in (
            client.get(REBUILD),
            client.post(REBUILD, data={"by": "bob"}, headers=ours(client)),
        ):
            assert (refused.status_code, "A rebuild runs already" in refused.text) == (409, True)
        page = client.get(PAGE).text
        assert "running" in page
        assert "Begun by" not in page, "it is not on record, as a rebuild of one job is not"


def test_a_rebuild_that_ends_while_the_page_is_read_was_not_interrupted(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is at it is seen as it is now, and so is what came of it."""
    newest = letters.newest
    with psycopg.connect(settings.database_url or "", autocommit=True) as other, ExitStack() as held:
        held.enter_context(leading(other))
        begun = other.execute(SQL["begin_run"], {"by": "ada"}).fetchone()
        assert begun is not None
        assert "Begun by <strong>ada</strong>" in client.get(PAGE).text

        def ends(*arguments: Any) -> Any:
            found = newest(*arguments)
            other.execute(SQL["end_run"], {"begun_at": begun[0], "result": "swapped", "detail": "done"})
            held.close()
            return found

        monkeypatch.setattr(letters, "newest", ends)
        page = client.get(PAGE).text
    assert "Last rebuild: " in page
    assert "swapped" in page
    assert "interrupted" not in page


def until_free(settings: Settings) -> None:
    """Until no process rebuilds."""
    deadline = time.monotonic() + 30
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        while True:
            try:
                with leading(connection):
                    return
            except ConflictError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_a_cookie_of_somebody_elses_says_nothing(client: httpx.Client) -> None:
    """Cookies know no ports: what stands there may be another server's."""
    for theirs in (b"[" * 3000, b'["a"', b'{"a": 1}', b"[1]", b"\xff"):
        answer = client.get(PAGE, headers={"cookie": f"{DONE}={urlsafe_b64encode(theirs).decode()}"})
        assert (answer.status_code, 'class="notice"' in answer.text) == (200, False), theirs


def test_alerts_and_schedules_are_shown(client: httpx.Client, settings: Settings) -> None:
    """Open ones first, with a way to their connection; without any, how they are turned on."""
    page = client.get(PAGE).text
    assert "Nobody judges rules here" in page
    assert "jobtrail alerts test FILE" in page
    assert "None is open: every message could be read." in page
    assert page.count("not run yet") == 2
    assert page.count("now, by the next projector that looks") == 2
    now = datetime.now(UTC)
    open_one = {"rule": "orders fail", "subject": "a/b", "connection": "a/b", "hours": 5, "detail": ATTACK}
    over = {
        **open_one,
        "hours": 1,
        "detail": "3 of 4 runs failed",
        "resolved": now,
        "resolution": "it succeeds",
    }
    with psycopg.connect(settings.database_url or "", autocommit=True) as connection:
        connection.execute(
            "INSERT INTO jobtrail.alert_checkpoint VALUES (true, now(), now(), now())",
        )
        assert "None is open, and none ever was." in client.get(PAGE).text
        connection.execute(ALERT, {**open_one, "resolved": None, "resolution": None})
        connection.execute(ALERT, over)
        connection.execute(
            "INSERT INTO jobtrail.schedule_runs (schedule, started_at, finished_at, outcome, detail)"
            " VALUES ('heartbeat-cleanup', %s, %s, 'done', 'deleted 3 heartbeats')",
            (now - timedelta(seconds=90), now - timedelta(seconds=88)),
        )
        page = client.get(PAGE).text
        assert not Found(page).dangerous
        assert 'href="/connections/a/b"' in page
        assert page.index("<strong>open</strong>") < page.index("3 of 4 runs failed")
        assert "It succeeds" in page
        assert "deleted 3 heartbeats" in page
        assert "2.0 s" in page
        assert "Judged to" in page
        connection.execute("UPDATE jobtrail.alert_checkpoint SET judged_to = now() - interval '1 hour'")
    assert "Nothing is judged after" in client.get(PAGE).text


def test_who_signed_in_can_sign_out(settings: Settings) -> None:
    """The cookie goes; forms need it, or a token."""
    with site(settings, [TOKEN]) as address, httpx.Client(base_url=address, timeout=60) as client:
        for page in (PAGE, RETRY, REBUILD):
            asked_for = client.post(page, data={"by": "ada"}, headers=ours(client))
            assert (asked_for.status_code, asked_for.headers["location"][:11]) == (303, "/login?next")
        assert "Sign out" not in client.get("/login").text
        bearer = client.get(PAGE, headers={"authorization": f"Bearer {TOKEN}"})
        assert (bearer.status_code, "Sign out" in bearer.text) == (200, False)
        client.post("/login", data={"token": TOKEN, "next": PAGE}, headers=ours(client))
        assert 'action="/logout"' in client.get(PAGE).text
        assert client.get(REBUILD).status_code == 200
        assert client.post("/logout", headers={"origin": "http://evil.example"}).status_code == 403
        assert client.get(PAGE).status_code == 200
        out = client.post("/logout", headers=ours(client))
        assert (out.status_code, out.headers["location"]) == (303, "/login")
        assert client.get(PAGE).status_code == 303


def test_a_form_that_a_proxy_changed_says_what_to_do() -> None:
    """But what another site sent does not."""
    proxied = {"origin": "https://jobs.example", "host": "10.0.0.7:8700"}
    for headers in (proxied, {**proxied, "sec-fetch-site": "same-origin"}):
        said = refusal(Headers(headers))
        assert "The page is of https://jobs.example, and this server was asked as 10.0.0.7:8700." in said
        assert "proxy_set_header Host $http_host;" in said
    for others in ({**proxied, "sec-fetch-site": "cross-site"}, {"host": "h"}, {"origin": "null"}):
        assert "proxy" not in refusal(Headers(others))
