"""Two generations side by side: what is not the same in both, by key.

First by a hash of each range of keys, in the database; rows travel only for the ranges that differ.
Bookkeeping (where in the log a fact stood, and when the broker took it) is left out, as it is outside the
laws.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection, sql
from psycopg.rows import dict_row

from jobtrail.projections import generation as g
from jobtrail.projections.rules import Given, Table
from jobtrail.projections.tables import HEARTBEATS, TABLES

#: Ranges of keys that are hashed by themselves.
RANGES: Final = 1024
#: Most differing rows of one table that are told one by one.
MOST_TOLD: Final = 1_000

Row = dict[str, Any]
Key = tuple[Any, ...]

ANOMALIES: Final = Table(
    "anomalies", {name: Given(name) for name in ("job_id", "attempt_number", "kind")}, ()
)
COMPARED: Final = (*TABLES, ANOMALIES)


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not the same in both: a row of one alone, or the columns that differ."""

    table: str
    key: Row
    #: Column → (value before, value after); empty where one of both has no such row.
    columns: dict[str, tuple[Any, Any]]
    missing_in: str | None = None

    def __str__(self) -> str:
        key = ", ".join(f"{name} {value}" for name, value in self.key.items())
        if self.missing_in:
            where = "new" if self.missing_in == "live" else "live"
            return f"{self.table} ({key}): only in the {where} generation"
        changes = "; ".join(
            f"{name}: {before!r} → {after!r}" for name, (before, after) in self.columns.items()
        )
        return f"{self.table} ({key}): {changes}"


@dataclass(frozen=True, slots=True)
class TableComparison:
    """What became of one table."""

    table: str
    live_rows: int
    new_rows: int
    #: Keys that are not the same; those told one by one are in `differences`.
    differing: int
    differences: tuple[Difference, ...]


def compare(
    live: Connection[Any], live_schema: str, new: Connection[Any], new_schema: str
) -> list[TableComparison]:
    """Each table in both. `live` is in a snapshot; both see the same events."""
    with ThreadPoolExecutor(2, thread_name_prefix="jobtrail-compare") as pool:
        return [_compare_table(table, (live, live_schema), (new, new_schema), pool) for table in COMPARED]


_Side = tuple[Connection[Any], str]


def _compare_table(table: Table, live: _Side, new: _Side, pool: ThreadPoolExecutor) -> TableComparison:
    columns = _columns(table, live, new)
    before, after = pool.map(lambda side: _hashes(table, columns, side), (live, new))
    ranges = [one for one in before.keys() | after.keys() if before.get(one) != after.get(one)]
    differing, told = 0, list[Difference]()
    if ranges:
        for difference in _differences(table, columns, ranges, live, new):
            differing += 1
            if len(told) < MOST_TOLD:
                told.append(difference)
    return TableComparison(
        table.name,
        sum(rows for rows, _ in before.values()),
        sum(rows for rows, _ in after.values()),
        differing,
        tuple(told),
    )


def _columns(table: Table, *sides: _Side) -> list[str]:
    """The columns that both have and that follow from the events."""
    found = [
        [
            name
            for (name,) in connection.execute(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
                (schema, table.name),
            )
        ]
        for connection, schema in sides
    ]
    return [name for name in found[0] if name in found[1] and name not in table.bookkeeping]


def _hashes(table: Table, columns: list[str], side: _Side) -> dict[int, tuple[int, int]]:
    """Range → rows in it, and the sum of their hashes."""
    connection, schema = side
    statement = sql.SQL(
        "SELECT {range} AS range, count(*), sum(hash_record_extended({row}, 0)) FROM {table} t{kept} GROUP "
        "BY 1"
    ).format(
        range=_range(table),
        row=_row(columns),
        table=sql.Identifier(schema, table.name),
        kept=_kept(table, schema),
    )
    return {one: (rows, int(total)) for one, rows, total in connection.execute(statement)}


def _differences(
    table: Table, columns: list[str], ranges: list[int], live: _Side, new: _Side
) -> Iterator[Difference]:
    """What differs in these ranges."""
    with _rows(table, columns, ranges, live) as befores, _rows(table, columns, ranges, new) as afters:
        yield from side_by_side(table, befores, afters)


def side_by_side(table: Table, befores: Iterator[Row], afters: Iterator[Row]) -> Iterator[Difference]:
    """What differs between two sequences of rows, each in the order of its keys; bookkeeping is left out."""
    old, made = next(befores, None), next(afters, None)
    while old is not None or made is not None:
        if made is None or (old is not None and _key(table, old) < _key(table, made)):
            assert old is not None  # noqa: S101  # one of both is there
            yield Difference(table.name, _named(table, old), {}, "new")
            old = next(befores, None)
        elif old is None or _key(table, made) < _key(table, old):
            yield Difference(table.name, _named(table, made), {}, "live")
            made = next(afters, None)
        else:
            compared = [name for name in old if name in made and name not in table.bookkeeping]
            if changed := {name: (old[name], made[name]) for name in compared if old[name] != made[name]}:
                yield Difference(table.name, _named(table, old), changed)
            old, made = next(befores, None), next(afters, None)


def _key(table: Table, row: Row) -> Key:
    """Compares as Postgres does: text by code points, uuids by their bytes."""
    return tuple(row[name] for name in table.key)


def _named(table: Table, row: Row) -> Row:
    return {name: row[name] for name in table.key}


@contextmanager
def _rows(table: Table, columns: list[str], ranges: list[int], side: _Side) -> Iterator[Iterator[Row]]:
    """The rows of some ranges in the order of their keys, a few at a time."""
    connection, schema = side
    kept = _kept(table, schema)
    statement = sql.SQL(
        "SELECT {columns} FROM {table} t{kept} {word} {range} = ANY ({ranges}) ORDER BY {key}"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        table=sql.Identifier(schema, table.name),
        kept=kept,
        word=sql.SQL("AND" if kept.as_string() else "WHERE"),
        range=_range(table),
        ranges=sql.Literal(ranges),
        key=sql.SQL(", ").join(map(sql.Identifier, table.key)),
    )
    with connection.transaction(), connection.cursor(f"compare_{table.name}", row_factory=dict_row) as cursor:
        cursor.itersize = 5_000
        yield iter(cursor.execute(statement))


def _range(table: Table) -> sql.Composable:
    first = sql.Identifier("t", next(iter(table.key)))
    if "job_id" in table.key:
        return sql.SQL("({} % {})::integer").format(first, sql.Literal(RANGES))
    return sql.SQL("(abs(hashtext({}::text)::bigint) % {})::integer").format(first, sql.Literal(RANGES))


def _row(columns: list[str]) -> sql.Composable:
    return sql.SQL("ROW({})").format(sql.SQL(", ").join(sql.Identifier("t", name) for name in columns))


def _kept(table: Table, schema: str) -> sql.Composable:
    """What the horizon lets pass: cleanup may be deleting the rest just now."""
    if table is not HEARTBEATS:
        return sql.SQL("")
    return sql.SQL(
        " WHERE (t.heard_at >= (SELECT kept_from FROM {horizons} WHERE name = 'heartbeats')"
        " OR NOT EXISTS (SELECT FROM {table} n WHERE n.dataplane_id = t.dataplane_id"
        " AND (n.heard_at, n.event_id) > (t.heard_at, t.event_id)))"
    ).format(horizons=sql.Identifier(g.STABLE_SCHEMA, "horizons"), table=sql.Identifier(schema, table.name))
