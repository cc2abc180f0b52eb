"""Generations: each set of read models has a schema of its own, and readers see views over the live one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final

from psycopg import Connection, sql

from jobtrail.errors import VersionError

#: Schema of the views, checkpoints and dead letters.
STABLE_SCHEMA: Final = "jobtrail"
#: Schema of the views for analysts, which stand on those.
ANALYTICS_SCHEMA: Final = f"{STABLE_SCHEMA}_analytics"
#: Of the schemas of generations; their number follows.
SCHEMA_PREFIX: Final = f"{STABLE_SCHEMA}_g"
#: Advisory locks: (class, object). A projector's transaction holds the first shared, a swap of generations
#: exclusively; the second is held while migrations run.
GENERATION_LOCK: Final = (0x6A6F62, 1)
MIGRATION_LOCK: Final = (0x6A6F62, 2)
#: Held by whoever rebuilds, for the whole session.
REBUILD_LOCK: Final = (0x6A6F62, 3)
#: The live generation; from there on unqualified names mean its tables.
OURS: Final = b"""
    SELECT generation, set_config('search_path', format('%%I, %%I', %s::text || generation, %s::text), true)
    FROM coalesce((SELECT generation FROM jobtrail.current_generation), 1) AS generation
"""


def schema_name(generation: int) -> str:
    """The schema of a generation."""
    return f"{SCHEMA_PREFIX}{generation}"


def current_generation(connection: Connection[Any]) -> int:
    """The live generation. Raises psycopg.errors.UndefinedTable where no migration ever ran."""
    row = connection.execute("SELECT generation FROM jobtrail.current_generation").fetchone()
    return int(row[0]) if row else 1


def version_of(connection: Connection[Any], generation: int) -> int:
    """The version of the rules and columns that a generation was made by."""
    row = connection.execute(
        "SELECT version FROM jobtrail.generations WHERE generation = %s", (generation,)
    ).fetchone()
    return int(row[0]) if row else 0


def check_version(connection: Connection[Any], ours: int) -> None:
    """Raises VersionError where the live generation was made by other rules than those of version `ours`."""
    live = version_of(connection, current_generation(connection))
    if live != ours:
        raise VersionError(live, ours)


def set_version(connection: Connection[Any], generation: int, version: int) -> None:
    """Says by which version a generation is made."""
    connection.execute(
        "UPDATE jobtrail.generations SET version = %s WHERE generation = %s", (version, generation)
    )


def search_path(generation: int) -> sql.Composed:
    """SQL that makes unqualified names mean the tables of a generation, then the control tables."""
    return sql.SQL("{}, {}").format(sql.Identifier(schema_name(generation)), sql.Identifier(STABLE_SCHEMA))


@contextmanager
def live_tables(connection: Connection[Any]) -> Iterator[int]:
    """A transaction in which unqualified names mean the live generation's tables; gives the generation.

    Readers' views do not move to another generation before it ends.
    """
    with connection.transaction():
        # The lock first, in a statement of its own: the next one then sees the generation as it is now.
        # Rows that can be had again, by reading the log or by the next cleanup, need no fsync of their own.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock_shared(%s, %s)",
            GENERATION_LOCK,
        )
        row = connection.execute(OURS, (SCHEMA_PREFIX, STABLE_SCHEMA)).fetchone()
        assert row is not None  # noqa: S101  # it has one row
        yield row[0]


def statements(file_name: str, room: str = "projections") -> list[str]:
    """The statements of an .sql file in a room of the package; each ends with a line of its own, ";"."""
    text = (files("jobtrail") / room / file_name).read_text("utf-8")
    return [part.strip() for part in text.split("\n;\n") if part.strip()]


def named_statements(file_name: str, room: str = "projections") -> dict[str, bytes]:
    """The statements of an .sql file by name: each begins with a comment, "-- name: what it does".

    They are bytes, so that psycopg knows that they hold no values.
    """
    named = {}
    for statement in statements(file_name, room):
        name = statement.removeprefix("-- ").partition(":")[0]
        named[name] = statement.encode()
    return named


def create_views(connection: Connection[Any], generation: int) -> None:
    """Points the readers' views at a generation. Call it in a transaction."""
    connection.execute(sql.SQL("SET LOCAL search_path = {}").format(search_path(generation)))
    for statement in statements("views.sql"):
        connection.execute(statement.encode())


def create_analytics(connection: Connection[Any]) -> None:
    """Makes the views for analysts over the readers' views of this release. Call it in a transaction.

    Who moves the readers' views to a generation of the same version need not: they stay what they are.
    """
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(ANALYTICS_SCHEMA)))
    for statement in statements("analytics.sql"):
        connection.execute(statement.encode())
