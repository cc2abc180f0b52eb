"""Airbyte's config API for the health of dataplanes. Its names are in snake case here, as Airbyte's are.

Jobtrail knows a dataplane by the id that it gives itself, and neither groups nor owners. What Airbyte's
clients cannot read an answer without is filled in: the name is the id, the group is the nil UUID, the
organization is the one asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from jobtrail.api.context import context
from jobtrail.api.fields import INT64, FilterText
from jobtrail.api.models import InvalidInput, Model, Problem
from jobtrail.projections.generation import named_statements

#: Silence up to which a dataplane is healthy, and degraded.
HEALTHY: Final = timedelta(seconds=60)
DEGRADED: Final = timedelta(minutes=5)
#: Most dataplanes that a request names, and most recent heartbeats shown of one.
MOST_IDS: Final = 1_000
MOST_RECENT: Final = 100
NIL_UUID: Final = "00000000-0000-0000-0000-000000000000"
SQL: Final = named_statements("dataplanes.sql", "api")


class HealthStatus(StrEnum):
    """How long ago a dataplane was heard of: up to 60 s, up to 5 minutes, longer, never."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    UNHEALTHY = "UNHEALTHY"
    UNKNOWN = "UNKNOWN"


def health_status(last_heard: datetime | None, now: datetime) -> HealthStatus:
    """The status at `now` of a dataplane that was last heard of at `last_heard`."""
    if last_heard is None:
        return HealthStatus.UNKNOWN
    silence = now - last_heard
    if silence <= HEALTHY:
        return HealthStatus.HEALTHY
    return HealthStatus.DEGRADED if silence <= DEGRADED else HealthStatus.UNHEALTHY


def _millis(value: object) -> object:
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return value


EpochMillis = Annotated[int, BeforeValidator(_millis), Field(json_schema_extra=INT64)]


class DataplaneHealthRequestBody(Model):
    """Which dataplanes are asked for: all, unless some are named."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"organizationId": NIL_UUID}, {"dataplaneIds": ["eu-1", "us-1"]}]}
    )

    organization_id: FilterText | None = Field(
        None,
        description="Repeated in the answer. Jobtrail knows no owner of a dataplane: it leaves out none.",
    )
    dataplane_ids: list[FilterText] | None = Field(
        None,
        max_length=MOST_IDS,
        description="Only these, unless the list is empty; one that was never heard of is UNKNOWN.",
    )

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_absent(cls, value: Any) -> Any:
        """Generated clients send null for what is not set."""
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class HeartbeatRecord(BaseModel):
    """A sign of life."""

    timestamp: EpochMillis = Field(description="When the broker took it: milliseconds since 1970 UTC.")


class DataplaneHealthRead(BaseModel):
    """How a dataplane is."""

    dataplane_id: str
    dataplane_name: str = Field(description="The id.")
    dataplane_group_id: str = Field(NIL_UUID, description="The nil UUID: Jobtrail knows no groups.")
    organization_id: str = Field(description="The one asked for, else the nil UUID.")
    status: HealthStatus = Field(
        description="HEALTHY up to 60 s after its last heartbeat, DEGRADED up to 5 minutes, then UNHEALTHY; "
        "UNKNOWN if there never was one."
    )
    last_heartbeat_timestamp: EpochMillis | None = Field(
        None, description="When the broker took the last one: milliseconds since 1970 UTC."
    )
    recent_heartbeats: list[HeartbeatRecord] = Field(
        default_factory=list, description="Of the last 5 minutes, newest first, at most 100."
    )
    dataplane_version: str | None = Field(None, description="As its last heartbeats tell it.")


class DataplaneHealthListResponse(BaseModel):
    """How the dataplanes are, by id."""

    dataplanes: list[DataplaneHealthRead]


router = APIRouter(
    prefix="/dataplanes",
    tags=["dataplanes"],
    responses={422: {"model": InvalidInput}, 503: {"model": Problem}},
)


@router.post("/health", response_model_exclude_none=True)
def list_dataplane_health(body: DataplaneHealthRequestBody, request: Request) -> DataplaneHealthListResponse:
    """How long ago each dataplane was heard of, by the clocks of Kafka and Postgres, not by its own."""
    values = {"ids": body.dataplane_ids or None, "recent": DEGRADED, "most": MOST_RECENT}
    with context(request).reading() as connection:
        rows = connection.execute(SQL["health"], values).fetchall()
    return DataplaneHealthListResponse(
        dataplanes=[
            DataplaneHealthRead(
                dataplane_id=row["dataplane_id"],
                dataplane_name=row["dataplane_id"],
                organization_id=body.organization_id or NIL_UUID,
                status=health_status(row["last_heard_at"], row["now"]),
                last_heartbeat_timestamp=row["last_heard_at"],
                recent_heartbeats=[HeartbeatRecord(timestamp=moment) for moment in row["recent"]],
                dataplane_version=row["dataplane_version"],
            )
            for row in rows
        ]
    )
