"""Airbyte's config API for reading jobs."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from jobtrail.api import lists, reads
from jobtrail.api.answers import Answer, written
from jobtrail.api.context import context
from jobtrail.api.list_models import (
    ConnectionIdRequestBody,
    JobListForWorkspacesRequestBody,
    JobListRequestBody,
    JobOptionalRead,
    JobReadList,
)
from jobtrail.api.models import (
    InvalidInput,
    JobIdRequestBody,
    JobInfoLightRead,
    JobInfoRead,
    Model,
    Problem,
)
from jobtrail.api.quick_route import QuickRoute

router = APIRouter(
    prefix="/jobs",
    tags=["jobs"],
    responses={404: {"model": Problem}, 422: {"model": InvalidInput}, 503: {"model": Problem}},
)


def answered(answer: Answer) -> Response:
    """An answer written at once: FastAPI would check and copy it, at several times the cost."""
    if isinstance(answer, Model):
        body = answer.model_dump_json(by_alias=True, exclude_none=True).encode()
    else:
        body = written(answer)
    return Response(body, media_type="application/json")


@router.post("/get", response_model=JobInfoRead)
def get_job(body: JobIdRequestBody, request: Request) -> Response:
    """A job with its attempts, their streams, failures and logs."""
    with context(request).reading() as connection:
        return answered(reads.job_info(connection, body.id, context(request).settings.home))


@router.post("/get_without_logs", response_model=JobInfoRead)
def get_job_without_logs(body: JobIdRequestBody, request: Request) -> Response:
    """The same with empty logs."""
    with context(request).reading() as connection:
        return answered(reads.job_info(connection, body.id, None))


async def get_job_light(body: JobIdRequestBody, request: Request) -> Response:
    """The job alone, with its totals: under 1 KB, whatever its attempts and logs weigh."""
    row = await context(request).quick.row(*reads.light_query(body.id))
    return answered(reads.light_answer(body.id, row))


router.add_api_route(
    "/get_light",
    get_job_light,
    methods=["POST"],
    response_model=JobInfoLightRead,
    route_class_override=QuickRoute,
)


@router.post("/list", response_model=JobReadList)
def list_jobs(body: JobListRequestBody, request: Request) -> Response:
    """Jobs with their attempts, newest first unless asked otherwise, and how many match in all."""
    with context(request).reading() as connection:
        return answered(lists.job_list(connection, body))


@router.post("/list_for_workspaces", response_model=JobReadList)
def list_jobs_for_workspaces(body: JobListForWorkspacesRequestBody, request: Request) -> Response:
    """The same for the jobs of some workspaces."""
    with context(request).reading() as connection:
        return answered(lists.job_list(connection, body))


@router.post("/get_last_replication_job", response_model=JobOptionalRead)
def get_last_replication_job(body: ConnectionIdRequestBody, request: Request) -> Response:
    """The connection's newest sync, reset, refresh or clear that was not cancelled; none: no job."""
    with context(request).reading() as connection:
        return answered(lists.last_replication_job(connection, body.connection_id))
