"""Folded rows into Postgres, by binary COPY.

PostgreSQL's binary format has no type tags: an instant is eight bytes, microseconds since 2000, and a uuid is
sixteen bytes. No value becomes a Python object on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import polars as pl
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import Connection, sql

from jobtrail.errors import LogError

#: Rows that are made ready at once: all of them would be in memory twice more.
SLICE: Final = 20_000
#: Type of a column → that of the values sent, whose binary form is the same.
SENT_AS: Final[Mapping[str, pl.DataType]] = MappingProxyType(
    {
        "bigint": pl.Int64(),
        "integer": pl.Int32(),
        "smallint": pl.Int16(),
        "boolean": pl.Boolean(),
        "text": pl.String(),
        "timestamp with time zone": pl.Datetime("us", "UTC"),
        "uuid": pl.Binary(),
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
    columns = [_sent(name, to) for name in rows.columns]
    encoder: ArrowToPostgresBinaryEncoder | None = None
    with connection.cursor() as cursor, cursor.copy(to.copy_of(rows.columns)) as copy:
        for part in rows.iter_slices(SLICE):
            arrow = part.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
            if encoder is None:
                encoder = ArrowToPostgresBinaryEncoder(arrow.schema)
                copy.write(encoder.write_header())
            for batch in arrow.to_batches():
                copy.write(encoder.write_batch(batch))
        if encoder is not None:
            copy.write(encoder.finish())


def _sent(name: str, to: Target) -> pl.Expr:
    if name not in to.types:
        raise LogError(f"table {to.name} has no column {name}; its migration is missing")
    column = pl.col(name)
    if to.types[name] == "uuid":
        return column.str.replace_all("-", "", literal=True).str.decode("hex")
    return column.cast(SENT_AS[to.types[name]])
