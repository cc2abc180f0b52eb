"""The page of connectors: how reliably each ran, and whose fault it was when it failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from pydantic import ConfigDict, field_validator

from jobtrail.api.models import Exact
from jobtrail.api.reads import Database, Row
from jobtrail.web import charts
from jobtrail.web.jobs import QUERIES, Wanted
from jobtrail.web.pages import Page

#: Seconds between two looks: a month of many jobs is a second's work for Postgres.
EVERY: Final = 30.0
#: Value of the filter → how many UTC days before today's it begins, and how it reads.
PERIODS: Final = {
    "24h": (1, "today and yesterday"),
    "7d": (6, "last 7 days"),
    "30d": (29, "last 30 days"),
}
#: Connectors that are shown, the worst; and the newest failures among which the last of each is looked for.
MOST: Final = 100
NEWEST: Final = 1000
#: The longest bar of the plot, and the height of one with the space around it, in the plot's units.
WIDTH: Final = 500.0
STEP: Final = 28


class Asked(Exact):
    """What the address bar asks for."""

    model_config = ConfigDict(alias_generator=None)

    period: str = "7d"

    @field_validator("period")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PERIODS:
            raise ValueError(f"it is none of {', '.join(PERIODS)}")
        return value


class Key(NamedTuple):
    """Which connector: its image and version, as its workers named them, and what it was there."""

    role: str
    image: str | None
    version: str | None


class Why(NamedTuple):
    """Whose fault, and of what type; None: nobody said."""

    origin: str | None
    type: str | None


@dataclass
class Connector:
    """How the attempts in which a connector ran came out."""

    key: Key
    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    by_why: Counter[Why] = field(default_factory=Counter)
    #: Its newest failure, if that is among the newest ones of all.
    last: Row | None = None

    @property
    def judged(self) -> int:
        """Attempts that say something about it: whoever cancels one does not."""
        return self.succeeded + self.failed

    @property
    def rate(self) -> float | None:
        """The part of these that succeeded."""
        return self.succeeded / self.judged if self.judged else None

    @property
    def own(self) -> int:
        """Failures that were its own fault."""
        return sum(count for why, count in self.by_why.items() if why.origin == self.key.role)

    @property
    def order(self) -> tuple[Any, ...]:
        """The worst first; those of which nothing is known last."""
        named = self.key.image or "", self.key.version or "", self.key.role
        return self.rate is None, self.rate or 0.0, -self.failed, *named


def connectors_page(database: Database, asked: Asked) -> Page:
    """All that ran in the period."""
    now = datetime.now(UTC)
    days, _ = PERIODS[asked.period]
    begin = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=days)
    rows = database.execute(QUERIES["connectors"], {"first_day": begin.date()}).fetchall()
    found = _connectors(rows)
    for row in database.execute(QUERIES["last_failures"], {"begin": begin, "newest": NEWEST}).fetchall():
        if (connector := found.get(_key(row))) is not None:
            connector.last = row
    # Each attempt has a source and a destination, so one of the two counts it once.
    whys = Counter[Why]()
    for connector in found.values():
        if connector.key.role == "source":
            whys.update(connector.by_why)
    values = {
        "asked": asked,
        "periods": {value: said for value, (_, said) in PERIODS.items()},
        "begin": begin,
        "now": now,
        "every": EVERY,
        "connectors": sorted(found.values(), key=lambda one: one.order)[:MOST],
        "all": len(found),
        "whys": sorted(whys.items(), key=lambda one: (-one[1], one[0].origin or "", one[0].type or "")),
        "plot": _plot(whys),
        "jobs_of": lambda origin: Wanted(origin=origin, period=asked.period).address(),
    }
    parts = {name: f"parts/connectors_{name}.html" for name in ("asof", "origins", "list")}
    return Page("connectors.html", parts, values, every=EVERY)


def _key(row: Row) -> Key:
    return Key(row["connector_role"], row["connector_image"], row["connector_version"])


def _connectors(rows: Sequence[Row]) -> dict[Key, Connector]:
    found: dict[Key, Connector] = {}
    for row in rows:
        one = found.setdefault(_key(row), Connector(_key(row)))
        one.attempts += row["runs"]
        one.succeeded += row["successes"]
        one.failed += row["failures"]
        one.cancelled += row["cancellations"]
        one.running += row["unfinished"]
        if row["failures"]:
            one.by_why[Why(row["failure_origin"], row["failure_type"])] += row["failures"]
    return found


def _plot(whys: Counter[Why]) -> dict[str, Any]:
    """A bar for each origin, the longest first, in pieces for its types."""
    origins = Counter[str | None]()
    for why, count in whys.items():
        origins[why.origin] += count
    most = max(origins.values(), default=0)
    bars = []
    for number, (origin, count) in enumerate(
        sorted(origins.items(), key=lambda one: (-one[1], one[0] or ""))
    ):
        bars.append({"origin": origin, "count": count, "width": _place(count, most), "y": number * STEP})
    # Failures are counted whole.
    ticks = [
        {"x": _place(tick.value, most), "value": tick.value}
        for tick in charts.nice_ticks(most)
        if tick.value == int(tick.value)
    ]
    return {"bars": bars, "ticks": ticks, "height": len(bars) * STEP, "total": origins.total()}


def _place(value: float, most: float) -> float:
    return round(charts.place(value, most) * WIDTH / charts.WIDTH, 1)
