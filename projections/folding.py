"""Folding without end: rows of any number of batches, kept in memory."""

from __future__ import annotations

from typing import Final

import polars as pl

from jobtrail.projections.fold import Frames, Rows, fold, fold_again
from jobtrail.projections.tables import TABLES

#: A run is merged into the one before it as soon as that is less than so many times as large.
GROWTH: Final = 2


class Folding:
    """Folds batch after batch; what it holds equals one fold of all their events at once.

    Each batch is folded by itself and makes a run; runs of similar size are folded together, so that a row is
    folded again about as often as the whole doubles (the log-structured merge of O'Neil et al., 1996).
    """

    def __init__(self) -> None:
        #: Table name → runs of rows, each much larger than the next, each with one row for a key.
        self._runs: dict[str, list[pl.DataFrame]] = {}

    @property
    def height(self) -> int:
        """Rows kept, of all tables; a key that was met lately may count more than once."""
        return sum(run.height for runs in self._runs.values() for run in runs)

    def add(self, frames: Frames) -> None:
        """Folds in the events of a batch."""
        for name, rows in fold(frames).items():
            runs = self._runs.setdefault(name, [])
            runs.append(rows)
            while len(runs) > 1 and runs[-2].height < GROWTH * runs[-1].height:
                runs[-2:] = [_together(name, runs[-2:])]

    def rows(self) -> Rows:
        """One row for each key, of all events so far; more may be added afterwards."""
        for name, runs in self._runs.items():
            runs[:] = [_together(name, runs)]
        return {name: rows for name, (rows,) in self._runs.items()}


_TABLES: Final = {table.name: table for table in TABLES}


def _together(name: str, runs: list[pl.DataFrame]) -> pl.DataFrame:
    return runs[0] if len(runs) == 1 else fold_again(_TABLES[name], runs)
