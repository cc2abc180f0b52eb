"""How fast messages become folded rows, on one thread, in memory: neither Kafka nor Postgres takes part.

    make bench-decode
    .venv/bin/python benchmarks/decode.py --events 100000 --rounds 3

A window of an unkind log: --jobs jobs active at once, interleaved at random, each with 10 streams and 20
StreamStats for each stream in an attempt, stream statuses, failures, cancellations and ends. Figures are
events for each second of processor time of this process, the median of --rounds over the whole window cut
into batches; elapsed time would be that of whatever else runs here. The same seed makes the same log.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is imported

from jobtrail import codec
from jobtrail import events as e
from jobtrail.consumers import gate
from jobtrail.consumers.decode import Decoded, Decoder
from jobtrail.consumers.records import Records
from jobtrail.projections.fold import fold
from jobtrail.projections.folding import Folding
from jobtrail.wire import HEADER_SIZE

T = TypeVar("T")
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
STREAMS: Final = tuple(f"{name}_{part}" for name in ("users", "orders", "order_lines") for part in range(4))[
    :10
]
STATS: Final = 20
BATCHES: Final = (5_000, 20_000, 100_000)
#: (partition, offset, milliseconds, key, value)
Message = tuple[int, int, int, bytes, bytes]


class Log:
    """Jobs' lives, interleaved."""

    def __init__(self, seed: int, jobs: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311  # the same log each time
        self._moment = START
        self._lives = [self._life() for _ in range(jobs)]
        for life in self._lives:  # not all of them begin now
            for _ in range(self._chance.randrange(220)):
                next(life)

    def messages(self, count: int) -> Iterator[Message]:
        """The next `count` messages, all in one partition."""
        for offset in range(count):
            slot = self._chance.randrange(len(self._lives))
            make = next(self._lives[slot], None)
            if make is None:
                self._lives[slot] = self._life()
                make = next(self._lives[slot])
            self._moment += timedelta(microseconds=self._chance.randrange(200))
            event = make()
            yield 3, offset, int(self._moment.timestamp() * 1000), event.key, codec.encode(event)

    def _life(self) -> Iterator[Callable[[], e.Event]]:
        """What will happen to one job; each call of what it gives makes an event that happens now."""
        job = {"job_id": 2**52 + self._chance.getrandbits(50)}
        connection = self._uuid(4)
        yield lambda: self._event(
            e.JobCreated,
            **job,
            config_type="sync",
            config_id=connection,
            connection_id=connection,
            scope_type="workspace",
            scope_id=str(uuid.UUID(int=self._chance.randrange(20), version=4)),
            streams=[
                e.ConfiguredStream(namespace="public", name=name, sync_mode="incremental") for name in STREAMS
            ],
        )
        for number in range(4):
            attempt = {**job, "attempt_number": number}
            yield from self._attempt(attempt)
            if self._chance.random() > 0.23:  # 1.3 attempts for each job
                ended = e.Cancelled if self._chance.random() < 0.02 else e.AttemptSucceeded
                yield lambda: self._event(ended, **attempt)  # noqa: B023  # it is called before the next one
                return
            yield lambda: self._event(
                e.Failure,
                **attempt,  # noqa: B023
                failure_origin="source",
                failure_type="system_error",
                external_message="The source closed the connection.",
                internal_message="ConnectionResetError: [Errno 104] Connection reset by peer",
                stacktrace="Traceback (most recent call last):\n"
                + 12 * "  File connector.py, line 7, in read\n",
            )
            yield lambda: self._event(e.AttemptFailed, **attempt)  # noqa: B023
        yield lambda: self._event(e.JobFailed, **job)

    def _attempt(self, attempt: dict[str, Any]) -> Iterator[Callable[[], e.Event]]:
        yield lambda: self._event(
            e.AttemptStarted, **attempt, worker="worker-7", dataplane="eu-1", source_image="airbyte/source-x"
        )
        streams = [{**attempt, "stream_namespace": "public", "stream_name": name} for name in STREAMS]
        for stream in streams:
            yield lambda: self._event(e.StreamStatus, **stream, run_state="RUNNING")  # noqa: B023
        for step in range(1, STATS + 1):
            for stream in streams:
                yield lambda: self._stats(stream, step)  # noqa: B023
        for stream in streams:
            yield lambda: self._event(e.StreamStatus, **stream, run_state="COMPLETE")  # noqa: B023

    def _stats(self, stream: dict[str, Any], step: int) -> e.Event:
        records = step * self._chance.randrange(50, 20_000)
        sequence = int(self._moment.timestamp() * 1_000_000)
        counted = {"records_emitted": records, "bytes_emitted": records * 173, "state_messages_emitted": step}
        if self._chance.random() < 0.5:
            counted |= {"records_committed": records, "bytes_committed": records * 173}
        return self._event(e.StreamStats, **stream, reporter="platform", sequence=sequence, **counted)

    def _event(self, event_type: type[e.Event], **fields: Any) -> e.Event:
        return event_type(event_id=self._uuid(7), occurred_at=self._moment, **fields)

    def _uuid(self, version: int) -> str:
        number = self._chance.getrandbits(128)
        if version == 7:
            number = number & (1 << 80) - 1 | int(self._moment.timestamp() * 1000) << 80
        return str(uuid.UUID(int=number & ~(0xF << 76) | version << 76))


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=300_000, help="in the window of the log (300,000)")
    parser.add_argument("--jobs", type=int, default=5_000, help="active at once (5,000)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken (5)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another log (1)")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    options = parser.parse_args()
    print(f"writing {options.events:,} messages …", file=sys.stderr, flush=True)
    messages = list(Log(options.seed, options.jobs).messages(options.events))
    found = measured(messages, options.rounds)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        _print(found)
    return 0


def measured(messages: Sequence[Message], rounds: int) -> dict[str, Any]:
    """Events for each second of processor time, by step and size of batch, and by event type alone."""
    kinds: dict[str, list[Message]] = {}
    released = codec.released()
    for message in messages:
        wire = released.by_header[message[4][:HEADER_SIZE]]
        kinds.setdefault(wire.event_type.__name__, []).append(message)
    sizes = [size for size in BATCHES if size <= len(messages)] or [len(messages)]
    return {
        "events": len(messages),
        "bytes": statistics.fmean(len(message[4]) for message in messages),
        "batches": {size: _rates(messages, size, rounds) for size in sizes},
        "types": {
            name: {"events": len(ours), **_rates(ours, sizes[-1], rounds)}
            for name, ours in sorted(kinds.items(), key=lambda item: -len(item[1]))
        },
    }


def _rates(messages: Sequence[Message], size: int, rounds: int) -> dict[str, float]:
    batches = [messages[at : at + size] for at in range(0, len(messages), size)]
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for step, seconds in _round(batches).items():
            taken.setdefault(step, []).append(seconds)
    return {step: len(messages) / statistics.median(seconds) for step, seconds in taken.items()}


def _round(batches: Sequence[Sequence[Message]]) -> dict[str, float]:
    """Seconds of each step over all batches."""
    taken: dict[str, float] = {}

    def timed(step: str, do: Callable[[], T]) -> T:
        begun = time.process_time()
        done = do()
        taken[step] = taken.get(step, 0.0) + time.process_time() - begun
        return done

    decoder, folding = Decoder(), Folding()
    for batch in batches:
        records = timed("records", lambda: Records.from_rows("events", "topic", batch))  # noqa: B023
        decoded = timed("decode", lambda: decoder.decode(records))  # noqa: B023
        good: Decoded = timed("gate", lambda: gate.check(decoded, records))  # noqa: B023
        if good.bad or sum(frame.height for frame in good.frames.values()) != len(batch):
            raise SystemExit(f"{len(good.bad)} messages were refused: {good.bad[:1]}")
        timed("fold", lambda: fold(good.frames))  # noqa: B023
        timed("folding", lambda: folding.add(good.frames))  # noqa: B023
    timed("folding", folding.rows)
    taken["to rows"] = taken["decode"] + taken["gate"] + taken["fold"]
    taken["to rows in memory"] = taken["decode"] + taken["gate"] + taken["folding"]
    return taken


STEPS: Final = {
    "records": "Records",
    "decode": "decode",
    "gate": "gate",
    "fold": "fold",
    "folding": "Folding",
    "to rows": "decode + gate + fold",
    "to rows in memory": "decode + gate + Folding",
}


def _print(found: dict[str, Any]) -> None:
    print(f"{found['events']:,} events, {found['bytes']:.0f} bytes a value; thousand events per CPU second;")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    print(f"| | {' | '.join(STEPS.values())} |")
    print("|---" * (len(STEPS) + 1) + "|")
    for size, rates in found["batches"].items():
        _print_row(f"batches of {size:,}", rates)
    for name, rates in found["types"].items():
        _print_row(f"{rates['events']:,} {name} alone", rates)


def _print_row(name: str, rates: dict[str, float]) -> None:
    print(f"| {name} | {' | '.join(f'{rates[step] / 1000:,.0f}' for step in STEPS)} |")


if __name__ == "__main__":
    sys.exit(main())
