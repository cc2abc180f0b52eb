"""The polars rendering of the merge rules: a batch of events to at most one row for each key. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from jobtrail.projections.rules import EventType, Extreme, Facts, Rule, Table, columns_of, expression, rank_of
from jobtrail.projections.tables import TABLES

#: Event type → its events as columns, as `jobtrail.consumers.decode` gives them.
Frames = Mapping[EventType, pl.DataFrame]
#: Table name → its merged columns, one row for each key; instants in microseconds, ids as text.
Rows = dict[str, pl.DataFrame]


def fold(frames: Frames) -> Rows:
    """Folds events into rows, by the rules of every table. Tables that nothing touches are left out."""
    rows = ((table.name, fold_table(table, frames)) for table in TABLES)
    return {name: frame for name, frame in rows if frame is not None and frame.height}


def fold_table(table: Table, frames: Frames) -> pl.DataFrame | None:
    """The rows of one table, or None where no event is about it."""
    events = {event for rule in table.rules for event in rule.events}
    ours = {event: frame for event, frame in frames.items() if event in events and frame.height}
    if table.prepare is not None:
        ours = {event: table.prepare(event, frame) for event, frame in ours.items()}
    key = list(table.key)
    parts = []
    for rule in table.rules:
        selected = [_select(table, rule, ours[event]) for event in rule.events if event in ours]
        if selected:
            parts.append(_reduce(rule, pl.concat(selected), key))
    return _joined(parts, key) if parts else None


def fold_again(table: Table, runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One fold of what several have given for the same table: the rules are associative."""
    rows = pl.concat(runs, how="diagonal")
    key = list(table.key)
    parts = []
    for rule in table.rules:
        columns = [name for name in columns_of(rule) if name in rows.columns]
        if columns:
            # Facts that are unknown have no rank, and no extreme is a null.
            known = rows.select(*key, *columns).drop_nulls(rank_of(rule))
            parts.append(_reduce(rule, known, key))
    return _joined(parts, key)


def _joined(parts: list[pl.DataFrame], key: list[str]) -> pl.DataFrame:
    """The columns of all rules beside each other."""
    if len(parts) == 1:
        return parts[0]
    # Each column belongs to one rule, and that has one row for a key: the maximum is the value.
    return pl.concat(parts, how="diagonal").group_by(key).agg(pl.all().max())


def _select(table: Table, rule: Rule, frame: pl.DataFrame) -> pl.DataFrame:
    columns = {rule.column: rule.value} if isinstance(rule, Extreme) else rule.columns
    if rule.where is not None:
        frame = frame.filter(rule.where)
    return frame.select(
        expression(value).alias(name) for name, value in {**table.key, **columns}.items()
    ).drop_nulls(list(table.key))


def _reduce(rule: Rule, frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    if isinstance(rule, Extreme):
        column = pl.col(rule.column)
        return frame.group_by(key).agg(column.min() if rule.keep == "min" else column.max())
    return _winners(rule, frame, key).group_by(key).agg(pl.col(columns_of(rule)).max())


def _winners(facts: Facts, frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The rows whose rank is best for their key: one each, or several that are equal in rank."""
    for name in facts.rank:
        best = pl.col(name).min() if facts.wins == "first" else pl.col(name).max()
        frame = frame.filter(pl.col(name) == best.over(key))
    return frame
