"""What a page is: a template, its values, and the parts of it that are kept up to date."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.meta import find_referenced_templates, find_undeclared_variables
from markupsafe import Markup

from jobtrail.producers.logs import visible
from jobtrail.words import amount, size, span

#: Seconds between two looks at a page: numbers move within a second of being published.
LOOK: Final = 0.5


@dataclass(frozen=True, slots=True)
class Page:
    """One page, as it is at a moment."""

    template: str
    #: Id of an element → the template of what is in it. These are sent again when they change.
    parts: Mapping[str, str]
    values: Mapping[str, Any] = field(default_factory=dict)
    #: False: nothing on it changes any more.
    live: bool = True
    #: Seconds after which it is looked at again: more for one whose numbers cost much.
    every: float = LOOK


#: Status of whatever has one → how it looks: a class, and a sign that needs no colour.
LOOKS: Final = {
    "succeeded": ("good", "✓"),
    "COMPLETE": ("good", "✓"),
    "HEALTHY": ("good", "✓"),
    "done": ("good", "✓"),
    "swapped": ("good", "✓"),
    "compared": ("good", "✓"),
    "failed": ("bad", "✕"),
    "refused": ("bad", "✕"),
    "critical": ("bad", "✕"),
    "UNHEALTHY": ("bad", "✕"),
    "INCOMPLETE": ("bad", "✕"),
    "running": ("busy", "▶"),
    "RUNNING": ("busy", "▶"),
    "incomplete": ("warn", "↻"),
    "RATE_LIMITED": ("warn", "‖"),
    "DEGRADED": ("warn", "!"),
    "interrupted": ("warn", "!"),
    "warning": ("warn", "!"),
    "cancelled": ("calm", "⊘"),
    "pending": ("calm", "○"),
    "queued": ("calm", "○"),
    "PENDING": ("calm", "○"),
    "UNKNOWN": ("calm", "?"),
}


#: Id of an element → what is in it.
Parts = Mapping[str, str]
#: Whether whoever is answered just now signed in by a cookie, and so can sign out.
signed_in: Final = ContextVar("signed_in", default=False)
#: Address → name of the pages that each page leads to.
PAGES: Final = {
    "/jobs": "Jobs",
    "/connectors": "Connectors",
    "/dataplanes": "Dataplanes",
    "/operations": "Operations",
}


def render(page: Page) -> str:
    """The whole page."""
    return _environment().get_template(page.template).render({**page.values, "page": page})


def render_parts(page: Page, before: Page | None = None, parts: Parts | None = None) -> Parts:
    """Id of each element that is kept up to date → what is in it now.

    Where the page is given as it was `before`, those of its `parts` stay of which nothing changed.
    """
    made, old, stay = _environment(), before.values if before else {}, parts or {}
    return {
        name: stay[name]
        if name in stay and all(page.values.get(read) == old.get(read) for read in _reads(part))
        else made.get_template(part).render(page.values)
        for name, part in page.parts.items()
    }


@cache
def _reads(template: str) -> frozenset[str]:
    """The values that a template depends on."""
    made = _environment()
    assert made.loader is not None  # noqa: S101  # it has one
    found = made.parse(made.loader.get_source(made, template)[0])
    names = {*find_undeclared_variables(found)} - {*made.globals}
    for other in find_referenced_templates(found):
        assert other is not None  # noqa: S101  # none of ours is named at run time
        names |= _reads(other)
    return frozenset(names)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("jobtrail.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Whatever comes from elsewhere: neither markup, nor what turns the direction of text.
        finalize=lambda value: (
            visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    made.filters |= {"amount": amount, "size": size, "span": span, "utc": utc, "iso": iso}
    made.filters |= {"local": local, "sentence": sentence, "short": short, "coded": coded, "percent": percent}
    made.globals |= {"looks": looks, "asset": asset, "pages": PAGES, "signed_in": signed_in.get}
    return made


def looks(status: str) -> tuple[str, str]:
    """How a status looks: a class and a sign; unknown ones look calm."""
    return LOOKS.get(status, ("calm", "•"))


def instant(moment: datetime | float | None) -> datetime | None:
    """An instant, or epoch seconds, in UTC."""
    if moment is None or isinstance(moment, datetime):
        return moment and moment.astimezone(UTC)
    return datetime.fromtimestamp(moment, UTC)


def utc(moment: datetime | float | None) -> str:
    """2026-03-01 12:00:09."""
    found = instant(moment)
    return f"{found:%Y-%m-%d %H:%M:%S}" if found else "-"


def iso(moment: datetime | float | None) -> str:
    """2026-03-01T12:00:09.123456Z, for machines."""
    found = instant(moment)
    return found.isoformat().replace("+00:00", "Z") if found else ""


def local(moment: datetime) -> str:
    """2026-03-01T12:00:09.123, for an input of a date and time."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}"


def short(value: float) -> str:
    """A round count, for an axis: 500, 1.5k or 20M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def percent(rate: float | None) -> str:
    """A rate from 0 to 1: 99.6 %; what is not all never reads as 100 %."""
    if rate is None:
        return "-"
    tenths = math.floor(rate * 1000 + 1e-9)
    return f"{tenths / 10:.1f} %" if tenths % 10 else f"{tenths // 10} %"


def sentence(text: str) -> str:
    """Begins with a capital letter."""
    return text[:1].upper() + text[1:]


def coded(text: str) -> Markup:
    """What stands between backticks is what somebody types."""
    parts = visible(text).split("`")
    tags = (Markup("{}"), Markup("<code>{}</code>"))
    return Markup("").join(tags[number % 2].format(part) for number, part in enumerate(parts))


@cache
def asset(name: str) -> str:
    """The address of a file of ours; another one for each release, so that browsers may keep it."""
    from importlib.metadata import version

    return f"/static/{name}?v={version('jobtrail')}"
