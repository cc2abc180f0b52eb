"""The plain rendering of the merge rules: a few events to at most one row for each key. Pure.

A call of polars costs as much for one event as for thousands, and a fold makes a hundred of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobtrail.projections.rules import EventType, Facts, Row, Rule, Table, columns_of
from jobtrail.projections.tables import TABLES

#: Event type → its events, as `jobtrail.consumers.decode` gives a few of them.
Few = Mapping[EventType, Sequence[Row]]
#: Table name → its rows: merged column → value, instants in microseconds, ids as text. A column of which no
#: event tells is left out.
FewRows = dict[str, list[dict[str, Any]]]

_RULES: Final = {
    table.name: {
        event_type: tuple(rule for rule in table.rules if event_type in rule.events)
        for event_type in {event_type for rule in table.rules for event_type in rule.events}
    }
    for table in TABLES
}


def fold_few(few: Few) -> FewRows:
    """Folds events into rows, by the rules of every table. Tables that nothing touches are left out."""
    found: FewRows = {}
    for table in TABLES:
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for event_type, events in few.items():
            if rules := _RULES[table.name].get(event_type):
                for event in events:
                    _add(rows, table, rules, _prepared(table, event_type, event))
        if rows:
            found[table.name] = [*rows.values()]
    return found


def _prepared(table: Table, event_type: EventType, event: Row) -> Row:
    return table.prepare.event(event_type, event) if table.prepare else event


def _add(
    rows: dict[tuple[Any, ...], dict[str, Any]], table: Table, rules: tuple[Rule, ...], event: Row
) -> None:
    key = {name: given.of(event) for name, given in table.key.items()}
    if None in key.values():  # it is about something else
        return
    row = rows.setdefault(tuple(key.values()), key)
    for rule in rules:
        if not isinstance(rule, Facts):
            _keep(row, rule.column, event[rule.value], least=rule.keep == "min")
        elif rule.where is None or rule.where.of(event):
            _merge(row, rule, {name: event[field] for name, field in rule.columns.items()})


def _merge(row: dict[str, Any], rule: Facts, new: dict[str, Any]) -> None:
    rank = [new[name] for name in rule.rank]
    if rule.rank[0] not in row:
        row.update(new)
    elif rank == (known := [row[name] for name in rule.rank]):
        for name in columns_of(rule):
            _keep(row, name, new[name], least=False)
    elif (rank < known) is (rule.wins == "first"):
        row.update(new)


def _keep(row: dict[str, Any], column: str, value: Any, *, least: bool) -> None:
    """The least or the greatest value; an unknown one changes nothing."""
    known = row.get(column)
    if known is None or (value is not None and (value < known if least else value > known)):
        row[column] = value
