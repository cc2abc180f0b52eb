from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from attempt_calls import CONNECTION, STREAMS, WORKSPACE, Worker, forget_read_models
from running_service import becomes, running
from sdk_reading import of_type, published

from jobtrail import events as e
from jobtrail.settings import Settings

pytest_plugins = ["service_fixtures"]


@pytest.fixture
def worker(client: httpx.Client) -> Worker:
    return Worker(client)


def now() -> int:
    return int(time.time() * 1000)


def status(attempt: dict[str, int], state: str, name: str = "users", **fields: Any) -> dict[str, Any]:
    """A status of a stream, entered now."""
    about = {"workspaceId": WORKSPACE, "connectionId": CONNECTION, "jobType": "SYNC"}
    return {**about, **attempt, "streamName": name, "runState": state, "transitionedAt": now(), **fields}


def listed(worker: Worker, **filters: Any) -> list[dict[str, Any]]:
    body = {"workspaceId": WORKSPACE, "pagination": {"pageSize": 100}, **filters}
    found: list[dict[str, Any]] = worker.done("stream_statuses/list", body)["streamStatuses"]
    return found


def latest(worker: Worker, connection: str = CONNECTION) -> list[dict[str, Any]]:
    found = worker.done("stream_statuses/latest_per_run_state", {"connectionId": connection})
    statuses: list[dict[str, Any]] = found["streamStatuses"]
    return statuses


def test_a_status_is_answered_as_it_can_be_read_back(worker: Worker) -> None:
    """201, with the names, units and enums of Airbyte; milliseconds stay exact."""
    attempt = worker.attempt(worker.job())
    body = status(attempt, "RATE_LIMITED", streamNamespace="public", metadata={"quotaReset": now() + 9_000})
    answer = worker.done("stream_statuses/create", body, 201)
    assert answer == {**body, "id": answer["id"]}
    assert listed(worker) == latest(worker) == [answer]


def test_a_stream_goes_through_its_states_by_updates_of_its_first_status(
    worker: Worker, patient: Settings, database: str
) -> None:
    """As Airbyte's workers do it: the id of the first one stays good, also after a rebuild."""
    attempt = worker.attempt(worker.job())
    first = worker.done("stream_statuses/create", status(attempt, "PENDING"), 201)["id"]
    for state in ("RUNNING", "RATE_LIMITED", "RUNNING"):
        worker.done("stream_statuses/update", {**status(attempt, state), "id": first})
    incomplete = status(attempt, "INCOMPLETE", incompleteRunCause="FAILED")
    last = worker.done("stream_statuses/update", {**incomplete, "id": first})
    assert [one["runState"] for one in listed(worker)] == ["PENDING", "RATE_LIMITED", "RUNNING", "INCOMPLETE"]
    assert listed(worker)[-1] == last == {**incomplete, "id": last["id"]}
    before = listed(worker)
    forget_read_models(database)
    with running(patient) as address, httpx.Client(base_url=address, timeout=120) as again:
        becomes(again, attempt["jobId"], "running")
        assert listed(Worker(again)) == before
        Worker(again).done("stream_statuses/update", {**status(attempt, "COMPLETE"), "id": first})


def test_a_repeated_status_is_the_same_event(worker: Worker, patient: Settings) -> None:
    """With a key or without."""
    attempt = worker.attempt(worker.job())
    body = status(attempt, "RUNNING", transitionedAt=now() - 1000)
    answers = [worker.done("stream_statuses/create", body, 201, key=key) for key in (None, None, "k", "k")]
    assert all(one == answers[0] for one in answers)
    log = of_type(published(patient), e.StreamStatus)
    assert len(log) == 4
    assert all(one == log[0] for one in log)


def test_lists_are_filtered_and_paged(worker: Worker) -> None:
    """Filters are combined; pages neither overlap nor leave anything out."""
    sync, reset = (
        worker.attempt(worker.job()),
        worker.attempt(worker.job("other", configType="clear", **NO_STREAMS)),
    )
    for attempt, about in ((sync, {}), (reset, {"connectionId": "other", "jobType": "RESET"})):
        for name in ("orders", "users"):
            for state in ("PENDING", "RUNNING"):
                worker.done("stream_statuses/create", status(attempt, state, name, **about), 201)
    worker.done("stream_statuses/create", status(sync, "RUNNING", streamNamespace="public"), 201)
    assert len(listed(worker)) == 9
    for filters, count in (
        ({"connectionId": "other"}, 4),
        ({"jobId": sync["jobId"]}, 5),
        ({"attemptNumber": 1}, 0),
        ({"attemptNumber": 0, "streamName": "users"}, 5),
        ({"streamNamespace": "public"}, 1),
        ({"jobType": "RESET"}, 4),
        ({"jobType": "SYNC", "connectionId": "other"}, 0),
        ({"workspaceId": "another"}, 0),
    ):
        assert len(listed(worker, **filters)) == count, filters
    pages = [listed(worker, pagination={"pageSize": 4, "rowOffset": offset}) for offset in (0, 4, 8)]
    assert [one for page in pages for one in page] == listed(worker)
    assert {one["jobType"] for one in listed(worker, connectionId="other")} == {"RESET"}


NO_STREAMS: dict[str, Any] = {"streams": [], "streamsToReset": [{"name": "users"}, {"name": "orders"}]}


def test_of_a_connection_each_streams_latest_status_in_each_state_is_told(worker: Worker) -> None:
    """Over its jobs; what an older job said of the same state is left out."""
    for _ in range(2):
        attempt = worker.attempt(worker.job())
        for state in ("PENDING", "RUNNING", "COMPLETE"):
            worker.done("stream_statuses/create", status(attempt, state), 201)
        if not _:
            worker.done("jobs/job_success_with_attempt_number", attempt)
    assert {(one["runState"], one["jobId"]) for one in latest(worker)} == {
        (state, attempt["jobId"]) for state in ("PENDING", "RUNNING", "COMPLETE")
    }
    assert latest(worker, "unheard of") == []


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ("job_success_with_attempt_number", ("COMPLETE", None)),
        ("job_failure", ("INCOMPLETE", "FAILED")),
        ("persist_cancellation", ("INCOMPLETE", "CANCELED")),
    ],
)
def test_a_stream_is_not_shown_running_for_ever_when_its_job_is_over(
    worker: Worker, end: str, shown: tuple[str, str | None]
) -> None:
    """A killed worker says nothing more of its streams; what one did say stands."""
    attempt = worker.attempt(worker.job())
    worker.done("stream_statuses/create", status(attempt, "RUNNING"), 201)
    for state in ("RUNNING", "COMPLETE"):
        worker.done("stream_statuses/create", status(attempt, state, "orders"), 201)
    worker.done(f"jobs/{end}", attempt, 204 if end == "persist_cancellation" else 200)
    found = {one["streamName"]: (one["runState"], one.get("incompleteRunCause")) for one in latest(worker)}
    assert found == {"users": shown, "orders": ("COMPLETE", None)}
    assert [one["runState"] for one in listed(worker, streamName="users")] == ["RUNNING"]


def test_a_stream_that_a_dead_attempt_left_is_not_completed_by_the_next_one(worker: Worker) -> None:
    """Each attempt speaks for its own streams."""
    first = worker.attempt(worker.job())
    worker.done("stream_statuses/create", status(first, "RUNNING"), 201)
    worker.done("attempt/fail", first, 204)
    second = worker.attempt(first["jobId"])
    worker.done("jobs/job_success_with_attempt_number", second)
    found = {(one["attemptNumber"], one["runState"], one.get("incompleteRunCause")) for one in latest(worker)}
    assert found == {(0, "INCOMPLETE", "FAILED")}


def test_a_status_of_nothing_that_is_known_is_refused(worker: Worker) -> None:
    """404: an unknown job, attempt, or id."""
    job_id = worker.job()
    attempt = worker.attempt(job_id)
    for body in (
        status({**attempt, "jobId": 9999}, "RUNNING"),
        status({**attempt, "attemptNumber": 5}, "RUNNING"),
    ):
        assert worker.post("stream_statuses/create", body).status_code == 404
    known = worker.done("stream_statuses/create", status(attempt, "RUNNING"), 201)["id"]
    for other in ({"id": "0b3f4bd4-5b5b-8a0e-9f2a-000000000009"}, {"id": known, "streamName": "orders"}):
        answer = worker.post("stream_statuses/update", {**status(attempt, "COMPLETE"), **other})
        assert answer.status_code == 404
        assert other["id"] in answer.json()["message"]


MISFITS: list[tuple[str, dict[str, Any], str]] = [
    ("create", {"runState": "DONE"}, "runState"),
    ("create", {"runState": "INCOMPLETE"}, "incompleteRunCause"),
    ("create", {"incompleteRunCause": "FAILED"}, "incompleteRunCause"),
    ("create", {"jobType": "sync"}, "jobType"),
    ("create", {"transitionedAt": "now"}, "transitionedAt"),
    ("create", {"transitionedAt": 10**18}, "transitionedAt"),
    ("create", {"streamName": None}, "streamName"),
    ("create", {"metadata": {"quotaReset": -1}}, "metadata.quotaReset"),
    ("update", {}, "id"),
    ("list", {"pagination": {"pageSize": 0}}, "pagination.pageSize"),
    ("list", {"workspaceId": None}, "workspaceId"),
    ("list", {"connectionId": "a\0b"}, "connectionId"),
    ("latest_per_run_state", {"connectionId": 7}, "connectionId"),
]


def test_a_field_that_does_not_fit_is_named(worker: Worker) -> None:
    for path, fields, field in MISFITS:
        right = status({"jobId": 1, "attemptNumber": 0}, "RUNNING")
        if path == "list":  # which takes nothing that it does not know
            right = {name: right[name] for name in ("workspaceId", "connectionId", "jobId")}
        answer = worker.post(f"stream_statuses/{path}", {**right, **fields})
        assert answer.status_code == 422, (path, fields)
        assert [one["propertyPath"] for one in answer.json()["validationErrors"]] == [field]


def test_what_contradicts_the_job_is_refused_by_field(worker: Worker) -> None:
    """Its connection and its kind are known; of a job of which they are not, all is taken."""
    attempt = worker.attempt(worker.job())
    for field, fields in (("connectionId", {"connectionId": WORKSPACE}), ("jobType", {"jobType": "RESET"})):
        answer = worker.post("stream_statuses/create", status(attempt, "RUNNING", **fields))
        assert answer.status_code == 422
        assert [one["propertyPath"] for one in answer.json()["validationErrors"]] == [field]
    reset = worker.attempt(worker.job("other", configType="reset_connection", streams=[]))
    about = {"connectionId": "other", "jobType": "RESET"}
    assert worker.done("stream_statuses/create", status(reset, "RUNNING", **about), 201)["jobType"] == "RESET"
    assert listed(worker, jobId=attempt["jobId"]) == []


def test_streams_of_the_job_are_those_of_the_scene(worker: Worker) -> None:
    """A stream that the job did not name may have a status too."""
    attempt = worker.attempt(worker.job())
    assert {one["name"] for one in STREAMS} == {"users", "orders"}
    worker.done("stream_statuses/create", status(attempt, "RUNNING", "visitors"), 201)
    assert [one["streamName"] for one in listed(worker)] == ["visitors"]
