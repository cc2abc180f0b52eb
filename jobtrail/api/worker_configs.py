"""The worker configuration of this server's environment."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request

from jobtrail.api.context import context
from jobtrail.api.models import InvalidInput, Problem
from jobtrail.errors import SettingError
from jobtrail.job_types import JobType
from jobtrail.worker_config.config import WorkerConfig

router = APIRouter(prefix="/worker_configs", tags=["worker configuration"])


@router.get(
    "/{jobType}",
    responses={
        422: {"model": InvalidInput, "description": "No such job type; names those that are."},
        503: {
            "model": Problem,
            "description": "A variable of the server is malformed; names it and its part.",
        },
    },
)
def get_worker_config(
    job_type: Annotated[JobType, Path(alias="jobType", examples=["replication"])], request: Request
) -> WorkerConfig:
    """How the workers of a job type run, and the variable that each value came from."""
    try:
        return WorkerConfig.from_env(job_type, context(request).settings)
    except SettingError as error:
        raise HTTPException(503, str(error)) from error
