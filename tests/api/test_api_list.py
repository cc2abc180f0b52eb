from __future__ import annotations

from typing import Any

import pytest
from api_scenes import CONNECTION, at, created, failed_job, made, project

from jobtrail import events as e

pytest_plugins = ["api_client"]
SYNCS: dict[str, Any] = {"configTypes": ["sync"]}


def ids(answer: Any) -> list[int]:
    return [entry["job"]["id"] for entry in answer["jobs"]]


@pytest.fixture
def jobs(database: str) -> None:
    """Ten syncs, a minute apart; odd ones of another connection, the last two succeeded; and one reset."""
    found: list[e.Event] = []
    for number in range(10):
        other = {"config_id": "other", "connection_id": "other"} if number % 2 else {}
        found.append(created(100 + number, number * 60, **other))
    for number in (8, 9):
        about = {"job_id": 100 + number, "attempt_number": 0}
        found.append(made(e.AttemptStarted, number * 60 + 1, **about))
        found.append(made(e.AttemptSucceeded, number * 60 + 2, **about))
    found.append(created(200, 30, config_type="reset_connection"))
    project(database, found)


@pytest.mark.usefixtures("jobs")
def test_newest_first_with_the_exact_count_of_all(http: Any) -> None:
    """TotalJobCount is of all that match, not of the page."""
    answer = http.asked("list", {**SYNCS, "pagination": {"pageSize": 3, "rowOffset": 2}})
    assert ids(answer) == [107, 106, 105]
    assert answer["totalJobCount"] == 10


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({"configTypes": ["reset_connection"]}, [200]),
    (
        {"configTypes": ["sync", "reset_connection"], "configId": CONNECTION},
        [108, 106, 104, 102, 200, 100],
    ),
    ({"statuses": ["succeeded"]}, [109, 108]),
    ({"statuses": ["queued"]}, []),
    ({"statuses": [], "createdAtStart": at(480).isoformat()}, [109, 108]),
    ({"createdAtStart": at(480).isoformat()}, [109, 108]),
    ({"createdAtEnd": at(60).isoformat()}, [101, 100]),
    ({"updatedAtStart": at(482).isoformat(), "updatedAtEnd": at(541).isoformat()}, [108]),
    ({"orderByMethod": "ASC", "pagination": {"pageSize": 2}}, [100, 101]),
    ({"orderByField": "updatedAt", "statuses": ["succeeded"], "orderByMethod": "ASC"}, [108, 109]),
    ({"pagination": {"rowOffset": 9}}, [100]),
    (
        {"statuses": None, "configId": None, "pagination": None, "createdAtStart": at(540).isoformat()},
        [109],
    ),
]


@pytest.mark.usefixtures("jobs")
def test_filters_are_combined(http: Any) -> None:
    for filters, expected in FILTERS:
        assert (filters, ids(http.asked("list", {**SYNCS, **filters}))) == (filters, expected)


@pytest.mark.usefixtures("jobs")
def test_including_a_job_gives_all_pages_up_to_it_and_keeps_the_other_filters(http: Any) -> None:
    """Airbyte forgets its other filters here."""
    body = {**SYNCS, "configId": CONNECTION, "pagination": {"pageSize": 2}}
    answer = http.asked("list", {**body, "includingJobId": 104})
    assert (ids(answer), answer["totalJobCount"]) == ([108, 106, 104, 102], 5)
    assert ids(http.asked("list", {**body, "includingJobId": 105})) == []


def test_a_list_carries_attempts_with_their_failures(http: Any, database: str) -> None:
    """Why a job failed is in every answer that shows its status."""
    project(database, failed_job(7))
    (entry,) = http.asked("list", SYNCS)["jobs"]
    info = http.asked("get", {"id": 7})
    assert entry == {"job": info["job"], "attempts": [found["attempt"] for found in info["attempts"]]}
    assert entry["attempts"][0]["failureSummary"]["failures"][0]["failureOrigin"] == "source"


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"configTypes": []}, "configTypes"),
    ({"configTypes": None}, "configTypes"),
    ({"configTypes": ["a\0b"]}, "configTypes.0"),
    ({"configId": "x" * 5000}, "configId"),
    ({"configId": "\ud800"}, "configId"),
    ({"statuses": ["done"]}, "statuses.0"),
    ({"pagination": {"pageSize": 100_000}}, "pagination.pageSize"),
    ({"pagination": {"pageSize": 0}}, "pagination.pageSize"),
    ({"pagination": {"rowOffset": -1}}, "pagination.rowOffset"),
    ({"createdAtStart": "yesterday"}, "createdAtStart"),
    ({"createdAtStart": "2026-01-01T00:00:00"}, "createdAtStart"),
    ({"orderByField": "id; DROP TABLE jobs"}, "orderByField"),
]


def test_a_field_that_does_not_fit_is_named(http: Any) -> None:
    for fields, path in MISFITS:
        answer = http.post("list", {**SYNCS, **fields})
        assert answer.status_code == 422, fields
        assert [found["propertyPath"] for found in answer.json()["validationErrors"]] == [path]
