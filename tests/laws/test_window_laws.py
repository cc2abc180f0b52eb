"""Windows are functions of the set of events: any order, repetition and batching gives what polars works out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from window_scenes import by_polars, delivered, log_of, said

from jobtrail import events as e
from jobtrail.consumers.window_partition import Message, Partition

UNTIL = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: When the broker takes them, in milliseconds.
TAKEN = round(UNTIL.timestamp() * 1000)
LATENESS = timedelta(hours=48)


def folded(events: Sequence[e.JobEvent], seed: int, partitions: int = 1) -> list[e.WindowComputed]:
    """All results, with batches of any size, and now and then a worker that dies at some point of a batch.

    The next one has what is durable: all facts of earlier batches, some of this one, or all of it; it goes on from
    the offset that was last committed.
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
                partition, at = Partition(number, dict(facts), LATENESS), committed
                facts = dict(facts)
                partition = Partition(number, facts, LATENESS)
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
@hypothesis_settings(max_examples=40, deadline=None)
def test_any_order_repetition_and_batching_give_what_polars_works_out(seed: int, jobs: int) -> None:
    events = log_of(seed, jobs, UNTIL)
    expected = by_polars(events)
    assert said(folded(events, seed)) == expected
    assert said(folded(delivered(seed, events), seed + 1, partitions=3)) == expected


@given(seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=20, deadline=None)
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
