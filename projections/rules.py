"""Merge rules: how facts about one key become one row, whatever their order, repetition or batching.

A table is a key and some `Facts`. The columns of one `Facts` come from one event and move together: the
event that is first (or latest) by its rank wins, and where two have the same rank (one event delivered
twice, or two bodies under one id) the greater value of each column does. That makes every rule
associative, commutative and idempotent: a join-semilattice, the product of a total order (the rank) and
of column-wise maxima. "Newest non-null per field" would not be associative, and there is no rule for it.

Each declaration has two renderings: `projections.fold` reduces a batch in polars, `projections.merge` merges
the result into its table in SQL. The tests hold that both give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from jobtrail.events import Event

EventType = type[Event]

#: Gives one column of a frame of events; `pl.col(name)` where none is declared.
Expression = pl.Expr
#: Adds columns to a frame of one event type.
Prepare = Callable[[EventType, pl.DataFrame], pl.DataFrame]

Wins = Literal["first", "latest"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Columns of a table that move together, and the events that they come from."""

    events: tuple[EventType, ...]
    #: Table column → expression over the event's frame, or the name of its field.
    columns: Mapping[str, Expression | str]
    #: The columns that decide, most significant first; all of them are non-null wherever the facts are known.
    rank: tuple[str, ...] = ()
    wins: Wins = "first"
    #: Which of the events count.
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class Extreme:
    """One column that is the least or the greatest value seen."""

    column: str
    events: tuple[EventType, ...]
    value: Expression | str
    keep: Literal["min", "max"]
    #: Whether it is a function of the events alone, or of where and when they reached the log.
    bookkeeping: bool = False


Rule = Facts | Extreme


@dataclass(frozen=True, slots=True)
class Table:
    """A read model: a key, its merge rules, and derived columns that SQL computes afterwards."""

    name: str
    #: Key column → expression over the event's frame, or the name of its field. An event with a null in it is
    #: about something else (a Cancelled without an attempt number is no attempt's).
    key: Mapping[str, Expression | str]
    rules: tuple[Rule, ...]
    #: Columns that `projections/derive.sql` fills.
    derived: tuple[str, ...] = ()
    #: Adds columns that the rules name, before anything else.
    prepare: Prepare | None = None

    @property
    def merged_columns(self) -> tuple[str, ...]:
        """Key and ruled columns, in the order of their declaration."""
        return (*self.key, *(column for rule in self.rules for column in columns_of(rule)))

    @property
    def bookkeeping(self) -> frozenset[str]:
        """Columns that depend on the log's positions and times, and so are outside the laws."""
        return frozenset(rule.column for rule in self.extremes if rule.bookkeeping)

    @property
    def extremes(self) -> tuple[Extreme, ...]:
        """The rules of one column."""
        return tuple(rule for rule in self.rules if isinstance(rule, Extreme))

    @property
    def facts(self) -> tuple[Facts, ...]:
        """The rules of columns that move together."""
        return tuple(rule for rule in self.rules if isinstance(rule, Facts))


def columns_of(rule: Rule) -> tuple[str, ...]:
    """The table columns that a rule fills."""
    return (rule.column,) if isinstance(rule, Extreme) else tuple(rule.columns)


def expression(value: Expression | str) -> Expression:
    """The polars expression of a declared column."""
    return pl.col(value) if isinstance(value, str) else value
