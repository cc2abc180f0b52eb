"""Brings a database to the newest schema: control tables, the live generation's tables, the readers' views.

Plain SQL in migrations/, forward only, applied by yoyo under an advisory lock, which a killed run leaves to
nobody. yoyo keeps its list of applied files in the schema that it migrates, so each generation has its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Any

import psycopg
from psycopg import sql
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from jobtrail.projections import generation as g
from jobtrail.projections.tables import VERSION

log = logging.getLogger("jobtrail")
# Its steps are of no use to an operator; what was applied we say ourselves.
logging.getLogger("yoyo").setLevel(logging.WARNING)


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """yoyo's own, on a connection of ours and under our advisory lock instead of a lock table."""

    def __init__(self, database_url: str, schema: str) -> None:
        self.database_url = database_url
        super().__init__(parse_uri(f"postgresql+psycopg:///?schema={schema}"), "_yoyo_migration")

    def connect(self, dburi: Any) -> psycopg.Connection[Any]:
        self.schema = dburi.args["schema"]
        return psycopg.connect(self.database_url, autocommit=True, application_name="jobtrail-migrate")

    def copy(self) -> _Backend:
        return _Backend(self.database_url, self.schema)

    @contextmanager
    def lock(self, timeout: int = 10) -> Iterator[None]:  # noqa: ARG002  # yoyo's signature
        yield


def migrate(database_url: str) -> list[str]:
    """Applies what is missing and returns the names of what was applied, in order.

    Waits for another run to finish first. Raises psycopg.Error; what was applied before it stays, and a
    second run goes on.
    """
    applied: list[str] = []
    with psycopg.connect(database_url, autocommit=True, application_name="jobtrail-migrate") as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", g.MIGRATION_LOCK)
        _create_schema(connection, g.STABLE_SCHEMA)
        applied += _apply(database_url, g.STABLE_SCHEMA, "control")
        generation = g.current_generation(connection)
        if not _has_schema(connection, g.schema_name(generation)):
            g.set_version(connection, generation, VERSION)
        if g.version_of(connection, generation) == VERSION:
            applied += make_read_models(database_url, connection, generation)
            with connection.transaction():
                g.create_views(connection, generation)
                g.create_analytics(connection)
        # Else another release serves from it, until a rebuild has made the generation of this one.
    return applied


def make_read_models(database_url: str, connection: psycopg.Connection[Any], generation: int) -> list[str]:
    """Brings the tables of one generation to the newest schema; names what was applied."""
    _create_schema(connection, g.schema_name(generation))
    return _apply(database_url, g.schema_name(generation), "read_models")


def _has_schema(connection: psycopg.Connection[Any], name: str) -> bool:
    return bool(connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (name,)).rowcount)


def _create_schema(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))


def _apply(database_url: str, schema: str, folder: str) -> list[str]:
    """Applies the files of migrations/`folder` that `schema` lacks."""
    with (
        as_file(files("jobtrail") / "migrations" / folder) as path,
        _Backend(database_url, schema) as backend,
    ):
        pending = backend.to_apply(read_migrations(str(path)))
        backend.apply_migrations(pending)
        names = [f"{folder}/{migration.id}" for migration in pending]
    for name in names:
        log.info("applied %s in %s", name, schema)
    return names
