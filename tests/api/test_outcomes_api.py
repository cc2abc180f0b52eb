from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_scenes import CONNECTION, created, failed_job, made, project

from jobtrail import events as e

pytest_plugins = ["api_client"]


def incomplete(
    job_id: int, *, attempts: int = 1, ended: datetime | None = None, **failure: Any
) -> list[e.Event]:
    """Attempts that committed nothing; the last one ended just now."""
    end = ended or datetime.now(UTC)
    found: list[e.Event] = [created(job_id)]
    for number in range(attempts):
        about: dict[str, Any] = {"job_id": job_id, "attempt_number": number}
        then = end - timedelta(seconds=attempts - number)
        found += [
            e.AttemptStarted(**about, occurred_at=then),
            e.Failure(**about, occurred_at=then, external_message="no such host", **failure),
            e.AttemptFailed(**about, occurred_at=then + timedelta(seconds=1)),
        ]
    return found


def test_retries_are_counted_as_airbyte_counts_them(http: Any, database: str) -> None:
    project(database, incomplete(3, attempts=2))
    answer = http.client.post("/api/v1/jobs/retry_states/get", json={"jobId": 3}).json()
    assert answer.pop("id")
    assert answer == {
        "jobId": 3,
        "connectionId": CONNECTION,
        "successiveCompleteFailures": 2,
        "totalCompleteFailures": 2,
        "successivePartialFailures": 0,
        "totalPartialFailures": 0,
    }


def test_advice_names_the_instant_of_the_next_attempt(http: Any, database: str) -> None:
    now = datetime.now(UTC)
    project(database, incomplete(3, attempts=3, ended=now))
    answer = http.client.get("/v1/jobs/3/advice").json()
    assert answer["decision"] == "retry_at"
    assert datetime.fromisoformat(answer["retryAt"]) == now + timedelta(seconds=90)


def test_advice_gives_up_at_what_is_not_retryable_and_says_why(http: Any, database: str) -> None:
    project(database, incomplete(3, retryable=False))
    answer = http.client.get("/v1/jobs/3/advice").json()
    assert answer == {
        "jobId": 3,
        "decision": "give_up",
        "reason": "the failure is not retryable: no such host",
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/v1/jobs/99/advice", None), ("POST", "/api/v1/jobs/retry_states/get", {"jobId": 99})],
)
def test_an_unknown_job_is_404_with_its_id(http: Any, method: str, path: str, body: Any) -> None:
    answer = http.client.request(method, path, json=body)
    assert (answer.status_code, answer.json()) == (404, {"message": "there is no job 99", "id": 99})


def test_anomalies_are_listed_page_by_page_and_each_once(http: Any, database: str) -> None:
    for job_id in range(7):
        start = made(e.AttemptStarted, 1, job_id=job_id, attempt_number=0)
        again = made(e.AttemptStarted, 2, job_id=job_id, attempt_number=0)
        project(database, [start, again])
    seen, cursor = [], None
    while True:
        page = http.client.get(
            "/v1/anomalies", params={"limit": 4, "cursor": cursor} if cursor else {"limit": 4}
        )
        assert page.status_code == 200, page.text
        told = page.json()
        assert told["totalCount"] == len(ANOMALIES) * 7
        seen += [(one["jobId"], one.get("attemptNumber"), one["kind"]) for one in told["anomalies"]]
        if (cursor := told.get("nextCursor")) is None:
            break
    assert seen == [(job_id, *one) for job_id in reversed(range(7)) for one in ANOMALIES]
    only = http.client.get("/v1/anomalies", params={"jobId": 2, "kind": "second_start"}).json()
    assert [(one["jobId"], one["kind"]) for one in only["anomalies"]] == [(2, "second_start")]


#: What is wrong with a job that has two starts and no JobCreated.
ANOMALIES = [
    (None, "job_not_created"),
    (0, "second_start"),
]


@pytest.mark.parametrize("cursor", ["x", "1", "1.2", "1..k", "1.2.", "٣.1.k", "1.1.a b", "9" * 30 + ".1.k"])
def test_a_cursor_that_is_none_is_named(http: Any, cursor: str) -> None:
    answer = http.client.get("/v1/anomalies", params={"cursor": cursor})
    assert answer.status_code == 422
    assert answer.json()["validationErrors"][0]["propertyPath"] == "cursor"


def test_every_answer_that_shows_a_status_shows_the_failure_and_what_is_wrong_15100(
    http: Any, database: str
) -> None:
    project(database, failed_job(7))
    project(database, [made(e.AttemptSucceeded, 30, job_id=7, attempt_number=0)])
    full, light = http.asked("get", {"id": 7}), http.asked("get_light", {"id": 7})
    listed = http.asked("list", {"configTypes": ["sync"]})
    expected = {
        "attemptNumber": 0,
        "failureOrigin": "source",
        "failureType": "system_error",
        "externalMessage": "Something went wrong within the source connector",
        "retryable": True,
    }
    for job in (full["job"], light["job"], listed["jobs"][0]["job"]):
        told = dict(job["failureReason"])
        assert told.pop("timestamp")
        assert told == expected
        assert {"activity_after_end", "success_not_deciding"} <= set(job["anomalies"])
    attempts = [full["attempts"][0]["attempt"], listed["jobs"][0]["attempts"][0]]
    for attempt in attempts:
        assert {"activity_after_end", "success_not_deciding"} <= set(attempt["anomalies"])


def test_what_source_platform_and_destination_counted_is_shown_where_it_differs_24856(
    http: Any, database: str
) -> None:
    about = {"job_id": 7, "attempt_number": 0, "sequence": 1}
    project(
        database,
        [
            created(7),
            made(e.AttemptStarted, 1, job_id=7, attempt_number=0),
            made(e.StreamStats, 2, **about, stream_name="a", reporter="source", records_emitted=10),
            made(e.StreamStats, 2, **about, stream_name="a", reporter="platform", records_emitted=9),
            made(e.StreamStats, 2, **about, stream_name="b", reporter="source", records_emitted=5),
            made(e.StreamStats, 2, **about, stream_name="b", reporter="platform", records_emitted=5),
        ],
    )
    streams = http.asked("get", {"id": 7})["attempts"][0]["attempt"]["streamStats"]
    assert [stream.get("reconciliation") for stream in streams] == [
        {"sourceRecordsEmitted": 10, "platformRecordsEmitted": 9},
        None,
    ]
