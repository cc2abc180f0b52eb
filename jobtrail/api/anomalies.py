"""Anomalies as they are answered, for HTTP and the command line alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from jobtrail.api.fields import INT64
from jobtrail.api.models import Model
from jobtrail.api.reads import Database
from jobtrail.projections.anomalies import AnomalyKind, told
from jobtrail.projections.generation import named_statements

QUERIES: Final = named_statements("outcomes.sql", "api")
#: Job id, attempt number (-1: the job itself) and kind of the anomaly that a page ended with.
CURSOR: Final = r"^[0-9]{1,18}\.(-1|[0-9]{1,4})\.[a-z_]{1,60}$"


class AnomalyRead(Model):
    """Where events of a job contradict each other, or a success lacks its evidence."""

    job_id: int = Field(json_schema_extra=INT64)
    attempt_number: int | None = Field(None, description="Absent: the job itself.")
    kind: str = Field(
        description=f"{told()}. Newer versions may know more.", examples=[AnomalyKind.SECOND_START.value]
    )
    detail: str


class AnomalyList(Model):
    """A page of anomalies, the newest jobs first, and how many match in all."""

    anomalies: list[AnomalyRead]
    total_count: int
    next_cursor: str | None = Field(
        None, description="Give it as `cursor` for the next page; absent: no more."
    )


def anomaly_list(
    database: Database,
    *,
    job_id: int | None = None,
    kinds: Sequence[str] | None = None,
    cursor: str | None = None,
    limit: int,
) -> AnomalyList:
    """A page of the anomalies that match; `cursor` is CURSOR's."""
    job, attempt, kind = _place(cursor)
    found = {"job_id": job_id, "kinds": [*map(str, kinds)] if kinds else None}
    place = {"after_job": job, "after_attempt": attempt, "after_kind": kind}
    # One more than asked for tells whether any follow.
    rows = database.execute(QUERIES["anomalies"], {**found, **place, "limit": limit + 1}).fetchall()
    count = database.execute(QUERIES["anomalies_count"], found).fetchone()
    page = rows[:limit]
    last = page[-1] if len(rows) > limit else None
    return AnomalyList(
        anomalies=[
            AnomalyRead(
                **{**row, "attempt_number": None if row["attempt_number"] < 0 else row["attempt_number"]}
            )
            for row in page
        ],
        total_count=count["anomalies"] if count else 0,
        next_cursor=last and f"{last['job_id']}.{last['attempt_number']}.{last['kind']}",
    )


def _place(cursor: str | None) -> tuple[int, int, str] | tuple[None, None, None]:
    """Behind which anomaly a page begins."""
    if cursor is None:
        return None, None, None
    job, attempt, kind = cursor.split(".")
    return int(job), int(attempt), kind
