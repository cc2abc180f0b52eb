"""Whose fault it was: the page of connectors, jobs filtered by it, and a connection's streams over time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx
import pytest
from web_scenes import ATTACK, site, until

from jobtrail import Job, failures
from jobtrail.producers.failure_reason import FailureReason
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings
from jobtrail.web.live import LivePages
from jobtrail.web.pages import Page, percent

SHOP, BANK = "shop/source-orders", "bank/source-ledger"


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with site(settings) as address, httpx.Client(base_url=address, timeout=60) as found:
        yield found


def ran(
    settings: Settings,
    image: str,
    fails: FailureReason | None = None,
    streams: tuple[str, ...] = ("users",),
    connection_id: str = "c",
) -> int:
    """A job of a source with an image, which committed 120 records of each stream and then failed or not."""
    with Publisher(settings) as publisher:
        job = Job.start(connection_id=connection_id, publisher=publisher)
        with job, job.attempt(source_image=image, source_version="1.2") as attempt:
            for name in streams:
                attempt.stream(name).emitted(records=120, bytes=1_200)
                attempt.stream(name).committed(records=120, bytes=1_200)
            if fails is not None:
                attempt.fail(fails)
        publisher.flush()
    return job.job_id


def text_of(page: str) -> str:
    """What stands on a page, without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def part(page: str, begin: str, end: str) -> str:
    return page[page.index(begin) : page.index(end)]


def test_connectors_stand_the_worst_first_with_whose_fault_it_was(
    client: httpx.Client, settings: Settings
) -> None:
    for _ in range(3):
        ran(settings, SHOP)
    ran(settings, SHOP, failures.destination("the disk is full", external_message="no room left"))
    ran(settings, BANK, failures.source(ATTACK, external_message=ATTACK))
    ran(settings, BANK, failures.source("expired", external_message="the password has expired"))
    last = ran(settings, ATTACK, failures.platform("killed", external_message="the worker was killed"))
    page = until(client, "/connectors", lambda text: "the worker was killed" in text and "3 of 4" in text)
    listed = part(page, 'id="list"', "</main>")
    rows = [text_of(row) for row in listed.split("<tr>")[2:]]
    shop = next(row for row in rows if SHOP in row)
    bank = next(row for row in rows if BANK in row)
    assert rows.index(bank) < rows.index(shop)
    assert "75 % 3 of 4" in shop
    assert "destination , system error" in shop
    assert "0 own" in shop
    assert "no room left" in shop
    assert "0 % 0 of 2" in bank
    assert "source , system error" in bank
    assert "the password has expired" in bank
    assert f"job {last}" in next(row for row in rows if "the worker was killed" in row)
    assert "<script>alert" not in page
    # An attempt counts once, though it has a source and a destination.
    origins = text_of(part(page, 'id="origins"', 'id="h-list"'))
    assert re.search(r"source system error 2 50 %", origins), origins
    assert 'href="/jobs?origin=airbyte_platform&amp;period=7d"' in page
    for period in ("24h", "30d"):
        shown = client.get(f"/connectors?period={period}").text
        assert f'value="{period}" selected' in shown
        assert BANK in shown
    with client.stream("GET", "/live/connectors") as answer:
        assert any("event: parts" in line for line in answer.iter_lines())
    for wrong, said in (
        ("period=1y", "it is none of 24h, 7d, 30d"),
        ("periode=7d", "eriode: "),
        (f"period={ATTACK}", "it is none of"),
    ):
        refused = client.get(f"/connectors?{wrong}")
        assert (refused.status_code, said in unescape(refused.text)) == (422, True), wrong
        assert "<script>alert" not in refused.text


def test_jobs_are_filtered_by_whose_fault_it_is(client: httpx.Client, settings: Settings) -> None:
    assert "No connector ran in this time" in client.get("/connectors").text
    good = ran(settings, SHOP)
    source = ran(settings, SHOP, failures.source("x", external_message="the password has expired"))
    platform = ran(settings, SHOP, failures.platform("y"))
    until(client, "/jobs", lambda page: all(f"job-{one}" in page for one in (good, source, platform)))
    until(client, "/jobs?status=failed", lambda page: "2 jobs match" in page)
    shown = {
        "/jobs?origin=source": {source},
        "/jobs?origin=airbyte_platform&period=24h&status=failed": {platform},
        "/jobs?origin=dbt": set(),
        "/jobs?origin=": {good, source, platform},
        "/jobs?origin=%3Cb%3E'%22--": set(),
    }
    for address, jobs in shown.items():
        page = client.get(address).text
        assert {int(found) for found in re.findall(r'id="job-(\d+)"', page)} == jobs, address
        assert "<b>" not in page
    page = client.get("/jobs?origin=source").text
    assert '<option value="source" selected>' in page
    assert "source the password has expired system error" in text_of(page)
    for wrong in (
        f"/jobs?origin={'o' * 1025}",
        "/jobs?origin=a%00",
        "/jobs?workspace=%00",
        "/connections/%00",
    ):
        refused = client.get(wrong)
        assert (refused.status_code, "does not fit" in refused.text) == (422, True), wrong


def test_a_connection_shows_each_stream_over_time(client: httpx.Client, settings: Settings) -> None:
    """A run that failed and one without the stream are drawn otherwise, not only in another colour."""
    ran(settings, SHOP, streams=("users", "orders"))
    ran(settings, SHOP, streams=("users", "orders"))
    ran(settings, SHOP)
    ran(settings, SHOP, failures.source("x"))
    page = until(
        client, "/connections/c", lambda text: "its last 4 runs" in text and "of 4 succeeded" in text
    )
    orders, users = (
        part(page, f'aria-label="Stream {name}"', end)
        for name, end in (("orders", "</main>"), ("users", 'aria-label="Stream orders"'))
    )
    assert "480 records, 4.8 kB committed in 4 of 4 runs; 3 of 4 succeeded (75 %)" in text_of(users)
    assert "240 records, 2.4 kB committed in 2 of 4 runs; 2 of 2 succeeded (100 %)" in text_of(orders)
    for drawn, filled, outlined, dots, crosses in ((users, 3, 1, 0, 0), (orders, 2, 0, 1, 1)):
        paths = dict(re.findall(r'<path class="(\w+)" d="([^"]+)"', part(drawn, "<svg", "</svg>")))
        counted = [paths.get(look, "").count("M") for look in ("filled", "outlined", "dot")]
        assert counted == [filled, outlined, dots]
        assert paths.get("cross", "").count("l6 6") == crosses
    assert text_of(orders).count("not in this run") == 2
    for title in ("Records committed by run", "Bytes committed by run", "Duration by run"):
        assert title in page


def test_a_page_is_looked_at_as_often_as_it_says() -> None:
    """One whose numbers cost much is not looked at twice a second."""
    looks = list[float]()

    def look() -> Page:
        looks.append(time.monotonic())
        return Page("error.html", {}, every=0.05 if len(looks) < 3 else 30.0)

    async def follow() -> None:
        pages = LivePages()
        changes = pages.changes("/x", look)
        reading = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(1.5)
        assert len(looks) == 3
        pages.close()
        reading.cancel()

    asyncio.run(follow())


def test_what_changes_while_a_browser_reads_slowly_is_sent_too() -> None:
    """Also where it is the last change, after which nothing is looked at any more."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    looks = list[int]()

    def look() -> Page:
        looks.append(len(looks))
        values = {"begin": begin, "now": begin + timedelta(seconds=looks[-1]), "every": 1}
        parts = {"asof": "parts/connectors_asof.html"}
        return Page("connectors.html", parts, values, live=len(looks) < 3, every=0.05)

    async def follow() -> list[bytes]:
        pages, found = LivePages(), []
        async for change in pages.changes("/x", look):
            found.append(change if isinstance(change, bytes) else change.encode())
            await asyncio.sleep(0.5)
        return found

    *_, last, end = asyncio.run(follow())
    assert b"2026-03-01 00:00:02" in last
    assert end.startswith(b"event: end")


@pytest.mark.parametrize(
    ("rate", "said"),
    [(None, "-"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.75, "75 %"), (0, "0 %"), (0.29, "29 %")],
)
def test_a_rate_never_reads_as_all_where_one_failed(rate: float | None, said: str) -> None:
    assert percent(rate) == said
