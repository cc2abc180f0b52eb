"""Retry: the projection in SQL and the pure function say the same, and the advice keeps to the limits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from frames import frames_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobtrail import events as e
from jobtrail.errors import SettingError
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Store
from jobtrail.retry import Decision, RetryLimits, RetryState, Situation, advise, backoff, retry_state

NOW = datetime(2026, 2, 1, tzinfo=UTC)
FRESH = itertools.count(1)
#: What became of an attempt: failed after this many committed records (None: unknown), cancelled, or running.
attempts = st.lists(st.sampled_from([None, 0, 7, "cancelled", "running"]), max_size=8)


@pytest.fixture(scope="module")
def store(database_module: str) -> Iterator[Store]:
    opened = Store.open(database_module)
    yield opened
    opened.close()


def told(job_id: int, outcomes: list[int | str | None]) -> Iterator[e.Event]:
    yield e.JobCreated(job_id=job_id, config_type="sync", config_id="c", occurred_at=NOW)
    for number, outcome in enumerate(outcomes):
        then = NOW + timedelta(seconds=number + 1)
        about: dict[str, Any] = {"job_id": job_id, "attempt_number": number}
        yield e.AttemptStarted(**about, occurred_at=then)
        yield e.StreamStats(
            **about,
            occurred_at=then,
            stream_name="s",
            reporter="platform",
            sequence=1,
            records_committed=outcome if isinstance(outcome, int) else None,
        )
        if outcome == "cancelled":
            yield e.Cancelled(**about, occurred_at=then)
        elif outcome != "running":
            yield e.AttemptFailed(**about, occurred_at=then)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempts)
def test_the_projection_is_the_pure_function(store: Store, outcomes: list[int | str | None]) -> None:
    job_id = next(FRESH)
    with store.transaction() as tx:
        tx.merge(fold(frames_of(told(job_id, outcomes))))
        tx.derive()
    row = store.connection.execute(
        "SELECT successive_complete_failures, total_complete_failures, successive_partial_failures,"
        " total_partial_failures FROM jobtrail.jobs WHERE job_id = %s",
        (job_id,),
    ).fetchone()
    failed = [outcome == 7 for outcome in outcomes if outcome not in {"cancelled", "running"}]
    assert row is not None
    assert RetryState(*row) == retry_state(failed)


@given(st.lists(st.booleans(), max_size=1100))
def test_each_kind_of_failure_ends_the_run_of_the_other(failed: list[bool]) -> None:
    state = retry_state(failed)
    assert state.total_partial_failures == sum(failed)
    assert state.total_complete_failures == len(failed) - sum(failed)
    run = len(failed) - max((i + 1 for i, one in enumerate(failed) if one is not failed[-1]), default=0)
    expected = (0, run) if failed and failed[-1] else (run, 0)
    assert (state.successive_complete_failures, state.successive_partial_failures) == expected


def incomplete(failed: list[bool], **more: object) -> Situation:
    return Situation("incomplete", retry_state(failed), NOW, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 10), (2, 30), (3, 90), (4, 270), (5, 810), (6, 1800), (900, 1800)]
)
def test_the_backoff_triples_up_to_half_an_hour(failures: int, seconds: int) -> None:
    state = RetryState(failures, failures, 0, 0)
    assert backoff(state, RetryLimits()) == timedelta(seconds=seconds)


def test_a_complete_failure_waits_for_its_backoff() -> None:
    advice = advise(incomplete([False]), RetryLimits(), NOW + timedelta(seconds=9))
    assert (advice.decision, advice.retry_at) == (Decision.RETRY_AT, NOW + timedelta(seconds=10))
    assert advise(incomplete([False]), RetryLimits(), NOW + timedelta(seconds=10)).decision == "retry_now"


def test_a_partial_failure_is_tried_again_at_once() -> None:
    assert advise(incomplete([False, True]), RetryLimits(), NOW).decision == Decision.RETRY_NOW


@pytest.mark.parametrize(
    ("failed", "given_up"),
    [
        ([False] * 4, False),
        ([False] * 5, True),
        ([*[False] * 4, True] * 2 + [False], False),
        ([*[False] * 4, True] * 2 + [False] * 2, True),
        ([True] * 19, False),
        ([True] * 20, True),
    ],
)
def test_it_is_given_up_at_the_limits(failed: list[bool], given_up: bool) -> None:
    advice = advise(incomplete(failed), RetryLimits(), NOW + timedelta(days=1))
    assert (advice.decision == Decision.GIVE_UP) is given_up


def test_what_cannot_succeed_is_given_up_at_once_and_says_why() -> None:
    advice = advise(incomplete([True], hopeless=True, message="wrong password"), RetryLimits(), NOW)
    assert advice.decision == Decision.GIVE_UP
    assert "wrong password" in advice.reason


@pytest.mark.parametrize("status", ["succeeded", "running", "pending", "queued"])
def test_nothing_is_to_be_done_about_a_job_that_goes_on_or_went_well(status: str) -> None:
    assert advise(Situation(status, RetryState()), RetryLimits(), NOW).decision == Decision.NOTHING


def test_the_limits_are_settings() -> None:
    limits = RetryLimits.from_env({"SYNC_JOB_RETRIES_COMPLETE_FAILURES_MAX_SUCCESSIVE": "2"})
    assert advise(incomplete([False, False]), limits, NOW).decision == Decision.GIVE_UP
    with pytest.raises(SettingError, match="SYNC_JOB_RETRIES_PARTIAL_FAILURES_MAX_TOTAL: 'many'"):
        RetryLimits.from_env({"SYNC_JOB_RETRIES_PARTIAL_FAILURES_MAX_TOTAL": "many"})
