"""The polars rendering of the merge rules: many events to at most one row for each key. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from jobtrail.projections.rules import EventType, Facts, Table, columns_of
from jobtrail.projections.tables import TABLES

#: Event type → its events as columns, as `jobtrail.consumers.decode` gives them.
Frames = Mapping[EventType, pl.DataFrame]
#: Table name → its merged columns, one row for each key; instants in microseconds, ids as text.
Rows = dict[str, pl.DataFrame]

#: Of as few rows it is asked first whether a key is there twice: mostly none is, and nothing is left to do.
FEW: Final = 2_000


def fold(frames: Frames) -> Rows:
    """Folds events into rows, by the rules of every table. Tables that nothing touches are left out."""
    rows = ((table.name, fold_table(table, frames)) for table in TABLES)
    return {name: frame for name, frame in rows if frame is not None and frame.height}


def fold_table(table: Table, frames: Frames) -> pl.DataFrame | None:
    """The rows of one table, or None where no event is about it."""
    events = {event for rule in table.rules for event in rule.events}
    ours = {event: frame for event, frame in frames.items() if event in events and frame.height}
    if table.prepare is not None:
        ours = {event: table.prepare.frame(event, frame) for event, frame in ours.items()}
    extremes = [*_extremes(table, ours)]
    facts = [(rule, part) for rule in table.facts if (part := _facts(table, rule, ours)) is not None]
    return _reduced(table, pl.concat(extremes, how="diagonal") if extremes else None, facts)


def fold_again(table: Table, runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One fold of what several have given for the same table: the rules are associative."""
    rows = pl.concat(runs, how="diagonal")
    columns = [rule.column for rule in table.extremes if rule.column in rows.columns]
    # Facts that are unknown have no rank.
    facts = [
        (rule, rows.select(*table.key, *columns_of(rule)).drop_nulls(rule.rank))
        for rule in table.facts
        if rule.rank[0] in rows.columns
    ]
    found = _reduced(table, rows.select(*table.key, *columns) if columns else None, facts)
    return rows.clear() if found is None else found


def _extremes(table: Table, frames: Frames) -> Iterator[pl.DataFrame]:
    """Of each frame, the values of which an extreme is wanted."""
    for event, frame in frames.items():
        values = {rule.column: rule.value for rule in table.extremes if event in rule.events}
        if values:
            yield _selected(table, values, frame)


def _facts(table: Table, rule: Facts, frames: Frames) -> pl.DataFrame | None:
    parts = [
        _selected(table, rule.columns, frame if rule.where is None else frame.filter(rule.where.column))
        for event, frame in frames.items()
        if event in rule.events
    ]
    return pl.concat(parts) if parts else None


def _selected(table: Table, values: Mapping[str, str], frame: pl.DataFrame) -> pl.DataFrame:
    key = [given.column.alias(name) for name, given in table.key.items()]
    selected = frame.select(*key, *(pl.col(field).alias(name) for name, field in values.items()))
    # A null in its key says that the event is about something else.
    if any(selected[name].null_count() for name in table.key):
        return selected.drop_nulls([*table.key])
    return selected


def _reduced(
    table: Table, extremes: pl.DataFrame | None, facts: Sequence[tuple[Facts, pl.DataFrame]]
) -> pl.DataFrame | None:
    """One row for each key, with the columns of all rules beside each other."""
    key = [*table.key]
    parts = [_winners(rule, frame, key) for rule, frame in facts]
    # Each column belongs to one rule, and that has one row for a key: the maximum is the value.
    whole = _one_row(pl.concat(parts, how="diagonal"), key) if len(parts) > 1 else next(iter(parts), None)
    if extremes is None:
        return whole
    found = extremes.group_by(key).agg(
        pl.col(rule.column).min() if rule.keep == "min" else pl.col(rule.column).max()
        for rule in table.extremes
        if rule.column in extremes.columns
    )
    if whole is None or not whole.height:
        return found
    return found.join(whole, on=key, how="full", coalesce=True)


def _winners(facts: Facts, frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """For each key the row whose rank is best; of several that are equal in rank, the greater values."""
    if frame.height <= FEW and _is_unique(frame, key):
        return frame
    for name in facts.rank:
        best = pl.col(name).min() if facts.wins == "first" else pl.col(name).max()
        frame = frame.filter(pl.col(name) == best.over(key))
        if _is_unique(frame, key):
            return frame
    return _one_row(frame, key)


def _is_unique(frame: pl.DataFrame, key: list[str]) -> bool:
    return frame.height < 2 or frame.select(pl.struct(key).n_unique()).item() == frame.height


def _one_row(frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The greatest value of each column."""
    return frame if _is_unique(frame, key) else frame.group_by(key).agg(pl.all().max())
