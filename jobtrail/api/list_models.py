"""What lists of jobs take and give."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from jobtrail.api.fields import GREATEST, INT64, WHOLE, DateTime, FilterText, JobId, or_null
from jobtrail.api.models import AttemptRead, JobRead, JobStatus, Model

#: Most jobs in one answer of jobs/list, and its size where the caller names none.
MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 200


class JobWithAttemptsRead(Model):
    """A job with its attempts, without logs."""

    job: JobRead
    attempts: list[AttemptRead]


class JobReadList(Model):
    """A page of jobs, and how many match in all."""

    jobs: list[JobWithAttemptsRead]
    total_job_count: int = Field(json_schema_extra=INT64)
    next_cursor: str | None = Field(
        None, description="pagination.cursor of the next page; absent where no more jobs follow."
    )


class JobOptionalRead(Model):
    """A job; absent where there is none."""

    job: JobRead | None = None


class Pagination(Model):
    """Which part of a list."""

    page_size: Annotated[int, Field(ge=1, le=MAX_PAGE), WHOLE] = DEFAULT_PAGE
    row_offset: Annotated[int, Field(ge=0, le=GREATEST), WHOLE] = 0
    cursor: str | None = Field(
        None,
        max_length=100,
        description="nextCursor of the page before, for the same filters and order; rowOffset is then "
        "not used. By createdAt each job that was there at the beginning comes exactly once, while jobs "
        "arrive. By updatedAt a job that changes meanwhile moves: ASC shows it again, DESC may pass it by.",
    )


class JobListRequestBody(Model):
    """Which jobs, in which order. Filters are combined; an instant needs its offset from UTC."""

    #: The one list that may not be empty: Airbyte too answers "Must include at least one configType".
    config_types: list[FilterText] = Field(
        min_length=1, max_length=100, examples=[["sync", "reset_connection"]]
    )
    config_id: FilterText | None = Field(None, description="The connection, for jobs that have one.")
    including_job_id: JobId | None = Field(
        None,
        description="From the first page to the one that has this job; rowOffset is then not used. "
        "No jobs where it does not match the other filters.",
    )
    pagination: Pagination = Field(default_factory=Pagination, json_schema_extra=or_null)
    statuses: list[JobStatus] | None = Field(
        None, description="All, where the list is empty: generated clients send one for what is not set."
    )
    created_at_start: DateTime | None = None
    created_at_end: DateTime | None = None
    updated_at_start: DateTime | None = None
    updated_at_end: DateTime | None = None
    order_by_field: Literal["createdAt", "updatedAt"] = Field("createdAt", json_schema_extra=or_null)
    order_by_method: Literal["ASC", "DESC"] = Field("DESC", json_schema_extra=or_null)

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, value: Any) -> Any:
        """Generated clients send null for what is not set."""
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class JobListForWorkspacesRequestBody(JobListRequestBody):
    """The same for the jobs of some workspaces, wherever their workspace comes from."""

    workspace_ids: list[FilterText] = Field(min_length=1, max_length=100)


class ConnectionIdRequestBody(Model):
    """Names a connection."""

    connection_id: FilterText = Field(examples=["e735894a-e773-4938-969f-45f53957b75b"])
