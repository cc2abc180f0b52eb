from __future__ import annotations

from typing import Any

import httpx
import pytest

from jobtrail.events import ConfigType

pytest_plugins = ["service_fixtures"]


def register(client: httpx.Client, workspace: str, organization: str | None = None, **more: Any) -> Any:
    body = {"workspaceId": workspace, "organizationId": organization, **more}
    answer = client.post("/api/v1/workspaces/register", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def create(client: httpx.Client, config_type: str = "sync", **scope: Any) -> httpx.Response:
    body = {"configType": config_type, "configId": f"config of {config_type}", **scope}
    return client.post("/api/v1/jobs/create", json=body)


@pytest.fixture
def organizations(client: httpx.Client) -> None:
    """One organization as it should be; one without a default workspace, one with two."""
    register(client, "w-1", "acme", isDefault=True, name="Main")
    register(client, "w-2", "acme")
    register(client, "w-3", "undecided")
    register(client, "w-4", "torn", isDefault=True)
    register(client, "w-5", "torn", isDefault=True)


def of_workspace(client: httpx.Client, workspace: str) -> list[int]:
    body = {"configTypes": [one.value for one in ConfigType], "workspaceIds": [workspace]}
    found = client.post("/api/v1/jobs/list_for_workspaces", json=body).json()["jobs"]
    return [entry["job"]["id"] for entry in found]


@pytest.mark.usefixtures("organizations")
def test_an_organization_stands_for_its_default_workspace_whatever_the_job(client: httpx.Client) -> None:
    """Spec, check and discover jobs too, which have no connection to ask for a workspace."""
    made = [
        create(client, config_type.value, scopeType="organization", scopeId="acme").json()["job"]["id"]
        for config_type in ConfigType
    ]
    assert sorted(of_workspace(client, "w-1")) == sorted(made)
    assert of_workspace(client, "w-2") == []


@pytest.mark.usefixtures("organizations")
def test_a_workspace_is_its_own_scope_known_or_not(client: httpx.Client) -> None:
    """A workspace of the organization may be named beside it; the public API takes scopes as well."""
    known = create(client, scopeType="workspace", scopeId="w-2").json()["job"]["id"]
    named = create(client, "get_spec", scopeType="organization", scopeId="acme", workspaceId="w-2").json()[
        "job"
    ]["id"]
    assert of_workspace(client, "w-2") == [named, known]
    body = {"connectionId": "c", "jobType": "sync", "scopeType": "workspace", "scopeId": "never told"}
    public = client.post("/v1/jobs", json=body).json()["jobId"]
    assert of_workspace(client, "never told") == [public]
    listed = client.get("/v1/jobs", params={"workspaceIds": ["never told", "w-1"]}).json()["data"]
    assert [job["jobId"] for job in listed] == [public]


MISFITS: list[tuple[dict[str, Any], int, str]] = [
    ({"scopeType": "planet", "scopeId": "earth"}, 422, "scopeType"),
    ({"scopeId": "w-1"}, 422, "scopeType"),
    ({"scopeType": "workspace"}, 422, "scopeId"),
    ({"scopeType": "workspace", "scopeId": "w-1", "workspaceId": "w-2"}, 422, "workspaceId"),
    ({"scopeType": "organization", "scopeId": "acme", "workspaceId": "w-3"}, 422, "workspaceId"),
    ({"scopeType": "organization", "scopeId": "undecided"}, 422, "scopeId"),
    ({"scopeType": "organization", "scopeId": "torn"}, 422, "scopeId"),
    ({"scopeType": "organization", "scopeId": "nowhere"}, 404, "scopeId"),
]


@pytest.mark.usefixtures("organizations")
def test_an_unknown_or_contradictory_scope_is_refused_by_name(client: httpx.Client) -> None:
    """And the connection stays free."""
    for scope, status, field in MISFITS:
        answer = create(client, **scope)
        assert (answer.status_code, answer.json()["message"].partition(":")[0]) == (status, field), scope
        if status == 422:
            assert answer.json()["validationErrors"][0]["propertyPath"] == field
    assert create(client).status_code == 200


def test_a_workspace_is_what_was_told_last(client: httpx.Client) -> None:
    """What a second registration names replaces what the first one said; the rest stays."""
    register(client, "w-9", "acme", isDefault=True, name="Old")
    told = register(client, "w-9", "other", name="New")
    assert told == {"workspaceId": "w-9", "organizationId": "other", "isDefault": True, "name": "New"}
    renamed = client.post("/api/v1/workspaces/register", json={"workspaceId": "w-9", "name": "Newer"})
    assert renamed.json() == {**told, "name": "Newer"}
    told = register(client, "w-9", "other", name=None, isDefault=False)
    assert told == {"workspaceId": "w-9", "organizationId": "other", "isDefault": False}
    assert client.post("/api/v1/workspaces/get", json={"workspaceId": "w-9"}).json() == told
    unknown = client.post("/api/v1/workspaces/get", json={"workspaceId": "w-0"})
    assert (unknown.status_code, "w-0" in unknown.json()["message"]) == (404, True)
    assert create(client, scopeType="organization", scopeId="acme").status_code == 404
