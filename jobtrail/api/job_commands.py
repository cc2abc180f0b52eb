"""The config API for making and cancelling jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import Field

from jobtrail import events as e
from jobtrail.api import reads
from jobtrail.api.commands import EXCLUSIVE, cancel_job, create_job
from jobtrail.api.context import context
from jobtrail.api.decisions import IdempotencyKey
from jobtrail.api.fields import FilterText
from jobtrail.api.models import InvalidInput, JobIdRequestBody, JobInfoRead, Model, Problem
from jobtrail.api.scopes import Scoped
from jobtrail.errors import FieldError

#: What a write can answer besides 200.
WRITES: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": Problem,
        "description": "Durable in Kafka, and not to be read yet; `id` is the job that was made.",
    },
    404: {"model": Problem},
    409: {
        "model": Problem,
        "description": "It cannot be done as things are now; `id` is the job in the way, or the one that was "
        "made with the Idempotency-Key of this request by another one.",
    },
    422: {"model": InvalidInput},
    503: {"model": Problem, "description": "Kafka or Postgres is away."},
}
#: Who cancelled, where the request does not say it.
BY: Final = "config API"

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=WRITES)


class StreamName(Model):
    """A stream to reset or to refresh."""

    name: FilterText = Field(min_length=1, examples=["users"])
    namespace: FilterText | None = None


class StreamToMove(StreamName):
    """A stream of the job, with how it is read and written."""

    sync_mode: e.SyncMode | None = Field(None, description="How it is read; absent: not known.")
    destination_sync_mode: FilterText | None = None


class JobCreateRequestBody(Scoped):
    """A job of any kind; Airbyte's own clients name a connection alone, which is synced."""

    config_type: e.ConfigType | None = Field(
        None, description="Absent: sync, where connectionId is given.", examples=["sync"]
    )
    config_id: FilterText | None = Field(
        None,
        min_length=1,
        description="What it runs: the connection for sync, reset_connection, refresh and clear, and then "
        "connectionId does as well; else the actor or definition.",
    )
    connection_id: FilterText | None = Field(
        None, min_length=1, examples=["e735894a-e773-4938-969f-45f53957b75b"]
    )
    streams: list[StreamToMove] = Field(default_factory=list, max_length=10_000)
    streams_to_reset: list[StreamName] = Field(default_factory=list, max_length=10_000)
    streams_to_refresh: list[StreamName] = Field(default_factory=list, max_length=10_000)
    labels: dict[FilterText, FilterText] = Field(
        default_factory=dict, max_length=100, description="Keys and values of the caller's own."
    )

    def event(self) -> e.JobCreated:
        """What is asked for; its id is given later. Raises FieldError where that is unclear."""
        _check_names("streams", self.streams)
        _check_names("streamsToReset", self.streams_to_reset)
        _check_names("streamsToRefresh", self.streams_to_refresh)
        config_id, connection_id = self.config_id, self.connection_id
        config_type = self.config_type or (e.ConfigType.SYNC if connection_id else None)
        if config_type is None:
            raise FieldError("configType", "what kind of job is not said; a connectionId alone means sync")
        if config_type in EXCLUSIVE:
            if config_id and connection_id and config_id != connection_id:
                raise FieldError("configId", f"a {config_type} runs its connection {connection_id!r}")
            config_id = connection_id = connection_id or config_id
        if config_id is None:
            field = "connectionId" if config_type in EXCLUSIVE else "configId"
            raise FieldError(field, f"what the {config_type} runs is not said")
        return e.JobCreated(
            job_id=0,
            config_type=config_type.value,
            config_id=config_id,
            connection_id=connection_id,
            scope_type=self.scope_type,
            scope_id=self.scope_id,
            workspace_id=self.workspace_id,
            streams=[e.ConfiguredStream(**one.model_dump()) for one in self.streams],
            streams_to_reset=[e.StreamDescriptor(**one.model_dump()) for one in self.streams_to_reset],
            streams_to_refresh=[e.StreamDescriptor(**one.model_dump()) for one in self.streams_to_refresh],
            labels=[e.Label(key=key, value=value) for key, value in self.labels.items()],
        )


def _check_names(field: str, streams: Sequence[StreamName]) -> None:
    """Raises FieldError where a stream is named twice."""
    seen: set[tuple[str | None, str]] = set()
    for place, stream in enumerate(streams):
        name = (stream.namespace or None, stream.name)
        if name in seen:
            raise FieldError(
                f"{field}.{place}.name", f"stream {'.'.join(filter(None, name))!r} is there twice"
            )
        seen.add(name)


class JobCancelRequestBody(JobIdRequestBody):
    """Which job, and who cancels it."""

    cancelled_by: FilterText = Field(BY, min_length=1, description="Shown wherever the cancellation is.")


@router.post("/create", response_model_exclude_none=True)
def create(body: JobCreateRequestBody, request: Request, key: IdempotencyKey = None) -> JobInfoRead:
    """Makes a job; a connection runs one at a time."""
    job_id = create_job(context(request), body.event(), key)
    with context(request).reading() as connection:
        return reads.job_info(connection, job_id, context(request).settings.home)


@router.post("/cancel", response_model_exclude_none=True)
def cancel(body: JobCancelRequestBody, request: Request) -> JobInfoRead:
    """Cancels a job; whoever runs it is asked to, and may take a while to obey."""
    cancel_job(context(request), body.id, body.cancelled_by)
    with context(request).reading() as connection:
        return reads.job_info(connection, body.id, context(request).settings.home)
