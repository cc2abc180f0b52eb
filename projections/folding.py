"""Folding without end: the rows of any number of batches, kept in memory."""

from __future__ import annotations

from typing import Final, cast

import polars as pl

from jobtrail.projections.fold import Frames, Rows, fold, fold_again
from jobtrail.projections.rules import EventType
from jobtrail.projections.tables import TABLES

#: Events that are folded at once: with fewer, what each call costs weighs, and more rows are folded again.
AT_ONCE: Final = 50_000


class Folding:
    """Folds batch after batch; what it holds equals one fold of all their events.

    Events wait until there are `at_once` of them, and are folded; their rows are put beside those there are,
    and folded together with them once they are more than half as many. So a row is folded again a few times
    in all, however long the log is, and memory holds at most half as many rows again as there are keys (or
    `at_once`), and the events that wait.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: dict[EventType, list[pl.DataFrame]] = {}
        #: Table name → runs of rows, each with one row for a key: the whole, and what came since.
        self._runs: dict[str, list[pl.DataFrame]] = {}

    @property
    def height(self) -> int:
        """Rows and events in memory; a key that was met lately counts more than once."""
        rows = sum(run.height for runs in self._runs.values() for run in runs)
        return rows + self._events_waiting

    @property
    def _events_waiting(self) -> int:
        return sum(frame.height for frames in self._waiting.values() for frame in frames)

    def add(self, frames: Frames) -> None:
        """Folds in the events of a batch."""
        for event_type, frame in frames.items():
            self._waiting.setdefault(event_type, []).append(frame)
        if self._events_waiting >= self._at_once:
            self._fold_waiting()

    def rows(self) -> Rows:
        """One row for each key, of all events so far; more may be added afterwards."""
        self._fold_waiting()
        for name, runs in self._runs.items():
            _fold_together(name, runs)
        return {name: rows for name, (rows,) in self._runs.items()}

    def _fold_waiting(self) -> None:
        frames = {event_type: pl.concat(found) for event_type, found in self._waiting.items()}
        self._waiting.clear()
        for name, rows in fold(frames).items():
            runs = self._runs.setdefault(name, [])
            runs.append(_compact(rows))
            if 2 * sum(run.height for run in runs[1:]) > max(runs[0].height, 2 * self._at_once):
                _fold_together(name, runs)


_TABLES: Final = {table.name: table for table in TABLES}


def _fold_together(name: str, runs: list[pl.DataFrame]) -> None:
    if len(runs) > 1:
        runs[:] = [_compact(fold_again(_TABLES[name], runs))]


def _compact(rows: pl.DataFrame) -> pl.DataFrame:
    """The same with texts of its own and no room to spare: else those of all events that lost stay too."""
    own = cast("pl.DataFrame", pl.from_arrow(rows.to_arrow(compat_level=pl.CompatLevel.oldest())))
    return own.shrink_to_fit()
