"""Folded rows into Postgres, by binary COPY: many from columns, a few row by row.

PostgreSQL's binary format has no type tags: an instant is eight bytes, microseconds since 2000, and a uuid is
sixteen bytes. So neither becomes a Python object of its own on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import polars as pl
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import Connection, sql

from jobtrail.errors import LogError

#: Microseconds from 1970 to 2000.
EPOCH_2000: Final = 946_684_800_000_000


class _Form(NamedTuple):
    """How values of one type of Postgres travel."""

    #: In columns.
    column: pl.DataType
    #: One by one: a type that psycopg knows, and that looks the same.
    single: str


INSTANT: Final = "timestamp with time zone"
FORMS: Final[Mapping[str, _Form]] = MappingProxyType(
    {
        "bigint": _Form(pl.Int64(), "int8"),
        "integer": _Form(pl.Int32(), "int4"),
        "smallint": _Form(pl.Int16(), "int2"),
        "boolean": _Form(pl.Boolean(), "bool"),
        "text": _Form(pl.String(), "text"),
        INSTANT: _Form(pl.Datetime("us", "UTC"), "int8"),
        "uuid": _Form(pl.Binary(), "bytea"),
    }
)


@dataclass(frozen=True)
class Target:
    """A table, and column → type of what is copied into it."""

    name: str
    types: Mapping[str, str]
    schema: str = "pg_temp"

    def copy_of(self, columns: Iterable[str]) -> sql.Composed:
        """The statement that takes these columns."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(self.schema, self.name), names
        )

    @cached_property
    def copy_of_all(self) -> bytes:
        """The statement that takes all columns."""
        return self.copy_of(self.types).as_bytes()

    @cached_property
    def singles(self) -> list[str]:
        """The form of each column's values, one by one."""
        return [FORMS[kind].single for kind in self.types.values()]


def target(connection: Connection[Any], schema: str, table: str) -> Target:
    """With its types as the catalog has them."""
    rows = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a"
        " WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass"
        " AND a.attnum > 0 AND NOT a.attisdropped",
        (schema, table),
    )
    return Target(table, dict(rows.fetchall()), schema)


def copy_rows(connection: Connection[Any], to: Target, rows: pl.DataFrame) -> None:
    """Appends folded rows (`projections.fold.Rows`). Raises LogError for a column that the table lacks."""
    sent = rows.select(_sent(name, to) for name in rows.columns)
    arrow = sent.to_arrow(compat_level=pl.CompatLevel.oldest())
    encoder = ArrowToPostgresBinaryEncoder(arrow.schema)
    with connection.cursor() as cursor, cursor.copy(to.copy_of(rows.columns)) as copy:
        copy.write(encoder.write_header())
        for batch in arrow.to_batches():
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def _sent(name: str, to: Target) -> pl.Expr:
    if name not in to.types:
        raise LogError(f"table {to.name} has no column {name}; its migration is missing")
    column = pl.col(name)
    if to.types[name] == "uuid":
        return column.str.replace_all("-", "", literal=True).str.decode("hex")
    return column.cast(FORMS[to.types[name]].column)


def copy_few(connection: Connection[Any], to: Target, rows: Sequence[Mapping[str, Any]]) -> None:
    """The same for a few rows (`projections.fold_few`), at a tenth of what a frame costs; all columns."""
    with connection.cursor() as cursor, cursor.copy(to.copy_of_all) as copy:
        copy.set_types(to.singles)
        for row in rows:
            copy.write_row([_single(row.get(name), kind) for name, kind in to.types.items()])


def _single(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == INSTANT:
        return value - EPOCH_2000
    return bytes.fromhex(value.replace("-", "")) if kind == "uuid" else value
