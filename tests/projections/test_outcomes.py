"""What a job's outcome means: evidence of success, counts that disagree, retries, the failure in short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from told import JOB, Told, at, attempt, created, job, stats

from jobtrail import events as e
from jobtrail.projections.store import DERIVE, DERIVE_VALUES, Store

USERS = e.ConfiguredStream(name="users")
ORDERS = e.ConfiguredStream(namespace="shop", name="orders")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store.open(database)
    yield opened
    opened.close()


def detail(store: Store, kind: str) -> str:
    rows = store.connection.execute("SELECT detail FROM jobtrail.anomalies WHERE kind = %s", (kind,))
    ((found,),) = rows.fetchall()
    return str(found)


def sync(*streams: e.ConfiguredStream, config_type: str = "sync") -> e.Event:
    return job(0, e.JobCreated, config_type=config_type, config_id="c", connection_id="c", streams=[*streams])


def succeeded(second: float = 9, number: int = 0) -> e.Event:
    return attempt(second, number, e.AttemptSucceeded)


def started(second: float = 1, number: int = 0) -> e.Event:
    return attempt(second, number, e.AttemptStarted)


def test_a_job_that_never_ran_does_not_just_succeed_85355(store: Store) -> None:
    told = Told(store, [sync(), succeeded()])
    assert told.status == "succeeded"
    assert (0, "success_without_evidence") in told.anomalies
    assert detail(store, "success_without_evidence") == (
        "no AttemptStarted; no stats and no status of any stream"
    )


def test_success_names_an_enabled_stream_of_which_nothing_came(store: Store) -> None:
    told = Told(store, [sync(USERS, ORDERS), started(), stats(2, 0, records_committed=4), succeeded()])
    assert told.anomalies == {(0, "success_without_evidence")}
    assert (
        detail(store, "success_without_evidence")
        == "no stats and no status of 1 of 2 streams, such as orders"
    )


def test_a_status_or_stats_of_each_stream_is_evidence_and_takes_the_anomaly_back(store: Store) -> None:
    assert Told(
        store, [sync(USERS, ORDERS), started(), stats(2, 0, records_committed=4), succeeded()]
    ).anomalies
    late = attempt(3, 0, e.StreamStatus, stream_namespace="shop", stream_name="orders", run_state="COMPLETE")
    assert Told(store, [late]).anomalies == set()


@pytest.mark.parametrize("config_type", ["get_spec", "discover_schema", "reset_connection", "clear"])
def test_a_job_that_moves_no_records_needs_its_start_alone(store: Store, config_type: str) -> None:
    assert Told(store, [sync(config_type=config_type), started(), succeeded()]).anomalies == set()


def test_a_success_with_0_records_after_its_attempt_died_is_told_84961(store: Store) -> None:
    told = Told(
        store,
        [
            sync(USERS),
            started(),
            stats(2, 0, records_emitted=50, records_committed=0),
            attempt(3, 0, e.AttemptFailed),
            started(4, 1),
            stats(5, 1, records_emitted=0, records_committed=0),
            succeeded(6, 1),
        ],
    )
    assert told.status == "succeeded"
    assert told.anomalies == {(1, "zero_records")}
    assert detail(store, "zero_records") == "no records were committed"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ([stats(2, 0, records_emitted=0, records_committed=0)], "zero_records"),
        ([stats(2, 0, records_emitted=0)], "zero_records"),
        ([], "success_without_evidence"),
    ],
)
def test_a_sync_that_read_nothing_does_not_just_succeed_70984_32914(
    store: Store, said: list[e.Event], kind: str
) -> None:
    """Its only attempt ran, and its source gave nothing, or nobody said what it gave."""
    told = Told(store, [sync(USERS), started(), *said, succeeded()])
    assert told.anomalies == {(0, kind)}


def test_records_of_an_earlier_attempt_count_and_unknown_ones_are_not_zero(store: Store) -> None:
    earlier = stats(2, 0, records_committed=5)
    again = [started(4, 1), stats(5, 1, records_committed=0), succeeded(6, 1)]
    assert (
        Told(store, [sync(), started(), earlier, attempt(3, 0, e.AttemptFailed), *again]).anomalies == set()
    )


def test_counts_that_disagree_are_shown_30844(store: Store) -> None:
    counted: list[tuple[str, dict[str, Any]]] = [
        ("source", {"records_emitted": 10}),
        ("platform", {"records_emitted": 9, "records_committed": 9}),
        ("destination", {"records_committed": 9}),
    ]
    told = [stats(2, 0, reporter=reporter, **values) for reporter, values in counted]
    running = Told(store, [sync(USERS), started(), *told])
    assert running.anomalies == set()
    assert Told(store, [succeeded()]).anomalies == {(0, "counts_differ")}
    assert detail(store, "counts_differ") == (
        "1 streams, such as users: emitted 10 by the source, 9 by the platform;"
        " committed 9 by the platform, 9 by the destination"
    )
    row = store.connection.execute(
        "SELECT source_records_emitted, platform_records_emitted, platform_records_committed,"
        " destination_records_committed, differs FROM jobtrail.stream_reconciliation"
    ).fetchall()
    assert row == [(10, 9, 9, 9, True)]


def test_whoever_gave_out_the_number_may_start_before_the_worker_does(store: Store) -> None:
    """Two starts are one where only one names a worker; its name is shown, and the first instant."""
    worker = attempt(3, 0, e.AttemptStarted, worker="w1", source_image="source-x")
    assert Told(store, [created(), started(1), worker]).anomalies == set()
    row = store.connection.execute(
        "SELECT started_at, worker, source_image FROM jobtrail.attempts"
    ).fetchall()
    assert row == [(at(1), "w1", "source-x")]
    again = Told(store, [attempt(4, 0, e.AttemptStarted, worker="w2")])
    assert again.anomalies == {(0, "second_start")}


def short_failure(store: Store) -> Any:
    ((reason,),) = store.connection.execute("SELECT failure_reason FROM jobtrail.jobs").fetchall()
    return reason


def failure(second: float, number: int, **values: Any) -> e.Event:
    facts = {"failure_origin": "source", "failure_type": "system_error", "external_message": "m", **values}
    return attempt(second, number, e.Failure, **facts)


def test_the_failure_is_there_when_polling_15100(store: Store) -> None:
    """The last attempt's first failure that is not one stream's; gone while a retry runs; short."""
    events = [
        created(),
        started(),
        failure(2, 0, stream_name="users", external_message="a stream's own"),
        failure(3, 0, external_message="long " * 100, retryable=True),
        failure(4, 0, external_message="later"),
        attempt(5, 0, e.AttemptFailed),
    ]
    assert Told(store, events).status == "incomplete"
    assert short_failure(store) == {
        "attemptNumber": 0,
        "timestamp": int(at(3).timestamp() * 1000),
        "failureOrigin": "source",
        "failureType": "system_error",
        "externalMessage": ("long " * 100)[:120],
        "retryable": True,
    }
    assert Told(store, [started(6, 1)]).status == "running"
    assert short_failure(store) is None
    ended = [failure(7, 1, external_message="second"), attempt(8, 1, e.AttemptFailed), job(9, e.JobFailed)]
    assert Told(store, ended).status == "failed"
    assert (short_failure(store)["attemptNumber"], short_failure(store)["externalMessage"]) == (1, "second")


def test_a_cancelled_job_says_so_before_what_failed_earlier(store: Store) -> None:
    told = Told(store, [created(), started(), failure(2, 0, stream_name="users"), job(3, e.Cancelled)])
    assert told.status == "cancelled"
    assert short_failure(store)["failureType"] == "manual_cancellation"
    assert "failureOrigin" not in short_failure(store)


@pytest.mark.parametrize("attempts", [[], [started(), attempt(2, 0, e.AttemptFailed)]], ids=["none", "mute"])
def test_a_job_whose_attempts_say_nothing_says_what_is_known_15100(
    store: Store, attempts: list[e.Event]
) -> None:
    """Cancelled or failed, before any attempt or after one that gave no reason."""
    assert short_failure_of(store, [created(), *attempts, job(4, e.JobFailed)]) == {
        "timestamp": int(at(4).timestamp() * 1000),
        "externalMessage": "This job failed, and nobody said why",
    }
    assert short_failure_of(store, [job(3, e.Cancelled)]) == {
        "timestamp": int(at(3).timestamp() * 1000),
        "failureType": "manual_cancellation",
        "externalMessage": "This job was cancelled",
    }


def short_failure_of(store: Store, events: list[e.Event]) -> Any:
    Told(store, events)
    return short_failure(store)


def test_an_organization_resolves_to_its_only_default_workspace(store: Store) -> None:
    """What JobCreated carries goes first; without one default, or with two, there is none."""

    def workspace() -> str | None:
        ((found,),) = store.connection.execute(
            "SELECT workspace_id FROM jobtrail.jobs WHERE job_id = %s", (JOB,)
        ).fetchall()
        return found  # type: ignore[no-any-return]

    def registered(workspace_id: str, second: float, *, default: bool) -> e.Event:
        return e.WorkspaceRegistered(
            workspace_id=workspace_id, organization_id="o", is_default=default, occurred_at=at(second)
        )

    scope = {"scope_type": "organization", "scope_id": "o"}
    made = job(0, e.JobCreated, config_type="sync", config_id="c", **scope)
    Told(store, [made, registered("w0", 0, default=False)])
    assert workspace() is None
    Told(store, [registered("w1", 1, default=True)])
    assert workspace() == "w1"
    Told(store, [registered("w2", 2, default=True)])
    assert workspace() is None
    Told(store, [registered("w1", 3, default=False)])
    assert workspace() == "w2"


def test_a_scope_of_a_workspace_is_that_workspace(store: Store) -> None:
    scope = {"scope_type": "workspace", "scope_id": "w"}
    Told(store, [job(0, e.JobCreated, config_type="get_spec", config_id="d", **scope)])
    assert store.connection.execute("SELECT workspace_id FROM jobtrail.jobs").fetchall() == [("w",)]


def test_derivations_read_the_streams_of_touched_jobs_only(store: Store) -> None:
    """Each node of a plan that reads stats or statuses does so by job id: what it costs is a batch's."""
    with store.transaction() as tx:
        tx.connection.execute("SET LOCAL enable_seqscan = off")
        for statement in DERIVE:
            cursor = tx.connection.execute(b"EXPLAIN (FORMAT JSON) " + statement, DERIVE_VALUES)
            ((plan,),) = cursor.fetchall()
            for node in nodes(plan[0]["Plan"]):
                if node.get("Relation Name") in {"stream_stats", "stream_statuses"}:
                    assert "job_id" in node.get("Index Cond", "") + node.get("Recheck Cond", ""), node


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)
