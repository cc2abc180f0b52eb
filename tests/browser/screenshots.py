"""Pictures of the main pages, as SVG: docs/screenshots/. What they show is tests/browser/world.py.

    make screenshots                        # all of them
    make screenshots SHOT_ARGS="jobs job"   # these alone

A page is printed as one sheet by Chromium, and MuPDF turns that into shapes: text, so that it can be kept
beside the sources. Needs Chromium and mutool, which `make screenshots` installs where it may.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from chromium import chromium
from playwright.sync_api import Browser
from web_scenes import site, until
from world import FAILED, RUNNING, story, told

from jobtrail import embedded
from jobtrail.projections.migrate import migrate
from jobtrail.settings import Settings

FOLDER: Final = Path(__file__).parents[2] / "docs" / "screenshots"
#: Width, and the most height that is shown of a page, in pixels.
DESK: Final = (1280, 880)
TALL: Final = (1280, 1070)
PHONE: Final = (390, 880)
#: Of what all machines have, the one that is nearest to the fonts of most people's systems.
FONT: Final = "Liberation Sans"
#: Name of the picture → its page and its size.
PICTURES: Final = {
    "jobs": ("/jobs?period=24h", DESK),
    "jobs-phone": ("/jobs?period=24h", PHONE),
    "job": (f"/jobs/{FAILED}", TALL),
    "job-phone": (f"/jobs/{FAILED}", PHONE),
    "connection": ("/connections/orders", TALL),
    "connectors": ("/connectors", TALL),
    "operations": ("/operations", TALL),
}
#: What letters they were, and what is so anyhow.
NEEDLESS: Final = re.compile(
    r' data-text="[^"]*"| stroke-(?:width="1"|linecap="butt"|linejoin="miter"|miterlimit="4")'
)
#: In it the rule that mutool says has another name.
CLIP: Final = re.compile(r"<clipPath.*?</clipPath>", re.DOTALL)
#: Letters that mutool draws one after the other, of one size, colour and height.
LINE: Final = re.compile(
    r'(<use xlink:href="#\w+" transform="matrix\(([\d.]+),0,0,-\2,([-\d.]+),([-\d.]+)\)" fill="(#\w+)"/>\n)'
    r'(?:<use xlink:href="#\w+" transform="matrix\(\2,0,0,-\2,[-\d.]+,\4\)" fill="\5"/>\n)*'
)
#: Shapes of one colour that it draws one after the other.
SHAPES: Final = re.compile(r'(<path transform="[^"]+") d="([^"]*)"( fill="#\w+"/>\n)(?:\1 d="[^"]*"\3)+')
#: Most bytes of a picture.
MOST: Final = 250_000


def main() -> int:
    """Writes them; 1 where one of them is too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(PICTURES)}; else all")
    names = parser.parse_args().names or [*PICTURES]
    if unknown := {*names} - {*PICTURES}:
        parser.error(f"there is no picture {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    if shutil.which("mutool") is None:
        raise SystemExit("mutool is not on the PATH; `apt-get install mupdf-tools` brings it")
    FOLDER.mkdir(parents=True, exist_ok=True)
    large = 0
    with tempfile.TemporaryDirectory(prefix="jobtrail-screenshots-") as folder, chromium() as browser:
        home = Path(folder)
        home.chmod(0o755)  # as root, another account runs the servers
        with embedded.servers(home, durable=False, on_progress=say) as servers:
            settings = Settings(
                home=home,
                kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
                database_url=servers.database_url,
            )
            migrate(servers.database_url or "")
            say("jobs are told")
            now = datetime.now(UTC)
            told(settings, story(now), now)
            with site(settings) as address:
                settled(address)
                for name in names:
                    path, size = PICTURES[name]
                    picture = svg(browser, address + path, size, home)
                    (FOLDER / f"{name}.svg").write_text(picture)
                    say(f"docs/screenshots/{name}.svg: {len(picture) / 1000:,.0f} kB")
                    large += len(picture) > MOST
    return int(large > 0)


def say(text: str) -> None:
    print(f"screenshots: {text}", file=sys.stderr, flush=True)


def settled(address: str) -> None:
    """Returns when all that was told is on the pages."""
    with httpx.Client(base_url=address, timeout=60) as client:
        until(client, f"/jobs/{RUNNING}", lambda text: "RUNNING" in text or "running" in text)
        until(client, "/operations", lambda text: "p to date" in text)


def svg(browser: Browser, address: str, size: tuple[int, int], folder: Path) -> str:
    """The top of the page as shapes."""
    width, highest = size
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme="light", bypass_csp=True
    )
    page = context.new_page()
    page.goto(address)
    page.add_style_tag(content=f"body, input, select, button {{ font-family: '{FONT}' }}")
    page.wait_for_timeout(800)  # its stream is there, and says so
    page.emulate_media(media="screen")
    height = min(page.evaluate("document.documentElement.scrollHeight") + 1, highest)
    printed, drawn = folder / "page.pdf", folder / "page.svg"
    page.pdf(path=printed, width=f"{width}px", height=f"{height}px", print_background=True)
    context.close()
    subprocess.run(
        ["mutool", "draw", "-q", "-N", "-F", "svg", "-o", str(drawn), str(printed), "1"], check=True
    )
    return trimmed((folder / "page1.svg").read_text())


def trimmed(picture: str) -> str:
    """The same in half of its bytes: letters of a line stand together, numbers are as fine as one sees."""
    picture = CLIP.sub(lambda found: found[0].replace("fill-rule", "clip-rule"), picture)
    picture = SHAPES.sub(_shapes, LINE.sub(_line, NEEDLESS.sub("", picture)))
    picture = re.sub(r"-?\d*\.\d{3,}", lambda found: fine(float(found[0])), picture)
    return picture.replace("xlink:href", "href").replace("font_", "f")


def _line(letters: re.Match[str]) -> str:
    size, y, colour = letters[2], letters[4], letters[5]
    places = re.findall(r'href="#(\w+)" transform="matrix\([^,]+,0,0,[^,]+,([^,]+),', letters[0])
    uses = (f'<use xlink:href="#{glyph}" x="{round(float(x) / float(size), 2):g}"/>' for glyph, x in places)
    drawn = "".join(uses)
    return f'<g fill="{colour}" transform="matrix({size},0,0,-{size},0,{y})">{drawn}</g>\n'


def _shapes(shapes: re.Match[str]) -> str:
    outlines = "".join(re.findall(r' d="([^"]*)"', shapes[0]))
    return f'{shapes[1]} d="{outlines}"{shapes[3]}'


def fine(number: float) -> str:
    """Letters are drawn one unit high, all else in points or smaller units."""
    size = abs(number)
    text = f"{number:.1f}" if size >= 2 else f"{number:.3f}" if size >= 0.1 else f"{number:.3g}"
    return re.sub(r"^(-?)0\.", r"\1.", text.rstrip("0").rstrip(".") if "e" not in text else text)


if __name__ == "__main__":
    sys.exit(main())
