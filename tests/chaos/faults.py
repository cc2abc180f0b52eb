"""What goes wrong in a round, and when: drawn from its seed."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from chaos.under_test import POINTS, Point
from chaos.workload import seeded

#: Fault at a time → how often it is drawn, beside the others.
AT_TIMES: Final = {
    "kill -9 a projector": 4,
    "kill -9 a producer": 4,
    "stop a projector beyond its session": 3,
    "cut Postgres' connections": 3,
    "terminate Postgres' backends": 3,
    "delay Postgres": 2,
    "refuse Postgres": 2,
    "cut Kafka's connections": 3,
    "delay Kafka": 2,
    "refuse Kafka": 2,
    "crash Postgres": 2,
    "restart Kafka": 0.7,
    "kill -9 Kafka": 0.5,
}
#: Seconds of a Kafka session in which no heart beat.
SESSION: Final = 1.2
#: Seconds that a stopped projector sleeps: it was replaced before it wakes.
STOPPED: Final = SESSION + 0.8
#: Seconds that a delay or a refusal lasts, and that each chunk of a delayed connection is held back.
LASTS: Final = 0.8
DELAY: Final = 0.05


@dataclass(frozen=True)
class Fault:
    """One fault at a time, in seconds from the round's begin, to whom of several."""

    at: float
    name: str
    victim: int


@dataclass(frozen=True)
class Plan:
    """A round's faults and projectors."""

    seed: int
    faults: tuple[Fault, ...]
    #: For each projector, what it does to itself, or None.
    points: tuple[Point | None, ...]
    #: For each producer, whether it begins again after it was killed.
    resumed: tuple[bool, ...]


def draw(seed: int, *, seconds: float, producers: int) -> Plan:
    """Three to five faults at times within `seconds`, and one or two at named points."""
    rng = seeded(seed, "faults")
    names = rng.choices([*AT_TIMES], [*AT_TIMES.values()], k=rng.randint(3, 5))
    faults = sorted(
        (Fault(rng.uniform(0.6, seconds), name, rng.randrange(12)) for name in names),
        key=lambda fault: fault.at,
    )
    projectors = rng.randint(2, 3)
    armed = rng.randint(1, 2)
    points = [_point(seed, each) if each < armed else None for each in range(projectors)]
    # One producer of a round may be given up when it is killed; the others have events enough.
    given_up = rng.randrange(producers * 2)
    return Plan(seed, tuple(faults), tuple(points), tuple(each != given_up for each in range(producers)))


def _point(seed: int, projector: int) -> Point:
    rng = seeded(seed, "point", projector)
    how = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
    return Point(rng.choice(POINTS), rng.randint(1, 4), how)
