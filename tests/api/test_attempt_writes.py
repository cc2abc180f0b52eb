from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from api_scenes import created, failed_job, made, project
from attempt_calls import CONNECTION, STREAMS, WORKSPACE, Worker, counted, forget_read_models
from running_service import running
from sdk_reading import of_type, published

from jobtrail import Job
from jobtrail import events as e
from jobtrail.api.serve import bind, serving, url
from jobtrail.consumers.projector import project_until_caught_up
from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

pytest_plugins = ["service_fixtures"]
NEW = "attempt/create_new_attempt_number"


@pytest.fixture
def worker(client: httpx.Client) -> Worker:
    return Worker(client)


@contextmanager
def server_alone(settings: Settings, **changes: Any) -> Iterator[Worker]:
    """The HTTP server without a projector."""
    taken = bind(settings.model_copy(update={"api_port": 0}))
    with (
        serving(settings.model_copy(update=changes), taken),
        httpx.Client(base_url=url(taken), timeout=60) as client,
    ):
        yield Worker(client)


def ask_at_once(worker: Worker, job_id: int, times: int = 50) -> list[httpx.Response]:
    together = threading.Barrier(times)

    def ask(_: int) -> httpx.Response:
        together.wait()
        return worker.post(NEW, {"jobId": job_id})

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(ask, range(times)))


def test_of_fifty_callers_one_gets_the_number_also_after_a_rebuild(patient: Settings, database: str) -> None:
    """One answer and 49 conflicts; what the read models forget, the log and the reservations still know."""
    with running(patient) as address, httpx.Client(base_url=address, timeout=120) as client:
        worker = Worker(client)
        job_id = worker.job()
        answers = ask_at_once(worker, job_id)
        assert Counter(one.status_code for one in answers) == {200: 1, 409: 49}
        assert [one.json() for one in answers if one.status_code == 200] == [{"attemptNumber": 0}]
        (lost, *_) = [one.json() for one in answers if one.status_code == 409]
        assert lost["id"] == job_id
    forget_read_models(database)
    project_until_caught_up(patient)
    with running(patient) as address, httpx.Client(base_url=address, timeout=120) as client:
        worker = Worker(client)
        assert {one.status_code for one in ask_at_once(worker, job_id)} == {409}
        worker.done("attempt/fail", {"jobId": job_id, "attemptNumber": 0}, 204)
    forget_read_models(database)
    project_until_caught_up(patient)
    with running(patient) as address, httpx.Client(base_url=address, timeout=120) as client:
        worker = Worker(client)
        answers = ask_at_once(worker, job_id)
        assert Counter(one.status_code for one in answers) == {200: 1, 409: 49}
        assert [one.json() for one in answers if one.status_code == 200] == [{"attemptNumber": 1}]
        assert worker.anomalies() == []
    starts = of_type(published(patient, job_id), e.AttemptStarted)
    assert [one.attempt_number for one in starts] == [0, 1]


def bare(answer: Any, *left_out: str) -> Any:
    """Without ids, instants and what else no two jobs share."""
    own = {"id", "jobId", "configId", "connectionId", "attemptId", "createdAt", "updatedAt", "startedAt"}
    own |= {"endedAt", "timestamp", "transitionedAt", "metadata", *left_out}
    if isinstance(answer, dict):
        return {name: bare(value, *left_out) for name, value in answer.items() if name not in own}
    return [bare(value, *left_out) for value in answer] if isinstance(answer, list) else answer


def test_a_job_told_by_http_reads_like_the_same_job_told_by_the_sdk(
    worker: Worker, patient: Settings
) -> None:
    """Two attempts, the first with a failure; streams, statuses, metadata, counters, success."""
    by_http = worker.job()
    first = worker.attempt(by_http)
    tell_streams(worker, first, committed=3)
    failure = {
        "timestamp": int(time.time() * 1000),
        "failureOrigin": "destination",
        "failureType": "transient_error",
        "internalMessage": "disk full",
        "externalMessage": "The destination is full",
        "stacktrace": "at some.place",
        "retryable": True,
    }
    worker.done("attempt/fail", {**first, "failureSummary": {"failures": [failure]}}, 204)
    second = worker.attempt(by_http)
    tell_streams(worker, second, committed=5)
    about = {"connectionId": CONNECTION, "standardSyncOutput": {}}
    assert worker.done("jobs/job_success_with_attempt_number", {**second, **about}) == {"succeeded": True}

    by_sdk = tell_by_sdk(patient)
    until = time.monotonic() + 60
    while worker.post("jobs/get_light", {"id": by_sdk}).json().get("job", {}).get("status") != "succeeded":
        assert time.monotonic() < until
        time.sleep(0.05)
    http, sdk = worker.read(by_http), worker.read(by_sdk)
    assert bare(http) == bare(sdk)
    assert http["job"]["aggregatedStats"]["recordsCommitted"] == 3 + 5 + 5
    assert http["attempts"][0]["attempt"]["failureSummary"]["partialSuccess"] is True
    pages = [
        worker.done("stream_statuses/list", {"workspaceId": WORKSPACE, "jobId": job_id, "pagination": {}})
        for job_id in (by_http, by_sdk)
    ]
    assert bare(pages[0]) == bare(pages[1])
    assert len(pages[0]["streamStatuses"]) == 8
    assert worker.anomalies() == []


def tell_streams(worker: Worker, attempt: dict[str, int], committed: int) -> None:
    status = {**attempt, "workspaceId": WORKSPACE, "connectionId": CONNECTION, "jobType": "SYNC"}
    for stream in STREAMS:
        names = {"streamName": stream["name"], "streamNamespace": stream.get("namespace")}
        for state in ("RUNNING", "COMPLETE"):
            now = int(time.time() * 1000)
            worker.done(
                "stream_statuses/create", {**status, **names, "runState": state, "transitionedAt": now}, 201
            )
    stats = {"recordsEmitted": committed, "bytesEmitted": 10 * committed, "recordsCommitted": committed}
    of_streams = [counted(one["name"], one.get("namespace"), **stats) for one in STREAMS]
    body = {**attempt, "connectionId": CONNECTION, "stats": {}, "streamStats": of_streams}
    assert worker.done("attempt/save_stats", body) == {"succeeded": True}
    special = {"streamName": "users", "streamNamespace": "public", "wasBackfilled": True, "wasResumed": False}
    body = {**attempt, "streamMetadata": [special]}
    assert worker.done("attempt/save_stream_metadata", body) == {"succeeded": True}


def tell_by_sdk(settings: Settings) -> int:
    from jobtrail.producers.failure_reason import reason

    streams = [
        e.ConfiguredStream(name=one["name"], namespace=one.get("namespace"), sync_mode=one["syncMode"])
        for one in STREAMS
    ]
    with Publisher(settings) as publisher:
        job = Job.start(
            connection_id="another",
            scope_type="workspace",
            scope_id=WORKSPACE,
            workspace_id=WORKSPACE,
            streams=streams,
            publisher=publisher,
        )
        for committed in (3, 5):
            attempt = job.attempt()
            for one in STREAMS:
                stream = attempt.stream(one["name"], one.get("namespace"))
                stream.status("RUNNING")
                stream.status("COMPLETE")
                stream.emitted(committed, 10 * committed)
                stream.committed(committed)
                if one["name"] == "users":
                    stream.metadata(was_resumed=False, was_backfilled=True)
            if committed == 5:
                attempt.succeed()
            else:
                attempt.fail(
                    reason(
                        "destination",
                        failure_type="transient_error",
                        internal_message="disk full",
                        external_message="The destination is full",
                        stacktrace="at some.place",
                        retryable=True,
                    )
                )
    return job.job_id


def test_whoever_repeats_a_write_says_nothing_new(worker: Worker, patient: Settings) -> None:
    """Each three times, with a key or, for ends, without: the log has each event under one id, no anomaly."""
    job_id = worker.job()
    for _ in range(3):
        number = worker.done(NEW, {"jobId": job_id}, key="one")["attemptNumber"]
        assert number == 0
    first = {"jobId": job_id, "attemptNumber": 0}
    stats = {**first, "streamStats": [counted("users", "public", recordsCommitted=3)]}
    special = {**first, "streamMetadata": [{"streamName": "users", "wasResumed": True}]}
    failures = [{"timestamp": 1_700_000_000_000, "failureOrigin": "source"}, {"internalMessage": "again"}]
    failed = {**first, "failureSummary": {"failures": failures}}
    for _ in range(3):
        worker.done("attempt/save_stats", stats, key="a")
        worker.done("attempt/save_stream_metadata", special, key="b")
    for _ in range(3):
        worker.done("attempt/fail", failed, 204)
    second = worker.attempt(job_id)
    output = {"standardSyncSummary": {"streamStats": [counted("orders", recordsCommitted=1)]}}
    for _ in range(3):
        worker.done("jobs/job_success_with_attempt_number", {**second, "standardSyncOutput": output})
    other = worker.job("other")
    third = worker.attempt(other)
    for _ in range(3):
        worker.done("jobs/job_failure", {**third, "reason": "no retry is left"})
    log = published(patient)
    assert Counter(type(one).__name__ for one in {one.event_id: one for one in log}.values()) == {
        "JobCreated": 2,
        "AttemptStarted": 3,
        "StreamStats": 2,
        "StreamMetadata": 1,
        "Failure": 3,
        "AttemptFailed": 2,
        "AttemptSucceeded": 1,
        "JobFailed": 1,
    }
    bodies = {one.event_id: one for one in log}
    assert all(bodies[one.event_id] == one for one in log), "one id, two bodies"
    kinds = [one.partition(":")[0] for one in worker.anomalies()]
    assert set(kinds) <= {"success_without_evidence"}, "contradictions that nobody said"


def test_one_key_is_for_one_request(worker: Worker) -> None:
    """Another request with the same key is refused, and nothing of it is kept."""
    attempt = worker.attempt(worker.job())
    body = {**attempt, "streamStats": [counted("users", recordsCommitted=3)]}
    worker.done("attempt/save_stats", body, key="k")
    other = {**attempt, "streamStats": [counted("users", recordsCommitted=4)]}
    answer = worker.post("attempt/save_stats", other, "k")
    assert (answer.status_code, "Idempotency-Key" in answer.json()["message"]) == (409, True)
    assert worker.done("attempt/get_combined_stats", attempt) == {"recordsCommitted": 3}


def test_old_counters_repeated_late_do_not_replace_newer_ones(worker: Worker) -> None:
    """A request that is sent again with its key counts as of the first time."""
    attempt = worker.attempt(worker.job())
    for key, records in (("1", 3), ("2", 5), ("1", 3)):
        worker.done(
            "attempt/save_stats",
            {**attempt, "streamStats": [counted("users", recordsCommitted=records)]},
            key=key,
        )
    assert worker.done("attempt/get_combined_stats", attempt)["recordsCommitted"] == 5


def test_failures_of_old_workers_are_told_in_todays_words(worker: Worker) -> None:
    """Names of 2022 are translated, unknown ones kept; what no database can hold is made fit."""
    attempt = worker.attempt(worker.job())
    failures = [
        {"failureOrigin": "replicationWorker", "failureType": "transient", "internalMessage": "a\0b"},
        {"failureOrigin": "comet", "failureType": "userError", "streamDescriptor": {"name": "users"}},
    ]
    worker.done("attempt/fail", {**attempt, "failureSummary": {"failures": failures}}, 204)
    found = worker.done("attempt/get_for_job", attempt)["attempt"]
    assert found["status"] == "failed"
    told = sorted(found["failureSummary"]["failures"], key=lambda one: one["failureOrigin"])
    assert [one["failureOrigin"] for one in told] == ["comet", "replication"]
    assert [one["failureType"] for one in told] == ["config_error", "transient_error"]
    assert told[0]["streamDescriptor"] == {"name": "users"}
    assert (told[1]["retryable"], told[1]["internalMessage"]) == (True, "a\N{REPLACEMENT CHARACTER}b")


def test_a_failed_job_fails_the_attempt_that_runs_and_keeps_the_reason(worker: Worker) -> None:
    """Also where the attempt had ended, or nobody had heard of it; said again it is there once."""
    runs, ended, none = worker.job("a"), worker.job("b"), worker.job("c")
    attempts = [worker.attempt(runs), worker.attempt(ended), {"jobId": none, "attemptNumber": 0}]
    worker.done("attempt/fail", attempts[1], 204)
    for attempt in attempts * 2:
        body = {**attempt, "connectionId": CONNECTION, "reason": "lost its worker"}
        assert worker.done("jobs/job_failure", body) == {"succeeded": True}
    for job_id in (runs, ended, none):
        found = worker.read(job_id)
        assert found["job"]["status"] == "failed"
        (attempt,) = found["attempts"]
        (why,) = attempt["attempt"]["failureSummary"]["failures"]
        assert (why["failureOrigin"], why["internalMessage"]) == ("airbyte_platform", "lost its worker")
        assert found["job"]["failureReason"]["attemptNumber"] == 0
    assert worker.anomalies() == []


def test_a_failed_job_without_a_reason_and_an_attempt_has_no_attempt(worker: Worker) -> None:
    """The job alone fails, and says what is known."""
    job_id = worker.job()
    worker.done("jobs/job_failure", {"jobId": job_id, "attemptNumber": 0})
    found = worker.read(job_id)
    assert (found["job"]["status"], found["attempts"]) == ("failed", [])
    assert found["job"]["failureReason"].keys() == {"timestamp", "externalMessage"}


def test_the_failure_of_a_job_that_had_ended_is_told_to_change_nothing(worker: Worker) -> None:
    """200, for it is durable, with a message; the reason is kept, and no end moves."""
    done, gone = worker.attempt(worker.job("a")), worker.attempt(worker.job("b"))
    worker.done("jobs/job_success_with_attempt_number", done)
    worker.done("jobs/persist_cancellation", gone, 204)
    for attempt, status in ((done, "succeeded"), (gone, "cancelled")):
        answer = worker.done("jobs/job_failure", {**attempt, "reason": "it was too slow"})
        said = f"job {attempt['jobId']} was {status} before, and stays so"
        assert answer == {"succeeded": True, "message": said}
        found = worker.read(attempt["jobId"])
        assert found["job"]["status"] == status
        failures = found["attempts"][0]["attempt"]["failureSummary"]["failures"]
        assert "it was too slow" in {one["internalMessage"] for one in failures}
    kinds = {one.partition(":")[0] for one in worker.anomalies()}
    assert kinds == {"success_without_evidence", "end_not_deciding"}


def test_a_failure_told_late_or_early_bears_its_time_and_contradicts_nothing(
    worker: Worker, patient: Settings
) -> None:
    """Two hours late, before the job was; a moment early, with counters in between, also in what was then."""
    attempt = worker.attempt(worker.job())
    early = int(time.time() * 1000)
    late = early - 2 * 3600 * 1000
    worker.done("attempt/save_stats", {**attempt, "streamStats": [counted("users", recordsCommitted=3)]})
    metadata = {"more": "x" * 30_000}
    failures = [
        {"timestamp": early, "failureOrigin": "source", "metadata": metadata},
        {"timestamp": late, "failureOrigin": "destination"},
    ]
    worker.done("attempt/fail", {**attempt, "failureSummary": {"failures": failures}}, 204)
    found = worker.done("attempt/get_for_job", attempt)["attempt"]["failureSummary"]["failures"]
    assert [(one["failureOrigin"], one["timestamp"]) for one in found] == [
        ("destination", late),
        ("source", early),
    ]
    assert worker.anomalies() == []
    history = worker.client.get(f"/v1/jobs/{attempt['jobId']}/history").json()["events"]
    assert history[0]["eventType"] == "JobCreated"
    for event in history[1:]:
        then = worker.client.get(
            f"/v1/jobs/{attempt['jobId']}/history", params={"at": event["occurredAt"]}
        ).json()["asOf"]
        assert not any("anomalies" in one["attempt"] for one in then["attempts"])
    assert all(
        one.occurred_at == of_type(published(patient), e.AttemptFailed)[0].occurred_at
        for one in of_type(published(patient), e.Failure)
    )


def test_failures_told_after_the_attempts_end_are_no_activity_after_it(worker: Worker, database: str) -> None:
    project(
        database,
        [
            created(7),
            made(e.AttemptStarted, 1, job_id=7, attempt_number=0),
            made(e.AttemptFailed, 2, job_id=7, attempt_number=0),
        ],
    )
    attempt = {"jobId": 7, "attemptNumber": 0}
    body = {**attempt, "failureSummary": {"failures": [{"failureOrigin": "source"}]}}
    for _ in range(2):
        worker.done("attempt/fail", body, 204)
    (failure,) = worker.done("attempt/get_for_job", attempt)["attempt"]["failureSummary"]["failures"]
    assert failure["failureOrigin"] == "source"
    assert worker.anomalies() == []


def test_a_job_that_is_to_be_cancelled_gets_no_more_attempts(worker: Worker) -> None:
    """While an attempt of it runs, and after that has failed by itself."""
    attempt = worker.attempt(worker.job())
    worker.done("jobs/cancel", {"id": attempt["jobId"]})
    for _ in range(2):
        answer = worker.post(NEW, {"jobId": attempt["jobId"]})
        assert (answer.status_code, answer.json()["id"]) == (409, attempt["jobId"])
        assert "be cancelled" in answer.json()["message"]
        worker.done("attempt/fail", attempt, 204)


def test_a_cancelled_attempt_keeps_its_failures_and_its_partial_success(worker: Worker) -> None:
    """Type manual_cancellation, no origin; said again it changes nothing."""
    attempt = worker.attempt(worker.job())
    worker.done("attempt/save_stats", {**attempt, "streamStats": [counted("users", recordsCommitted=3)]})
    summary = {"failures": [{"failureOrigin": "source", "internalMessage": "slow"}], "partialSuccess": False}
    body = {**attempt, "connectionId": CONNECTION, "attemptFailureSummary": summary}
    for _ in range(2):
        worker.done("jobs/persist_cancellation", body, 204)
    found = worker.read(attempt["jobId"])
    assert found["job"]["status"] == "cancelled"
    told = found["attempts"][0]["attempt"]
    assert (told["status"], told["failureSummary"]["partialSuccess"]) == ("failed", True)
    by_type = {one.get("failureType"): one for one in told["failureSummary"]["failures"]}
    assert by_type.keys() == {None, "manual_cancellation"}
    assert "failureOrigin" not in by_type["manual_cancellation"]
    assert by_type["manual_cancellation"]["externalMessage"] == "This attempt was cancelled"
    assert worker.anomalies() == []


def test_a_success_after_the_cancellation_is_an_anomaly_and_the_job_stays_cancelled(worker: Worker) -> None:
    """What contradicts is not hidden: it is published, and shown."""
    attempt = worker.attempt(worker.job())
    worker.done("jobs/persist_cancellation", attempt, 204)
    worker.done("jobs/job_success_with_attempt_number", attempt)
    assert worker.read(attempt["jobId"])["job"]["status"] == "cancelled"
    assert any(one.startswith("success_not_deciding") for one in worker.anomalies())
    assert worker.post(NEW, {"jobId": attempt["jobId"]}).status_code == 409


def test_a_callers_clock_that_is_ahead_makes_no_contradiction(worker: Worker) -> None:
    """Its instants are taken as ours where they are later."""
    ahead = int(time.time() * 1000) + 60_000
    attempt = worker.attempt(worker.job())
    status = {**attempt, "workspaceId": WORKSPACE, "connectionId": CONNECTION, "jobType": "SYNC"}
    status |= {"streamName": "users", "runState": "COMPLETE", "transitionedAt": ahead}
    assert worker.done("stream_statuses/create", status, 201)["transitionedAt"] < ahead
    worker.done("attempt/fail", {**attempt, "failureSummary": {"failures": [{"timestamp": ahead}]}}, 204)
    worker.done("jobs/job_failure", attempt)
    assert worker.anomalies() == []


def test_counters_of_no_stream_are_refused(worker: Worker) -> None:
    """Totals are sums over streams; estimates and silence are no loss. The attempt is alive all the same."""
    attempt = worker.attempt(worker.job())
    before = worker.done("attempt/get_for_job", attempt)["attempt"]["updatedAt"]
    nothing: list[dict[str, Any]] = [{}, {"streamStats": None}, {"streamStats": []}]
    for streams in nothing:
        lost = worker.post("attempt/save_stats", {**attempt, "stats": {"recordsEmitted": 7}, **streams})
        assert lost.status_code == 422
        assert [one["propertyPath"] for one in lost.json()["validationErrors"]] == ["stats"]
    stats = {"estimatedRecords": 7, "recordsEmitted": 0}
    empty = worker.done("attempt/save_stats", {**attempt, "stats": stats, "streamStats": []})
    assert empty == {"succeeded": True}
    assert worker.done("attempt/get_combined_stats", attempt) == {}
    assert worker.done("attempt/get_for_job", attempt)["attempt"]["updatedAt"] >= before


def reservations(database: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(
            "SELECT job_id, attempt_number, held_until = 'infinity'"
            " FROM jobtrail.attempt_reservations ORDER BY job_id, attempt_number"
        ).fetchall()


def test_while_kafka_is_away_nothing_is_reserved(settings: Settings, database: str) -> None:
    """503, soon; once it is back the number is there for whoever asks."""
    project(database, [created(7)])
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
        with server_alone(settings, kafka_bootstrap_servers=away, flush_timeout=0.1) as worker:
            answer = worker.post(NEW, {"jobId": 7})
            assert answer.status_code == 503
            assert "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS" in answer.json()["message"]
    assert reservations(database) == []
    with server_alone(settings, read_back_timeout=0) as worker:
        assert worker.done(NEW, {"jobId": 7}, 202)["attemptNumber"] == 0
    assert reservations(database) == [(7, 0, True)]


def test_an_end_that_kafka_surely_did_not_take_is_said_anew(settings: Settings, database: str) -> None:
    """Its instant is that of the request that was taken, not of the one that was refused."""
    project(database, [created(7), made(e.AttemptStarted, 1, job_id=7, attempt_number=0)])
    attempt = {"jobId": 7, "attemptNumber": 0}
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
        with server_alone(settings, kafka_bootstrap_servers=away) as worker:
            for path in ("attempt/fail", "jobs/job_failure", "jobs/persist_cancellation"):
                assert worker.post(path, attempt).status_code == 503
    between = datetime.now(UTC)
    with server_alone(settings, read_back_timeout=0) as worker:
        worker.done("attempt/fail", attempt, 202)
        worker.done("jobs/job_failure", attempt, 202)
    ends = published(settings)
    assert {type(one) for one in ends} == {e.AttemptFailed, e.JobFailed}
    assert all(one.occurred_at > between for one in ends)


def test_counters_that_come_after_the_end_count_as_of_the_end(worker: Worker) -> None:
    """Airbyte's workers send them when they please: that contradicts nothing."""
    attempt = worker.attempt(worker.job())
    worker.done("attempt/fail", attempt, 204)
    worker.done("attempt/save_stats", {**attempt, "streamStats": [counted("users", recordsCommitted=3)]})
    special = [{"streamName": "users", "wasResumed": True}]
    worker.done("attempt/save_stream_metadata", {**attempt, "streamMetadata": special})
    worker.done("attempt/save_stats", attempt)
    assert worker.done("attempt/get_combined_stats", attempt) == {"recordsCommitted": 3}
    assert worker.anomalies() == []


def test_a_start_that_kafka_did_not_confirm_in_time_goes_to_who_asks_next(
    settings: Settings, database: str
) -> None:
    """The event may be durable or become so: who gets the number publishes the same one."""
    project(database, [created(7)])
    with server_alone(settings, flush_timeout=1e-6, kafka_client={"linger.ms": "500"}) as hasty:
        assert hasty.post(NEW, {"jobId": 7}, "mine").status_code == 503
        assert reservations(database) == [(7, 0, False)]
        with server_alone(settings, read_back_timeout=0) as worker:
            assert worker.done(NEW, {"jobId": 7}, 202, key="mine")["attemptNumber"] == 0
            assert worker.post(NEW, {"jobId": 7}).status_code == 409
            assert worker.done(NEW, {"jobId": 7}, key="mine")["attemptNumber"] == 0
    with server_alone(settings, flush_timeout=1e-6, kafka_client={"linger.ms": "500"}) as hasty:
        project(database, [made(e.AttemptFailed, 60, job_id=7, attempt_number=0)])
        assert hasty.post(NEW, {"jobId": 7}).status_code == 503
        with server_alone(settings, read_back_timeout=0) as worker:
            assert worker.done(NEW, {"jobId": 7}, 202)["attemptNumber"] == 1
    starts = {one.event_id: one for one in of_type(published(settings), e.AttemptStarted)}
    assert sorted(one.attempt_number for one in starts.values()) == [0, 1]


def test_a_number_whose_start_was_never_published_blocks_no_job_for_ever(
    settings: Settings, database: str
) -> None:
    """A server that died between the two: kept for a while, then the next caller's."""
    project(database, [created(7), created(8, config_id="c", connection_id="c")])
    project(database, [made(e.AttemptStarted, 1, job_id=8, attempt_number=0)])
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO jobtrail.attempt_reservations VALUES (7, 0, now(), now() + interval '1 minute'),"
            " (8, 0, now(), now() - interval '1 minute')"
        )
    with server_alone(settings, read_back_timeout=0) as worker:
        assert "being started" in worker.post(NEW, {"jobId": 7}).json()["message"]
        assert worker.done(NEW, {"jobId": 8}, 202)["attemptNumber"] == 0, "it runs, and nobody was told"
        assert worker.post(NEW, {"jobId": 8}).status_code == 409
        with psycopg.connect(database) as connection:
            connection.execute(
                "UPDATE jobtrail.attempt_reservations SET held_until = now() - interval '1 s'"
                " WHERE job_id = 7"
            )
        assert worker.done(NEW, {"jobId": 7}, 202)["attemptNumber"] == 0


def test_while_read_models_are_behind_the_answer_is_given_with_202(settings: Settings, database: str) -> None:
    """With the number in it, and what follows is accepted too; once folded, all is there."""
    project(database, [created(7)])
    with server_alone(settings, read_back_timeout=0.05) as worker:
        answer = worker.done(NEW, {"jobId": 7}, 202)
        assert answer["attemptNumber"] == 0
        assert "ask again later" in answer["message"]
        attempt = {"jobId": 7, "attemptNumber": 0}
        stats = {**attempt, "streamStats": [counted("users", recordsCommitted=3)]}
        assert worker.done("attempt/save_stats", stats, 202)["succeeded"] is True
        worker.done("attempt/fail", attempt, 202)
        project_until_caught_up(settings)
        found = worker.done("attempt/get_for_job", attempt)["attempt"]
    assert (found["status"], found["totalStats"]["recordsCommitted"]) == ("failed", 3)


def test_no_attempt_for_a_job_that_is_over_runs_or_is_unknown(worker: Worker, database: str) -> None:
    """404 and 409 name the job; a job has at most 1,024 attempts."""
    project(database, failed_job(7))
    project(
        database,
        [
            created(8, config_id="c", connection_id="c"),
            *(made(e.AttemptFailed, 1, job_id=8, attempt_number=n) for n in (0, 1023)),
        ],
    )
    attempt = worker.attempt(worker.job())
    answers = [worker.post(NEW, {"jobId": n}) for n in (7, 8, attempt["jobId"], 9999, 2**62)]
    assert [one.status_code for one in answers] == [409, 409, 409, 404, 404]
    assert [one.json()["id"] for one in answers] == [7, 8, attempt["jobId"], 9999, 2**62]
    said = [one.json()["message"] for one in answers]
    for text, words in zip(said, ("is over (failed)", "1,024", "attempt 0", "no job", "no job"), strict=True):
        assert words in text


def test_writes_about_an_unknown_attempt_are_refused(worker: Worker, settings: Settings) -> None:
    """404 names the job, and nothing is published."""
    job_id = worker.job()
    attempt = {"jobId": job_id, "attemptNumber": 3}
    for path in (
        *("attempt/save_stats", "attempt/save_stream_metadata", "attempt/fail", "attempt/get_for_job"),
        *("attempt/get_combined_stats", "jobs/job_success_with_attempt_number"),
    ):
        answer = worker.post(path, attempt)
        assert (answer.status_code, answer.json()["id"]) == (404, job_id), path
        assert "no attempt 3" in answer.json()["message"]
        assert worker.post(path, {**attempt, "jobId": 9999}).json() == {
            "message": "there is no job 9999",
            "id": 9999,
        }
    assert [type(one) for one in published(settings)] == [e.JobCreated]


ATTEMPT = {"jobId": 1, "attemptNumber": 0}
MISFITS: list[tuple[str, dict[str, Any], str]] = [
    (NEW, {}, "jobId"),
    (NEW, {"jobId": "one"}, "jobId"),
    (NEW, {"jobId": True}, "jobId"),
    (NEW, {"jobId": 1.5}, "jobId"),
    (NEW, {"jobId": -1}, "jobId"),
    (NEW, {"jobId": 2**63}, "jobId"),
    ("attempt/save_stats", {"jobId": 1}, "attemptNumber"),
    (
        "attempt/save_stats",
        {**ATTEMPT, "streamStats": [counted("users", recordsEmitted=-1)]},
        "streamStats.0.stats.recordsEmitted",
    ),
    ("attempt/save_stats", {**ATTEMPT, "streamStats": [counted("a\0b")]}, "streamStats.0.streamName"),
    (
        "attempt/save_stream_metadata",
        {**ATTEMPT, "streamMetadata": [{"streamName": "users", "wasResumed": "maybe"}]},
        "streamMetadata.0.wasResumed",
    ),
    (
        "attempt/fail",
        {**ATTEMPT, "failureSummary": {"failures": [{"timestamp": 10**18}]}},
        "failureSummary.failures.0.timestamp",
    ),
    ("jobs/job_failure", {**ATTEMPT, "reason": 7}, "reason"),
    ("jobs/job_failure", {"jobId": 1, "attemptNumber": 1024}, "attemptNumber"),
    ("jobs/persist_cancellation", {**ATTEMPT, "attemptFailureSummary": []}, "attemptFailureSummary"),
]


def test_a_field_of_a_write_that_does_not_fit_is_named(settings: Settings) -> None:
    with server_alone(settings) as worker:
        for path, body, field in MISFITS:
            answer = worker.post(path, body)
            assert answer.status_code == 422, (path, body)
            assert [one["propertyPath"] for one in answer.json()["validationErrors"]] == [field]


def test_fields_that_airbyte_sends_and_nobody_here_needs_are_passed_over(worker: Worker) -> None:
    attempt = worker.attempt(worker.job())
    stats = {"additionalStats": {"x": 1.5}, "recordsCommitted": 1}
    stream = {"streamName": "users", "stats": stats, "more": [1]}
    body = {**attempt, "connectionId": CONNECTION, "stats": stats, "streamStats": [stream], "more": {}}
    assert worker.done("attempt/save_stats", body) == {"succeeded": True}
    assert worker.done("attempt/get_combined_stats", attempt) == {"recordsCommitted": 1}


def test_the_log_bears_our_time(worker: Worker, patient: Settings) -> None:
    """Instants are of the server's clock, and the counters are the platform's."""
    before = datetime.now(UTC)
    attempt = worker.attempt(worker.job())
    worker.done("attempt/save_stats", {**attempt, "streamStats": [counted("users", recordsEmitted=1)]})
    (stats,) = of_type(published(patient), e.StreamStats)
    assert stats.reporter == "platform"
    assert before < stats.occurred_at < datetime.now(UTC)
    assert stats.sequence == int(stats.occurred_at.timestamp() * 1_000_000)
