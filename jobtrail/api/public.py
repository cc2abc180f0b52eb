"""Airbyte's public API: jobs of connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from jobtrail.api import reads
from jobtrail.api.access import TOKEN_PATH, is_known
from jobtrail.api.commands import cancel_job, create_job
from jobtrail.api.context import context
from jobtrail.api.decisions import IdempotencyKey
from jobtrail.api.fields import GREATEST, INT64
from jobtrail.api.job_commands import WRITES
from jobtrail.api.models import Health, InvalidInput, Problem
from jobtrail.api.public_models import (
    CONFIG_TYPES,
    JOB_TYPES,
    JobCreateRequest,
    JobQuery,
    JobResponse,
    JobsQuery,
    JobsResponse,
    TokenRequest,
    TokenResponse,
)
from jobtrail.api.reads import Database, Row
from jobtrail.events import JobCreated

#: Seconds for which a client keeps a token before it asks again.
TOKEN_KEPT: Final = 3600
#: Given where the server needs no token, to clients that cannot do without.
NO_TOKEN: Final = "no-token-is-needed"  # noqa: S105  # it opens nothing
#: Who cancelled, where the request does not say it.
BY: Final = "public API"
JobId = Annotated[int, Path(alias="jobId", ge=0, le=GREATEST, examples=[42], json_schema_extra=INT64)]

router = APIRouter(
    prefix="/jobs",
    tags=["public API"],
    responses={422: {"model": InvalidInput}, 503: {"model": Problem}},
)
#: What needs no token: whether the server is alive, and how to get a token.
health_router = APIRouter(tags=["public API"])
token_router = APIRouter(tags=["public API"])


@router.get("", response_model_exclude_none=True)
def list_jobs(wanted: Annotated[JobsQuery, Query()], request: Request) -> JobsResponse:
    """Jobs of connections, newest first unless asked otherwise. Filters are combined."""
    found = reads.filters(
        connection_id=wanted.connection_id,
        config_types=[CONFIG_TYPES[wanted.job_type].value] if wanted.job_type else list(JOB_TYPES),
        workspace_ids=wanted.workspace_ids,
        statuses=[wanted.status] if wanted.status else None,
        created_from=wanted.created_at_start,
        created_to=wanted.created_at_end,
        updated_from=wanted.updated_at_start,
        updated_to=wanted.updated_at_end,
    )
    field, _, direction = wanted.order_by.partition("|")
    limit, offset = wanted.limit, wanted.offset
    with context(request).reading() as connection:
        # One more than asked for tells whether any follow.
        rows = reads.jobs_page(connection, found, (field, direction), limit + 1, offset)
        data = _responses(connection, rows[:limit], wanted.include)
    return JobsResponse(
        data=data,
        next=_page(request, limit, offset + limit) if len(rows) > limit else None,
        previous=_page(request, limit, max(0, offset - limit)) if offset else None,
    )


@router.post("", response_model_exclude_none=True, responses=WRITES)
def start_job(body: JobCreateRequest, request: Request, key: IdempotencyKey = None) -> JobResponse:
    """Asks for a job of a connection, which runs one at a time."""
    wanted = JobCreated(
        job_id=0,
        config_type=CONFIG_TYPES[body.job_type].value,
        config_id=body.connection_id,
        connection_id=body.connection_id,
        scope_type=body.scope_type,
        scope_id=body.scope_id,
        workspace_id=body.workspace_id,
    )
    return _response(request, create_job(context(request), wanted, key), ())


@router.get("/{jobId:int}", response_model_exclude_none=True, responses={404: {"model": Problem}})  # noqa: FAST003  # an alias
def get_job(job_id: JobId, wanted: Annotated[JobQuery, Query()], request: Request) -> JobResponse:
    """A job of a connection."""
    return _response(request, job_id, wanted.include)


@router.delete("/{jobId:int}", response_model_exclude_none=True, responses=WRITES)  # noqa: FAST003  # an alias
def delete_job(job_id: JobId, request: Request) -> JobResponse:
    """Cancels a job; whoever runs it is asked to, and may take a while to obey."""
    _response(request, job_id, ())
    cancel_job(context(request), job_id, BY)
    return _response(request, job_id, ())


@health_router.get("/health")
async def get_health() -> Health:
    """The process is alive."""
    return Health()


@token_router.post(
    TOKEN_PATH,
    responses={401: {"model": Problem}, 422: {"model": InvalidInput}},
    response_model=TokenResponse,
    openapi_extra={
        "requestBody": {
            "content": {
                "application/x-www-form-urlencoded": {"schema": {"$ref": "#/components/schemas/TokenRequest"}}
            }
        }
    },
)
def create_token(body: TokenRequest, request: Request) -> Any:
    """The bearer token for who knows it: the client's secret is the token itself."""
    tokens: Sequence[str] = request.app.state.tokens
    if not tokens:
        return TokenResponse(access_token=NO_TOKEN, expires_in=TOKEN_KEPT)
    if not is_known(body.client_secret.encode(), tokens):
        return JSONResponse({"message": "client_secret: it is none of this server's tokens"}, 401)
    return TokenResponse(access_token=body.client_secret, expires_in=TOKEN_KEPT)


def _response(request: Request, job_id: int, include: Sequence[str]) -> JobResponse:
    with context(request).reading() as connection:
        row = reads.job_row(connection, job_id)
        if row["config_type"] not in JOB_TYPES:
            raise reads.JobNotFoundError(
                job_id,
                f"job {job_id} is no job of a connection but {row['config_type']}; see /api/v1/jobs/get",
            )
        return _responses(connection, [row], include)[0]


def _responses(connection: Database, rows: Sequence[Row], include: Sequence[str]) -> list[JobResponse]:
    jobs = reads.full_jobs(connection, rows)
    ids = [job.id for job in jobs]
    attempts = reads.attempts_of(connection, ids) if "attempts" in include else {}
    return [JobResponse.of(row, job, attempts.get(job.id)) for row, job in zip(rows, jobs, strict=True)]


def _page(request: Request, limit: int, offset: int) -> str:
    return str(request.url.include_query_params(limit=limit, offset=offset))
