"""Merge rules: how facts about one key become one row, whatever their order, repetition or batching.

A table is a key and some `Facts`. The columns of one `Facts` come from one event and move together: the
event that is first (or latest) by its rank wins, and where two have the same rank (one event delivered
twice, or two bodies under one id) the greater value of each column does. That makes every rule
associative, commutative and idempotent: a join-semilattice, the product of a total order (the rank) and
of column-wise maxima. "Newest non-null per field" would not be associative, and there is no rule for it.

Each declaration has three renderings: `projections.fold` reduces many events in polars,
`projections.fold_few` a few of them in plain Python, `projections.merge` merges the result into its table in
SQL. The tests hold that all give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from jobtrail.events import Event

EventType = type[Event]

#: One event: field → value, and what is known of its message.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """A field of an event, or, where it is null, what stands for it."""

    name: str
    otherwise: str | None = None

    @property
    def column(self) -> pl.Expr:
        """Of a frame of events."""
        column = pl.col(self.name)
        return column if self.otherwise is None else column.fill_null(self.otherwise)

    def of(self, event: Row) -> Any:
        """Of one event."""
        value = event[self.name]
        return self.otherwise if value is None else value


@dataclass(frozen=True, slots=True)
class Prepare:
    """Adds columns to the events of one type; both do the same."""

    frame: Callable[[EventType, pl.DataFrame], pl.DataFrame]
    event: Callable[[EventType, Row], Row]


@dataclass(frozen=True, slots=True)
class Where:
    """Which events count: those with any of these fields known, or those with none of them known."""

    names: tuple[str, ...]
    known: bool

    @property
    def column(self) -> pl.Expr:
        """True for those of a frame that count."""
        known = pl.any_horizontal(pl.col(name).is_not_null() for name in self.names)
        return known if self.known else ~known

    def of(self, event: Row) -> bool:
        """Whether an event counts."""
        return any(event[name] is not None for name in self.names) is self.known


Wins = Literal["first", "latest"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Columns of a table that move together, and the events that they come from."""

    events: tuple[EventType, ...]
    #: Table column → field of the event.
    columns: Mapping[str, str]
    #: The columns that decide, most significant first; all of them are non-null wherever the facts are known.
    rank: tuple[str, ...] = ()
    wins: Wins = "first"
    #: Which of the events count; None: all.
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Extreme:
    """One column that is the least or the greatest value seen."""

    column: str
    events: tuple[EventType, ...]
    #: Field of the event.
    value: str
    keep: Literal["min", "max"]
    #: Whether it is a function of the events alone, or of where and when they reached the log.
    bookkeeping: bool = False


Rule = Facts | Extreme


@dataclass(frozen=True, slots=True)
class Table:
    """A read model: a key, its merge rules, and derived columns that SQL computes afterwards."""

    name: str
    #: Key column → what of the event. An event with a null in it is about something else (a Cancelled without
    #: an attempt number is no attempt's).
    key: Mapping[str, Given]
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
