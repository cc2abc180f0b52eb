from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
from api_scenes import CONNECTION, at, created, made, project
from running_service import becomes, worker

from jobtrail import events as e
from jobtrail.api.commands import RESERVED_FOR
from jobtrail.api.serve import bind, serving, url
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.settings import Settings

pytest_plugins = ["service_fixtures"]
SYNC = {"configType": "sync", "connectionId": CONNECTION}


def create(client: httpx.Client, body: Any = SYNC, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/api/v1/jobs/create", json=body, headers=headers)


def test_a_job_is_made_and_can_be_read_at_once(client: httpx.Client) -> None:
    """The answer is that of jobs/get, with an id from the sequence."""
    streams = [{"name": "users", "namespace": "public", "syncMode": "incremental"}, {"name": "orders"}]
    answer = create(client, {**SYNC, "streams": streams, "labels": {"team": "data"}})
    assert answer.status_code == 200, answer.text
    job, attempts = answer.json()["job"], answer.json()["attempts"]
    assert attempts == []
    assert (job["id"], job["status"], job["configId"]) == (1, "pending", CONNECTION)
    (read,) = client.post("/api/v1/jobs/list", json={"configTypes": ["sync"]}).json()["jobs"]
    assert [one["name"] for one in read["job"]["enabledStreams"]] == ["users", "orders"]


def test_of_simultaneous_jobs_for_one_connection_one_is_made(client: httpx.Client) -> None:
    """The others are refused, naming it, whether or not the read models show it yet; other jobs are not."""
    together = threading.Barrier(12)

    def ask(number: int) -> httpx.Response:
        together.wait()
        if number % 3 == 0:
            return client.post("/v1/jobs", json={"connectionId": CONNECTION, "jobType": "sync"})
        if number % 3 == 1:
            return create(client, {"configType": "clear", "configId": CONNECTION})
        return create(client, {"configType": "check_connection_source", "configId": CONNECTION})

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    checks = [answer for number, answer in enumerate(answers) if number % 3 == 2]
    assert [answer.status_code for answer in checks] == [200] * 4
    rivals = [answer for number, answer in enumerate(answers) if number % 3 != 2]
    (winner,) = [answer.json() for answer in rivals if answer.status_code == 200]
    lost = [answer.json() for answer in rivals if answer.status_code == 409]
    assert len(lost) == 7
    assert {one["id"] for one in lost} == {winner.get("jobId") or winner["job"]["id"]}
    assert CONNECTION in lost[0]["message"]


def test_an_undecided_job_keeps_its_connection_and_a_decided_one_never(
    client: httpx.Client, database: str
) -> None:
    """However its events contradict each other; in Airbyte such jobs blocked their connections for ever.

    Two successes, a success after the cancellation, an attempt that goes on after the job's end.
    """
    contradictory: list[e.Event] = [created(100)]
    for number in (0, 1):
        about = {"job_id": 100, "attempt_number": number}
        contradictory += [made(e.AttemptStarted, 1, **about), made(e.AttemptSucceeded, 2 + number, **about)]
    contradictory += [created(101), made(e.AttemptStarted, 1, job_id=101, attempt_number=0)]
    contradictory += [made(e.AttemptSucceeded, 3, job_id=101, attempt_number=0)]
    contradictory += [
        e.Cancelled(job_id=101, occurred_at=at(2)),
        created(102),
        e.JobFailed(job_id=102, occurred_at=at(2)),
    ]
    contradictory += [made(e.AttemptStarted, 3, job_id=102, attempt_number=0)]
    project(database, contradictory)
    anomalies = client.get("/v1/anomalies").json()
    assert {one["jobId"] for one in anomalies["anomalies"]} == {100, 101, 102}
    assert create(client).status_code == 200

    undecided: dict[str, list[e.Event]] = {
        "waits": [],
        "runs": [made(e.AttemptStarted, 1, job_id=1001, attempt_number=0)],
        "is to be retried": [e.AttemptFailed(job_id=1002, attempt_number=0)],
    }
    for number, (connection, more) in enumerate(undecided.items()):
        job = created(1000 + number, config_id=connection, connection_id=connection)
        project(database, [job, *more])
        answer = create(client, {"configType": "refresh", "connectionId": connection})
        assert (answer.status_code, answer.json().get("id")) == (409, 1000 + number), connection


def test_a_job_whose_retry_never_comes_gives_its_connection_back(
    client: httpx.Client, database: str, settings: Settings
) -> None:
    """As long as one may come, who is refused is told how to start it; afterwards nobody waits for it."""
    ago = timedelta(seconds=settings.pickup_limit)
    for job_id, more in ((101, timedelta(minutes=-5)), (102, timedelta(minutes=5))):
        failed_at = datetime.now(UTC) - ago - more
        about: dict[str, Any] = {"job_id": job_id, "attempt_number": 0}
        project(
            database,
            [
                created(job_id, connection_id=f"c{job_id}"),
                made(e.AttemptStarted, 1, **about),
                e.AttemptFailed(occurred_at=failed_at, **about),
            ],
        )
    waits = create(client, {"configType": "sync", "connectionId": "c101"})
    assert (waits.status_code, waits.json()["id"]) == (409, 101)
    assert waits.json()["message"].endswith(
        "job 101 waits for a retry; start one (attempt/create_new_attempt_number) or cancel it"
    )
    assert create(client, {"configType": "sync", "connectionId": "c102"}).status_code == 200


def test_one_key_makes_one_job(client: httpx.Client) -> None:
    """Repeated, at once or later, it is answered with the same job; for another request it is refused."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: create(client, key="order-1"), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    (job_id,) = {answer.json()["job"]["id"] for answer in answers}
    client.delete(f"/v1/jobs/{job_id}")
    assert (
        create(client, key="order-1").json()["job"]
        == client.post("/v1/jobs/get", json={"id": job_id}).json()["job"]
    )
    assert client.get("/v1/anomalies").json()["totalCount"] == 0

    other = create(client, {**SYNC, "configType": "refresh"}, key="order-1")
    assert (other.status_code, other.json()["id"], "Idempotency-Key" in other.text) == (409, job_id, True)
    too_long = create(client, key="x" * 256)
    assert (too_long.status_code, "Idempotency-Key" in too_long.text) == (422, True)


def test_a_refused_request_does_not_use_up_its_key(client: httpx.Client) -> None:
    """Once the connection is free, the same request with the same key makes the job."""
    first = create(client).json()["job"]["id"]
    assert create(client, key="again").status_code == 409
    client.post("/api/v1/jobs/cancel", json={"id": first})
    again = create(client, key="again")
    assert (again.status_code, again.json()["job"]["id"] > first) == (200, True)


def test_while_read_models_are_behind_a_job_is_accepted_and_holds_its_connection(settings: Settings) -> None:
    """202 names the job; a repetition with its key is the same event, and nobody else gets the connection."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    impatient = settings.model_copy(update={"read_back_timeout": 0.1})
    with serving(impatient, taken), httpx.Client(base_url=url(taken), timeout=60) as client:
        first, second = create(client, key="k"), create(client, key="k")
        assert (first.status_code, second.status_code) == (202, 202)
        assert "job 1:" in first.json()["message"]
        public = client.post("/v1/jobs", json={"connectionId": "another", "jobType": "sync"})
        assert (first.json()["id"], public.status_code) == (1, 202)
        assert f"job {public.json()['id']}:" in public.json()["message"]
        rival = create(client)
        assert (rival.status_code, rival.json()["id"]) == (409, 1)
        assert re.search(r"being made; try again, in \d+ s", rival.json()["message"])
        project_until_caught_up(settings)
        assert create(client, key="k").json()["job"]["id"] == 1
        assert client.get("/v1/anomalies").json()["totalCount"] == 0


def test_a_job_that_was_never_published_gives_its_connection_back(
    client: httpx.Client, database: str
) -> None:
    """Its maker may have been killed: the reservation lapses."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO jobtrail.connection_reservations (connection_id, job_id) VALUES (%s, 900)",
            [CONNECTION],
        )
        assert create(client).json()["id"] == 900
        connection.execute(
            "UPDATE jobtrail.connection_reservations SET reserved_at = now() - make_interval(secs => %s)",
            [RESERVED_FOR + 1],
        )
    assert create(client).status_code == 200


def test_a_job_that_kafka_surely_did_not_take_gives_its_connection_back_at_once(settings: Settings) -> None:
    """503 while it is away, with a key or without; one that it may have taken keeps its connection."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
        with alone(settings, kafka_bootstrap_servers=away) as client:
            assert [create(client, key=key).status_code for key in ("k", "k", None)] == [503] * 3
    with alone(settings, read_back_timeout=0) as client:
        assert create(client, {"connectionId": CONNECTION}).status_code == 202
    project_until_caught_up(settings)
    # It is sent later than it is waited for, however slow the one who waits is.
    with alone(settings, flush_timeout=1e-6, kafka_client={"linger.ms": "500"}) as hasty:
        other = {**SYNC, "connectionId": "other"}
        assert create(hasty, other, key="unsure").status_code == 503
        assert create(hasty, other).status_code == 409
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
        with alone(settings, kafka_bootstrap_servers=away) as client:
            assert create(client, other, key="unsure").status_code == 503
            assert create(client, other).status_code == 409


@contextmanager
def alone(settings: Settings, **changes: Any) -> Iterator[httpx.Client]:
    """The HTTP server without a projector."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    changed = settings.model_copy(update=changes)
    with serving(changed, taken), httpx.Client(base_url=url(taken), timeout=60) as client:
        yield client


def test_airbytes_own_request_makes_a_sync(client: httpx.Client) -> None:
    """It names the connection alone; what is no connection needs its config type."""
    answer = create(client, {"connectionId": CONNECTION, "isScheduled": True})
    assert (answer.status_code, answer.json()["attempts"]) == (200, [])
    assert (answer.json()["job"]["configType"], answer.json()["job"]["configId"]) == ("sync", CONNECTION)
    unsaid = create(client, {"configId": "an actor", "isScheduled": True})
    assert (unsaid.status_code, unsaid.json()["validationErrors"][0]["propertyPath"]) == (422, "configType")


def test_how_a_stream_is_read_is_one_of_two_ways_and_none_is_named_twice(client: httpx.Client) -> None:
    """Nothing of such a request is kept; another namespace is another stream."""
    users = {"name": "users", "syncMode": "incremental"}
    misfits: list[tuple[str, Any]] = [
        ("streams.0.syncMode", {"streams": [{"name": "users", "syncMode": "sideways"}]}),
        ("streams.0.syncMode", {"streams": [{"name": "users", "syncMode": ""}]}),
        (
            "streams.2.name",
            {"streams": [users, {**users, "namespace": "a"}, {"name": "users", "namespace": ""}]},
        ),
        ("streamsToReset.1.name", {"streamsToReset": [{"name": "users"}] * 2}),
        ("streamsToRefresh.1.name", {"streamsToRefresh": [{"name": "users"}] * 2}),
    ]
    for field, fields in misfits:
        answer = create(client, {**SYNC, **fields})
        assert answer.status_code == 422, field
        assert [one["propertyPath"] for one in answer.json()["validationErrors"]] == [field]
    full = {**users, "namespace": "a", "syncMode": "full_refresh"}
    assert create(client, {**SYNC, "streams": [users, full]}).json()["job"]["id"] == 1


def test_a_job_that_nobody_runs_is_cancelled_at_once(client: httpx.Client) -> None:
    """Who cancelled is kept; a job that is over, or does not exist, is told with its id."""
    job_id = create(client).json()["job"]["id"]
    answer = client.post("/api/v1/jobs/cancel", json={"id": job_id, "cancelledBy": "alice"})
    assert (answer.status_code, answer.json()["job"]["status"]) == (200, "cancelled")
    again = client.post("/api/v1/jobs/cancel", json={"id": job_id})
    assert (again.status_code, again.json()["id"]) == (409, job_id)
    assert "already over: cancelled since" in again.json()["message"]
    for missing in (client.post("/api/v1/jobs/cancel", json={"id": 77}), client.delete("/v1/jobs/77")):
        assert (missing.status_code, missing.json()["id"]) == (404, 77)


def test_whoever_runs_a_job_is_asked_to_cancel_it(client: httpx.Client, settings: Settings) -> None:
    """One that obeys ends it as cancelled; what was committed stays, and partial success says so."""
    job_id = create(client).json()["job"]["id"]
    with worker(settings, job_id):
        becomes(client, job_id, "running")
        answer = client.post("/api/v1/jobs/cancel", json={"id": job_id})
        assert answer.status_code == 200, answer.text
        becomes(client, job_id, "cancelled")
    (attempt,) = client.post("/api/v1/jobs/get", json={"id": job_id}).json()["attempts"]
    summary = attempt["attempt"]["failureSummary"]
    assert summary["partialSuccess"] is True
    assert [one["failureType"] for one in summary["failures"]] == ["manual_cancellation"]


def test_a_request_to_cancel_that_nobody_obeys_stands(client: httpx.Client, settings: Settings) -> None:
    """The answer comes before clients give up, and shows the job as it is."""
    job_id = create(client).json()["job"]["id"]
    with worker(settings, job_id, obeys=False):
        becomes(client, job_id, "running")
        answer = client.delete(f"/v1/jobs/{job_id}", timeout=5)
        assert (answer.status_code, answer.json()["status"]) == (200, "running")
    becomes(client, job_id, "succeeded")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"isScheduled": True}, "configType"),
    ({"configType": "sync"}, "connectionId"),
    ({"configType": "get_spec", "connectionId": "c"}, "configId"),
    ({"configType": "sync", "connectionId": "a", "configId": "b"}, "configId"),
    ({"configType": "knitting", "configId": "b"}, "configType"),
    ({**SYNC, "connectionId": "a\0"}, "connectionId"),
    ({**SYNC, "connectionId": "\ud800"}, "connectionId"),
    ({**SYNC, "connectionId": ""}, "connectionId"),
    ({**SYNC, "streams": [{"namespace": "public"}]}, "streams.0.name"),
    ({**SYNC, "labels": {"k": "x" * 2_000}}, "labels.k"),
]


def test_a_field_that_does_not_fit_is_named(client: httpx.Client) -> None:
    """And no job is made."""
    for body, path in BAD:
        answer = client.post(
            "/api/v1/jobs/create", content=json.dumps(body), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, body
        assert [found["propertyPath"] for found in answer.json()["validationErrors"]] == [path]
    assert client.get("/v1/jobs").json()["data"] == []
