"""The routers, each a part of the interface."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from jobtrail.api import jobs, outcomes

#: Airbyte's config API: under /api/v1 and /v1.
CONFIG_ROUTERS: Final[tuple[APIRouter, ...]] = (
    jobs.router,
    outcomes.router,
)
