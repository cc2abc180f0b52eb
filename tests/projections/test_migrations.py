"""Each migration keeps the data that it finds, and together they make the documented schema."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from jobtrail.projections import generation as g
from jobtrail.projections import migrate as migrations
from jobtrail.projections.migrate import migrate

FOLDERS = {"control": "jobtrail", "read_models": "jobtrail_g1"}
FILES = [
    (folder, path.stem)
    for folder in FOLDERS
    for path in sorted(Path(str(files("jobtrail") / "migrations" / folder)).glob("*.sql"))
]
DOCUMENT = Path(__file__).parents[2] / "migrations" / "SCHEMA.md"

#: A value of each type, and of columns that a CHECK restricts.
BY_TYPE = {
    "bigint": 1,
    "integer": 1,
    "smallint": 1,
    "numeric": 1,
    "boolean": True,
    "text": "[]",  # some hold JSON
    "timestamp with time zone": "2026-03-01 12:00:00+00",
    "uuid": "0193b3a0-0000-7000-8000-000000000001",
    "jsonb": '{"failures": []}',
    "bytea": b"\x00\xff",
    "interval": "00:00:01",
    "ARRAY": ["log"],
}
BY_COLUMN = {"status": "running", "outcome": "done", "resolution": "retried", "result": "swapped"}


@pytest.fixture
def empty(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A database as it is before the first migration."""
    with psycopg.connect(database, autocommit=True) as connection:
        for schema in FOLDERS.values():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        for schema in FOLDERS.values():
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        yield connection


def tables(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    rows = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename NOT LIKE '\\_yoyo%%' ORDER BY 1",
        (schema,),
    )
    return [name for (name,) in rows]


def fill(connection: psycopg.Connection[Any], schema: str, table: str) -> dict[str, Any]:
    """Puts one row into the table, unless it has one, and returns it."""
    where = sql.Identifier(schema, table)
    if connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(where)).rowcount == 0:
        columns = connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            (schema, table),
        ).fetchall()
        values = [BY_COLUMN.get(name, BY_TYPE[kind]) for name, kind in columns]
        connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                where,
                sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns),
                sql.SQL(", ").join(sql.Placeholder() * len(columns)),
            ),
            values,
        )
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    (row,) = cursor.execute(sql.SQL("SELECT * FROM {}").format(where)).fetchall()
    return dict(row)


@pytest.mark.parametrize(("folder", "name"), FILES, ids=str)
def test_a_migration_keeps_what_the_version_before_had(
    empty: psycopg.Connection[Any], folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = empty.info.dsn + f" password={empty.info.password}"
    before = tmp_path / "jobtrail"
    shutil.copytree(Path(str(files("jobtrail") / "migrations")), before / "migrations")
    for path in (before / "migrations" / folder).glob("*.sql"):
        if path.stem >= name:
            path.unlink()
    with monkeypatch.context() as older:
        older.setattr(migrations, "files", lambda _: before)
        for each, schema in FOLDERS.items():
            if any((before / "migrations" / each).glob("*.sql")):
                migrations._apply(database, schema, each)
    had = {
        (schema, table): fill(empty, schema, table)
        for schema in FOLDERS.values()
        for table in tables(empty, schema)
    }
    assert f"{folder}/{name}" in migrate(database)
    for (schema, table), row in had.items():
        now = fill(empty, schema, table)
        assert {column: now[column] for column in row} == row
    for view in g.statements("views.sql"):
        if "CREATE OR REPLACE VIEW" in view:
            schema, _, readable = view.split("VIEW ", 1)[1].split()[0].partition(".")
            empty.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, readable)))


def test_the_sum_of_the_migrations_is_the_documented_schema(database: str) -> None:
    """After a change: UPDATE_SCHEMA=1 make test TEST_ARGS=tests/projections/test_migrations.py."""
    with psycopg.connect(database) as connection:
        found = described(connection)
    if os.environ.get("UPDATE_SCHEMA"):
        DOCUMENT.write_text(found)
    assert found == DOCUMENT.read_text()


def described(connection: psycopg.Connection[Any]) -> str:
    """The tables, views and sequences of a fresh installation, in words."""
    parts = [
        "# Schema",
        "",
        "What the migrations make, as a test reads it from the catalog. Readers use the views of schema",
        "`jobtrail`: their columns are only ever added to. `jobtrail_g1` is the first generation of the read",
        "models.",
    ]
    for schema in FOLDERS.values():
        relations = connection.execute(
            "SELECT c.oid, c.relname, c.relkind, obj_description(c.oid) FROM pg_class c"
            " WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'v', 'S')"
            " AND c.relname NOT LIKE '%%yoyo%%' ORDER BY c.relkind, c.relname",
            (schema,),
        ).fetchall()
        for oid, name, kind, comment in relations:
            said = {b"r": "table", b"v": "view", b"S": "sequence"}[kind.encode()]
            parts += ["", f"## {schema}.{name} ({said})", ""]
            if comment:
                parts += [comment, ""]
            if said == "sequence":
                continue
            parts += ["| column | type | |", "|---|---|---|"]
            for column, type_, required, default in connection.execute(
                "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
                " pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a"
                " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
                " WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
                (oid,),
            ):
                notes = ", ".join(
                    filter(None, ["never null" if required else "", f"default {default}" if default else ""])
                )
                parts.append(f"| {column} | {type_} | {notes} |")
            for (definition,) in connection.execute(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE conrelid = %s AND contype IN ('p', 'c', 'u') ORDER BY contype DESC, conname",
                (oid,),
            ):
                parts.append(f"\nconstraint: `{definition}`")
            for (definition,) in connection.execute(
                "SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
                " WHERE i.indrelid = %s AND NOT i.indisprimary ORDER BY c.relname",
                (oid,),
            ):
                parts.append(f"\nindex: `{definition.replace(f'{schema}.', '')}`")
    return "\n".join(parts) + "\n"
