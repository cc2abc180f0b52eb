"""Windows are functions of the set of events: any order, repetition and batching gives what polars finds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from window_scenes import by_polars, delivered, log_of, said

from jobtrail import events as e
from jobtrail.consumers.window_folding import Message
from jobtrail.consumers.window_partition import Partition

UNTIL = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: When the broker takes them, in milliseconds.
TAKEN = round(UNTIL.timestamp() * 1000)
LATENESS = timedelta(hours=48)


def folded(events: Sequence[e.JobEvent], seed: int, partitions: int = 1) -> list[e.WindowComputed]:
    """All results, with batches of any size, and now and then a worker that dies at some point of a batch.

    The next one has what is durable: all facts of earlier batches, some of this one, or all of it; it goes on
    from the offset that was last committed.
    """
    chance = random.Random(seed)  # noqa: S311  # no secret
    results: list[e.WindowComputed] = []
    for number in range(partitions):
        mine = [event for event in events if event.job_id % partitions == number]
        log = [Message(offset, TAKEN + offset, event) for offset, event in enumerate(mine)]
        facts: dict[bytes, bytes] = {}
        partition, committed, at = Partition(number, facts, LATENESS), 0, 0
        while at < len(log):
            batch = log[at : at + chance.choice((1, 7, 100, 1000))]
            step = partition.fold(batch)
            said_now = list(partition.results(step))
            if chance.random() < 0.2:
                dies = chance.choice(("before", "while saying", "while keeping", "before it commits"))
                if dies == "while saying":
                    results += chance.sample(said_now, k=len(said_now) // 2)
                elif dies != "before":
                    results += said_now
                    keys = list(step.facts)
                    kept = keys if dies == "before it commits" else chance.sample(keys, k=len(keys) // 2)
                    facts.update({key: value for key in kept if (value := step.facts[key]) is not None})
                partition, at = Partition(number, facts, LATENESS), committed
                continue
            results += said_now
            facts.update({key: value for key, value in step.facts.items() if value is not None})
            partition.apply(step)
            at += len(batch)
            if chance.random() < 0.5:
                committed = at
    chance.shuffle(results)
    return results


@given(seed=st.integers(0, 2**32), jobs=st.integers(1, 12))
@example(seed=1, jobs=40)
@hypothesis_settings(max_examples=15, deadline=None)
def test_any_order_repetition_and_batching_give_what_polars_works_out(seed: int, jobs: int) -> None:
    events = log_of(seed, jobs, UNTIL)
    expected = by_polars(events)
    assert said(folded(events, seed)) == expected
    assert said(folded(delivered(seed, events), seed + 1, partitions=3)) == expected


@given(seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=10, deadline=None)
def test_streams_add_up_to_their_totals(seed: int) -> None:
    """Tumbling windows of a stream together are what stream_totals has: nothing is lost or counted twice."""
    events = log_of(seed, 6, UNTIL)
    found = said(folded(delivered(seed, events), seed))
    for counter in ("records_emitted", "records_committed"):
        windows = sum(
            counts[counter]
            for what, counts in found.items()
            if what[0] == "streams" and what[1] == "tumbling"
        )
        newest: dict[tuple[object, ...], dict[str, e.StreamStats]] = {}
        for event in sorted(
            (event for event in events if isinstance(event, e.StreamStats)),
            key=lambda event: (event.sequence, event.event_id),
        ):
            stream = (event.job_id, event.attempt_number, event.stream_namespace or "", event.stream_name)
            newest.setdefault(stream, {})[event.reporter] = event
        own = "source" if counter == "records_emitted" else "destination"
        total = 0
        for reporters in newest.values():
            known = {
                name: value for name, it in reporters.items() if (value := getattr(it, counter)) is not None
            }
            total += known.get("platform", known.get(own, max(known.values(), default=0)))
        assert windows == total


def messages(events: Sequence[tuple[float, e.JobEvent]], first: int = 0) -> list[Message]:
    """Each event taken by the broker so many hours after UNTIL."""
    return [
        Message(first + n, TAKEN + round(hours * 3_600_000), event) for n, (hours, event) in enumerate(events)
    ]


def step(partition: Partition, facts: dict[bytes, bytes], batch: list[Message]) -> list[e.WindowComputed]:
    """One batch, to its end."""
    done = partition.fold(batch)
    results = list(partition.results(done))
    for key, value in done.facts.items():
        if value is None:
            del facts[key]
        else:
            facts[key] = value
    partition.apply(done)
    return results


def test_what_comes_too_late_or_is_dated_ahead_is_counted_apart_and_once() -> None:
    about: dict[str, Any] = {"job_id": 1, "attempt_number": 0}
    hour = timedelta(hours=1)
    batch = messages(
        [
            (0, e.AttemptSucceeded(occurred_at=UNTIL - 47 * hour, job_id=1, attempt_number=0)),
            (0, e.AttemptSucceeded(occurred_at=UNTIL - 49 * hour, job_id=1, attempt_number=1)),
            (0, e.AttemptSucceeded(occurred_at=UNTIL + 2 * hour, job_id=1, attempt_number=2)),
            (0, e.AttemptHeartbeat(occurred_at=UNTIL - 49 * hour, **about)),
        ]
    )
    facts: dict[bytes, bytes] = {}
    partition = Partition(0, facts, LATENESS)
    results = step(partition, facts, batch)
    results += step(partition, facts, batch)
    results += step(Partition(0, facts, LATENESS), facts, batch)
    tumbling = {
        what[0]: counts for what, counts in said(results).items() if what[1] == "tumbling" and what[4] is None
    }
    assert tumbling["refused"] == {"messages_refused": 3}
    assert tumbling["attempts"]["attempts_succeeded"] == 1
    late = next(result for result in results if result.measure == "refused")
    assert late.window_start <= UNTIL < late.window_end


def test_what_no_open_window_needs_is_forgotten_and_final_windows_stay_as_they_are() -> None:
    facts: dict[bytes, bytes] = {}
    partition = Partition(0, facts, LATENESS)
    log = log_of(5, 6, UNTIL)
    results = step(partition, facts, messages([(0, event) for event in log]))
    expected = by_polars(log)
    assert len(facts) > 6
    later = e.JobCreated(
        job_id=7, occurred_at=UNTIL + 60 * timedelta(hours=1), config_type="sync", config_id="c"
    )
    results += step(partition, facts, messages([(60, later)], first=len(log)))
    assert said(results) == expected
    assert len(facts) == 1
    assert not partition._totals
    assert not partition._durations


def test_a_stream_that_runs_for_days_keeps_few_points_and_no_count_is_lost() -> None:
    """Old slots are forgotten, but for what the counters were then; also after a restart."""
    facts: dict[bytes, bytes] = {}
    partition = Partition(0, facts, LATENESS)
    about: dict[str, Any] = {"job_id": 1, "attempt_number": 0, "stream_name": "s", "reporter": "platform"}
    results: list[e.WindowComputed] = []
    log: list[e.JobEvent] = []
    for hour in range(0, 200, 2):
        at = UNTIL + timedelta(hours=hour)
        event = e.StreamStats(occurred_at=at, sequence=hour + 1, records_emitted=10 * hour + 10, **about)
        log.append(event)
        results += step(partition, facts, messages([(hour, event)], first=hour))
        if hour % 50 == 0:
            partition = Partition(0, facts, LATENESS)
    tumbling = [counts["records_emitted"] for what, counts in said(results).items() if what[1] == "tumbling"]
    assert sum(tumbling) == 10 * 198 + 10
    assert said(results) == by_polars(log)
    assert max(map(len, facts.values())) < 3_000


def test_a_stream_that_is_silent_while_its_job_lives_does_not_rise_twice() -> None:
    """Counters are cumulative: what they were is needed for as long as the job is heard."""
    facts: dict[bytes, bytes] = {}
    partition = Partition(0, facts, LATENESS)
    about: dict[str, Any] = {"job_id": 1, "attempt_number": 0}
    log: list[e.JobEvent] = []
    results: list[e.WindowComputed] = []
    for hour in range(121):
        at = UNTIL + timedelta(hours=hour)
        event: e.JobEvent = e.AttemptHeartbeat(occurred_at=at, **about)
        if hour in (0, 120):
            counters: dict[str, Any] = {"sequence": hour + 1, "records_emitted": 1_000_000 + hour}
            event = e.StreamStats(occurred_at=at, stream_name="s", reporter="platform", **counters, **about)
        log.append(event)
        results += step(partition, facts, messages([(hour, event)], first=hour))
        if hour % 50 == 0:
            partition = Partition(0, facts, LATENESS)
    assert said(results) == by_polars(log)
    # Both are forgotten once the job is silent.
    other = e.JobCreated(
        job_id=2, occurred_at=UNTIL + timedelta(hours=200), config_type="sync", config_id="c"
    )
    step(partition, facts, messages([(200, other)], first=len(log)))
    assert list(facts) == [b"[0,2]"]
