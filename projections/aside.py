"""Read models for one answer, beside the live ones: made by the same files, and gone with the transaction.

What a job was at a moment is what the rules make of its events until then. So these are folded, merged and
derived as always, into temporary tables; the readers' views stand over those, and within `projected` every
query on jobtrail.<view> reads them. No rule has a second definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Final, Self

from psycopg import Connection, Cursor
from psycopg.rows import dict_row

from jobtrail.projections import generation as g
from jobtrail.projections.fold import Rows
from jobtrail.projections.store import PROJECTION_SET, Transaction, create_working_tables

Row = dict[str, Any]
#: No generation: nothing that is done here belongs to one.
NO_GENERATION: Final = 0


@contextmanager
def projected(connection: Connection[Any], rows: Rows) -> Iterator[Connection[Row]]:
    """The connection, for which the readers' views hold `rows`, derived, and nothing else.

    `connection` must be in autocommit mode, and whoever it is needs no right but TEMPORARY on the database.
    """
    before = connection.cursor_factory, connection.row_factory
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = pg_temp, jobtrail")
        for migration in _tables():
            connection.execute(migration)
        create_working_tables(connection)
        transaction = Transaction(connection, PROJECTION_SET, NO_GENERATION)
        transaction.merge(rows)
        transaction.derive(everything=True)
        _create_views(connection)
        try:
            connection.cursor_factory, connection.row_factory = _AsideCursor, dict_row
            yield connection
        finally:
            connection.cursor_factory, connection.row_factory = before


def _create_views(connection: Connection[Any]) -> None:
    """The readers' views over the tables; a view and a table of one name come to be by renaming both."""
    for statement in g.statements("views.sql"):
        connection.execute(_readers_views().sub(rb"pg_temp.new_\1", statement.encode()))
    for name in _names():
        connection.execute(f"ALTER TABLE IF EXISTS pg_temp.{name} RENAME TO table_{name}".encode())
        connection.execute(f"ALTER VIEW pg_temp.new_{name} RENAME TO {name}".encode())


@cache
def _names() -> frozenset[str]:
    """Names of the readers' views."""
    return frozenset(re.findall(r"VIEW jobtrail\.(\w+)", "\n".join(g.statements("views.sql"))))


@cache
def _readers_views() -> re.Pattern[bytes]:
    return re.compile(rb"\bjobtrail\.(%s)\b" % "|".join(_names()).encode())


@cache
def _tables() -> tuple[bytes, ...]:
    """The migrations of the read models, in order."""
    folder = files("jobtrail") / "migrations" / "read_models"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return tuple(entry.read_bytes() for entry in found)


class _AsideCursor(Cursor[Any]):
    """Reads the temporary views where a query names the readers'."""

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Self:
        if isinstance(query, bytes):
            query = _readers_views().sub(rb"pg_temp.\1", query)
        return super().execute(query, *arguments, **options)
