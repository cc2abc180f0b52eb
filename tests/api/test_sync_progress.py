from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from attempt_calls import CONNECTION, WORKSPACE, Worker, counted

pytest_plugins = ["service_fixtures"]


@pytest.fixture
def worker(client: httpx.Client) -> Worker:
    return Worker(client)


def progress(worker: Worker, connection: str = CONNECTION) -> Any:
    return worker.done("connections/sync_progress", {"connectionId": connection})


def says(worker: Worker, attempt: dict[str, int], name: str, state: str, **fields: Any) -> None:
    about = {"workspaceId": WORKSPACE, "connectionId": CONNECTION, "jobType": "SYNC", "runState": state}
    body = {**about, **attempt, "streamName": name, "transitionedAt": int(time.time() * 1000), **fields}
    worker.done("stream_statuses/create", body, 201)


def test_without_a_job_that_runs_there_is_no_progress(worker: Worker) -> None:
    """Neither before the first job nor after its end."""
    nothing = {"connectionId": CONNECTION, "streams": []}
    assert progress(worker) == nothing
    attempt = worker.attempt(worker.job())
    assert progress(worker)["jobId"] == attempt["jobId"]
    worker.done("jobs/job_success_with_attempt_number", attempt)
    assert progress(worker) == nothing


def test_progress_of_each_stream_and_of_all(worker: Worker) -> None:
    """Streams wait, run and are done; counters are of the whole job, estimates of the last attempt."""
    job_id = worker.job()
    made_at = worker.read(job_id)["job"]["createdAt"]
    waiting = progress(worker)
    assert [one["status"] for one in waiting["streams"]] == ["queued", "queued"]
    assert (waiting["configType"], waiting["syncStartedAt"]) == ("sync", made_at)
    first = worker.attempt(job_id)
    users = {"streamNamespace": "public"}
    says(worker, first, "users", "RUNNING", **users)
    stats = {"recordsEmitted": 9, "bytesEmitted": 90, "recordsCommitted": 4, "bytesCommitted": 40}
    worker.done("attempt/save_stats", {**first, "streamStats": [counted("users", "public", **stats)]})
    worker.done("attempt/fail", {**first, "failureSummary": {"failures": [{"failureOrigin": "source"}]}}, 204)
    assert progress(worker)["jobId"] == job_id, "it is to be tried again"
    second = worker.attempt(job_id)
    stats = {"recordsEmitted": 1, "recordsCommitted": 1, "estimatedRecords": 100, "recordsRejected": 2}
    worker.done("attempt/save_stats", {**second, "streamStats": [counted("users", "public", **stats)]})
    says(worker, second, "orders", "RUNNING")
    says(worker, second, "orders", "COMPLETE")
    found = progress(worker)
    by_name = {one["streamName"]: one for one in found["streams"]}
    assert by_name["users"] == {
        "streamName": "users",
        "streamNamespace": "public",
        "configType": "sync",
        "status": "running",
        "recordsEmitted": 10,
        "bytesEmitted": 90,
        "recordsCommitted": 5,
        "bytesCommitted": 40,
        "recordsRejected": 2,
        "estimatedRecords": 100,
    }
    assert by_name["orders"] == {"streamName": "orders", "configType": "sync", "status": "completed"}
    assert (found["recordsEmitted"], found["recordsCommitted"]) == (10, 5)


def test_a_refresh_tells_apart_what_it_refreshes_and_what_it_syncs(worker: Worker) -> None:
    """And a clear has only the streams that it clears."""
    worker.job(configType="refresh", streamsToRefresh=[{"name": "orders"}])
    streams = {one["streamName"]: one["configType"] for one in progress(worker)["streams"]}
    assert streams == {"orders": "refresh", "users": "sync"}
    worker.job("other", configType="clear", streamsToReset=[{"name": "orders"}])
    assert [(one["streamName"], one["configType"]) for one in progress(worker, "other")["streams"]] == [
        ("orders", "clear")
    ]


def test_a_stream_that_the_job_did_not_name_is_shown_once_it_counts(worker: Worker) -> None:
    attempt = worker.attempt(worker.job())
    worker.done("attempt/save_stats", {**attempt, "streamStats": [counted("visitors", recordsEmitted=1)]})
    by_name = {one["streamName"]: one["status"] for one in progress(worker)["streams"]}
    assert by_name == {"users": "queued", "orders": "queued", "visitors": "running"}
    worker.done("jobs/persist_cancellation", attempt, 204)
