"""The watchdog's core: when silence is proven, and that all watchdogs decide the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, event, given
from hypothesis import settings as tuned
from hypothesis import strategies as st

from jobtrail import codec
from jobtrail.consumers.silence import (
    LONGEST_RETURN,
    Awaited,
    Rule,
    Timers,
    decision,
    interval_of,
    limit_of,
)
from jobtrail.events import AttemptFailed, Cancelled, Event, Failure
from jobtrail.job_types import JobType, silence_limit
from jobtrail.settings import Settings

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMIT = 10.0
LAPSE = 3.0


def attempt(sign: float = 0) -> Awaited:
    """An attempt that was last heard of so many seconds after AT."""
    heard = AT + timedelta(seconds=sign)
    return Awaited(Rule.SILENT, 7, 0, JobType.CHECK, heard, heard, LIMIT)


def failed(one: Awaited) -> tuple[Failure, AttemptFailed]:
    """What is decided of an attempt."""
    failure, end = (event for event in decision(one) if not isinstance(event, Cancelled))
    assert isinstance(failure, Failure)
    assert isinstance(end, AttemptFailed)
    return failure, end


def observe(timers: Timers, second: float, *awaited: Awaited) -> list[Awaited]:
    """An observation that took no time."""
    timers.answered(second)
    return timers.observe(second, second, awaited)


def test_what_stays_silent_for_its_limit_is_overdue_once() -> None:
    timers = Timers(LAPSE)
    told = [second for second in range(30) if observe(timers, second, attempt())]
    assert told == [10]


def test_a_sign_of_life_starts_the_timer_anew() -> None:
    timers = Timers(LAPSE)
    told = [second for second in range(30) if observe(timers, second, attempt(0 if second < 9 else 9))]
    assert told == [19]


def test_a_sign_whose_broker_time_went_backwards_is_a_sign() -> None:
    """The greatest broker time stays what it was; the producer's time does not."""
    timers, heard = Timers(LAPSE), attempt()
    later = replace(heard, since=heard.since + timedelta(seconds=9))
    told = [second for second in range(30) if observe(timers, second, heard if second < 9 else later)]
    assert told == [19]


def test_after_an_outage_workers_have_as_long_to_come_back_and_then_the_whole_limit() -> None:
    timers = Timers(LAPSE)
    looks = [*range(9), *range(29, 90)]  # none between 8 and 29
    assert [second for second in looks if observe(timers, second, attempt())] == [29 + 21 + 10]


def test_the_time_to_come_back_is_bounded() -> None:
    timers = Timers(LAPSE)
    looks = [0, *range(10_000, 10_100)]
    told = [second for second in looks if observe(timers, second, attempt())]
    assert told == [10_000 + LONGEST_RETURN + LIMIT]


def test_an_observation_that_took_long_proves_silence_up_to_its_look_only() -> None:
    timers = Timers(LAPSE)
    timers.answered(0)
    assert timers.observe(0, 2, [attempt()]) == []
    for second in range(1, 12):
        timers.answered(second)
        assert timers.observe(second, second + 50, [attempt()]) == []
    timers.answered(12)
    assert timers.observe(12, 62, [attempt()]) == [attempt()]


def test_what_was_forgotten_is_awaited_anew() -> None:
    timers = Timers(LAPSE)
    for second in range(9):
        observe(timers, second, attempt())
    timers.forget()
    assert [second for second in range(9, 30) if observe(timers, second, attempt())] == [19]


Span = tuple[float, float]
#: The looks of a watchdog: the pause before each (some are too long), and how long its reading takes.
looks = st.lists(
    st.tuples(st.sampled_from([0.5, 1, 1, 1, 1, 1, 2, 5]), st.sampled_from([0.0, 0.1, 1.0])),
    min_size=40,
    max_size=60,
)
spans = st.lists(st.tuples(st.floats(0, 40), st.floats(0.1, 20)), max_size=2).map(
    lambda found: [(start, start + length) for start, length in found]
)


def watched(pauses: list[Span], signs: list[float], outages: list[Span]) -> list[tuple[float, Awaited]]:
    """What a watchdog decides, and as of when, in a world of signs of life and outages of the broker."""
    timers, now, decided = Timers(LAPSE), 0.0, []
    for pause, reading in pauses:
        looked_at = now + pause
        now = looked_at + reading
        if any(start <= looked_at <= end for start, end in outages):
            timers.forget()
            continue
        timers.answered(looked_at)
        # The read models hold all that there was at the look, and may hold more.
        last = max(sign for sign in signs if sign <= now)
        decided += [(looked_at, one) for one in timers.observe(looked_at, now, [attempt(last)])]
    return decided


@tuned(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(looks, looks, st.lists(st.floats(0, 40), max_size=4), spans)
def test_no_decision_without_its_limit_of_silence_and_all_watchdogs_decide_alike(
    first: list[Span], second: list[Span], heard: list[float], outages: list[Span]
) -> None:
    """However the looks of two watchdogs fall between signs of life and outages."""
    signs = [0.0] + [sign for sign in heard if not any(start <= sign <= end for start, end in outages)]
    decided = watched(first, signs, outages) + watched(second, signs, outages)
    for as_of, one in decided:
        since = (one.since - AT).total_seconds()
        # Nothing was heard for the whole limit, and the broker was there but for less than a lapse.
        assert not [sign for sign in signs if since + 1e-5 < sign <= as_of]
        assert as_of - since >= LIMIT - 1e-5
        away = [min(end, as_of) - max(start, as_of - LIMIT) for start, end in outages]
        assert max(away, default=0) <= LAPSE
    silences = {one.since for _, one in decided}
    assert len({failed(one)[0].event_id for _, one in decided}) == len(silences)
    event(f"{len(silences)} silences decided, by {len(decided)}")


@tuned(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(looks, st.floats(0, 20))
def test_a_silence_that_watchdogs_can_see_is_decided(pauses: list[Span], last: float) -> None:
    """Within the limit, the pauses before and after it, and what a lapse costs."""
    decided = watched([(min(pause, 1.0), reading) for pause, reading in pauses], [0.0, last], [])
    end = sum(min(pause, 1.0) + reading for pause, reading in pauses)
    if end > last + LIMIT + 4:
        assert [one.since - AT for _, one in decided][-1:] == [timedelta(seconds=last)]


@tuned(deadline=None)
@given(
    st.sampled_from(Rule),
    st.tuples(st.integers(0, 2**53 - 1), st.integers(0, 1023)),
    st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.floats(0.1, 1e9),
    st.integers(-12, 12),
)
def test_a_decision_is_the_same_to_the_byte_wherever_it_is_made(
    rule: Rule, about: tuple[int, int], since: datetime, limit: float, hours: int
) -> None:
    """Also where Postgres tells instants in another time zone; and it always fits the wire."""
    here = Awaited(rule, *about, JobType.CHECK, since, None, limit, "ann")
    elsewhere = replace(here, since=since.astimezone(timezone(timedelta(hours=hours))))
    ours, theirs = decision(here), decision(elsewhere)
    assert [codec.encode(one) for one in ours] == [codec.encode(one) for one in theirs]
    assert len({one.event_id for one in ours}) == len(ours) == (3 if rule == Rule.CANCEL_UNCONFIRMED else 2)
    assert all(one.event_id[14] == "8" for one in ours)


@pytest.mark.parametrize("rule", Rule)
def test_a_decision_says_what_was_waited_for_and_that_a_retry_may_help(rule: Rule) -> None:
    """But not of what is to be cancelled."""
    failure, end = failed(replace(attempt(), rule=rule))
    assert failure.occurred_at == end.occurred_at == AT + timedelta(seconds=LIMIT)
    assert (failure.failure_origin, failure.failure_type) == ("airbyte_platform", "heartbeat_timeout")
    assert failure.retryable is (None if rule == Rule.CANCEL_UNCONFIRMED else True)
    assert failure.stream_name is None
    assert failure.internal_message is not None
    assert "for 10 s after 2026-05-01 12:00:00" in failure.internal_message
    assert failure.external_message


def test_a_cancel_that_nobody_confirms_cancels_the_job_once() -> None:
    """Whichever of its attempts run, and where none does; by who asked, at the end of the limit."""
    waiting = replace(attempt(), rule=Rule.CANCEL_UNCONFIRMED, requested_by="ann")
    others = [replace(waiting, attempt_number=number) for number in (1, None)]
    cancels = [event for one in (waiting, *others) for event in decision(one) if isinstance(event, Cancelled)]
    assert len(cancels) == 3
    assert cancels == [cancels[0]] * 3
    assert (cancels[0].job_id, cancels[0].attempt_number, cancels[0].cancelled_by) == (7, None, "ann")
    assert cancels[0].occurred_at == AT + timedelta(seconds=LIMIT)
    assert decision(others[1]) == [cancels[0]]


def test_what_no_worker_took_waits_as_long_as_a_job_may_wait_for_one() -> None:
    """Whoever starts an attempt over HTTP cannot say that it lives; a cancel is as urgent as any."""
    limits = {rule: limit_of(Settings(), rule, JobType.CHECK) for rule in Rule}
    assert limits == {
        Rule.SILENT: 10,
        Rule.CANCEL_UNCONFIRMED: 10,
        Rule.NOT_PICKED_UP: 3600,
        Rule.NOT_TAKEN: 3600,
    }


def test_decisions_differ_by_rule_attempt_and_sign() -> None:
    base = attempt()
    others = [
        replace(base, rule=Rule.CANCEL_UNCONFIRMED),
        replace(base, job_id=8),
        replace(base, attempt_number=1),
        attempt(1),
    ]
    told: list[Event] = [part for one in (base, *others) for part in decision(one)]
    assert len({one.event_id for one in told}) == len(told) == 11
    assert {type(one) for one in told} == {Failure, AttemptFailed, Cancelled}


def test_the_watchdog_looks_often_enough_for_the_shortest_limit() -> None:
    assert interval_of(Settings()) == silence_limit(Settings(), JobType.CHECK) / 10 == 1
    assert interval_of(Settings(pickup_limit=0.5)) == 0.05
    slow = dict.fromkeys((f"{one}_status_check_interval" for one in JobType), 900.0)
    assert interval_of(Settings.model_validate(slow)) == 10
