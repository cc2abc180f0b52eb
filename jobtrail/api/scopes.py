"""Scope resolution: which workspace a job belongs to.

A job is asked for within a scope: a workspace, or an organization, which stands for its default workspace.
Both come from WorkspaceRegistered events; a workspace that nobody registered can be a scope too.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from jobtrail.api.fields import FilterText
from jobtrail.api.models import Model
from jobtrail.api.reads import Database, Row
from jobtrail.errors import FieldError, NotFoundError
from jobtrail.events import JobCreated, ScopeType
from jobtrail.projections.generation import named_statements
from jobtrail.scope import scope_misfit

SQL: Final = named_statements("scopes.sql", "api")


#: A scope's type and id are given both or not at all.
_BOTH_OR_NEITHER: Final[dict[str, Any]] = {
    "anyOf": [
        {"properties": {"scopeType": {"type": "null"}, "scopeId": {"type": "null"}}},
        {
            "required": ["scopeType", "scopeId"],
            "properties": {"scopeType": {"type": "string"}, "scopeId": {"type": "string", "minLength": 1}},
        },
    ]
}


class Scoped(Model):
    """What a job belongs to: a workspace, or an organization, which stands for its default workspace."""

    model_config = ConfigDict(json_schema_extra=_BOTH_OR_NEITHER)

    scope_type: ScopeType | None = Field(None, examples=["workspace"])
    scope_id: FilterText | None = None
    workspace_id: FilterText | None = Field(
        None, description="Without a scope the job's; with one it must be the scope's."
    )


def in_workspace(database: Database, wanted: JobCreated) -> JobCreated:
    """`wanted` with the workspace of its scope; as it is where it has no scope.

    Raises FieldError for a scope that is half given, unknown or contradictory, and NotFoundError for an
    organization of which no workspace is registered.
    """
    scope_type, scope_id, given = wanted.scope_type, wanted.scope_id, wanted.workspace_id
    if scope_type is None and scope_id is None:
        return wanted
    if misfit := scope_misfit(scope_type, scope_id, given):
        raise FieldError(to_camel(misfit.field), misfit.found)
    if scope_id is not None and scope_type == ScopeType.ORGANIZATION:
        return wanted.model_copy(update={"workspace_id": _of_organization(database, scope_id, given)})
    return wanted.model_copy(update={"workspace_id": scope_id})


def _of_organization(database: Database, organization_id: str, given: str | None) -> str:
    """The organization's default workspace, or the one that is given where it is the organization's."""
    rows = database.execute(SQL["workspaces_of"], {"organization_id": organization_id}).fetchall()
    if not rows:
        raise NotFoundError(
            f"scopeId: no workspace of organization {organization_id!r} is registered; "
            "workspaces/register does that"
        )
    if given is not None:
        if given not in {row["workspace_id"] for row in rows}:
            raise FieldError(
                "workspaceId", f"{given!r} is not registered for organization {organization_id!r}"
            )
        return given
    defaults = [row["workspace_id"] for row in rows if row["is_default"]]
    if len(defaults) != 1:
        found = f"the default workspaces {', '.join(defaults)}" if defaults else "no default workspace"
        raise FieldError(
            "scopeId", f"organization {organization_id!r} has {found}; it needs one, or name a workspaceId"
        )
    workspace_id: str = defaults[0]
    return workspace_id


def find_workspace(database: Database, workspace_id: str) -> Row | None:
    """What is known of a workspace, if anything is."""
    return database.execute(SQL["workspace"], {"workspace_id": workspace_id}).fetchone()


def workspace_row(database: Database, workspace_id: str) -> Row:
    """What is known of a workspace. Raises NotFoundError."""
    row = find_workspace(database, workspace_id)
    if row is None:
        raise NotFoundError(f"no workspace {workspace_id!r} is registered")
    return row
