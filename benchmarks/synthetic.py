"""Jobs that never ran, and the events that they would have published: the same ones for the same seed. Pure.

1.3 attempts a job, 10 streams an attempt, 20 StreamStats a stream; run states, failures with stack traces,
retries, cancellations, jobs that fail for good. Rows are those of the released schemas (avro/): whoever
encodes them gets the bytes that the SDK would have published.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from typing import Any, Final

#: Event type and the fields of its row.
Event = tuple[str, dict[str, Any]]

STREAMS: Final = 10
STATS: Final = 20
#: Microseconds of the jobs' own clock between two events of one partition: 50,000,000 events take four
#: minutes in four partitions, so that no event is further from the broker's time than clocks may be.
STEP: Final = 20
FIRST_JOB: Final = 1_000_000
NAMESPACE: Final = "public"
#: Of a hundred jobs: with one attempt, with two, with three; and how the last one ends.
ATTEMPTS: Final = (76, 18, 6)
OUTCOMES: Final = ("succeeded",) * 92 + ("failed",) * 5 + ("cancelled",) * 3
CAUSES: Final = (
    ("source", "transient_error", "java.net.SocketTimeoutException: Read timed out", True),
    ("source", "config_error", "403 Forbidden: the token lacks the scope orders:read", False),
    ("destination", "system_error", "psycopg.errors.DiskFull: could not extend file", None),
    ("airbyte_platform", "heartbeat_timeout", "no record for 90 minutes", True),
)
STACK: Final = "\n".join(
    f'  File "/airbyte/integration_code/source/module_{depth}.py", line {depth * 37}, in read_{depth}'
    for depth in range(12)
)
NAMES: Final = ("users", "orders", "order_items", "invoices", "payments", "products", "refunds", "carts")


@dataclass(frozen=True)
class Job:
    """What is drawn of a job beforehand, so that a log of a given size can be planned without its events."""

    job_id: int
    seed: int

    @cached_property
    def drawn(self) -> tuple[int, str, int]:
        """Attempts, outcome, and in which attempt streams say that they were resumed (0: in none)."""
        chance = random.Random(self.seed * 0x9E3779B1 + self.job_id)  # noqa: S311  # the same jobs each time
        (attempts,) = chance.choices((1, 2, 3), ATTEMPTS)
        return attempts, chance.choice(OUTCOMES), int(attempts > 1 and chance.random() < 0.5)

    @property
    def size(self) -> int:
        """Number of its events."""
        attempts, outcome, resumed = self.drawn
        each = 1 + STREAMS * (2 + STATS)
        failed = attempts - (outcome != "failed")
        ends = {"succeeded": 1, "failed": 1, "cancelled": 2}[outcome]
        return 1 + attempts * each + 2 * failed + resumed * STREAMS + ends

    def events(self) -> Iterator[Event]:
        """All its events, in order, without `event_id`, `occurred_at` and `sequence`: `stamped` adds them."""
        attempts, outcome, resumed = self.drawn
        chance = random.Random(self.seed * 0x85EBCA6B + self.job_id)  # noqa: S311
        yield "JobCreated", self._created()
        for number in range(attempts):
            last = number == attempts - 1
            good = last and outcome == "succeeded"
            about = {"job_id": self.job_id, "attempt_number": number}
            yield "AttemptStarted", about | _worker(self.job_id + number)
            if number == 1 and resumed:
                for stream in self._streams(about):
                    yield "StreamMetadata", stream | {"was_resumed": True, "was_backfilled": None}
            yield from self._progress(about, chance, number, good=good)
            if last and outcome == "cancelled":
                yield "CancelRequested", {"job_id": self.job_id, "requested_by": "ana@example.org"}
                yield "Cancelled", {"job_id": self.job_id, "attempt_number": None, "cancelled_by": "worker"}
            elif good:
                yield "AttemptSucceeded", about
            else:
                yield "Failure", about | _failure(chance)
                yield "AttemptFailed", about
        if outcome == "failed":
            yield "JobFailed", {"job_id": self.job_id}

    def _created(self) -> dict[str, Any]:
        connection = f"{self.job_id % 500:08x}-1111-4111-8111-111111111111"
        return {
            "job_id": self.job_id,
            "config_type": "refresh" if self.job_id % 50 == 1 else "sync",
            "config_id": connection,
            "connection_id": connection,
            "scope_type": "workspace",
            "scope_id": f"{self.job_id % 50:08x}-2222-4222-8222-222222222222",
            "workspace_id": f"{self.job_id % 50:08x}-2222-4222-8222-222222222222",
            "streams": [
                {
                    "namespace": NAMESPACE,
                    "name": stream["stream_name"],
                    "sync_mode": "incremental" if place % 2 else "full_refresh",
                    "destination_sync_mode": "append_dedup" if place % 2 else "overwrite",
                }
                for place, stream in enumerate(self._streams({}))
            ],
            "streams_to_reset": [],
            "streams_to_refresh": [],
            "labels": [{"key": "team", "value": f"team-{self.job_id % 7}"}],
        }

    def _streams(self, about: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            about | {"stream_namespace": NAMESPACE, "stream_name": f"{NAMES[place % 8]}_{place}"}
            for place in range(STREAMS)
        ]

    def _progress(
        self, about: dict[str, Any], chance: random.Random, number: int, *, good: bool
    ) -> Iterator[Event]:
        """What the streams of an attempt say: beat by beat, each its counters."""
        streams = self._streams(about)
        for stream in streams:
            yield "StreamStatus", stream | _state("RUNNING")
        expected = [chance.randrange(1_000, 2_000_000) for _ in streams]
        rows = [
            {
                **stream,
                "reporter": "platform",
                "records_rejected": 0 if place == 3 else None,
                "estimated_records": records if place % 2 else None,
                "estimated_bytes": records * 180 if place % 2 else None,
            }
            for place, (stream, records) in enumerate(zip(streams, expected, strict=True))
        ]
        emitted = [0] * STREAMS
        for beat in range(STATS):
            final = good and beat == STATS - 1
            for place, row in enumerate(rows):
                emitted[place] += int(expected[place] * chance.random() / 10)
                records = emitted[place]
                # A destination confirms in steps, behind what was given.
                committed = records if final else records // 5_000 * 5_000
                row["records_emitted"], row["bytes_emitted"] = records, records * (150 + place)
                row["state_messages_emitted"] = records // 5_000
                row["records_committed"], row["bytes_committed"] = committed, committed * (150 + place)
                yield "StreamStats", row
        cause = None if good else "FAILED" if number < 2 else "CANCELED"
        for stream in streams:
            yield "StreamStatus", stream | _state("COMPLETE" if good else "INCOMPLETE", cause)


def _worker(turn: int) -> dict[str, Any]:
    return {
        "worker": f"worker-{turn % 40}",
        "dataplane": f"eu-{turn % 4}",
        "source_image": "airbyte/source-postgres",
        "source_version": "3.6.1",
        "destination_image": "airbyte/destination-bigquery",
        "destination_version": "2.9.0",
    }


def _state(run_state: str, cause: str | None = None) -> dict[str, Any]:
    return {"run_state": run_state, "incomplete_run_cause": cause, "quota_reset_at": None}


def _failure(chance: random.Random) -> dict[str, Any]:
    origin, kind, message, retryable = chance.choice(CAUSES)
    return {
        "stream_namespace": None,
        "stream_name": None,
        "failure_origin": origin,
        "failure_type": kind,
        "internal_message": message,
        "external_message": f"Something went wrong within the {origin} connector",
        "stacktrace": f"Traceback (most recent call last):\n{STACK}\n{message}",
        "retryable": retryable,
        "from_trace_message": True,
        "metadata": '{"attempt":"of the benchmark"}',
    }


def stamped(jobs: list[Job], active: int, seed: int, begins_at: int) -> Iterator[Event]:
    """The events of all `jobs`, at most `active` of them at once, in any order among these.

    `begins_at`: microseconds since 1970 of the first event; each is STEP younger than the one before. Rows
    are used again: take what you need before the next.
    """
    chance = random.Random(seed)  # noqa: S311
    draw, bits = chance.random, chance.getrandbits
    waiting = iter(jobs)
    running = [job.events() for job in islice(waiting, active)]
    for at in count(begins_at, STEP):
        if not running:
            return
        place = int(draw() * len(running))
        found = next(running[place], None)
        while found is None:
            following = next(waiting, None)
            if following is not None:
                running[place] = following.events()
            else:
                last = running.pop()
                if not running:
                    return
                if place < len(running):
                    running[place] = last
                else:
                    place = int(draw() * len(running))
            found = next(running[place], None)
        event_type, row = found
        # A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, and random ones.
        text = f"{at // 1000:012x}7{bits(12):03x}{bits(62) | 1 << 63:016x}"
        row["event_id"] = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        row["occurred_at"] = row["sequence"] = at
        yield event_type, row
