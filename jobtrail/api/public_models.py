"""What Airbyte's public API takes and gives, with Jobtrail's additions: failureReason, anomalies, attempts.

Instants and durations are ISO 8601; rows and bytes are what the destination confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, model_validator

from jobtrail.api.fields import INT64, Count, FilledText, FilterText
from jobtrail.api.list_models import JobInstants
from jobtrail.api.models import Anomalies, AttemptRead, Exact, JobFailureReason, JobRead, JobStatus, Model
from jobtrail.api.reads import Row
from jobtrail.api.scopes import Scoped
from jobtrail.events import ConfigType


class JobTypeEnum(StrEnum):
    """Jobs of connections; others are shown by the config API alone."""

    SYNC = "sync"
    RESET = "reset"
    REFRESH = "refresh"
    CLEAR = "clear"


CONFIG_TYPES: Final = MappingProxyType(
    {
        JobTypeEnum.SYNC: ConfigType.SYNC,
        JobTypeEnum.RESET: ConfigType.RESET_CONNECTION,
        JobTypeEnum.REFRESH: ConfigType.REFRESH,
        JobTypeEnum.CLEAR: ConfigType.CLEAR,
    }
)
JOB_TYPES: Final = MappingProxyType(
    {config_type.value: job_type for job_type, config_type in CONFIG_TYPES.items()}
)


#: An order of jobs: a field and a direction.
ORDER: Final = r"^(createdAt|updatedAt)\|(ASC|DESC)$"
#: Most jobs that can be passed over (int32 in Airbyte's description).
MAX_OFFSET: Final = 2**31 - 1
Include = Annotated[
    Sequence[Literal["attempts"]], Field(description="attempts: with their streams and failures.")
]


class JobsQuery(JobInstants):
    """Which jobs, in which order."""

    connection_id: FilledText | None = None
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)
    job_type: JobTypeEnum | None = None
    workspace_ids: list[FilterText] = Field(default_factory=list, max_length=100, description="None: all.")
    status: JobStatus | None = None
    order_by: str = Field(
        "createdAt|DESC",
        pattern=ORDER,
        examples=["updatedAt|DESC"],
    )
    include: Include = ()


class JobQuery(Exact):
    """What is shown of a job."""

    include: Include = ()


class JobResponse(Model):
    """A job of a connection."""

    job_id: int = Field(json_schema_extra=INT64)
    status: JobStatus
    job_type: JobTypeEnum
    start_time: datetime = Field(description="When the job was made.")
    connection_id: str
    last_updated_at: datetime | None = Field(None, description="When it ended; absent before that.")
    duration: timedelta | None = Field(
        None, description="From startTime to its end, else to its last change; absent while pending."
    )
    bytes_synced: Count = Field(None, description="UTF-8 length of the records that were committed.")
    rows_synced: Count = Field(None, description="Records that were committed.")
    failure_reason: JobFailureReason | None = None
    anomalies: Anomalies = None
    attempts: list[AttemptRead] | None = Field(None, description="With include=attempts.")

    @classmethod
    def of(cls, row: Row, job: JobRead, attempts: list[AttemptRead] | None) -> JobResponse:
        """From the row of a job and what the config API says of it."""
        ended: datetime | None = row["ended_at"]
        start, end = row["created_at"], ended or row["updated_at"]
        totals = job.aggregated_stats
        return cls(
            job_id=job.id,
            status=job.status,
            job_type=JOB_TYPES[job.config_type],
            start_time=start.replace(microsecond=0),
            connection_id=row["connection_id"] or job.config_id,
            last_updated_at=ended and ended.replace(microsecond=0),
            duration=None
            if job.status == JobStatus.PENDING
            else timedelta(seconds=max(0, (end - start) // timedelta(seconds=1))),
            bytes_synced=totals and totals.bytes_committed,
            rows_synced=totals and totals.records_committed,
            failure_reason=job.failure_reason,
            anomalies=job.anomalies,
            attempts=attempts,
        )


class JobsResponse(Model):
    """A page of jobs, with the addresses of its neighbours."""

    data: list[JobResponse]
    next: str | None = Field(None, description="Absent: no more jobs match.")
    previous: str | None = Field(None, description="Absent: this is the first page.")


class JobCreateRequest(Scoped):
    """A job for a connection."""

    connection_id: FilterText = Field(min_length=1, examples=["e735894a-e773-4938-969f-45f53957b75b"])
    job_type: JobTypeEnum


class TokenRequest(BaseModel):
    """An application's credentials, as JSON or as a form."""

    client_id: FilterText = Field(
        examples=["jobtrail"], description="Any: Jobtrail tells nobody apart by it."
    )
    client_secret: FilterText = Field(
        examples=["one-of-the-servers-tokens"],
        description="One of JOBTRAIL_API_TOKENS; any, where the server needs no token.",
    )

    @model_validator(mode="before")
    @classmethod
    def _form(cls, value: Any) -> Any:
        """What is no JSON comes as bytes."""
        return dict(parse_qsl(value.decode(), keep_blank_values=True)) if isinstance(value, bytes) else value


class TokenResponse(BaseModel):
    """A bearer token."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # the kind, no secret
    expires_in: int = Field(description="Seconds; it can be had again.")
