"""What a job's outcome means: whether to try again, how it was tried, and what contradicts itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field

from jobtrail.api.context import context
from jobtrail.api.fields import GREATEST, INT64, FilterText, JobId
from jobtrail.api.models import InvalidInput, Model, Problem
from jobtrail.api.reads import Database, JobNotFoundError, Row
from jobtrail.events import decision_id, utc_now
from jobtrail.projections.generation import named_statements
from jobtrail.retry import Advice, Decision, RetryLimits, RetryState, Situation, advise

QUERIES: Final = named_statements("outcomes.sql", "api")
STATE_FIELDS: Final = tuple(RetryState.__dataclass_fields__)

#: Job id, attempt number (-1: the job itself) and kind of the anomaly that a page ended with.
CURSOR: Final = r"^[0-9]{1,18}\.(-1|[0-9]{1,4})\.[a-z_]{1,60}$"

router = APIRouter(
    tags=["outcomes"],
    responses={422: {"model": InvalidInput}, 503: {"model": Problem}},
)


class AdviceRead(Model):
    """What to do about a job, and why."""

    job_id: int = Field(json_schema_extra=INT64, examples=[42])
    decision: Decision = Field(
        description="nothing: it runs, waits or succeeded; retry_now; retry_at: not before retryAt; give_up."
    )
    reason: str
    retry_at: datetime | None = Field(None, description="From when another attempt is allowed.")


class RetryStateRequestBody(Model):
    """Names a job."""

    job_id: JobId


class RetryStateRead(Model):
    """How a job's attempts have failed: counts of attempts.

    A complete failure committed nothing, a partial one something; each ends the run of the other.
    """

    id: str = Field(description="The same for the same job, whenever it is asked for.")
    job_id: int = Field(json_schema_extra=INT64)
    connection_id: str | None = None
    successive_complete_failures: int
    total_complete_failures: int
    successive_partial_failures: int
    total_partial_failures: int


class AnomalyRead(Model):
    """Where events of a job contradict each other, or a success lacks its evidence."""

    job_id: int = Field(json_schema_extra=INT64)
    attempt_number: int | None = Field(None, description="Absent: the job itself.")
    kind: str = Field(examples=["success_without_evidence"])
    detail: str


class AnomalyList(Model):
    """A page of anomalies, the newest jobs first, and how many match in all."""

    anomalies: list[AnomalyRead]
    total_count: int
    next_cursor: str | None = Field(
        None, description="Give it as `cursor` for the next page; absent: no more."
    )


@router.post("/jobs/retry_states/get", response_model_exclude_none=True, responses={404: {"model": Problem}})
def get_retry_state(body: RetryStateRequestBody, request: Request) -> RetryStateRead:
    """How the attempts of a job have failed so far."""
    with context(request).reading() as connection:
        row = situation_row(connection, body.job_id)
    return RetryStateRead(
        id=decision_id("retry_state", body.job_id),
        job_id=body.job_id,
        connection_id=row["connection_id"],
        **{field: row[field] for field in STATE_FIELDS},
    )


@router.get("/jobs/{jobId}/advice", response_model_exclude_none=True, responses={404: {"model": Problem}})
def get_advice(
    job_id: Annotated[int, Path(alias="jobId", ge=0, le=GREATEST, examples=[42])],
    request: Request,
) -> AdviceRead:
    """Whether to try the job again: now, at an instant, or not, and why."""
    with context(request).reading() as connection:
        advice = advice_on(connection, job_id, request.app.state.retry_limits)
    return advice_read(job_id, advice)


@router.get("/anomalies", response_model_exclude_none=True)
def list_anomalies(
    request: Request,
    job_id: Annotated[int | None, Query(alias="jobId", ge=0, le=GREATEST)] = None,
    kind: Annotated[
        list[FilterText] | None,
        Query(description="Only these kinds; any text, for newer versions know more."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="nextCursor of the page before.", pattern=CURSOR)] = None,
) -> AnomalyList:
    """Contradictions between events, and successes without evidence."""
    kinds = kind or None
    with context(request).reading() as connection:
        rows = anomalies(connection, job_id=job_id, kinds=kinds, after=_place(cursor), limit=limit + 1)
        count = connection.execute(QUERIES["anomalies_count"], {"job_id": job_id, "kinds": kinds}).fetchone()
    page = rows[:limit]
    return AnomalyList(
        anomalies=[
            AnomalyRead(
                job_id=row["job_id"],
                attempt_number=None if row["attempt_number"] < 0 else row["attempt_number"],
                kind=row["kind"],
                detail=row["detail"],
            )
            for row in page
        ],
        total_count=count["anomalies"] if count else 0,
        next_cursor=f"{page[-1]['job_id']}.{page[-1]['attempt_number']}.{page[-1]['kind']}"
        if len(rows) > limit
        else None,
    )


def anomalies(
    database: Database,
    *,
    job_id: int | None,
    kinds: list[str] | None = None,
    after: tuple[int, int, str] | None = None,
    limit: int = 1000,
) -> list[Row]:
    """Rows of job_id, attempt_number (-1: the job itself), kind and detail."""
    job, attempt, kind = after or (None, None, None)
    values = {"after_job": job, "after_attempt": attempt, "after_kind": kind}
    return database.execute(
        QUERIES["anomalies"], {"job_id": job_id, "kinds": kinds, "limit": limit, **values}
    ).fetchall()


def situation_row(database: Database, job_id: int) -> Row:
    """What decides about a retry. Raises JobNotFoundError."""
    row = database.execute(QUERIES["situation"], {"job_id": job_id}).fetchone()
    if row is None:
        raise JobNotFoundError(job_id)
    return row


def advice_on(database: Database, job_id: int, limits: RetryLimits) -> Advice:
    """Whether to try the job again at this moment. Raises JobNotFoundError."""
    row = situation_row(database, job_id)
    failures = (row["failure_summary"] or {}).get("failures", [])
    hopeless = next((failure for failure in failures if failure.get("retryable") is False), None)
    situation = Situation(
        status=row["status"],
        state=RetryState(**{field: row[field] for field in STATE_FIELDS}),
        failed_at=row["failed_at"],
        hopeless=hopeless is not None,
        message=hopeless and (hopeless.get("externalMessage") or hopeless.get("internalMessage")),
        cancel_requested=row["cancel_requested"],
    )
    return advise(situation, limits, utc_now())


def advice_read(job_id: int, advice: Advice) -> AdviceRead:
    """The advice as it is answered."""
    return AdviceRead(job_id=job_id, decision=advice.decision, reason=advice.reason, retry_at=advice.retry_at)


def _place(cursor: str | None) -> tuple[int, int, str] | None:
    """Behind which anomaly a page begins."""
    if cursor is None:
        return None
    job, attempt, kind = cursor.split(".")
    return int(job), int(attempt), kind
