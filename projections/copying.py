"""Folded rows straight into tables that are not read yet: binary COPY, without staging and without keys.

PostgreSQL's binary format has no type tags: an instant is eight bytes, microseconds since 2000, and a uuid is
sixteen bytes. So neither becomes a Python object of its own on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import polars as pl
from psycopg import Connection, sql

from jobtrail.errors import LogError

#: Microseconds from 1970 to 2000.
EPOCH_2000: Final = 946_684_800_000_000
#: Type of a column → the type whose binary form its values are sent in.
SENT_AS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bigint": "int8",
        "integer": "int4",
        "smallint": "int2",
        "boolean": "bool",
        "text": "text",
        "timestamp with time zone": "int8",
        "uuid": "bytea",
    }
)


def column_types(connection: Connection[Any], schema: str, table: str) -> dict[str, str]:
    """Column → type of a table, as the catalog has it."""
    rows = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a"
        " WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass"
        " AND a.attnum > 0 AND NOT a.attisdropped",
        (schema, table),
    )
    return dict(rows.fetchall())


def copy_rows(
    connection: Connection[Any], schema: str, table: str, types: Mapping[str, str], rows: pl.DataFrame
) -> None:
    """Appends folded rows (`projections.fold.Rows`) to a table.

    Raises LogError for a column that it lacks.
    """
    if missing := [name for name in rows.columns if name not in types]:
        raise LogError(f"table {schema}.{table} has no column {', '.join(missing)}; its migration is missing")
    columns = [sql.Identifier(name) for name in rows.columns]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(schema, table), sql.SQL(", ").join(columns)
    )
    sent = rows.select(_sent(name, types[name]) for name in rows.columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([SENT_AS[types[name]] for name in rows.columns])
        for row in sent.iter_rows():
            copy.write_row(row)


def _sent(name: str, kind: str) -> pl.Expr:
    column = pl.col(name)
    match kind:
        case "timestamp with time zone":
            return column - EPOCH_2000
        case "uuid":
            return column.str.replace_all("-", "", literal=True).str.decode("hex")
        case _:
            return column
