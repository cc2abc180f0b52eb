"""Filters of lists: a misspelt one is refused by name, and whatever Airbyte's own clients send is taken."""

from __future__ import annotations

from typing import Any

import pytest
from api_scenes import CONNECTION, created, failed_job, project

pytest_plugins = ["api_client"]
SYNCS: dict[str, Any] = {"configTypes": ["sync"]}
STATUSES = "pending, queued, running, incomplete, failed, succeeded, cancelled"
CONFIG_TYPES = (
    "check_connection_source, check_connection_destination, discover_schema, get_spec, sync, "
    "reset_connection, refresh, clear"
)

BODIES: list[tuple[str, dict[str, Any], str, str]] = [
    ("jobs/list", {"statusess": ["failed"]}, "statusess", "no such field; did you mean 'statuses'?"),
    ("jobs/list", {"pagination": {"pagesize": 1}}, "pagination.pagesize", "did you mean 'pageSize'?"),
    ("jobs/list", {"zzz": 1}, "zzz", "there is no such field"),
    ("jobs/list_for_workspaces", {"workspaceIds": ["w"], "configID": "c"}, "configID", "mean 'configId'?"),
    ("stream_statuses/list", {"workspaceId": "w", "jobID": 7}, "jobID", "did you mean 'jobId'?"),
    (
        "stream_statuses/list",
        {"workspaceId": "w", "pagination": {"cursor": "x"}},
        "pagination.cursor",
        "there is no such field",
    ),
    ("workspaces/register", {"workspaceId": "w", "isdefault": True}, "isdefault", "mean 'isDefault'?"),
    ("workspaces/get", {"workspaceId": "w", "organizationId": "o"}, "organizationId", "no such field"),
]


@pytest.mark.parametrize(("path", "body", "field", "says"), BODIES)
def test_a_misspelt_field_of_a_filter_is_named_with_the_near_one(
    http: Any, path: str, body: dict[str, Any], field: str, says: str
) -> None:
    """Passed over, it would widen the list without a word."""
    body = {**SYNCS, **body} if path.startswith("jobs/") else body
    refused(http.client.post(f"/api/v1/{path}", json=body), field, says)


PARAMETERS = [
    ("/v1/jobs", "connectionid", "no such parameter; did you mean 'connectionId'?"),
    ("/v1/jobs/7", "includes", "no such parameter; did you mean 'include'?"),
    ("/v1/anomalies", "kinds", "did you mean 'kind'?"),
    ("/v1/jobs/7/history", "type", "did you mean 'types'?"),
]


@pytest.mark.parametrize(("path", "parameter", "says"), PARAMETERS)
def test_a_misspelt_parameter_is_named_with_the_near_one(
    http: Any, path: str, parameter: str, says: str
) -> None:
    refused(http.client.get(path, params={parameter: "x"}), parameter, says)


def test_an_unknown_value_of_a_filter_is_answered_with_the_known_ones(http: Any) -> None:
    """It would empty the list without a word."""
    asked = http.client.get
    types = {"configTypes": ["sync", "synch"]}
    refused(http.post("list", types), "configTypes.1", f"it is none of {CONFIG_TYPES}; did you mean 'sync'?")
    refused(http.post("list", {**SYNCS, "statuses": ["faild"]}), "statuses.0", f"{STATUSES}; did you mean")
    refused(asked("/v1/jobs", params={"jobType": "rest"}), "jobType", "it is none of sync, reset, refresh")
    refused(asked("/v1/jobs", params={"status": "done"}), "status", f"it is none of {STATUSES}")
    refused(asked("/v1/anomalies", params={"kind": "zero_record"}), "kind.0", "did you mean 'zero_records'?")
    refused(
        http.post("list", {**SYNCS, "orderByField": "created"}), "orderByField", "did you mean 'createdAt'?"
    )


def test_what_does_not_fit_is_said_in_our_own_words(http: Any) -> None:
    """Not in pydantic's."""
    date_time = "it is no date-time such as 2026-03-01T12:00:00Z"
    refused(
        http.post("list", {**SYNCS, "createdAtStart": "2026-13-01T00:00:00Z"}), "createdAtStart", date_time
    )
    refused(
        http.post("list", {**SYNCS, "createdAtStart": "2026-01-01T00:00"}),
        "createdAtStart",
        "no offset from UTC",
    )
    refused(http.client.get("/v1/jobs/7/history", params={"at": "2026-01-01T25:00:00Z"}), "at", date_time)
    refused(
        http.client.get("/v1/anomalies", params={"cursor": "x"}), "cursor", "it is no cursor; take nextCursor"
    )
    refused(
        http.client.get("/v1/jobs", params={"orderBy": "x"}),
        "orderBy",
        "it is no order; write updatedAt|DESC",
    )
    refused(http.post("list", {}), "configTypes", "it is needed")


@pytest.mark.parametrize("what", ["created", "updated"])
def test_an_end_before_its_start_and_a_blank_id_are_refused(http: Any, what: str) -> None:
    times = {f"{what}AtStart": "2026-01-02T00:00:00Z", f"{what}AtEnd": "2026-01-01T23:00:00-02:00"}
    assert http.post("list", {**SYNCS, **times}).status_code == 200
    times[f"{what}AtEnd"] = "2026-01-01T23:59:59Z"
    refused(http.post("list", {**SYNCS, **times}), f"{what}AtEnd", f"it is before {what}AtStart")
    refused(http.client.get("/v1/jobs", params=times), f"{what}AtEnd", f"it is before {what}AtStart")
    for blank in ("", "  "):
        assert http.post("list", {**SYNCS, "configId": blank}).status_code == 422
        assert http.client.get("/v1/jobs", params={"connectionId": blank}).status_code == 422


#: As Airbyte's web application, its Java client, with nulls for what is not set, and generated clients ask.
CLIENTS: list[dict[str, Any]] = [
    {
        "configId": CONNECTION,
        "configTypes": ["sync", "reset_connection", "refresh", "clear"],
        "includingJobId": 7,
        "statuses": ["failed"],
        "createdAtStart": "2026-01-01T00:00:00.000+00:00",
        "createdAtEnd": "2026-12-31T00:00:00.000Z",
        "updatedAtStart": "2026-01-01T00:00:00Z",
        "updatedAtEnd": "2026-12-31T00:00:00Z",
        "orderByField": "createdAt",
        "orderByMethod": "DESC",
        "pagination": {"pageSize": 25, "rowOffset": 0},
    },
    {"configId": CONNECTION, "configTypes": ["sync"], "status": "failed", "pagination": {"pageSize": 25}},
    dict.fromkeys(("configId", "includingJobId", "pagination", "statuses", "orderByField", "orderByMethod")),
    {"configTypes": ["check_connection_source", "check_connection_destination", "discover_schema", "sync"]},
]


@pytest.mark.parametrize("body", CLIENTS)
def test_all_that_airbytes_clients_send_is_taken(http: Any, database: str, body: dict[str, Any]) -> None:
    project(database, [*failed_job(7), created(8, connection_id="other", config_id="other")])
    listed = http.asked("list", {**SYNCS, **body})["jobs"]
    ids = [entry["job"]["id"] for entry in listed]
    assert ids == ([7] if "status" in body or body.get("statuses") else [8, 7])
    of_workspaces = {
        **SYNCS,
        **{k: v for k, v in body.items() if k != "configId"},
        "workspaceIds": ["workspace-1"],
    }
    assert [entry["job"]["id"] for entry in http.asked("list_for_workspaces", of_workspaces)["jobs"]] == [7]


def refused(answer: Any, field: str, says: str) -> None:
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["validationErrors"]
    assert problem["propertyPath"] == field
    assert says in problem["message"]
