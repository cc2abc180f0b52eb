"""What lists of jobs take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic.alias_generators import to_camel

from jobtrail.api.fields import GREATEST, INT64, WHOLE, DateTime, FilledText, FilterText, JobId, or_null
from jobtrail.api.models import AttemptRead, Exact, JobRead, JobStatus, Model
from jobtrail.events import ConfigType

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


class Pagination(Exact):
    """Which part of a list."""

    page_size: Annotated[int, Field(ge=1, le=MAX_PAGE), WHOLE] = DEFAULT_PAGE
    row_offset: Annotated[int, Field(ge=0, le=GREATEST), WHOLE] = 0


class JobPagination(Pagination):
    """Which part of a list of jobs."""

    cursor: str | None = Field(
        None,
        max_length=100,
        description="nextCursor of the page before, for the same filters and order; rowOffset is then "
        "not used. By createdAt each job that was there at the beginning comes exactly once, while jobs "
        "arrive. By updatedAt a job that changes meanwhile moves: ASC shows it again, DESC may pass it by.",
    )


class JobInstants(Exact):
    """When the jobs were made, and last changed; an instant needs its offset from UTC."""

    created_at_start: DateTime | None = None
    created_at_end: DateTime | None = None
    updated_at_start: DateTime | None = None
    updated_at_end: DateTime | None = None

    @field_validator("created_at_end", "updated_at_end")
    @classmethod
    def _not_before_its_start(cls, end: datetime | None, others: ValidationInfo) -> datetime | None:
        name = (others.field_name or "").replace("_end", "_start")
        start = others.data.get(name)
        if end is not None and start is not None and end < start:
            raise ValueError(f"it is before {to_camel(name)}; nothing can be between the two")
        return end


class JobListRequestBody(JobInstants):
    """Which jobs, in which order. Filters are combined."""

    #: The one list that may not be empty: Airbyte too answers "Must include at least one configType".
    config_types: list[ConfigType] = Field(
        min_length=1, max_length=100, examples=[["sync", "reset_connection"]]
    )
    config_id: FilledText | None = Field(None, description="The connection, for jobs that have one.")
    including_job_id: JobId | None = Field(
        None,
        description="From the first page to the one that has this job; rowOffset is then not used. "
        "No jobs where it does not match the other filters.",
    )
    pagination: JobPagination = Field(default_factory=JobPagination, json_schema_extra=or_null)
    statuses: list[JobStatus] | None = Field(
        None, description="All, where the list is empty: generated clients send one for what is not set."
    )
    status: JobStatus | None = Field(
        None,
        description="The same for one, as older clients send it.",
        json_schema_extra={"deprecated": True},
    )
    order_by_field: Literal["createdAt", "updatedAt"] = Field("createdAt", json_schema_extra=or_null)
    order_by_method: Literal["ASC", "DESC"] = Field("DESC", json_schema_extra=or_null)

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, value: Any) -> Any:
        """Generated clients send null for what is not set."""
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class JobListForWorkspacesRequestBody(JobListRequestBody):
    """The same for the jobs of some workspaces, wherever their workspace comes from."""

    workspace_ids: list[FilledText] = Field(min_length=1, max_length=100)


class ConnectionIdRequestBody(Model):
    """Names a connection."""

    connection_id: FilterText = Field(examples=["e735894a-e773-4938-969f-45f53957b75b"])
