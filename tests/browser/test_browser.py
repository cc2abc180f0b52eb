"""The pages in a real browser: Chromium without a window, at a phone's and a desk's width, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import httpx
import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from web_scenes import ALERT, ATTACK, letter, put_aside, readable, site, synced, until

from jobtrail import Job
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

ALERTED = {"rule": ATTACK, "subject": ATTACK, "connection": ATTACK, "hours": 1, "detail": ATTACK}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"phone": 390, "desk": 1280}
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert path, "there is no Chromium here: `apt-get install chromium` makes it"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    with site(settings) as found:
        yield found


def page_of(
    browser: Browser, address: str, scheme: Scheme = "light", width: int = 1280
) -> tuple[Page, list[str]]:
    """A page, and all that its console says is wrong from now on."""
    context = browser.new_context(
        base_url=address, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    return page, wrong


def ready(address: str, path: str, holds: str) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        until(client, path, lambda text: holds in text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_each_page_reads_well(
    browser: Browser, address: str, settings: Settings, scheme: Scheme, width: int
) -> None:
    """No serious finding of axe, nothing on the console, nothing wider than the screen, attacks are text."""
    synced(settings, "orders", 50)
    job = synced(settings, ATTACK, fails=ATTACK, stream=ATTACK)
    with Publisher(settings) as publisher:
        running = Job.start(connection_id="billing", publisher=publisher).job_id
        publisher.flush()
    ready(address, f"/jobs/{running}", "pending")
    put_aside(settings, letter(1, "malformed", detail=ATTACK, topic=ATTACK))
    with psycopg.connect(settings.database_url or "") as connection:
        connection.execute(ALERT, {**ALERTED, "resolved": None, "resolution": None})
    ready(address, f"/jobs/{job}", "failed")
    page, wrong = page_of(browser, address, scheme, width)
    pages = ["/jobs", f"/jobs/{job}", f"/jobs/{job}?at={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"]
    pages += ["/operations/rebuild", "/operations/letters/drop?reason=malformed"]
    pages += ["/operations/letters/retry?place=id:0:1", f"/jobs/{running}/cancel"]
    pages += ["/connections/orders", "/connectors", "/dataplanes", "/operations", "/jobs?status=running"]
    for path in pages:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        page.wait_for_timeout(300)
        found = Axe().run(page).response["violations"]
        serious = [one for one in found if one["impact"] in {"serious", "critical"}]
        assert not serious, (path, [(one["id"], one["nodes"][0]["html"]) for one in serious])
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert wrong == []
    page.goto("/jobs")
    expect(page.get_by_role("link", name="<script>alert(1)</script>")).to_have_count(1)
    assert page.goto("/jobs/1") is not None
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such thing here")
    page.context.close()


def test_numbers_move_and_jobs_appear_without_reloading(
    browser: Browser, address: str, settings: Settings
) -> None:
    """Within a second of being published, and what is folded out stays so."""
    synced(settings, "orders")
    ready(address, "/jobs", "orders")
    listed, wrong = page_of(browser, address)
    listed.goto("/jobs")
    expect(listed.get_by_role("status")).to_have_text("live")
    with (
        Publisher(settings) as publisher,
        Job.start(connection_id="billing", publisher=publisher) as job,
        job.attempt() as attempt,
    ):
        expect(listed.locator(f"#job-{job.job_id}")).to_contain_text("running", timeout=10_000)
        shown, wrong_too = page_of(browser, address)
        shown.goto(f"/jobs/{job.job_id}")
        expect(shown.get_by_role("status")).to_have_text("live")
        shown.locator("#event-1 summary").click()
        attempt.stream("users").emitted(records=4_321)
        expect(shown.locator("#streams")).to_contain_text("4,321", timeout=3_000)
        expect(shown.locator("#event-1")).to_have_attribute("open", "")
        expect(listed.locator(f"#job-{job.job_id}")).to_contain_text("4,321", timeout=3_000)
    expect(shown.locator("#answer")).to_contain_text("succeeded", timeout=10_000)
    expect(shown.get_by_role("status")).to_have_text("ended")
    expect(listed.locator(f"#job-{job.job_id}")).to_contain_text("succeeded", timeout=10_000)
    assert [*wrong, *wrong_too] == []


def test_filters_are_in_the_address_and_the_keyboard_leads_through(
    browser: Browser, address: str, settings: Settings
) -> None:
    good, bad = synced(settings, "orders"), synced(settings, "billing", fails="expired")
    ready(address, f"/jobs/{bad}", "failed")
    page, wrong = page_of(browser, address)
    page.goto("/jobs")
    page.get_by_label("Status").select_option("failed")
    page.wait_for_url("**/jobs?status=failed*")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator(f"#job-{bad}")).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    page.get_by_label("At fault").select_option("source")
    page.wait_for_url("**/jobs?origin=source*")
    expect(page.locator("#rows tr")).to_have_count(1)
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("#rows tr")).to_have_count(2)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(f"#job-{good} a").first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{good}")
    page.go_back()
    page.keyboard.press("/")
    page.keyboard.type(str(bad))
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{bad}")
    assert wrong == []


def test_the_slider_shows_the_job_as_of_that_moment(
    browser: Browser, address: str, settings: Settings
) -> None:
    job = synced(settings, "orders", fails="expired")
    ready(address, f"/jobs/{job}", "failed")
    page, wrong = page_of(browser, address)
    page.goto(f"/jobs/{job}")
    page.locator("[data-slider]").focus()
    page.keyboard.press("Home")
    page.wait_for_url("**?at=*")
    expect(page.locator(".notice").first).to_contain_text("as of")
    expect(page.get_by_role("heading", level=1)).to_contain_text("pending")
    page.get_by_role("link", name="Back to now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("failed")
    assert wrong == []


def test_a_job_is_cancelled_by_a_page(browser: Browser, address: str, settings: Settings) -> None:
    with Publisher(settings) as publisher:
        job = Job.start(connection_id="orders", publisher=publisher)
        publisher.flush()
    ready(address, f"/jobs/{job.job_id}", "pending")
    page, wrong = page_of(browser, address)
    page.goto(f"/jobs/{job.job_id}")
    page.get_by_role("link", name="Cancel this job").click()
    page.get_by_label("Your name").fill("ada")
    page.get_by_role("button", name="Cancel the job").click()
    page.wait_for_url(f"**/jobs/{job.job_id}")
    expect(page.locator("#answer")).to_contain_text("Cancelled by ada", timeout=10_000)
    assert wrong == []


def test_operators_act_from_their_page(browser: Browser, address: str, settings: Settings) -> None:
    """A letter is retried, the others dropped, the read models rebuilt; the page says what came of each."""
    synced(settings, "orders")
    ready(address, "/jobs", "orders")
    put_aside(settings, letter(1, "unknown_schema", readable(7)), letter(2, "malformed"))
    page, wrong = page_of(browser, address)
    page.goto("/operations")
    page.locator("#reason-unknown_schema").get_by_role("link", name="Retry …").click()
    page.get_by_label("Your name").fill("ada")
    page.get_by_role("button", name="Retry").click()
    page.wait_for_url("**/operations")
    expect(page.locator(".notice")).to_contain_text("Retried by ada: t:0:1, published as")
    page.locator("#letters").get_by_role("link", name="Drop …").last.click()
    page.get_by_label("Your name").fill("bob")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_have_text("Dropped by bob: 1 dead letter.")
    expect(page.locator("#letters")).to_contain_text("None is open")
    page.get_by_role("link", name="Rebuild …").click()
    page.get_by_label("Your name").fill("eve")
    page.get_by_role("button", name="Rebuild").click()
    page.wait_for_url("**/operations")
    expect(page.locator(".notice")).to_have_text("Rebuild begun by eve.")
    expect(page.locator("#rebuild")).to_contain_text("swapped begun by eve", timeout=60_000)
    expect(page.locator("#rebuild")).to_contain_text("Generation 2 serves.")
    assert wrong == []
