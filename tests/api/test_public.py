from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_scenes import CONNECTION, at, created, failed_job, made, project, stats

from jobtrail import events as e
from jobtrail.api.serve import bind, serving, url
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]
TOKEN = "a-token-of-sixteen-or-more"
PREFIXES = ("/v1", "/public/v1", "/api/public/v1")


@pytest.fixture
def jobs(database: str) -> None:
    """Five syncs a minute apart, one job of each other kind, and a failed sync of long before."""
    found: list[e.Event] = [created(100 + number, number * 60) for number in range(5)]
    found += [
        created(200, 400, config_type="reset_connection"),
        created(201, 401, config_type="refresh", workspace_id="workspace-2"),
        created(202, 402, config_type="clear"),
        created(203, 403, config_type="get_spec", connection_id=None),
    ]
    project(database, [*found, *failed_job(7)])


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [job["jobId"] for job in answer.json()["data"]]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_failed_job_says_why(http: Any, database: str, prefix: str) -> None:
    """Airbyte's fields as it has them, and beside them the failure's reason; attempts are told on request."""
    project(database, failed_job(7))
    job = http.client.get(f"{prefix}/jobs/7").json()
    reason = job.pop("failureReason")
    assert job == {
        "jobId": 7,
        "status": "failed",
        "jobType": "sync",
        "startTime": "2026-03-01T12:00:00Z",
        "lastUpdatedAt": "2026-03-01T12:00:12Z",
        "duration": "PT12S",
        "connectionId": CONNECTION,
        "rowsSynced": 120,
        "bytesSynced": 12_000,
    }
    assert (reason["failureOrigin"], reason["failureType"]) == ("source", "system_error")
    (listed,) = http.client.get(f"{prefix}/jobs").json()["data"]
    assert listed["failureReason"] == reason
    told = http.client.get(f"{prefix}/jobs/7", params={"include": "attempts"}).json()["attempts"]
    assert told == [one["attempt"] for one in http.asked("get", {"id": 7})["attempts"]]
    listed = http.client.get(f"{prefix}/jobs", params={"include": "attempts"}).json()["data"]
    assert listed[0]["attempts"] == told


def test_totals_are_those_of_all_attempts(http: Any, database: str) -> None:
    """An incremental stream counts with each attempt, not with the last one alone (airbyte #24738)."""
    stream = e.ConfiguredStream(name="users", sync_mode="incremental")
    found: list[e.Event] = [created(8, streams=[stream])]
    for number in (0, 1):
        found.append(made(e.AttemptStarted, 1 + number, job_id=8, attempt_number=number))
        found.append(stats(8, number, "users", 1 + number, records_committed=10, bytes_committed=100))
    project(database, found)
    job = http.client.get("/v1/jobs/8").json()
    assert (job["status"], job["rowsSynced"], job["bytesSynced"]) == ("running", 20, 200)
    assert "lastUpdatedAt" not in job


def test_a_success_without_evidence_says_so(http: Any, database: str) -> None:
    """A job that never ran is not shown as one that did (airbyte #85355)."""
    project(database, [created(9), made(e.AttemptSucceeded, 1, job_id=9, attempt_number=0)])
    (job,) = http.client.get("/v1/jobs").json()["data"]
    assert (job["status"], "success_without_evidence" in job["anomalies"]) == ("succeeded", True)


def test_a_job_that_waits_has_no_duration_and_no_totals(http: Any, database: str) -> None:
    project(database, [created(9)])
    job = http.client.get("/v1/jobs/9").json()
    assert job["status"] == "pending"
    assert not {"duration", "rowsSynced", "bytesSynced", "lastUpdatedAt", "failureReason"} & job.keys()


@pytest.mark.usefixtures("jobs")
def test_pages_lead_from_one_to_the_next_and_back(http: Any) -> None:
    """The addresses keep the filters; each job comes once."""
    address: str | None = "/v1/jobs?limit=2&jobType=sync&orderBy=createdAt|ASC"
    seen, back = [], None
    while address:
        answer = http.client.get(address)
        seen.append(ids(answer))
        back, address = answer.json().get("previous"), answer.json().get("next")
    assert seen == [[7, 100], [101, 102], [103, 104]]
    while back:
        answer = http.client.get(back)
        back = answer.json().get("previous")
    assert ids(answer) == seen[0], "previous leads to the first page"


FILTERS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [202, 201, 200, 104, 103, 102, 101, 100, 7]),
    ({"jobType": "reset"}, [200]),
    ({"jobType": "refresh"}, [201]),
    ({"jobType": "clear"}, [202]),
    ({"status": "failed"}, [7]),
    ({"status": "queued"}, []),
    ({"connectionId": "elsewhere"}, []),
    ({"workspaceIds": ["workspace-1", "workspace-2"]}, [201, 7]),
    ({"createdAtStart": at(401).isoformat()}, [202, 201]),
    ({"createdAtEnd": at(1).isoformat(), "status": "failed"}, [7]),
    ({"updatedAtStart": at(12).isoformat(), "updatedAtEnd": at(12).isoformat()}, [7]),
    ({"orderBy": "updatedAt|ASC", "limit": 2}, [100, 7]),
    ({"offset": 8}, [7]),
    ({"offset": 2**31 - 1}, []),
]


@pytest.mark.usefixtures("jobs")
def test_filters_are_combined(http: Any) -> None:
    """Jobs of other kinds than a connection's are not shown."""
    for filters, expected in FILTERS:
        assert (filters, ids(http.client.get("/v1/jobs", params=filters))) == (filters, expected)


@pytest.mark.usefixtures("jobs")
def test_a_job_that_is_not_shown_is_told_with_its_id(http: Any) -> None:
    """One that does not exist, and one that belongs to no connection: that neither is cancelled."""
    for job_id, said in ((12, "there is no job 12"), (203, "get_spec")):
        for answer in (http.client.get(f"/v1/jobs/{job_id}"), http.client.delete(f"/v1/jobs/{job_id}")):
            assert (answer.status_code, answer.json()["id"]) == (404, job_id)
            assert said in answer.json()["message"]


MISFITS = [
    ({"limit": 0}, "limit"),
    ({"limit": 101}, "limit"),
    ({"offset": -1}, "offset"),
    ({"offset": 2**31}, "offset"),
    ({"jobType": "get_spec"}, "jobType"),
    ({"status": "done"}, "status"),
    ({"connectionId": "a\0"}, "connectionId"),
    ({"createdAtStart": "2026-01-01T00:00:00"}, "createdAtStart"),
    ({"orderBy": "createdAt"}, "orderBy"),
    ({"orderBy": "job_id|ASC"}, "orderBy"),
    ({"include": "logs"}, "include.0"),
]


def test_a_field_that_does_not_fit_is_named(http: Any) -> None:
    for filters, path in MISFITS:
        answer = http.client.get("/v1/jobs", params=filters)
        assert answer.status_code == 422, filters
        assert [found["propertyPath"] for found in answer.json()["validationErrors"]] == [path]
    for body in ({"connectionId": "c"}, {"connectionId": "c", "jobType": "get_spec"}):
        answer = http.client.post("/v1/jobs", json=body)
        assert answer.json()["validationErrors"][0]["propertyPath"] == "jobType"
    assert http.client.get(f"/v1/jobs/{2**63}").json()["validationErrors"][0]["propertyPath"] == "jobId"


def test_what_cannot_be_asked_is_told_with_the_way_to_ask(http: Any) -> None:
    """A path that is none, an id that is no number, a body that is not said to be JSON."""
    answer = http.client.get("/v1/job/7")
    assert (answer.status_code, answer.json()["message"]) == (
        404,
        "there is no /v1/job/7; /docs shows what there is",
    )
    for answer in (http.client.get("/v1/jobs/abc"), http.client.delete("/public/v1/jobs/-1")):
        assert (answer.status_code, answer.json()["validationErrors"][0]["propertyPath"]) == (422, "jobId")
    for path in ("/v1/jobs", "/v1/jobs/get", "/v1/jobs/list"):
        answer = http.client.post(path, content=b'{"connectionId": "c", "jobType": "sync"}')
        assert (answer.status_code, "content-type: application/json" in answer.json()["message"]) == (
            422,
            True,
        )
    answer = http.client.get("/v1/jobs", params={"createdAtStart": "yesterday"})
    assert answer.json()["message"].startswith("createdAtStart: it is no date-time")


def test_who_knows_a_token_is_given_it(settings: Settings) -> None:
    """As JSON or as a form, at each address; health is open, everything else is not."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    with serving(settings, taken, [TOKEN]), httpx.Client(base_url=url(taken), timeout=60) as client:
        right, wrong = ({"client_id": "a", "client_secret": secret} for secret in (TOKEN, "ünknown"))
        for prefix in (*PREFIXES, "/api/v1", ""):
            address = f"{prefix}/applications/token"
            for answer in (client.post(address, json=right), client.post(address, data=right)):
                assert answer.json() == {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
            for answer in (client.post(address, json=wrong), client.post(address, data=wrong)):
                assert (answer.status_code, TOKEN in answer.text) == (401, False)
        for prefix in PREFIXES:
            assert client.get(f"{prefix}/health").status_code == 200
            assert client.get(f"{prefix}/jobs").status_code == 401
            assert (
                client.get(f"{prefix}/jobs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
            )
        for content, kind in ((b"{", "application/json"), (b"\xff=1", "application/x-www-form-urlencoded")):
            answer = client.post("/v1/applications/token", content=content, headers={"content-type": kind})
            assert answer.status_code == 422, answer.text


def test_without_tokens_clients_that_need_one_get_one(http: Any) -> None:
    """Any credentials do, and what is given is taken."""
    body = {"client_id": "a", "client_secret": "b", "grant-type": "client_credentials"}
    given = http.client.post("/v1/applications/token", json=body).json()
    assert given["token_type"] == "Bearer"
    bearer = {"authorization": f"Bearer {given['access_token']}"}
    assert http.client.get("/v1/jobs", headers=bearer).status_code == 200


def test_a_method_that_a_path_does_not_take_is_told_those_that_it_does(http: Any) -> None:
    """Also where a path could be taken for a job's id; and a body that is no text is told as one."""
    for method, path, allowed in (
        ("PUT", "/v1/jobs", "GET, POST"),
        ("POST", "/v1/jobs/7", "DELETE, GET"),
        ("GET", "/v1/jobs/create", "POST"),
    ):
        answer = http.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    answer = http.client.post("/v1/jobs", content=b"\xff", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["validationErrors"][0]["propertyPath"]) == (422, "body")
