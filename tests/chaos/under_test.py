"""What runs in the processes of a round: a projector and a producer of Jobtrail's, as it is.

A projector can be told to kill or stop itself at a named point of its code, by wrapping the methods there;
the product knows nothing of it. To prove the suite, it can also be broken in named ways.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from chaos.workload import share, workload
from jobtrail.consumers import source
from jobtrail.consumers.projector import run_projector
from jobtrail.consumers.reading import CONSUMER_CONFIG
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.receipt import Receipt
from jobtrail.projections import generation as g
from jobtrail.projections.store import Move, Store, Transaction
from jobtrail.settings import Settings

#: Where a projector can end itself: before anything of a transaction, after its checkpoints moved, with jobs
#: merged and attempts not, before Postgres is asked to commit, and before Kafka's own commit.
POINTS: Final = ("before_transaction", "after_advance", "in_merge", "before_commit", "after_commit")
#: Ways to break a projector, each of which loses events.
BREAKAGES: Final = ("no_expected_offset", "offsets_apart")
#: Seconds that a producer waits for Kafka's answers at its end.
PATIENCE: Final = 60.0


@dataclass(frozen=True)
class Point:
    """What a projector does to itself when it comes to a point for the nth time."""

    name: str
    nth: int
    signal: signal.Signals

    def __str__(self) -> str:
        return f"{self.signal.name} {self.name} #{self.nth}"


class Armed:
    """Counts how often a point is reached."""

    def __init__(self, point: Point | None, told: Path) -> None:
        self._point = point
        self._left = point.nth if point else 0
        self._told = told

    def reach(self, name: str) -> None:
        """Kills or stops this process where it was told to, and leaves a file that says so."""
        if self._point and name == self._point.name:
            self._left -= 1
            if self._left == 0:
                self._told.write_text(name)
                os.kill(os.getpid(), self._point.signal)


def project(
    environment: Mapping[str, str], log: Path, told: Path, point: Point | None, breakage: str | None
) -> None:
    """A projector, until it is killed."""
    _redirect(log)
    # By default a heart beats every 3 s; the sessions of a round are shorter.
    vars(source)["CONSUMER_CONFIG"] = {**CONSUMER_CONFIG, "heartbeat.interval.ms": 200}
    _arm(Armed(point, told))
    if breakage:
        _break(breakage, environment["JOBTRAIL_DATABASE_URL"])
    run_projector(Settings.from_env(environment), threading.Event())


def _arm(armed: Armed) -> None:
    transaction, advance, touch = Store.transaction, Transaction.advance, Transaction._touch

    @contextmanager
    def watched(self: Store, *, few: bool = False) -> Iterator[Transaction]:
        armed.reach("before_transaction")
        with transaction(self, few=few) as tx:
            yield tx
            armed.reach("before_commit")
        armed.reach("after_commit")

    @functools.wraps(advance)
    def advanced(self: Transaction, moves: Sequence[Move]) -> None:
        advance(self, moves)
        armed.reach("after_advance")

    @functools.wraps(touch)
    def touched(self: Transaction, table: Any, rows: Any) -> None:
        if table.name == "attempts":
            armed.reach("in_merge")
        touch(self, table, rows)

    setattr(Store, "transaction", watched)  # noqa: B010  # a method of a class that mypy holds
    setattr(Transaction, "advance", advanced)  # noqa: B010
    setattr(Transaction, "_touch", touched)  # noqa: B010


def _break(breakage: str, database_url: str) -> None:
    advance = Transaction.advance

    def unchecked(self: Transaction, moves: Sequence[Move]) -> None:
        """Sets the checkpoints wherever they were."""
        for move in moves:
            self.connection.execute(
                """
                INSERT INTO checkpoints
                    (projection_set, generation, topic_id, log_partition, topic, next_offset)
                VALUES (%s, %s, %s, %s, %s, %s)
                ON CONFLICT (projection_set, generation, topic_id, log_partition)
                    DO UPDATE SET next_offset = excluded.next_offset
                """,
                (
                    *(self.projection_set, self.generation, move.topic_id, move.partition),
                    *(move.topic, move.next),
                ),
            )

    def apart(self: Transaction, moves: Sequence[Move]) -> None:
        """Moves the checkpoints in a transaction of their own, before the rows."""
        with psycopg.connect(database_url, autocommit=True) as other, g.live_tables(other) as generation:
            advance(Transaction(other, self.projection_set, generation), moves)

    broken = {"no_expected_offset": unchecked, "offsets_apart": apart}[breakage]
    setattr(Transaction, "advance", broken)  # noqa: B010


@dataclass(frozen=True)
class Load:
    """What a producer sends."""

    seed: int
    count: int
    begin: datetime
    producer: int
    producers: int
    #: Over so many seconds.
    seconds: float


def produce(environment: Mapping[str, str], log: Path, ledger: Path, load: Load) -> None:
    """Publishes its share, and notes in the ledger the id of each event that Kafka has confirmed.

    Where it was killed and begins again, it sends what is not noted, under the same ids.
    """
    _redirect(log)
    events = share(workload(load.seed, load.count, load.begin), load.seed, load.producer, load.producers)
    confirmed = set(ledger.read_text().split()) if ledger.exists() else set()
    waiting: deque[tuple[str, Receipt]] = deque()
    begun = time.monotonic()
    with ledger.open("ab", buffering=0) as noted, Publisher(Settings.from_env(environment)) as publisher:
        for at, event in enumerate(event for event in events if event.event_id not in confirmed):
            time.sleep(max(0.0, begun + load.seconds * at / len(events) - time.monotonic()))
            waiting.append((event.event_id, publisher.send(event)))
            while waiting and waiting[0][1].done:
                _note(noted, *waiting.popleft())
        for event_id, receipt in waiting:
            if not receipt.wait(PATIENCE):
                sys.exit(f"Kafka does not confirm {event_id} within {PATIENCE} s")
            _note(noted, event_id, receipt)


def _note(ledger: Any, event_id: str, receipt: Receipt) -> None:
    if receipt.error is not None:
        sys.exit(f"Kafka refuses {event_id}: {receipt.error}")
    ledger.write(f"{event_id}\n".encode())


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", force=True)
