from __future__ import annotations

import json
import time
from typing import Any

import psycopg
import pytest
from api_scenes import CONNECTION, at, created, failed_job, heavy_job, made, project, stats

from jobtrail import events as e
from jobtrail.kinds import MAX_NESTING
from jobtrail.producers.logs import AttemptLog
from jobtrail.settings import Settings

pytest_plugins = ["api_client"]


def test_a_job_is_told_in_the_words_of_airbyte(http: Any, database: str) -> None:
    """Every field of the contract is there, with its unit, and what is not known is absent."""
    project(database, failed_job(7))
    answer = http.asked("get", {"id": 7})
    job = answer["job"]
    start = int(at(0).timestamp())
    assert job == {
        "id": 7,
        "configType": "sync",
        "configId": CONNECTION,
        "enabledStreams": [{"name": "users", "namespace": "public"}],
        "createdAt": start,
        "updatedAt": start + 12,
        "startedAt": start + 1,
        "status": "failed",
        "failureReason": {
            "attemptNumber": 0,
            "timestamp": (start + 10) * 1000,
            "failureOrigin": "source",
            "failureType": "system_error",
            "externalMessage": "Something went wrong within the source connector",
            "retryable": True,
        },
        "aggregatedStats": {
            "recordsEmitted": 200,
            "bytesEmitted": 20_000,
            "stateMessagesEmitted": 2,
            "recordsCommitted": 120,
            "bytesCommitted": 12_000,
        },
        "streamAggregatedStats": [
            {
                "streamName": "users",
                "streamNamespace": "public",
                "recordsEmitted": 200,
                "bytesEmitted": 20_000,
                "recordsCommitted": 120,
                "bytesCommitted": 12_000,
            }
        ],
    }
    (entry,) = answer["attempts"]
    counters = {
        "recordsEmitted": 200,
        "bytesEmitted": 20_000,
        "stateMessagesEmitted": 2,
        "recordsCommitted": 120,
        "bytesCommitted": 12_000,
        "estimatedRecords": 1_000,
    }
    assert entry["attempt"] == {
        "id": 0,
        "attemptId": str(7 * 1024),
        "attemptNumber": 0,
        "status": "failed",
        "createdAt": start + 1,
        "updatedAt": start + 11,
        "endedAt": start + 11,
        "bytesSynced": 12_000,
        "recordsSynced": 120,
        "totalStats": counters,
        "streamStats": [{"streamName": "users", "streamNamespace": "public", "stats": counters}],
        "failureSummary": {
            "failures": [
                {
                    "timestamp": (start + 10) * 1000,
                    "failureOrigin": "source",
                    "failureType": "system_error",
                    "internalMessage": "java.net.SocketTimeoutException: Read timed out",
                    "externalMessage": "Something went wrong within the source connector",
                    "stacktrace": "Traceback\n  line 1\n  line 2",
                    "retryable": True,
                    "fromTraceMessage": True,
                    "metadata": {"jobId": 7, "attemptNumber": 0},
                }
            ],
            "partialSuccess": True,
        },
    }
    assert entry["logs"] == {"logLines": []}


def test_unknown_totals_are_absent_and_unknown_streams_an_empty_list(http: Any, database: str) -> None:
    """An attempt that has reported nothing yet shows no zeros."""
    project(database, [created(7), made(e.AttemptStarted, 1, job_id=7, attempt_number=0)])
    (entry,) = http.asked("get", {"id": 7})["attempts"]
    attempt = entry["attempt"]
    assert attempt["streamStats"] == []
    assert attempt.keys().isdisjoint(
        {"totalStats", "bytesSynced", "recordsSynced", "failureSummary", "endedAt"}
    )


def test_sums_beyond_64_bits_are_integers(http: Any, database: str) -> None:
    """Sums are numeric in SQL, and leave as whole numbers all the same."""
    most = 2**63 - 1
    project(database, [created(7), *(stats(7, 0, name, records_emitted=most) for name in "ab")])
    assert http.asked("get_light", {"id": 7})["job"]["aggregatedStats"] == {"recordsEmitted": 2 * most}


def test_the_deepest_metadata_is_answered(http: Any, database: str) -> None:
    """What the contract lets in, get and list give out."""
    deepest = '{"a":' * MAX_NESTING + "1" + "}" * MAX_NESTING
    failure = made(e.Failure, 2, job_id=7, attempt_number=0, failure_origin="source", metadata=deepest)
    project(database, [created(7), made(e.AttemptStarted, 1, job_id=7, attempt_number=0), failure])
    (entry,) = http.asked("get", {"id": 7})["attempts"]
    (job,) = http.asked("list", {"configTypes": ["sync"]})["jobs"]
    for attempt in (entry["attempt"], *job["attempts"]):
        assert attempt["failureSummary"]["failures"][0]["metadata"]["a"] == json.loads(deepest)["a"]


def test_at_most_ten_failures_are_shown_and_how_many_there_are_besides(http: Any, database: str) -> None:
    """What ended the attempt stays, and a cancellation, however late it came."""
    about = {"job_id": 7, "attempt_number": 0}
    told: list[e.Event] = [made(e.Failure, 10 + n, **about, stream_name=f"s{n}") for n in range(20)]
    told += [
        made(e.Failure, 40, **about, internal_message="the attempt's own"),
        made(e.Failure, 41, **about, failure_type="manual_cancellation", stream_name="s0"),
    ]
    project(
        database, [created(7), made(e.AttemptStarted, 1, **about), *told, made(e.AttemptFailed, 50, **about)]
    )
    summary = http.asked("get", {"id": 7})["attempts"][0]["attempt"]["failureSummary"]
    assert summary["failuresLeftOut"] == 12
    names = [failure.get("streamDescriptor", {}).get("name") for failure in summary["failures"]]
    assert names == [*(f"s{n}" for n in range(8)), None, "s0"]
    project(database, [created(8), *(made(e.Failure, n, job_id=8, attempt_number=0) for n in range(10))])
    summary = http.asked("get", {"id": 8})["attempts"][0]["attempt"]["failureSummary"]
    assert len(summary["failures"]) == 10
    assert "failuresLeftOut" not in summary


def test_logs_come_with_get_alone(http: Any, database: str, settings: Settings) -> None:
    """Get has the lines that were kept; get_without_logs has the same shape with none."""
    project(database, failed_job(7))
    log = AttemptLog(settings.home, 7, 0, 10_000)
    log.write("source", "it begins\nit ends")
    log.close()
    (entry,) = http.asked("get", {"id": 7})["attempts"]
    assert [line.split(None, 2)[1:] for line in entry["logs"]["logLines"]] == [
        ["source", "it begins"],
        ["source", "it ends"],
    ]
    (bare,) = http.asked("get_without_logs", {"id": 7})["attempts"]
    assert bare == {**entry, "logs": {"logLines": []}}


def test_a_light_answer_is_under_1_kb_whatever_the_job_weighs(http: Any, database: str) -> None:
    """10 attempts with 100 streams each and 50 failures: the job alone, with its totals, and quickly."""
    project(database, heavy_job(7))
    started = time.perf_counter()
    answer = http.post("get_light", {"id": 7})
    seconds = time.perf_counter() - started
    assert len(answer.content) < 1024
    assert seconds < 2  # a hundredth of that where nothing else runs
    job = answer.json()["job"]
    assert answer.json().keys() == {"job"}
    assert job["aggregatedStats"] == {"recordsEmitted": 10**15, "bytesEmitted": 10**18}
    assert job.keys().isdisjoint({"enabledStreams", "streamAggregatedStats"})
    assert len(http.asked("get", {"id": 7})["attempts"]) == 10


def test_totals_over_attempts_depend_on_how_a_stream_is_read_24738_17293(http: Any, database: str) -> None:
    """Incremental: all attempts. Full refresh: the last, and those that each next one resumed."""
    streams = [
        e.ConfiguredStream(name="incremental", sync_mode="incremental"),
        e.ConfiguredStream(name="anew", sync_mode="full_refresh"),
        e.ConfiguredStream(name="resumed", sync_mode="full_refresh"),
    ]
    found: list[e.Event] = [created(7, streams=streams)]
    for number in range(4):
        about = {"job_id": 7, "attempt_number": number}
        found.append(made(e.AttemptStarted, number * 10 + 1, **about))
        found += [
            stats(7, number, stream.name, number * 10 + 2, records_emitted=10**number) for stream in streams
        ]
        if number >= 2:
            found.append(
                made(e.StreamMetadata, number * 10 + 2, **about, stream_name="resumed", was_resumed=True)
            )
    project(database, found)
    job = http.asked("get", {"id": 7})["job"]
    totals = {stream["streamName"]: stream for stream in job["streamAggregatedStats"]}
    assert {name: stream["recordsEmitted"] for name, stream in totals.items()} == {
        "incremental": 1111,
        "anew": 1000,
        "resumed": 1110,
    }
    assert totals["resumed"]["wasResumed"] is True
    assert "wasResumed" not in totals["anew"]
    assert job["aggregatedStats"]["recordsEmitted"] == 3221
    assert http.asked("get_light", {"id": 7})["job"]["aggregatedStats"] == job["aggregatedStats"]


def test_an_attempt_without_counters_takes_no_part_in_the_totals(http: Any, database: str) -> None:
    """A full refresh keeps its total while the next attempt has counted nothing; then that replaces it."""
    stream = e.ConfiguredStream(name="anew", sync_mode="full_refresh")

    def total() -> int:
        job = http.asked("get", {"id": 7})["job"]
        (of_stream,) = job["streamAggregatedStats"]
        assert of_stream["recordsEmitted"] == job["aggregatedStats"]["recordsEmitted"]
        return int(of_stream["recordsEmitted"])

    project(
        database,
        [
            created(7, streams=[stream]),
            made(e.AttemptStarted, 1, job_id=7, attempt_number=0),
            stats(7, 0, "anew", 2, records_emitted=100),
            made(e.AttemptFailed, 3, job_id=7, attempt_number=0),
            made(e.AttemptStarted, 4, job_id=7, attempt_number=1),
        ],
    )
    assert total() == 100
    project(database, [stats(7, 1, "anew", 5, records_emitted=7)])
    assert total() == 7


def test_a_reset_says_what_it_clears_and_a_refresh_what_it_reads_anew(http: Any, database: str) -> None:
    """Both as Airbyte spells them; the light answer keeps the reset's alone."""
    descriptor = e.StreamDescriptor(namespace="", name="users")
    project(
        database,
        [
            created(7, config_type="reset_connection", streams_to_reset=[descriptor]),
            created(8, config_type="refresh", streams_to_refresh=[descriptor]),
        ],
    )
    assert http.asked("get_light", {"id": 7})["job"]["resetConfig"] == {"streamsToReset": [{"name": "users"}]}
    refresh = http.asked("get", {"id": 8})["job"]["refreshConfig"]
    assert refresh == {"streamsToRefresh": [{"name": "users"}]}
    assert "refreshConfig" not in http.asked("get_light", {"id": 8})["job"]


def test_a_cancelled_attempt_is_failed_without_an_origin(http: Any, database: str) -> None:
    """Nobody's fault; what was committed before stays."""
    about = {"job_id": 7, "attempt_number": 0}
    project(
        database,
        [
            created(7),
            made(e.AttemptStarted, 1, **about),
            stats(7, 0, "users", 2, records_committed=5),
            made(e.Cancelled, 3, job_id=7, cancelled_by="ops"),
        ],
    )
    answer = http.asked("get", {"id": 7})
    attempt = answer["attempts"][0]["attempt"]
    (failure,) = attempt["failureSummary"]["failures"]
    assert (answer["job"]["status"], attempt["status"]) == ("cancelled", "failed")
    assert attempt["failureSummary"]["partialSuccess"] is True
    assert failure["failureType"] == "manual_cancellation"
    assert "failureOrigin" not in failure
    assert failure["externalMessage"] == "This attempt was cancelled"


def test_a_job_says_when_a_cancel_was_asked_for(http: Any, database: str) -> None:
    """In every answer that shows its status, in seconds; absent where nobody asked."""
    project(database, [created(7), made(e.AttemptStarted, 1, job_id=7, attempt_number=0)])
    assert "cancelRequestedAt" not in http.asked("get_light", {"id": 7})["job"]
    project(database, [made(e.CancelRequested, 5.5, job_id=7, requested_by="ops")])
    (listed,) = http.asked("list", {"configTypes": ["sync"]})["jobs"]
    for told in (http.asked("get_light", {"id": 7}), http.asked("get", {"id": 7}), listed):
        assert told["job"]["cancelRequestedAt"] == int(at(5).timestamp())


def test_an_unknown_job_is_404_with_its_id(http: Any) -> None:
    for path in ("get", "get_light", "get_without_logs"):
        answer = http.post(path, {"id": 4711})
        assert (answer.status_code, answer.json()["id"]) == (404, 4711)
        assert "4711" in answer.json()["message"]


def test_a_malformed_request_is_422_and_names_the_field(http: Any) -> None:
    for body, field in (
        ({}, "id"),
        ({"id": "x"}, "id"),
        ({"id": 2**63}, "id"),
        ({"id": -1}, "id"),
        ([], "body"),
    ):
        answer = http.post("get_light", body)
        assert answer.status_code == 422
        assert [found["propertyPath"] for found in answer.json()["validationErrors"]] == [field]
    broken = http.client.post(
        "/api/v1/jobs/get", content=b'{"id": ', headers={"content-type": "application/json"}
    )
    assert (broken.status_code, broken.json()["validationErrors"][0]["propertyPath"]) == (422, "body")


def test_both_prefixes_answer_and_unknown_paths_say_so_in_json(http: Any, database: str) -> None:
    project(database, failed_job(7))
    assert http.post("get", {"id": 7}, prefix="/v1").json() == http.asked("get", {"id": 7})
    unknown = http.client.get("/nothing")
    message = "there is no /nothing; /docs shows what there is"
    assert (unknown.status_code, unknown.json()) == (404, {"message": message})


def test_an_answer_is_one_snapshot_and_readers_cannot_write(settings: Settings) -> None:
    """A connection for reading is read-only, so that no query of ours can harm the read models."""
    from jobtrail.api.database import reading

    with reading(settings) as connection:
        shown = connection.execute("SHOW transaction_isolation").fetchone()
        assert shown == {"transaction_isolation": "repeatable read"}
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM jobtrail_g1.jobs")
