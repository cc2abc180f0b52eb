"""The job as of a moment is what the events until then make of it, by the rules of the live read models."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from api_scenes import at, failed_job, made
from frames import frames_of
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from psycopg.rows import dict_row
from test_projection_laws import BASE, any_event

from jobtrail import codec
from jobtrail import events as e
from jobtrail.api import past, reads
from jobtrail.api.anomalies import anomaly_list
from jobtrail.api.queries import query
from jobtrail.consumers.records import Records
from jobtrail.kinds import micros
from jobtrail.projections.aside import projected
from jobtrail.projections.fold import fold
from jobtrail.projections.store import Store

#: Later than every event.
NOW = datetime(2199, 1, 1, tzinfo=UTC)
FRESH = itertools.count(1)

job_events = any_event.filter(lambda event: isinstance(event, e.JobEvent))
moments = st.integers(-1, 13).map(lambda s: BASE + timedelta(seconds=s * 200)) | st.just(NOW)


class Readers:
    """A database whose read models a test fills and asks."""

    def __init__(self, url: str) -> None:
        self.store = Store.open(url)
        self.asking: reads.Database = psycopg.connect(url, autocommit=True, row_factory=dict_row)

    def project(self, events: Sequence[e.Event]) -> None:
        with self.store.transaction() as tx:
            tx.merge(fold(frames_of(events)))
            tx.derive()

    def close(self) -> None:
        self.store.close()
        self.asking.close()


@pytest.fixture(scope="module")
def whole(database_module: str) -> Iterator[Readers]:
    """Holds all events."""
    found = Readers(database_module)
    yield found
    found.close()


@pytest.fixture(scope="module")
def until(second_database: str) -> Iterator[Readers]:
    """Holds those until a moment."""
    found = Readers(second_database)
    yield found
    found.close()


def told(database: reads.Database, job_id: int) -> dict[str, Any]:
    """All that readers are told of a job."""
    found = {"job_id": job_id}
    return {
        "job": reads.job_info(database, job_id, None).model_dump(),
        "anomalies": anomaly_list(database, job_id=job_id, limit=1000).model_dump(),
        "states": database.execute(query("stream_states"), found).fetchall(),
        "attempts": database.execute(query("attempts"), {"job_ids": [job_id]}).fetchall(),
    }


def in_the_log(events: Sequence[e.Event]) -> Records:
    """The events as messages; the broker took each when it happened."""
    rows = (
        (0, n, micros(event.occurred_at) // 1000, event.key, codec.encode(event))
        for n, event in enumerate(events)
    )
    return Records.from_rows("events", "", rows)


def past_of(readers: Readers, job_id: int, log: Sequence[e.Event]) -> past.Past:
    """From what the read models keep of the job, and the log."""
    rows = readers.asking.execute(past.QUERIES["lifecycle"], {"job_id": job_id}).fetchall()
    kept = past._as_messages(job_id, rows)
    return past.Past(job_id, past.decoded([kept, in_the_log(log)]).frames)


@tried(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(job_events, min_size=1, max_size=14), moments)
def test_as_of_a_moment_equals_projecting_only_the_events_until_then(
    whole: Readers, until: Readers, events: list[e.Event], moment: datetime
) -> None:
    """Whatever the events, two bodies under one id too; the moment may be before all or after all."""
    job_id = next(FRESH)
    events = [event.model_copy(update={"job_id": job_id}) for event in events]
    whole.project(events)
    found = past_of(whole, job_id, events)
    earlier = [event for event in events if event.occurred_at <= moment]
    if not earlier:
        with pytest.raises(reads.JobNotFoundError, match=f"no job {job_id} yet"):
            found.until(moment)
        return
    until.project(earlier)
    with projected(whole.asking, fold(found.until(moment).frames)) as aside:
        as_of = told(aside, job_id)
    assert as_of == told(until.asking, job_id)
    if moment == NOW:
        assert as_of == told(whole.asking, job_id)


def test_lifecycle_events_need_no_log(whole: Readers) -> None:
    """All that job_events keeps comes back as it was told: text, lists, JSON, and when the broker took it."""
    job_id = next(FRESH)
    events = [*failed_job(job_id), made(e.CancelRequested, 20, job_id=job_id, requested_by="é")]
    whole.project(events)
    frequent = [event for event in events if isinstance(event, e.StreamStats)]
    with projected(whole.asking, fold(past_of(whole, job_id, frequent).frames)) as aside:
        assert told(aside, job_id) == told(whole.asking, job_id)


def test_it_shows_the_job_as_readers_saw_it_then(whole: Readers) -> None:
    """Running with 120 of 200 records committed; the failure of a second later is not known yet."""
    job_id = next(FRESH)
    whole.project(failed_job(job_id))
    with projected(
        whole.asking, fold(past_of(whole, job_id, failed_job(job_id)).until(at(9)).frames)
    ) as aside:
        then = reads.job_info(aside, job_id, None)
    assert (then.job.status, then.attempts[0].attempt.status) == ("running", "running")
    assert then.attempts[0].attempt.failure_summary is None
    assert then.job.aggregated_stats is not None
    assert then.job.aggregated_stats.records_committed == 120


def test_nothing_of_it_stays(whole: Readers) -> None:
    """Afterwards the same connection reads the live read models, and no temporary table is left."""
    job_id = next(FRESH)
    with projected(whole.asking, fold(frames_of(failed_job(job_id)))) as aside:
        assert reads.job_info(aside, job_id, None).job.status == "failed"
    with pytest.raises(reads.JobNotFoundError):
        reads.job_info(whole.asking, job_id, None)
    left = "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
    assert whole.asking.execute(left).fetchall() == []
