"""Plots as numbers: where bars and ticks are. Templates draw them as SVG, beside a table of the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

#: Width of a plot in its own units; it is drawn as wide as the page has room for.
WIDTH: Final = 1000.0
_STEPS: Final = (1, 2, 5, 10)
_TIME_STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14400, 21600, 43200),
    *(86400, 172800, 604800, 2592000),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, in the plot's units, and what stands there."""

    at: float
    value: float


def nice_ticks(most: float, count: int = 4) -> list[Tick]:
    """Round values from 0 to about `most`, at most `count` steps, with their places."""
    if most <= 0:
        return [Tick(0.0, 0.0)]
    raw = most / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(one * power for one in _STEPS if one * power >= raw)
    return [Tick(place(value, most), value) for value in _counted(step, most)]


def time_ticks(begin: datetime, end: datetime, count: int = 6) -> list[Tick]:
    """Round seconds since the begin, at most `count` steps, with their places."""
    whole = max((end - begin).total_seconds(), 1e-6)
    step = next((one for one in _TIME_STEPS if one >= whole / count), _TIME_STEPS[-1])
    return [Tick(place(value, whole), value) for value in _counted(step, whole)]


def place(value: float, most: float) -> float:
    """Where a value of an axis from 0 to `most` is, in the plot's units."""
    return round(WIDTH * min(max(value / most, 0.0), 1.0), 1) if most > 0 else 0.0


def moment(at: datetime, begin: datetime, end: datetime) -> float:
    """Where an instant between two is."""
    return place((at - begin) / timedelta(seconds=1), max((end - begin) / timedelta(seconds=1), 1e-6))


def _counted(step: float, most: float) -> list[float]:
    return [round(step * number, 9) for number in range(int(most / step + 1e-9) + 1)]


def heights(values: Sequence[float | None], most: float = 24.0, least: float = 3.0) -> list[float]:
    """Heights of a row of small bars; what is unknown is as low as what is least."""
    largest = max((value for value in values if value), default=0.0)
    return [round(max(least, most * value / largest), 1) if value and largest else least for value in values]
