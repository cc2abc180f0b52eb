"""The pages about the service itself: its dataplanes, and what operators look at."""

from __future__ import annotations

from typing import Any, Final

from jobtrail.api import dataplanes
from jobtrail.api.readiness import Look
from jobtrail.api.reads import Database
from jobtrail.consumers import schedules
from jobtrail.consumers.rebuild import State
from jobtrail.projections import letters
from jobtrail.settings import Settings
from jobtrail.web.pages import Page

#: Newest dead letters that are shown.
LETTERS: Final = 50


def dataplanes_page(database: Database) -> Page:
    """How long ago each was heard of."""
    values = {"ids": None, "recent": dataplanes.DEGRADED, "most": dataplanes.MOST_RECENT}
    rows = database.execute(dataplanes.SQL["health"], values).fetchall()
    found = [
        {
            "row": row,
            "status": dataplanes.health_status(row["last_heard_at"], row["now"]).value,
            "silent": (row["now"] - row["last_heard_at"]).total_seconds() if row["last_heard_at"] else None,
        }
        for row in rows
    ]
    return Page("dataplanes.html", {"rows": "parts/dataplanes_rows.html"}, {"dataplanes": found})


def operations_page(database: Database, settings: Settings, look: Look, rebuilding: State) -> Page:
    """Lag, dead letters, a rebuild, schedules."""
    newest, total = letters.newest(database, letters.Which(), LETTERS)
    by_topic: dict[str, dict[int, int]] = {}
    for (topic, partition), behind in sorted(look.lag.items()):
        by_topic.setdefault(topic, {})[partition] = behind
    values: dict[str, Any] = {
        "readiness": look.readiness,
        "lag": by_topic,
        "groups": letters.groups(database, letters.Which()),
        "letters": newest,
        "total_letters": total,
        "rebuilding": rebuilding,
        "schedules": [schedules.state(database, settings, one) for one in schedules.SCHEDULES],
    }
    names = ("ready", "lag", "rebuild", "letters", "schedules")
    return Page("operations.html", {name: f"parts/operations_{name}.html" for name in names}, values)
