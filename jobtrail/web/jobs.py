"""The page of jobs: which, filtered by the address bar, newest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from pydantic import ConfigDict, Field, field_validator

from jobtrail.api import cursor, reads
from jobtrail.api.fields import GREATEST, FilterText
from jobtrail.api.models import Exact, JobStatus
from jobtrail.api.reads import Database, Row
from jobtrail.api.verdict import duration
from jobtrail.events import ConfigType, FailureOrigin
from jobtrail.projections.generation import named_statements
from jobtrail.web.charts import heights
from jobtrail.web.pages import Page

QUERIES: Final = named_statements("queries.sql", "web")
ORDER: Final = ("createdAt", "DESC")
#: Jobs on a page, and runs of a connection in its trend.
ROWS: Final = 25
RUNS: Final = 12
#: Value of the filter → how far back, and how it reads.
PERIODS: Final = {
    "": (None, "any time"),
    "1h": (timedelta(hours=1), "last hour"),
    "24h": (timedelta(days=1), "last 24 hours"),
    "7d": (timedelta(days=7), "last 7 days"),
    "30d": (timedelta(days=30), "last 30 days"),
}


class Wanted(Exact):
    """What the address bar asks for; an empty field asks for nothing."""

    model_config = ConfigDict(alias_generator=None)

    q: FilterText = ""
    status: list[JobStatus] = Field(default_factory=list)
    type: ConfigType | None = None
    #: Any origin: one that is not known here is kept as it came.
    origin: FilterText = ""
    connection: FilterText = ""
    workspace: FilterText = ""
    period: str = ""
    before: Annotated[str, Field(max_length=100)] = ""

    @field_validator("status", mode="before")
    @classmethod
    def _any(cls, value: object) -> object:
        return [one for one in value if one != ""] if isinstance(value, list) else value

    @field_validator("type", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("period")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PERIODS:
            raise ValueError(f"it is none of {', '.join(one for one in PERIODS if one)}")
        return value

    @property
    def text(self) -> str:
        """What was searched for."""
        return self.q.strip()

    def filters(self, now: datetime) -> dict[str, Any]:
        """The same for the queries; a search is for a connection where it is no job's number."""
        since, _ = PERIODS[self.period]
        return reads.filters(
            connection_id=self.connection.strip() or self.text or None,
            config_types=[self.type.value] if self.type else None,
            workspace_ids=[self.workspace.strip()] if self.workspace.strip() else None,
            statuses=[status.value for status in self.status],
            failure_origin=self.origin or None,
            created_from=now - since if since else None,
        )

    def address(self, **changes: str) -> str:
        """The page with some of it changed; what is empty is left out."""
        said: dict[str, Any] = {**self.model_dump(mode="json"), "before": "", **changes}
        return "/jobs" + _question({name: value for name, value in said.items() if value})


def _question(values: Mapping[str, Any]) -> str:
    return f"?{urlencode(values, doseq=True)}" if values else ""


def origins(asked: str) -> list[str]:
    """Failure origins to choose from: those that are known, and what was asked for."""
    known = [origin.value for origin in FailureOrigin]
    return known if not asked or asked in known else [*known, asked]


def job_number(text: str) -> int | None:
    """The job that a search names."""
    digits = text.removeprefix("#")
    return int(digits) if digits.isascii() and digits.isdigit() and int(digits) <= GREATEST else None


def jobs_page(database: Database, wanted: Wanted, *, counted: bool = True) -> Page:
    """Raises FieldError for a place that is none. `counted`: with the number of all that match."""
    now = datetime.now(UTC)
    found = wanted.filters(now)
    same = cursor.digest({name: value for name, value in found.items() if name != "created_from"}, ORDER)
    total = reads.jobs_count(database, found) if counted else None
    if wanted.before:
        after = cursor.decode(wanted.before, same)
        found |= {"after": after.at, "after_id": after.job_id}
    rows = reads.jobs_page(database, found, ORDER, ROWS + 1, 0)
    older = None
    if len(rows) > ROWS:
        last = rows[ROWS - 1]
        older = wanted.address(before=cursor.encode(same, cursor.Place(last["created_at"], last["job_id"])))
    values = {
        "wanted": wanted,
        "rows": _lines(database, rows[:ROWS], now),
        "total": total,
        "now": now,
        "older": older,
        "newest": wanted.address() if wanted.before else None,
        "statuses": [status.value for status in JobStatus if status != JobStatus.QUEUED],
        "types": [one.value for one in ConfigType],
        "origins": origins(wanted.origin),
        "periods": {value: said for value, (_, said) in PERIODS.items()},
        "filtered": wanted.address() != "/jobs",
        "runs": RUNS,
    }
    return Page("jobs.html", {"rows": "parts/jobs_rows.html"}, values)


def _lines(database: Database, rows: Sequence[Row], now: datetime) -> list[dict[str, Any]]:
    trends = trends_of(database, sorted({row["connection_id"] for row in rows if row["connection_id"]}))
    return [
        {
            "job": job,
            "row": row,
            "seconds": duration(row, now),
            "trend": trends.get(row["connection_id"] or "", []),
        }
        for row, job in zip(rows, reads.full_jobs(database, rows), strict=True)
    ]


def trends_of(database: Database, connection_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Connection → its last runs, oldest first: job_id, status, seconds, and the height of its bar."""
    found = defaultdict[str, list[dict[str, Any]]](list)
    if connection_ids:
        values = {"connection_ids": list(connection_ids), "runs": RUNS}
        for row in database.execute(QUERIES["trends"], values).fetchall():
            found[row["connection_id"]].insert(0, row)
    return {
        connection: [
            {**run, "height": height}
            for run, height in zip(runs, heights([run["seconds"] for run in runs]), strict=True)
        ]
        for connection, runs in found.items()
    }
