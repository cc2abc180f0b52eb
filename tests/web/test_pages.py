"""The pages as a browser without scripts gets them, over real servers."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send
from web_scenes import ATTACK, site, synced, until

from jobtrail import Job
from jobtrail.api.database import reading
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.producers.publisher import Publisher
from jobtrail.retry import RetryLimits
from jobtrail.settings import Settings
from jobtrail.web.guard import POLICY, Guard, inside
from jobtrail.web.job import job_page
from jobtrail.web.operations import router as operations_pages
from jobtrail.web.pages import render_parts
from jobtrail.web.site import router as site_pages

TOKEN = "a-token-of-many-characters"


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with site(settings) as address, httpx.Client(base_url=address, timeout=60) as found:
        yield found


def heard(client: httpx.Client, address: str) -> Iterator[tuple[str, object]]:
    """The events of a page's stream."""
    with client.stream("GET", "/live" + address) as answer:
        assert answer.status_code == 200
        event = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield event, json.loads(line.removeprefix("data: "))


class Found(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = set[str]()
        #: What runs or looks as its attribute says, or comes from elsewhere.
        self.dangerous = list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self.scripts.add((given.get("src") or "inline").partition("?")[0].removeprefix("/static/"))
        if tag in {"img", "iframe", "object", "embed", "style"}:
            self.dangerous.append(tag)
        self.dangerous += [name for name in given if name.startswith("on") or name == "style"]
        address = given.get("href") or given.get("src") or given.get("action") or "/"
        if not address.startswith(("/", "#")) or address.startswith("//"):
            self.dangerous.append(address)


def test_jobs_are_listed_filtered_and_searched_by_the_address(
    client: httpx.Client, settings: Settings
) -> None:
    good, bad = (
        synced(settings, "orders", 1_234),
        synced(settings, "billing", fails="the password has expired"),
    )
    text = until(client, "/jobs", lambda page: f"job-{good}" in page and "password has expired" in page)
    assert "2 jobs" in text
    assert "1,234" in text
    shown = {
        "/jobs?status=failed": {bad},
        "/jobs?status=succeeded": {good},
        "/jobs?connection=orders": {good},
        "/jobs?q=billing": {bad},
        "/jobs?workspace=w-1&period=1h": {good, bad},
        "/jobs?workspace=w-2": set(),
        "/jobs?type=refresh": set(),
        "/jobs?q=&status=failed&type=&workspace=&period=": {bad},
        "/jobs?q=&status=&type=&workspace=&period=": {good, bad},
    }
    for address, jobs in shown.items():
        page = client.get(address).text
        assert {int(found) for found in re.findall(r'id="job-(\d+)"', page)} == jobs, address
    found = client.get(f"/jobs?q={bad}")
    assert (found.status_code, found.headers["location"]) == (303, f"/jobs/{bad}")
    assert client.get("/").headers["location"] == "/jobs"


def test_all_jobs_can_be_reached_page_by_page(client: httpx.Client, settings: Settings) -> None:
    jobs = [synced(settings, f"c-{number % 3}") for number in range(30)]
    until(client, "/jobs", lambda page: "30 jobs" in page)
    first = client.get("/jobs").text
    older = unescape(re.findall(r'href="([^"]+)" rel="next"', first)[0])
    second = client.get(older).text
    found = re.findall(r'id="job-(\d+)"', first + second)
    assert [int(one) for one in found] == sorted(jobs, reverse=True)
    assert 'rel="next"' not in second
    assert 'rel="first"' in second


def test_a_job_says_the_answer_first(client: httpx.Client, settings: Settings) -> None:
    bad = synced(settings, "billing", 500, fails="the password has expired")
    page = until(client, f"/jobs/{bad}", lambda text: "failed" in text and "The source is at fault" in text)
    answer = page[page.index('id="answer"') : page.index('id="attempts"')]
    assert "the password has expired" in answer
    assert "500 records" in answer
    assert "An attempt failed, and yet these records reached the destination." in answer
    assert "No further attempt" in answer
    assert "billing" in answer
    for heading in ("Attempts", "Streams", "Failures", "Anomalies", "Logs", "Events"):
        assert f">{heading}</h2>" in page
    assert "JobFailed" in page
    assert "data-live" not in page, "nothing changes any more"


def test_a_job_as_of_a_moment_is_as_it_was(client: httpx.Client, settings: Settings) -> None:
    """By the same rules: running, while it ran; and not there before."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    with Publisher(settings) as publisher, Job.start(connection_id="c", publisher=publisher) as job:
        with job.attempt() as attempt:
            attempt.stream("users").emitted(records=7)
            publisher.flush()
            until(client, f"/jobs/{job.job_id}", lambda text: "running" in text)
            moment = datetime.now(UTC)
        publisher.flush()
    address = f"/jobs/{job.job_id}"
    until(client, address, lambda text: "succeeded" in text)
    then = client.get(address, params={"at": moment.isoformat()}).text
    assert "as of" in then
    assert "<title>Job" in then
    assert f"Job {job.job_id} running" in then
    local = client.get(address, params={"at": f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3]})
    assert f"Job {job.job_id} running" in local.text, "an instant without an offset is UTC"
    early = client.get(address, params={"at": before.isoformat()})
    assert early.status_code == 404
    assert f"there was no job {job.job_id} yet" in early.text


def test_what_changes_is_sent_within_a_second(client: httpx.Client, settings: Settings) -> None:
    """To a list and to a job that are open: new rows and new numbers."""
    synced(settings, "c-1")
    until(client, "/jobs", lambda page: "c-1" in page)
    with (
        Publisher(settings) as publisher,
        Job.start(connection_id="c-2", publisher=publisher) as job,
        job.attempt() as attempt,
    ):
        publisher.flush()
        until(client, f"/jobs/{job.job_id}", lambda text: "running" in text)
        told = list[tuple[str, object]]()
        began = threading.Event()

        def listen() -> None:
            for one in heard(client, f"/jobs/{job.job_id}"):
                told.append(one)
                began.set()
                if "4,321" in json.dumps(one):
                    return

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        assert began.wait(30)
        attempt.stream("users").emitted(records=4_321)
        listening.join(30)
        assert not listening.is_alive()
    (first, parts), (last, changed) = told[0], told[-1]
    assert (first, last) == ("parts", "parts")
    assert isinstance(parts, dict)
    assert isinstance(changed, dict)
    assert set(parts) == {"answer", "attempts", "streams", "failures", "anomalies", "logs", "events"}
    assert set(changed) < set(parts)


def test_a_stream_ends_when_nothing_changes_any_more(client: httpx.Client, settings: Settings) -> None:
    job = synced(settings, "c-1")
    until(client, f"/jobs/{job}", lambda text: "succeeded" in text)
    assert [event for event, _ in heard(client, f"/jobs/{job}")] == ["parts", "end"]


def test_text_of_users_is_text_everywhere(client: httpx.Client, settings: Settings) -> None:
    job = synced(settings, ATTACK, fails=ATTACK, stream=ATTACK)
    pages = [
        "/jobs",
        f"/jobs/{job}",
        "/operations",
        f"/connections/{httpx.URL('/').copy_with(path='/' + ATTACK).raw_path.decode()[1:]}",
    ]
    until(client, f"/jobs/{job}", lambda text: "failed" in text)
    pages += [
        f"/jobs?q={ATTACK.replace('&', '%26')}",
        f"/jobs/{job}?at={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
    ]
    for address in pages:
        answer = client.get(address)
        assert Found(answer.text).scripts <= {"idiomorph-0.8.0.min.js", "page.js"}, address
        assert not Found(answer.text).dangerous, address
        assert "\u202e" not in answer.text, address
        assert "{{ 7 * 7 }}" in unescape(answer.text) or address == "/operations", address
        assert answer.headers["content-security-policy"] == POLICY
        assert "unsafe" not in POLICY
    streamed = json.dumps([found for _, found in heard(client, f"/jobs/{job}")])
    assert "<script>alert" not in streamed


def test_other_pages_and_what_is_not_there(client: httpx.Client, settings: Settings) -> None:
    synced(settings, "a/b c")
    until(client, "/jobs", lambda page: "a/b c" in page)
    assert "100 %" in until(client, "/connections/a/b%20c", lambda page: "Success rate" in page)
    assert "No dataplane has been heard of" in client.get("/dataplanes").text
    assert "Up to date" in until(client, "/operations", lambda page: "Up to date" in page)
    wrong = {
        "/jobs/1": (404, "There is no job 1"),
        "/jobs/x": (422, "Job id: "),
        "/jobs?status=done": (422, "Status: it is none of pending"),
        "/jobs?period=1y": (422, "it is none of 1h, 24h, 7d, 30d"),
        "/jobs?before=zz": (422, "is no cursor"),
        "/jobs?statuss=failed": (422, "tatuss: "),
        "/connections/none": (404, "No job of a connection"),
        "/jobs/1?at=soon": (422, "At: "),
        "/jobs/1?at=9999-12-31T23:59:59-12:00": (422, "between 2000 and 2200"),
    }
    for address, (status, said) in wrong.items():
        answer = client.get(address)
        assert (answer.status_code, said in unescape(answer.text)) == (status, True), (address, answer.text)
        assert answer.headers["content-type"].startswith("text/html")


def test_every_page_is_guarded() -> None:
    """Also by what its route takes for its path: with a line break behind it."""

    async def behind(scope: Scope, _receive: Receive, _send: Send) -> None:
        pytest.fail(f"{scope['path']!r} passes")

    async def ask() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(Guard(behind, ())), base_url="http://localhost"
        ) as client:
            for route in (*site_pages.routes, *operations_pages.routes):
                assert isinstance(route, APIRoute)
                path = re.sub(r"{[^}]*}", "1", route.path)
                assert route.path_regex.match(path + "\n"), path
                for address in (path, path + "%0A"):
                    assert (await client.post(address)).status_code == 403, address

    asyncio.run(ask())


def test_a_cancel_is_confirmed_and_says_who(client: httpx.Client, settings: Settings) -> None:
    with Publisher(settings) as publisher:
        job = Job.start(connection_id="c", publisher=publisher)
        publisher.flush()
    page = f"/jobs/{job.job_id}"
    until(client, page, lambda text: "pending" in text)
    assert "cancelled at once" in client.get(page + "/cancel").text
    ours = {"origin": str(client.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    for headers in (
        {},
        {"origin": "http://evil.example"},
        {**ours, "sec-fetch-site": "cross-site"},
        {"origin": "null"},
    ):
        for address in (f"{page}/cancel", f"{page}/cancel%0A", f"{page}%0A/cancel"):
            refused = client.post(address, data={"by": "ada"}, headers=headers)
            assert refused.status_code == 403, (address, headers)
    assert client.post(page + "/cancel", data={"by": "  "}, headers=ours).status_code == 422
    done = client.post(page + "/cancel", data={"by": "ada"}, headers=ours)
    assert (done.status_code, done.headers["location"]) == (303, page)
    assert "Cancelled by ada" in until(client, page, lambda text: "cancelled" in text)
    for again in (
        client.get(page + "/cancel"),
        client.post(page + "/cancel", data={"by": "bob"}, headers=ours),
    ):
        assert again.status_code == 409
        assert "already over" in again.text


def test_with_tokens_pages_ask_for_one(settings: Settings) -> None:
    with site(settings, [TOKEN]) as address, httpx.Client(base_url=address, timeout=60) as client:
        ours = {"origin": address}
        asked = client.get("/jobs?status=failed")
        assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/jobs%3Fstatus%3Dfailed")
        assert client.get("/live/jobs").status_code == 303
        assert client.get("/login").status_code == 200
        assert client.get("/static/style.css").status_code == 200
        assert client.get("/v1/jobs").status_code == 401
        wrong = client.post("/login", data={"token": "wrong", "next": "/jobs"}, headers=ours)
        assert (wrong.status_code, "none of them" in wrong.text) == (401, True)
        kept = client.post("/login", data={"token": TOKEN, "next": "/jobs?status=failed"}, headers=ours)
        assert (kept.status_code, kept.headers["location"]) == (303, "/jobs?status=failed")
        cookie = kept.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict"))
        assert client.get("/jobs").status_code == 200
        assert client.get("/v1/jobs").status_code == 401, "the cookie is for pages alone"
        client.cookies.clear()
        assert client.get("/jobs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    "address",
    ["//evil.example/jobs", "https://evil.example/", "/\\evil.example", "jobs", "/docs", "/api/v1/jobs"],
)
def test_a_sign_in_leads_to_our_pages_alone(address: str) -> None:
    assert inside(address) == "/"
    assert inside("/jobs?status=failed") == "/jobs?status=failed"


def test_what_did_not_change_is_not_rendered_again_and_what_did_is(settings: Settings) -> None:
    """Parts made from those before are those made anew, whatever changes; the others are the very same."""
    first = synced(settings, "orders", 10)
    project_until_caught_up(settings)
    with reading(settings) as database:
        before = job_page(database, first, None, RetryLimits())
        values = {**before.values}
    old = render_parts(before)
    assert render_parts(before, before, old) == old
    assert all(one is old[name] for name, one in render_parts(before, before, old).items())
    changed = Counter[str]()
    for name, value in values.items():
        now = replace(before, values={**values, name: other(name, value)})
        new, kept = render_parts(now), render_parts(now, before, old)
        assert kept == new, name
        changed.update(part for part in new if kept[part] is not old[part])
    assert {*changed} >= {"answer", "streams", "events"}
    assert max(changed.values()) < len(values)


def other(name: str, value: object) -> object:
    """Another value that the templates take, where there is a simple one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, datetime):
        return value + timedelta(seconds=1)
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return value[:-1]
    return "something else" if isinstance(value, str) or name == "fault" else value
