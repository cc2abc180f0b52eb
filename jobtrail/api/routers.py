"""The routers, each a part of the interface."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from jobtrail.api import (
    attempts,
    dataplanes,
    events,
    history,
    job_commands,
    jobs,
    outcomes,
    public,
    stream_statuses,
    sync_progress,
    worker_configs,
    workspaces,
)

#: Airbyte's config API: under /api/v1 and /v1.
CONFIG_ROUTERS: Final[tuple[APIRouter, ...]] = (
    jobs.router,
    job_commands.router,
    history.router,
    events.router,
    attempts.router,
    attempts.ends,
    stream_statuses.router,
    sync_progress.router,
    workspaces.router,
    outcomes.router,
    worker_configs.router,
    dataplanes.router,
)
#: Airbyte's public API: under /v1, /public/v1 and /api/public/v1.
PUBLIC_ROUTERS: Final[tuple[APIRouter, ...]] = (public.router, public.health_router)
