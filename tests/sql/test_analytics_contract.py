"""The views for analysts are what was promised: names, columns in order, types, and a comment on each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from jobtrail.projections import generation as g
from jobtrail.projections.anomalies import AnomalyKind

ROOT = Path(__file__).parents[2]
#: view.column type, in order. Lines are only ever added, behind the others of their view.
CONTRACT = Path(__file__).with_name("analytics_contract.txt")
PAGE = ROOT / "docs" / "sql.md"
#: In the order of the page.
VIEWS = (
    *("job_runs", "attempt_failures", "stream_throughput", "connector_reliability", "daily_totals"),
    *("reconciliation", "anomalies"),
)


class Column(NamedTuple):
    """One column, as the catalog has it."""

    view: str
    name: str
    type: str
    comment: str | None

    def __str__(self) -> str:
        return f"{self.view}.{self.name} {self.type}"


@pytest.fixture
def columns(database: str) -> list[Column]:
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod),"
            " col_description(c.oid, a.attnum)"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = %s::regnamespace AND a.attnum > 0"
            " ORDER BY array_position(%s, c.relname::text), a.attnum",
            (g.ANALYTICS_SCHEMA, [*VIEWS]),
        ).fetchall()
    return [Column(*row) for row in rows]


def test_names_types_and_order_of_the_columns_are_those_of_the_contract(columns: list[Column]) -> None:
    """After a column was added at the end of its view: UPDATE_SCHEMA=1; what was there must be as it was."""
    promised = CONTRACT.read_text().splitlines() if CONTRACT.exists() else []
    found = [str(column) for column in columns]
    for view in VIEWS:
        old = [line for line in promised if line.startswith(f"{view}.")]
        assert [line for line in found if line.startswith(f"{view}.")][: len(old)] == old
    if os.environ.get("UPDATE_SCHEMA"):
        CONTRACT.write_text("\n".join(found) + "\n")
        promised = found
    assert found == promised
    assert {column.view for column in columns} == {*VIEWS}


def test_every_view_and_column_has_a_comment(database: str, columns: list[Column]) -> None:
    assert [column for column in columns if not (column.comment or "").endswith((".", "]", "…"))] == []
    with psycopg.connect(database) as connection:
        bare = connection.execute(
            "SELECT relname FROM pg_class"
            " WHERE relnamespace = %s::regnamespace AND obj_description(oid) IS NULL",
            (g.ANALYTICS_SCHEMA,),
        ).fetchall()
    assert bare == []


def test_the_page_has_every_column_with_its_comment(database: str, columns: list[Column]) -> None:
    """The tables at its end are copies of the catalog; UPDATE_SCHEMA=1 writes them."""
    lines = []
    with psycopg.connect(database) as connection:
        for view in VIEWS:
            row = connection.execute(
                "SELECT obj_description(%s::regclass)", (f"{g.ANALYTICS_SCHEMA}.{view}",)
            ).fetchone()
            assert row is not None
            lines += ["", f"### `{view}`", "", row[0], "", "| column | type | meaning |", "|---|---|---|"]
            lines += [
                f"| `{column.name}` | {column.type} | {column.comment} |"
                for column in columns
                if column.view == view
            ]
    told = "\n".join(lines) + "\n"
    before, heading, after = PAGE.read_text().partition("## The columns\n")
    if os.environ.get("UPDATE_SCHEMA"):
        PAGE.write_text(before + heading + told)
        after = told
    assert heading
    assert after == told


def test_units_stand_in_the_names(columns: list[Column]) -> None:
    """What is measured says in what; instants are with time zone."""
    for column in columns:
        if column.type == "double precision":
            assert column.name.endswith(("seconds", "_per_second", "_rate")), column
        if column.name.endswith("_at"):
            assert column.type == "timestamp with time zone", column
        assert column.type != "timestamp without time zone", column


def test_the_kinds_of_anomalies_that_the_comment_names_exist(columns: list[Column]) -> None:
    (kind,) = [column for column in columns if (column.view, column.name) == ("anomalies", "kind")]
    named = {each for each in AnomalyKind if each in (kind.comment or "")}
    assert len(named) >= 3


def test_a_view_of_an_older_release_only_gets_more_columns(database: str) -> None:
    """Postgres itself refuses a release that takes one away: whoever reads it would notice too late."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE VIEW public.mine AS SELECT kind FROM jobtrail_analytics.anomalies WHERE job_id > 5"
        )
        with pytest.raises(psycopg.errors.InvalidTableDefinition, match="cannot drop columns from view"):
            connection.execute(
                "CREATE OR REPLACE VIEW jobtrail_analytics.anomalies AS SELECT 1::bigint AS job_id"
            )
        with connection.transaction():
            g.create_analytics(connection)
        assert connection.execute("SELECT * FROM public.mine").fetchall() == []
