"""Workspaces: told to Jobtrail, which keeps none of its own; scopes are resolved by them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field, StrictBool

from jobtrail.api.context import context
from jobtrail.api.fields import FilterText
from jobtrail.api.job_commands import WRITES
from jobtrail.api.models import Exact, InvalidInput, Model, Problem
from jobtrail.api.scopes import find_workspace, workspace_row
from jobtrail.events import WorkspaceRegistered

router = APIRouter(prefix="/workspaces", tags=["workspaces"])


class WorkspaceIdRequestBody(Exact):
    """Names a workspace."""

    workspace_id: FilterText = Field(min_length=1, examples=["9a4b7a0e-0001-4a0e-9f2a-000000000001"])


class WorkspaceRegisterRequestBody(WorkspaceIdRequestBody):
    """Facts about a workspace. Those that are not named stay as they were told; null takes one back."""

    organization_id: FilterText | None = Field(None, min_length=1)
    is_default: StrictBool = Field(
        default=False, description="Jobs with the organization as their scope belong here."
    )
    name: FilterText | None = Field(None, description="For people.")


class WorkspaceRead(Model):
    """What is known of a workspace."""

    workspace_id: str
    organization_id: str | None = None
    is_default: bool
    name: str | None = None


@router.post("/register", response_model_exclude_none=True, responses=WRITES)
def register(body: WorkspaceRegisterRequestBody, request: Request) -> WorkspaceRead:
    """Tells of a workspace, its organization, and whether it is that one's default.

    Of a known workspace only what is named changes: a new name leaves it in its organization.
    """
    with context(request).reading() as connection:
        known = find_workspace(connection, body.workspace_id) or {}
    context(request).write(WorkspaceRegistered(**{**known, **body.model_dump(exclude_unset=True)}))
    return _read(request, body.workspace_id)


@router.post(
    "/get",
    response_model_exclude_none=True,
    responses={404: {"model": Problem}, 422: {"model": InvalidInput}, 503: {"model": Problem}},
)
def get(body: WorkspaceIdRequestBody, request: Request) -> WorkspaceRead:
    """What is known of a workspace."""
    return _read(request, body.workspace_id)


def _read(request: Request, workspace_id: str) -> WorkspaceRead:
    with context(request).reading() as connection:
        return WorkspaceRead(**workspace_row(connection, workspace_id))
