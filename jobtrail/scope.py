"""What a scope must be, as far as nobody need be asked: the same for the SDK and over HTTP."""

from __future__ import annotations

from typing import NamedTuple

from jobtrail.events import ScopeType
from jobtrail.near import near


class Misfit(NamedTuple):
    """What is wrong with a scope."""

    #: scope_type, scope_id or workspace_id.
    field: str
    found: str


def scope_misfit(scope_type: str | None, scope_id: str | None, workspace_id: str | None) -> Misfit | None:
    """What does not fit: an unknown type, one half without the other, a workspace that is not the scope's.

    Which workspaces an organization has is not known here.
    """
    if scope_type is None and scope_id is None:
        return None
    if not scope_type:
        return Misfit("scope_type", f"the scope {scope_id!r} needs it: workspace or organization")
    if scope_type not in {one.value for one in ScopeType}:
        known = near(scope_type, ScopeType)
        return Misfit("scope_type", f"{scope_type!r} is neither workspace nor organization{known}")
    if not scope_id:
        return Misfit("scope_id", f"which {scope_type} is meant is not said")
    if scope_type == ScopeType.WORKSPACE and workspace_id is not None and workspace_id != scope_id:
        return Misfit("workspace_id", f"{workspace_id!r} is not the workspace {scope_id!r} of the scope")
    return None
