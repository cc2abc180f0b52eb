"""What a job's events mean: ends, decisions, statuses, failure summaries and contradictions, case by case."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from frames import few_of, frames_of
from told import JOB, Told, at, attempt, created, job, stats

from jobtrail import events as e
from jobtrail.projections.fold import fold
from jobtrail.projections.fold_few import fold_few
from jobtrail.projections.store import CheckpointMismatchError, Move, Store
from jobtrail.projections.tables import VERSION


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store.open(database)
    yield opened
    opened.close()


def test_a_job_without_attempts_is_pending(store: Store) -> None:
    told = Told(store, [created()])
    assert (told.status, told.started_at, told.ended_at, told.attempts) == ("pending", None, None, {})


def test_a_started_attempt_runs_and_so_does_its_job(store: Store) -> None:
    told = Told(store, [created(), attempt(1, 0, e.AttemptStarted), stats(2, 0, records_emitted=5)])
    assert (told.status, told.started_at) == ("running", at(1))
    assert told.attempts == {0: ("running", None, None)}
    assert told.anomalies == set()


def test_a_success_ends_the_attempt_and_the_job(store: Store) -> None:
    told = Told(store, [created(), attempt(1, 0, e.AttemptStarted), attempt(3, 0, e.AttemptSucceeded)])
    assert (told.status, told.ended_at) == ("succeeded", at(3))
    assert told.attempts == {0: ("succeeded", at(3), None)}


def test_a_failed_attempt_leaves_the_job_incomplete_until_no_retry_is_left(store: Store) -> None:
    events = [created(), attempt(1, 0, e.AttemptStarted), attempt(2, 0, e.AttemptFailed)]
    assert Told(store, events).status == "incomplete"
    told = Told(store, [job(4, e.JobFailed)])
    assert (told.status, told.ended_at) == ("failed", at(4))
    assert told.attempts[0][:2] == ("failed", at(2))


def test_a_retry_that_runs_makes_the_job_run_again(store: Store) -> None:
    told = Told(
        store,
        [
            created(),
            attempt(1, 0, e.AttemptStarted),
            attempt(2, 0, e.AttemptFailed),
            attempt(3, 1, e.AttemptStarted),
        ],
    )
    assert told.status == "running"


def test_a_failure_alone_ends_its_attempt_but_a_stream_s_does_not_7806(store: Store) -> None:
    begun = [created(), attempt(1, 0, e.AttemptStarted)]
    one_stream = attempt(2, 0, e.Failure, failure_origin="source", stream_name="users")
    assert Told(store, [*begun, one_stream]).attempts[0][0] == "running"
    told = Told(store, [attempt(3, 0, e.Failure, failure_origin="destination")])
    assert told.attempts[0][:2] == ("failed", at(3))
    assert told.status == "incomplete"


def test_failures_come_in_the_order_of_their_time_with_all_they_say(store: Store) -> None:
    told = Told(
        store,
        [
            created(),
            attempt(1, 0, e.AttemptStarted),
            attempt(3, 0, e.Failure, failure_origin="destination", retryable=False),
            attempt(
                2,
                0,
                e.Failure,
                failure_origin="source",
                failure_type="config_error",
                internal_message="100 % of 'it'",
                external_message="Something went wrong",
                stacktrace="at …",
                from_trace_message=True,
                stream_name="users",
                stream_namespace="public",
                metadata='{"exitCode": null}',
            ),
            attempt(4, 0, e.AttemptFailed),
            stats(2.5, 0, records_committed=0),
        ],
    )
    assert told.summary(0) == {
        "partialSuccess": False,
        "failures": [
            {
                "timestamp": int(at(2).timestamp() * 1000),
                "failureOrigin": "source",
                "failureType": "config_error",
                "internalMessage": "100 % of 'it'",
                "externalMessage": "Something went wrong",
                "stacktrace": "at …",
                "fromTraceMessage": True,
                "streamDescriptor": {"name": "users", "namespace": "public"},
                "metadata": {"jobId": JOB, "attemptNumber": 0, "exitCode": None},
            },
            {
                "timestamp": int(at(3).timestamp() * 1000),
                "failureOrigin": "destination",
                "retryable": False,
                "metadata": {"jobId": JOB, "attemptNumber": 0},
            },
        ],
    }


@pytest.mark.parametrize(("committed", "partial"), [(5, True), (0, False), (None, None)])
def test_partial_success_says_whether_anything_was_committed(
    store: Store, committed: int | None, partial: bool | None
) -> None:
    """Unset where nobody knows. Stats that come last count too."""
    Told(store, [created(), attempt(1, 0, e.AttemptStarted), attempt(3, 0, e.AttemptFailed)])
    told = Told(store, [stats(2, 0, records_committed=committed)])
    assert told.summary(0).get("partialSuccess") == partial


def test_partial_success_is_unknown_while_a_stream_s_count_is(store: Store) -> None:
    """False would say that nothing was committed."""
    events = [created(), attempt(1, 0, e.AttemptStarted), attempt(3, 0, e.AttemptFailed)]
    known = stats(2, 0, records_committed=0)
    unknown = stats(2, 0, stream_name="orders", records_emitted=50)
    assert "partialSuccess" not in Told(store, [*events, known, unknown]).summary(0)
    assert Told(store, [stats(2.5, 0, stream_name="orders", records_committed=1)]).summary(0)[
        "partialSuccess"
    ]


def test_only_an_attempt_that_failed_is_a_partial_success(store: Store) -> None:
    """A stream may fail in an attempt that runs, or succeeds: its reason is shown, and no verdict."""
    one_stream = attempt(2, 0, e.Failure, failure_origin="source", stream_name="users")
    told = Told(
        store, [created(), attempt(1, 0, e.AttemptStarted), one_stream, stats(2, 0, records_committed=3)]
    )
    assert told.attempts[0][0] == "running"
    assert told.summary(0).keys() == {"failures"}
    told = Told(store, [attempt(3, 0, e.AttemptSucceeded)])
    assert told.attempts[0][0] == "succeeded"
    assert told.summary(0).keys() == {"failures"}


def test_metadata_cannot_name_another_job(store: Store) -> None:
    failure = attempt(2, 0, e.Failure, metadata='{"jobId": 5, "attemptNumber": 9, "more": 1}')
    told = Told(store, [created(), attempt(1, 0, e.AttemptStarted), failure])
    assert told.summary(0)["failures"][0]["metadata"] == {"jobId": JOB, "attemptNumber": 0, "more": 1}


def test_a_cancellation_that_the_worker_told_is_told_once(store: Store) -> None:
    told = Told(
        store,
        [
            created(),
            attempt(1, 0, e.AttemptStarted),
            attempt(2, 0, e.Failure, failure_type="manual_cancellation", internal_message="mine"),
            job(2, e.Cancelled),
        ],
    )
    assert [reason["internalMessage"] for reason in told.summary(0)["failures"]] == ["mine"]


def test_cancelling_a_job_fails_its_running_attempt_and_keeps_what_was_known(store: Store) -> None:
    told = Told(
        store,
        [
            created(),
            attempt(1, 0, e.AttemptStarted),
            attempt(2, 0, e.Failure, failure_origin="source", stream_name="users"),
            stats(2, 0, records_committed=3),
            job(3, e.CancelRequested, requested_by="ann"),
            job(4, e.Cancelled),
            attempt(5, 0, e.AttemptFailed),
        ],
    )
    assert (told.status, told.ended_at) == ("cancelled", at(4))
    assert told.attempts[0][:2] == ("failed", at(4))
    assert told.summary(0)["partialSuccess"] is True
    source, cancelled = told.summary(0)["failures"]
    assert source["failureOrigin"] == "source"
    assert cancelled == {
        "timestamp": int(at(4).timestamp() * 1000),
        "failureType": "manual_cancellation",
        "internalMessage": "Setting attempt to FAILED because the job was cancelled",
        "externalMessage": "This attempt was cancelled",
        "metadata": {"jobId": JOB, "attemptNumber": 0},
    }


def test_an_attempt_that_had_failed_before_is_not_called_cancelled(store: Store) -> None:
    told = Told(
        store,
        [created(), attempt(1, 0, e.AttemptStarted), attempt(2, 0, e.AttemptFailed), job(3, e.Cancelled)],
    )
    assert told.status == "cancelled"
    assert told.attempts[0][1] == at(2)
    assert told.summary(0)["failures"] == []


def test_cancelling_one_attempt_leaves_the_job_open(store: Store) -> None:
    told = Told(store, [created(), attempt(1, 0, e.AttemptStarted), attempt(2, 0, e.Cancelled)])
    assert told.status == "incomplete"
    assert told.summary(0)["failures"][0]["failureType"] == "manual_cancellation"


def test_a_success_after_the_cancellation_does_not_decide(store: Store) -> None:
    """A job cancelled while its attempt says succeeded (airbyte #4378): one status, one contradiction."""
    told = Told(
        store,
        [created(), attempt(1, 0, e.AttemptStarted), job(2, e.Cancelled), attempt(3, 0, e.AttemptSucceeded)],
    )
    assert told.status == "cancelled"
    assert told.attempts[0][0] == "failed"
    assert {(0, "success_not_deciding"), (0, "activity_after_end")} <= told.anomalies


def test_two_successes_leave_the_job_usable(store: Store) -> None:
    """Several successful attempts of one job (airbyte #4279)."""
    told = Told(
        store,
        [
            created(),
            *(attempt(1, n, e.AttemptStarted) for n in (0, 1)),
            *(attempt(3 + n, n, e.AttemptSucceeded) for n in (0, 1)),
        ],
    )
    assert (told.status, told.ended_at) == ("succeeded", at(3))
    assert (1, "success_not_deciding") in told.anomalies


@pytest.mark.parametrize(
    ("late", "detail"),
    [
        ([job(5, e.JobFailed)], f"failed at {at(5):%F %T}"),
        ([job(5, e.Cancelled)], f"cancelled at {at(5):%F %T}"),
        (
            [job(6, e.Cancelled), job(5, e.JobFailed)],
            f"failed at {at(5):%F %T} and cancelled at {at(6):%F %T}",
        ),
    ],
)
def test_an_end_of_the_job_after_its_success_is_shown(store: Store, late: list[e.Event], detail: str) -> None:
    """The success stands. Had the end come first, it is the success that decides nothing."""
    begun = [created(), attempt(1, 0, e.AttemptStarted), stats(2, 0, records_emitted=1)]
    told = Told(store, [*begun, attempt(3, 0, e.AttemptSucceeded), *late])
    assert (told.status, told.ended_at) == ("succeeded", at(3))
    assert told.anomalies == {(None, "end_not_deciding")}
    with store.transaction() as tx:
        found = tx.connection.execute("SELECT detail FROM anomalies").fetchall()
    assert found == [(f"{detail}, but the job succeeded at {at(3):%F %T}",)]
    told = Told(store, [job(2, e.Cancelled)])
    assert (told.status, told.ended_at) == ("cancelled", at(2))
    assert (None, "end_not_deciding") not in told.anomalies
    assert (0, "success_not_deciding") in told.anomalies


def test_what_a_retry_says_while_it_runs_derives_nothing_anew(store: Store) -> None:
    """Stats of the attempt that failed do, and so does all that is said of a decided job."""

    def touched(event: e.Event) -> bool:
        with store.transaction() as tx:
            tx.merge(fold(frames_of([event])))
            tx.derive()
            return bool(tx.connection.execute("SELECT FROM touched").fetchall())

    Told(
        store,
        [
            created(),
            attempt(1, 0, e.AttemptStarted),
            attempt(2, 0, e.AttemptFailed),
            attempt(3, 1, e.AttemptStarted),
        ],
    )
    assert not touched(stats(4, 1, records_committed=1))
    assert not touched(attempt(5, 1, e.AttemptHeartbeat))
    assert touched(stats(1.5, 0, records_committed=1))
    assert touched(stats(6, 2, records_committed=0))  # of an attempt that is new
    assert touched(attempt(7, 1, e.AttemptSucceeded))
    assert touched(stats(5, 1, records_committed=2))
    assert touched(stats(1.7, 2, records_committed=2))


@pytest.mark.parametrize(
    "repeats", [1, 12]
)  # Postgres plans a statement anew for some uses, then keeps a plan
def test_of_a_few_jobs_nothing_is_read_whole(store: Store, repeats: int) -> None:
    """However many jobs there are: each event's job is found by key."""
    others = [
        created().model_copy(update={"job_id": number, "event_id": str(uuid.uuid4())})
        for number in range(3_000)
    ]
    with store.transaction() as tx:
        tx.merge(fold(frames_of([*others, attempt(1, 0, e.AttemptStarted)])))
        tx.derive()
    store.connection.execute("ANALYZE")
    for number in range(repeats):
        with store.transaction(few=True) as tx:
            before = _read_whole(tx.connection)
            tx.merge(fold_few(few_of([attempt(2 + number, number, e.AttemptFailed)])))
            tx.derive()
            assert _read_whole(tx.connection) - before < 1_000


def _read_whole(connection: psycopg.Connection[Any]) -> int:
    found = connection.execute(
        "SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_xact_user_tables"
        " WHERE schemaname LIKE 'jobtrail\\_g%'"
    ).fetchone()
    assert found is not None
    return int(found[0])


def test_an_attempt_that_runs_on_under_a_decided_job_is_shown(store: Store) -> None:
    told = Told(
        store,
        [
            created(),
            *(attempt(1, n, e.AttemptStarted) for n in (0, 1)),
            stats(2, 0, records_emitted=1),
            attempt(3, 0, e.AttemptSucceeded),
        ],
    )
    assert told.attempts[1][0] == "running"
    assert told.anomalies == {(1, "running_after_job_end")}


def test_a_start_after_the_decision_is_shown(store: Store) -> None:
    told = Told(store, [created(), job(1, e.Cancelled), attempt(2, 0, e.AttemptStarted)])
    assert told.status == "cancelled"
    assert told.anomalies == {(0, "start_after_decision"), (0, "running_after_job_end")}


def test_what_happened_twice_and_should_not_is_shown(store: Store) -> None:
    """The same event twice is nothing; two events that can only happen once are a contradiction."""
    start = attempt(1, 0, e.AttemptStarted)
    told = Told(store, [created(), start, start])
    assert told.anomalies == set()
    told = Told(store, [created(1), attempt(2, 0, e.AttemptStarted)])
    assert told.anomalies == {(None, "job_id_used_twice"), (0, "second_start")}


def test_two_bodies_under_one_event_id_are_shown(store: Store) -> None:
    """Whichever came first, the same body is kept."""
    one = job(2, e.CancelRequested, requested_by="ann")
    told = Told(store, [created(), one, one.model_copy(update={"requested_by": "bob"})])
    assert told.anomalies == {(None, "event_id_used_twice")}
    kept = store.connection.execute(
        "SELECT body ->> 'requested_by' FROM jobtrail.job_events WHERE event_type = 'CancelRequested'"
    ).fetchall()
    assert kept == [("bob",)]


def test_a_later_event_takes_an_anomaly_back(store: Store) -> None:
    told = Told(store, [attempt(1, 0, e.AttemptStarted)])
    assert told.anomalies == {(None, "job_not_created")}
    assert Told(store, [created()]).anomalies == set()


def test_a_job_of_which_only_stats_were_heard_is_shown(store: Store) -> None:
    told = Told(store, [stats(2, 0, records_emitted=3)])
    assert told.status == "running"
    assert told.anomalies == {(None, "job_not_created")}


def test_a_clock_that_is_off_is_shown(store: Store) -> None:
    frames = frames_of([created(), job(1, e.JobFailed)])
    frames = {t: f.with_columns(_broker_at=f["_broker_at"] + 16 * 60 * 1_000_000) for t, f in frames.items()}
    with store.transaction() as tx:
        tx.merge(fold(frames))
        tx.derive()
    assert Told(store, [created(0.5)]).anomalies >= {(None, "clock_off")}


def test_a_failure_told_of_late_is_no_clock_that_is_off(store: Store) -> None:
    told = [created(), attempt(1, 0, e.AttemptStarted), attempt(2, 0, e.Failure, failure_origin="source")]
    frames = frames_of(told)
    late = 2 * 3600 * 1_000_000
    failures = frames[e.Failure]
    frames[e.Failure] = failures.with_columns(_broker_at=failures["_broker_at"] + late)
    with store.transaction() as tx:
        tx.merge(fold(frames))
        tx.derive()
    assert Told(store, [attempt(3, 0, e.AttemptFailed)]).anomalies == set()


def test_failures_bear_and_are_ordered_by_the_time_that_their_metadata_tells(store: Store) -> None:
    """What is no time there is only metadata; an attempt ends by when its failure was told of."""

    def failed(second: float, **metadata: Any) -> e.Event:
        return attempt(second, 0, e.Failure, internal_message=str(second), metadata=json.dumps(metadata))

    ms = int(at(0).timestamp() * 1000) - 7_200_123
    odd = ["1" * 40, -5, 1e300, None, [ms], 12]
    told = Told(
        store,
        [
            created(),
            attempt(1, 0, e.AttemptStarted),
            failed(2),
            failed(3, failedAt=ms, more=1),
            *(failed(4 + n, failedAt=value) for n, value in enumerate(odd)),
        ],
    )
    failures = told.summary(0)["failures"]
    assert [one["internalMessage"] for one in failures] == ["3", "2", "4", "5", "6", "7", "8", "9"]
    assert failures[0]["timestamp"] == ms
    assert failures[0]["metadata"] == {"more": 1, "jobId": JOB, "attemptNumber": 0}
    assert failures[2]["timestamp"] == int(at(4).timestamp() * 1000)
    assert told.attempts[0][1] == at(2)


@pytest.mark.parametrize("smaller", [e.AttemptFailed, e.Cancelled])
def test_a_cancellation_at_the_instant_of_an_attempts_end_is_the_earlier_one(
    store: Store, smaller: type[e.Event]
) -> None:
    """Whichever id is smaller: who ends an attempt because its job is cancelled does both at once."""
    ids = sorted(e.new_event_id() for _ in range(2))
    failed_id, cancelled_id = ids if smaller is e.AttemptFailed else ids[::-1]
    told = Told(
        store,
        [
            created(),
            attempt(1, 0, e.AttemptStarted),
            attempt(2, 0, e.AttemptFailed, event_id=failed_id),
            job(2, e.Cancelled, event_id=cancelled_id),
        ],
    )
    assert told.attempts[0][:2] == ("failed", at(2))
    kinds = [one["failureType"] for one in told.summary(0)["failures"]]
    assert (told.status, kinds) == ("cancelled", ["manual_cancellation"])


def test_a_checkpoint_moves_with_the_rows_or_not_at_all(store: Store) -> None:
    """Whoever is not where the checkpoint is has been replaced: nothing of theirs is written."""
    with store.transaction() as tx:
        tx.advance([Move("t", "events", 0, 0, 10), Move("t", "events", 1, 0, 5)])
    assert store.checkpoints("t") == {0: 10, 1: 5}
    for wrong in (
        [Move("t", "events", 0, 0, 20)],
        [Move("t", "events", 0, 10, 20), Move("t", "events", 1, 4, 9)],
    ):
        with pytest.raises(CheckpointMismatchError), store.transaction() as tx:
            tx.advance(wrong)
            tx.merge(fold(frames_of([created()])))
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:
        tx.advance([Move("t", "events", 0, 10, 20)])
        tx.merge(fold(frames_of([created()])))
        raise ZeroDivisionError
    assert store.checkpoints("t") == {0: 10, 1: 5}
    assert store.connection.execute("SELECT count(*) FROM jobtrail.jobs").fetchone() == (0,)


def test_two_projectors_cannot_fold_the_same_batch(store: Store, database: str) -> None:
    other = Store.open(database)
    try:
        with store.transaction() as tx:
            tx.advance([Move("t", "events", 0, 0, 10)])
        with pytest.raises(CheckpointMismatchError), other.transaction() as tx:
            tx.advance([Move("t", "events", 0, 0, 10)])
    finally:
        other.close()


def test_two_projectors_with_events_of_one_job_derive_one_after_the_other(
    store: Store, database: str
) -> None:
    """A job may be in two partitions, after some were added: neither misses what the other brings."""
    other = Store.open(database)

    def late_stats() -> None:
        with other.transaction() as tx:
            tx.merge(fold(frames_of([stats(5, 1, records_committed=1)])))
            tx.derive()

    thread = threading.Thread(target=late_stats)
    try:
        with store.transaction() as tx:
            tx.merge(fold(frames_of([created(), job(9, e.JobFailed)])))
            tx.derive()
            thread.start()
            thread.join(1)
            assert thread.is_alive(), "it must wait for whoever holds the job"
        thread.join(30)
    finally:
        other.close()
    assert Told(store, [created()]).attempts[1][:2] == ("failed", at(9))


def test_a_swap_of_generations_makes_a_projector_read_its_checkpoints_anew(
    store: Store, database: str
) -> None:
    with store.transaction() as tx:
        tx.advance([Move("t", "events", 0, 0, 10)])
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA jobtrail_g2")
        connection.execute(
            "INSERT INTO jobtrail.generations (generation, version, phase) VALUES (2, %s, 'live')", (VERSION,)
        )
        connection.execute("UPDATE jobtrail.current_generation SET generation = 2")
    with pytest.raises(CheckpointMismatchError, match="generation 2"), store.transaction():
        pass
    assert store.checkpoints("t") == {}
