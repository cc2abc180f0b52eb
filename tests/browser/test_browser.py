"""The pages in a real browser: Chromium without a window, at a phone's and a desk's width, light and dark."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import quote

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, expect
from web_scenes import letter, put_aside, readable, site, synced, until
from world import ATTACKED, FAILED, FIRST, RUNNING, WORKSPACE, hostile, marked

from jobtrail import Job
from jobtrail import events as e
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

pytest_plugins = ["browser_fixtures"]

TOKEN: Final = "a-token-of-many-characters"
WIDTHS: Final = {"phone": 390, "desk": 1280}
#: What axe is asked in each.
SCHEMES: Final[dict[Literal["light", "dark"], dict[str, Any]]] = {
    "light": {},
    "dark": {"runOnly": ["color-contrast"]},
}
#: Each page, in each state that looks different → its status.
PAGES: Final = {
    f"/jobs?workspace={WORKSPACE}": 200,
    "/jobs?status=running": 200,
    "/jobs?workspace=none": 200,
    "/jobs?status=none": 422,
    f"/jobs/{FAILED}": 200,
    f"/jobs/{RUNNING}": 200,
    f"/jobs/{RUNNING}/cancel": 200,
    "/connections/orders": 200,
    "/connections/none": 404,
}
#: Those that show what a hostile user wrote.
ATTACKED_PAGES: Final = (
    "/jobs",
    f"/jobs/{ATTACKED}",
    f"/jobs/{ATTACKED + 1}",
    f"/jobs/{ATTACKED + 2}",
    f"/jobs/{ATTACKED}?at={{now}}",
    f"/jobs/{ATTACKED + 2}/cancel",
    f"/connections/{quote(marked('JobCreated.connection_id'), safe='')}",
    "/connectors",
    "/dataplanes",
    "/operations",
    "/operations/rebuild",
    "/operations/letters/drop?reason=malformed",
    "/operations/letters/retry?place=id:0:1",
)


def page_of(browser: Browser, address: str, width: int = 1280) -> tuple[Page, list[str]]:
    """A page, and all that its console says is wrong from now on."""
    context = browser.new_context(base_url=address, viewport={"width": width, "height": 800})
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda said: wrong.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    return page, wrong


def reads_well(page: Page) -> None:
    """No serious finding of axe, light and dark; nothing but colours changes with that."""
    for scheme, asked in SCHEMES.items():
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options=asked).response["violations"]
        serious = [one for one in found if one["impact"] in {"serious", "critical"}]
        assert not serious, (page.url, scheme, [(one["id"], one["nodes"][0]["html"]) for one in serious])


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_each_page_reads_well(browser: Browser, address: str, width: int) -> None:
    """Light and dark: no serious finding of axe, nothing on the console, nothing wider than the screen."""
    page, wrong = page_of(browser, address, width)
    for path in (*PAGES, *ATTACKED_PAGES):
        answer = page.goto(path.format(now=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"))
        assert answer is not None
        assert answer.status == PAGES.get(path, 200), path
        if page.locator("body[data-live]").count():
            expect(page.get_by_role("status")).to_have_text("live")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("main script, main img, main [style], main [onerror]").count() == 0, path
        reads_well(page)
    # The browser says itself that an error page was one.
    assert [said for said in wrong if "the server responded with a status of 4" not in said] == []
    page.context.close()


def test_text_of_users_is_text_in_every_field(browser: Browser, address: str) -> None:
    """Each field for text of each event is on a page, as it was written."""
    page, wrong = page_of(browser, address)
    shown = ""
    for path in ATTACKED_PAGES:
        page.goto(path.format(now=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"))
        shown += page.locator("main").text_content() or ""
    spelled = list[str]()

    def spell(place: str) -> str:
        spelled.append(place)
        return place

    assert len([*hostile(spell, datetime.now(UTC))]) > 10
    spelled += ["DeadLetter.topic", "DeadLetter.detail", "Alert.rule", "Alert.connection", "Alert.detail"]
    found = shown.casefold()  # a cause is shown in small letters
    missing = {place for place in spelled if f"{place}!<script>alert(1)</script>".casefold() not in found}
    assert missing == set()
    assert wrong == []
    page.context.close()


def test_numbers_move_and_jobs_appear_without_reloading(
    browser: Browser, address: str, settings_module: Settings
) -> None:
    """Within a second of being published, and what is folded out stays so."""
    listed, wrong = page_of(browser, address)
    listed.goto("/jobs?connection=moving")
    expect(listed.get_by_role("status")).to_have_text("live")
    with (
        Publisher(settings_module) as publisher,
        Job.start(connection_id="moving", publisher=publisher) as job,
        job.attempt() as attempt,
    ):
        expect(listed.locator(f"#job-{job.job_id}")).to_contain_text("running", timeout=10_000)
        shown, wrong_too = page_of(browser, address)
        shown.goto(f"/jobs/{job.job_id}")
        expect(shown.get_by_role("status")).to_have_text("live")
        assert shown.title() == f"Job {job.job_id} · Jobtrail", "its status would not stay true"
        instants = shown.locator("[data-slider]").get_attribute("max") or ""
        shown.locator("#event-1 summary").click()
        attempt.stream("users").emitted(records=4_321)
        expect(shown.locator("#streams")).to_contain_text("4,321", timeout=3_000)
        expect(shown.locator("#event-1")).to_have_attribute("open", "")
        expect(listed.locator(f"#job-{job.job_id}")).to_contain_text("4,321", timeout=3_000)
    expect(shown.locator("#answer")).to_contain_text("succeeded", timeout=10_000)
    expect(shown.get_by_role("status")).to_have_text("ended")
    expect(shown.locator("[data-slider]")).not_to_have_attribute("max", instants)
    expect(listed.locator(f"#job-{job.job_id}")).to_contain_text("succeeded", timeout=10_000)
    assert [*wrong, *wrong_too] == []


def test_the_other_pages_move_too(browser: Browser, address: str, settings_module: Settings) -> None:
    """A connection's runs, a dataplane that is heard of, a message that is no event."""
    with Publisher(settings_module) as publisher:
        Job.start(connection_id="growing", publisher=publisher)
        publisher.flush()
        pages = {}
        for path in ("/connections/growing", "/dataplanes", "/operations"):
            page, wrong = page_of(browser, address)
            expect_shown(page, path)
            pages[path] = page, wrong
        second = Job.start(connection_id="growing", publisher=publisher).job_id
        publisher.publish(e.DataplaneHeartbeat(dataplane_id="ap-south"))
        publisher.flush()
    producer = Producer({"bootstrap.servers": settings_module.kafka_bootstrap_servers or ""})
    producer.produce(settings_module.events_topic, b"no event at all, and yet it came")
    assert producer.flush(30) == 0
    appears = {
        "/connections/growing": ("#summary", str(second)),
        "/dataplanes": ("#rows", "ap-south"),
        "/operations": ("#letters", "6e 6f 20 65 76"),
    }
    for path, (part, text) in appears.items():
        page, wrong = pages[path]
        expect(page.locator(part)).to_contain_text(text, timeout=10_000)
        assert wrong == []
        page.context.close()


def expect_shown(page: Page, path: str) -> None:
    """Opens it; a connection is there once its first job is."""
    while (answer := page.goto(path)) is not None and answer.status == 404:
        page.wait_for_timeout(200)
    expect(page.get_by_role("status")).to_have_text("live")


def test_filters_are_in_the_address_and_the_keyboard_leads_through(browser: Browser, address: str) -> None:
    page, wrong = page_of(browser, address)
    page.goto(f"/jobs?workspace={WORKSPACE}")
    rows = page.locator("#rows tr")
    page.get_by_label("Status").select_option("failed")
    page.wait_for_url(f"**/jobs?status=failed&workspace={WORKSPACE}")
    expect(rows).to_have_count(2)
    page.get_by_label("Created").select_option("24h")
    page.wait_for_url("**&period=24h*")
    expect(rows).to_have_count(2)
    page.get_by_label("Type").select_option("refresh")
    expect(page.locator("#rows")).to_contain_text("No job matches these filters")
    page.get_by_role("link", name="Clear").click()
    page.wait_for_url("**/jobs")
    page.get_by_label("At fault").select_option("source")
    page.wait_for_url("**/jobs?origin=source*")
    expect(page.locator(f"#job-{FAILED}")).to_contain_text("source")
    expect(page.locator("#rows")).not_to_contain_text("succeeded")
    page.get_by_role("link", name="Clear").click()
    page.wait_for_url("**/jobs")
    page.get_by_label("Search").fill("billing")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs?q=billing")
    expect(rows).to_have_count(4)
    expect(page.get_by_text("4 jobs match")).to_be_visible()
    page.keyboard.press("Tab")
    page.locator("h1").click()
    for _ in range(2):
        page.keyboard.press("j")
    expect(page.locator(f"#job-{FAILED - 1} a").first).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{FAILED}")
    page.go_back()
    page.keyboard.press("/")
    page.keyboard.type(str(FIRST))
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{FIRST}")
    assert wrong == []
    page.context.close()


def test_the_slider_shows_the_job_as_of_that_moment(browser: Browser, address: str) -> None:
    page, wrong = page_of(browser, address)
    page.goto(f"/jobs/{FAILED}")
    page.locator("[data-slider]").focus()
    page.keyboard.press("Home")
    page.wait_for_url("**?at=*")
    expect(page.locator(".notice").first).to_contain_text("as of")
    expect(page.get_by_role("heading", level=1)).to_contain_text("pending")
    expect(page.locator("[data-slider]")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    page.get_by_role("link", name="Back to now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("failed")
    assert wrong == []
    page.context.close()


def test_a_job_is_cancelled_by_a_page(browser: Browser, address: str, settings_module: Settings) -> None:
    with Publisher(settings_module) as publisher:
        job = Job.start(connection_id="unwanted", publisher=publisher)
        publisher.flush()
    page, wrong = page_of(browser, address)
    page.goto("/jobs?connection=unwanted")
    page.locator(f"#job-{job.job_id} a").first.click()
    page.get_by_role("link", name=re.compile("Cancel this job")).click()
    page.get_by_label("Your name").fill("ada")
    page.get_by_role("button", name="Cancel the job").click()
    page.wait_for_url(f"**/jobs/{job.job_id}")
    expect(page.locator("#answer")).to_contain_text("Cancelled by ada", timeout=10_000)
    assert wrong == []
    page.context.close()


def test_a_service_without_jobs_says_what_to_do(browser: Browser, own_address: str) -> None:
    page, wrong = page_of(browser, own_address)
    said = {
        "/jobs": "No job yet",
        "/dataplanes": "No dataplane has been heard of",
        "/operations": "None is open",
    }
    for path, text in said.items():
        page.goto(path)
        expect(page.locator("main")).to_contain_text(text)
    assert wrong == []
    page.context.close()


def test_operators_act_from_their_page(browser: Browser, own_address: str, settings: Settings) -> None:
    """A letter is retried, the others dropped, the read models rebuilt; the page says what came of each."""
    synced(settings, "orders")
    with httpx.Client(base_url=own_address, timeout=60) as client:
        until(client, "/jobs", lambda text: "orders" in text)
    put_aside(settings, letter(1, "unknown_schema", readable(7)), letter(2, "malformed"))
    page, wrong = page_of(browser, own_address)
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
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_who_has_a_token_signs_in_and_out(browser: Browser, settings: Settings, width: int) -> None:
    with site(settings, [TOKEN]) as address:
        page, wrong = page_of(browser, address, width)
        page.goto("/dataplanes")
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        reads_well(page)
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Dataplanes")
        reads_well(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        assert wrong == []
        page.context.close()
