"""Lists of jobs by workspace, the last replication job, and what was wrong with lists elsewhere."""

from __future__ import annotations

from typing import Any

import psycopg
from api_scenes import CONNECTION, at, created, made, project

from jobtrail import events as e

pytest_plugins = ["api_client"]
SYNCS: dict[str, Any] = {"configTypes": ["sync"]}


def ids(answer: Any) -> list[int]:
    return [entry["job"]["id"] for entry in answer["jobs"]]


def workspace(name: str, organization: str, *, default: bool) -> e.WorkspaceRegistered:
    return e.WorkspaceRegistered(
        workspace_id=name, organization_id=organization, is_default=default, occurred_at=at(0)
    )


def test_jobs_are_listed_by_workspace_wherever_it_comes_from(http: Any, database: str) -> None:
    """Named at creation, or the scope itself, or the default one of the organization that is the scope."""
    project(
        database,
        [
            workspace("w1", "o1", default=True),
            workspace("w2", "o1", default=False),
            workspace("w3", "o3", default=True),
            created(1, 1, workspace_id="w1"),
            created(2, 2, scope_type="workspace", scope_id="w1"),
            created(3, 3, scope_type="organization", scope_id="o1"),
            created(4, 4, scope_type="organization", scope_id="o1", workspace_id="w2"),
            created(5, 5, scope_type="organization", scope_id="o3"),
            created(6, 6, scope_type="workspace", scope_id="o1"),
            created(7, 7),
            created(8, 8, workspace_id="w1", config_type="refresh"),
        ],
    )

    def listed(*names: str, **fields: Any) -> Any:
        return http.asked("list_for_workspaces", {**SYNCS, "workspaceIds": list(names), **fields})

    answer = listed("w1")
    assert (ids(answer), answer["totalJobCount"]) == ([3, 2, 1], 3)
    assert ids(listed("w2")) == [4]
    assert ids(listed("w3", "w1")) == [5, 3, 2, 1]
    assert ids(listed("o1")) == [6]
    assert ids(listed("nobody")) == []
    assert ids(listed("w1", configTypes=["sync", "refresh"], orderByMethod="ASC")) == [1, 2, 3, 8]
    first = listed("w1", pagination={"pageSize": 2})
    following = {"pageSize": 2, "cursor": first["nextCursor"]}
    assert ids(listed("w1", pagination=following)) == [1]
    assert http.post("list_for_workspaces", {**SYNCS, "workspaceIds": []}).status_code == 422
    assert http.post("list_for_workspaces", SYNCS).status_code == 422
    assert http.post("list", {**SYNCS, "workspaceIds": ["w1"], "pagination": following}).status_code == 422


def test_the_last_replication_job_is_the_newest_that_was_not_cancelled(http: Any, database: str) -> None:
    """Syncs, resets, refreshes and clears count; checks do not; without any there is no job."""
    asked = {"connectionId": CONNECTION}
    assert http.asked("get_last_replication_job", asked) == {}
    project(database, [created(9, 1), created(3, 2, config_type="clear"), created(4, 3)])
    project(database, [created(5, 4, config_type="check_connection_source")])
    assert http.asked("get_last_replication_job", asked)["job"]["id"] == 4
    project(database, [made(e.Cancelled, 5, job_id=4, cancelled_by="ops")])
    job = http.asked("get_last_replication_job", asked)["job"]
    assert job == http.asked("get_without_logs", {"id": 3})["job"]
    assert http.post("get_last_replication_job", {}).status_code == 422


def test_airbyte_28159_the_count_is_of_all_that_match_on_each_page(http: Any, database: str) -> None:
    """There it was the page's size, or that of another filter."""
    project(database, [created(n, n, config_id=f"c{n % 2}") for n in range(30)])
    found = {"configId": "c1", "createdAtStart": at(11).isoformat()}
    for pagination in ({"pageSize": 3}, {"pageSize": 3, "rowOffset": 6}, {"pageSize": 3, "rowOffset": 99}):
        assert http.asked("list", {**SYNCS, **found, "pagination": pagination})["totalJobCount"] == 10


def test_airbyte_37669_including_a_job_keeps_every_other_filter(http: Any, database: str) -> None:
    """There the page with the job showed jobs of other states and times as well."""
    project(database, [created(n, n) for n in range(10)])
    project(database, [made(e.Cancelled, 20 + n, job_id=n, cancelled_by="ops") for n in (0, 3, 4, 8)])
    body = {
        **SYNCS,
        "statuses": ["cancelled"],
        "createdAtEnd": at(5).isoformat(),
        "pagination": {"pageSize": 1},
    }
    answer = http.asked("list", {**body, "includingJobId": 3})
    assert (ids(answer), answer["totalJobCount"]) == ([4, 3], 3)
    assert ids(http.asked("list", {**body, "pagination": {"cursor": answer["nextCursor"]}})) == [0]
    for outside in (8, 5, 4711):
        answer = http.asked("list", {**body, "includingJobId": outside})
        assert (ids(answer), answer["totalJobCount"], answer.get("nextCursor")) == ([], 3, None)


def test_a_light_answer_comes_after_postgres_has_cut_its_connections(http: Any, database: str) -> None:
    """As after a restart of Postgres: nobody gets an error for it."""
    project(database, [created(7)])
    assert http.asked("get_light", {"id": 7})["job"]["id"] == 7
    with psycopg.connect(database, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'jobtrail-api'"
        ).fetchall()
    assert cut
    assert http.asked("get_light", {"id": 7})["job"]["id"] == 7
