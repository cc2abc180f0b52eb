"""Six weeks of jobs of four connections, planned in plain Python, and the events that tell of them.

The answers to the questions of docs/sql.md are computed from the plan, never from the events or the views.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from jobtrail import events as e

FIRST: Final = date(2026, 2, 20)
LAST: Final = date(2026, 4, 5)
#: The month that the questions are about.
MARCH: Final = (date(2026, 3, 1), date(2026, 4, 1))
Stream = tuple[str | None, str]


class Reason(NamedTuple):
    """Why an attempt failed."""

    origin: str
    type: str
    message: str
    retryable: bool | None
    #: The stream that failed alone.
    stream: Stream | None = None


class Counts(NamedTuple):
    """What one reporter counted of a stream in an attempt."""

    emitted: int | None
    committed: int | None
    #: Of each record, emitted or committed.
    size: int = 100


@dataclass
class Attempt:
    """One try, with what came of it."""

    start: datetime
    #: None: it runs.
    end: datetime | None
    outcome: str
    source_version: str
    reasons: list[Reason] = field(default_factory=list)
    counts: dict[Stream, dict[str, Counts]] = field(default_factory=dict)
    resumed: set[Stream] = field(default_factory=set)

    @property
    def reported(self) -> datetime:
        """When its last counters are sent."""
        return (self.end or self.start + timedelta(seconds=90)) - timedelta(seconds=10)

    def moved(self, stream: Stream) -> Counts:
        """What is believed of a stream: the platform's counters, which are always there."""
        return self.counts[stream]["platform"]


@dataclass(frozen=True)
class Connection:
    """What is synced, from where to where."""

    name: str
    workspace: str
    source: str
    destination: str
    #: Stream → its sync mode.
    streams: dict[Stream, str]
    minute_of_day: int


@dataclass
class Job:
    """A job, and how it ended."""

    job_id: int
    connection: Connection
    created: datetime
    status: str
    attempts: list[Attempt]
    config_type: str = "sync"
    #: When it was decided; None: it was not.
    ended: datetime | None = None

    @property
    def day(self) -> date:
        """The day that it belongs to."""
        return self.created.date()

    @property
    def started(self) -> datetime | None:
        """The start of its first attempt."""
        return self.attempts[0].start if self.attempts else None

    @property
    def duration(self) -> float | None:
        """Seconds from its first start to its end."""
        return (self.ended - self.started).total_seconds() if self.ended and self.started else None

    def counted(self) -> list[tuple[Attempt, Stream]]:
        """Whose counters make its totals.

        Of an incremental stream all attempts; of a full refresh the last that counted it, and those before as
        long as each next one resumed.
        """
        found = []
        for stream, mode in self.connection.streams.items():
            counting = [attempt for attempt in self.attempts if stream in attempt.counts]
            for attempt, after in zip(reversed(counting), [None, *reversed(counting)], strict=False):
                if after is not None and mode == "full_refresh" and stream not in after.resumed:
                    break
                found.append((attempt, stream))
        return found

    @property
    def committed(self) -> int | None:
        """Records confirmed, over all attempts that count; None: nobody counted."""
        each = [attempt.moved(stream).committed or 0 for attempt, stream in self.counted()]
        return sum(each) if each else None

    @property
    def committed_bytes(self) -> int | None:
        """Bytes of these."""
        each = [
            count.committed * count.size
            for a, s in self.counted()
            if (count := a.moved(s)).committed is not None
        ]
        return sum(each) if self.counted() else None


CONNECTIONS: Final = (
    Connection(
        *("shop-to-warehouse", "retail", "airbyte/source-postgres", "airbyte/destination-bigquery"),
        {
            ("public", "users"): "incremental",
            ("public", "orders"): "incremental",
            (None, "products"): "full_refresh",
        },
        120,
    ),
    Connection(
        *("crm-to-warehouse", "retail", "airbyte/source-hubspot", "airbyte/destination-bigquery"),
        {(None, "contacts"): "full_refresh", (None, "deals"): "incremental"},
        360,
    ),
    Connection(
        *("ads-to-lake", "growth", "airbyte/source-facebook", "airbyte/destination-s3"),
        {(None, "campaigns"): "full_refresh", (None, "clicks"): "incremental"},
        1_425,  # 23:45: many end on the next day
    ),
    Connection(
        *("logs-to-lake", "growth", "airbyte/source-s3", "airbyte/destination-s3"),
        {("app", "lines"): "incremental"},
        720,
    ),
)
REASONS: Final = (
    Reason("source", "transient_error", "The source timed out", retryable=True),
    Reason("source", "system_error", "The source crashed", retryable=None),
    Reason("destination", "transient_error", "The destination is busy", retryable=True),
    Reason("airbyte_platform", "heartbeat_timeout", "Nothing was heard of the worker", retryable=True),
)
TOKEN: Final = Reason("source", "config_error", "The token has expired", retryable=False)
QUOTA: Final = Reason(
    "source", "transient_error", "The quota is used up", retryable=True, stream=(None, "deals")
)


def planned(seed: int = 7) -> list[Job]:
    """A job a day and connection; what goes wrong is drawn, and some of it planted."""
    chance = random.Random(seed)  # noqa: S311  # the same jobs each time
    jobs = []
    days = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
    for number, day in enumerate(days):
        for place, connection in enumerate(CONNECTIONS):
            created = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(
                minutes=connection.minute_of_day,
                seconds=chance.randrange(600),
                milliseconds=chance.randrange(1000),
            )
            jobs.append(_job(chance, 1_000 + number * 10 + place, connection, created))
    jobs[-1] = _running(chance, jobs[-1])
    jobs[-2] = Job(jobs[-2].job_id, jobs[-2].connection, jobs[-2].created, "pending", [])
    return jobs


def _job(chance: random.Random, job_id: int, connection: Connection, created: datetime) -> Job:
    day = created.date()
    if connection.name == "crm-to-warehouse" and date(2026, 3, 10) <= day <= date(2026, 3, 12):
        fates = ["config"]
    elif connection.name == "logs-to-lake" and day in {date(2026, 3, 5), date(2026, 3, 20)}:
        fates = ["nothing"]
    else:
        fates = chance.choices(
            (
                ["good"],
                ["bad", "good"],
                ["bad", "bad", "good"],
                ["bad", "bad", "bad"],
                ["cancelled"],
                ["bad", "cancelled"],
            ),
            (70, 12, 4, 6, 5, 3),
        )[0]
    at = created + timedelta(seconds=chance.randrange(1, 120))
    attempts: list[Attempt] = []
    for fate in fates:
        attempts.append(_attempt(chance, connection, at, fate, first=not attempts))
        at = (attempts[-1].end or at) + timedelta(seconds=chance.randrange(30, 300))
    end = attempts[-1].end
    match fates[-1]:
        case "good" | "nothing":
            return Job(job_id, connection, created, "succeeded", attempts, ended=end)
        case "cancelled":
            return Job(job_id, connection, created, "cancelled", attempts, ended=end)
        case _:
            return Job(job_id, connection, created, "failed", attempts, ended=at)


def _attempt(
    chance: random.Random, connection: Connection, start: datetime, fate: str, *, first: bool
) -> Attempt:
    seconds = chance.randrange(60, 1_200)
    outcome = {"good": "succeeded", "nothing": "succeeded", "cancelled": "cancelled"}.get(fate, "failed")
    version = "3.6.1" if start.date() < date(2026, 3, 15) else "3.6.2"
    attempt = Attempt(start, start + timedelta(seconds=seconds), outcome, version)
    if fate == "bad":
        attempt.reasons = [chance.choice(REASONS)]
        if connection.name == "crm-to-warehouse" and chance.random() < 0.4:
            attempt.reasons.insert(0, QUOTA)  # told before; the attempt went on without that stream
    elif fate == "config":
        attempt.reasons = [TOKEN]
    slow = connection.name == "ads-to-lake" and start.date() >= date(2026, 3, 16)
    for stream, mode in connection.streams.items():
        if fate == "config" or (fate == "bad" and chance.random() < 0.3):
            continue  # it did not come to that stream
        speed = chance.randrange(50, 60)
        if slow and stream[1] == "clicks":
            speed //= 5
        emitted = 0 if fate == "nothing" else speed * seconds
        committed = emitted if outcome == "succeeded" else emitted // 2
        attempt.counts[stream] = {"platform": Counts(emitted, committed)}
        if chance.random() < 0.15:
            lost = chance.choice((0, 0, 3, 7)) if committed > 7 else 0
            attempt.counts[stream]["source"] = Counts(emitted, None)
            attempt.counts[stream]["destination"] = Counts(None, committed - lost)
        if not first and mode == "full_refresh" and chance.random() < 0.5:
            attempt.resumed.add(stream)
    return attempt


def _running(chance: random.Random, job: Job) -> Job:
    attempt = _attempt(chance, job.connection, job.created + timedelta(seconds=5), "good", first=True)
    attempt.end, attempt.outcome = None, "running"
    return Job(job.job_id, job.connection, job.created, "running", [attempt])


def events_of(job: Job) -> Iterator[e.Event]:
    """What the SDK would have published."""
    connection = job.connection
    yield e.JobCreated(
        job_id=job.job_id,
        occurred_at=job.created,
        config_type=job.config_type,
        config_id=connection.name,
        connection_id=connection.name,
        scope_type="workspace",
        scope_id=connection.workspace,
        streams=[
            e.ConfiguredStream(namespace=namespace, name=name, sync_mode=mode)
            for (namespace, name), mode in connection.streams.items()
        ],
    )
    for number, attempt in enumerate(job.attempts):
        yield from _events_of_attempt(job, number, attempt)
    if job.ended and job.status == "failed":
        yield e.JobFailed(job_id=job.job_id, occurred_at=job.ended)
    if job.ended and job.status == "cancelled":
        yield e.Cancelled(job_id=job.job_id, occurred_at=job.ended, cancelled_by="ana")


def _events_of_attempt(job: Job, number: int, attempt: Attempt) -> Iterator[e.Event]:
    about: dict[str, Any] = {"job_id": job.job_id, "attempt_number": number}
    yield e.AttemptStarted(
        **about,
        occurred_at=attempt.start,
        worker="worker-1",
        dataplane="eu-1",
        source_image=job.connection.source,
        source_version=attempt.source_version,
        destination_image=job.connection.destination,
        destination_version="2.9.0",
    )
    for (namespace, name), counts in attempt.counts.items():
        stream = about | {"stream_namespace": namespace, "stream_name": name}
        if (namespace, name) in attempt.resumed:
            yield e.StreamMetadata(**stream, occurred_at=attempt.start, was_resumed=True)
        for reporter, count in counts.items():
            for sequence, part in ((1, 2), (2, 1)):  # halfway, and at its end
                yield e.StreamStats(
                    **stream,
                    occurred_at=attempt.reported - timedelta(seconds=30 * (part - 1)),
                    reporter=reporter,
                    sequence=sequence,
                    records_emitted=None if count.emitted is None else count.emitted // part,
                    bytes_emitted=None if count.emitted is None else count.emitted // part * count.size,
                    records_committed=None if count.committed is None else count.committed // part,
                    bytes_committed=None if count.committed is None else count.committed // part * count.size,
                )
    for place, reason in enumerate(attempt.reasons):
        of = reason.stream
        assert attempt.end is not None
        yield e.Failure(
            **about,
            occurred_at=attempt.end - timedelta(seconds=len(attempt.reasons) - place),
            stream_namespace=of[0] if of else None,
            stream_name=of[1] if of else None,
            failure_origin=reason.origin,
            failure_type=reason.type,
            external_message=reason.message,
            internal_message=f"{reason.message} (internally)",
            retryable=reason.retryable,
        )
    if attempt.end and attempt.outcome == "succeeded":
        yield e.AttemptSucceeded(**about, occurred_at=attempt.end)
    if attempt.end and attempt.outcome == "failed":
        yield e.AttemptFailed(**about, occurred_at=attempt.end)


def in_march(jobs: Sequence[Job]) -> list[Job]:
    """Those created in March."""
    return [job for job in jobs if MARCH[0] <= job.day < MARCH[1]]
