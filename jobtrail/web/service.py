"""The pages about the service itself: its dataplanes, and what operators look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jobtrail.api import dataplanes
from jobtrail.api.readiness import Look
from jobtrail.api.reads import Database
from jobtrail.consumers import schedules
from jobtrail.consumers.alerts.alerter import judged_to, listed
from jobtrail.consumers.rebuild import state as rebuild_state
from jobtrail.projections import letters
from jobtrail.settings import Settings
from jobtrail.web.pages import Page

#: Newest dead letters that are shown, and of those that were retried or dropped; alerts.
LETTERS: Final = 50
RESOLVED: Final = 10
ALERTS: Final = 20
#: An alerter that runs has judged what is older.
SILENT: Final = timedelta(minutes=5)


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


def operations_page(database: Database, settings: Settings, look: Look) -> Page:
    """Lag, a rebuild, dead letters, alerts, schedules."""
    newest, total = letters.newest(database, letters.Which(), LETTERS)
    by_topic: dict[str, dict[int, int]] = {}
    for (topic, partition), behind in sorted(look.lag.items()):
        by_topic.setdefault(topic, {})[partition] = behind
    alerts, counted = listed(database, only_open=False, limit=ALERTS)
    judged = judged_to(database)
    values: dict[str, Any] = {
        "done": [],
        "readiness": look.readiness,
        "lag": by_topic,
        "reasons": letters.open_letters(database),
        "letters": newest,
        "total_letters": total,
        "resolved": letters.resolved(database, RESOLVED),
        "rebuild": rebuild_state(database),
        "alerts": alerts,
        "open_alerts": counted["open"],
        "all_alerts": counted["alerts"],
        "judged_to": judged and judged[0],
        "unjudged": judged is not None and judged[1] - judged[0] > SILENT,
        "schedules": [schedules.state(database, settings, one) for one in schedules.SCHEDULES],
        "now": datetime.now(UTC),
    }
    names = ("ready", "alerts", "lag", "rebuild", "letters", "schedules")
    return Page("operations.html", {name: f"parts/operations_{name}.html" for name in names}, values)
