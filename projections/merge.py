"""The SQL rendering of the merge rules: one upsert for each table, from a staging table of folded rows.

Everything here is rendered from the declarations in `projections.tables`; no value ever enters the text.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobtrail import events as e
from jobtrail.fields import field_kind
from jobtrail.projections.rules import Extreme, Facts, Rule, Table, columns_of

#: Columns of the tables that no event has under the same name, by their staging type.
BIGINT = frozenset({"digest_low", "digest_high", "log_partition", "first_offset", "last_offset"})


def staging_type(column: str) -> str:
    """The type of a column in the staging table."""
    if column.endswith("_at"):
        return "timestamp with time zone"
    if column.endswith("event_id"):
        return "uuid"
    if column in BIGINT:
        return "bigint"
    for event in e.EVENT_TYPES:
        if (event_field := event.model_fields.get(column)) and (kind := field_kind(event_field)):
            return {"long": "bigint", "boolean": "boolean", "string": "text"}[kind.avro]
    return "text"


def staging_table(table: Table) -> str:
    """Name of the temporary table that a batch is copied into."""
    return f"stage_{table.name}"


def create_staging(table: Table) -> str:
    """DDL of the staging table; each transaction leaves it empty."""
    columns = ", ".join(f"{column} {staging_type(column)}" for column in table.merged_columns)
    return f"CREATE TEMP TABLE IF NOT EXISTS {staging_table(table)} ({columns})"


def few_statement(table: Table, into: str | None = None) -> str:
    """The upsert of a few rows that are a JSON text, or their insertion into another table."""
    typed = ", ".join(f"{column} {staging_type(column)}" for column in table.merged_columns)
    source = f"json_to_recordset(%s::json) AS few ({typed})"
    return f"INSERT INTO {into} SELECT * FROM {source}" if into else merge_statement(table, source)  # noqa: S608  # names of ours


def merge_statement(table: Table, source: str | None = None) -> str:
    """The upsert: rows in key order (so that two transactions lock alike), no write where nothing changes.

    From the staging table, or from another `source`.
    """
    columns = ", ".join(table.merged_columns)
    key = ", ".join(table.key)
    assignments = ",\n    ".join(
        f"{column} = {value}" for rule in table.rules for column, value in _assignments(rule)
    )
    changes = "\n    OR ".join(_changed(rule) for rule in table.rules)
    return (
        f"INSERT INTO {table.name} AS t ({columns})\n"
        f"SELECT {columns}\n"
        f"FROM {source or staging_table(table)} ORDER BY {key}\n"
        f"ON CONFLICT ({key}) DO UPDATE SET\n    {assignments}\n"
        f"WHERE {changes}"
    )


def _assignments(rule: Rule) -> Iterator[tuple[str, str]]:
    if isinstance(rule, Extreme):
        # LEAST and GREATEST leave nulls out.
        yield rule.column, f"{_keep(rule)}(t.{rule.column}, excluded.{rule.column})"
        return
    for column in columns_of(rule):
        better = f"WHEN {_wins(rule)} THEN excluded.{column}"
        equal = f"WHEN {_ties(rule)} THEN GREATEST(t.{column}, excluded.{column})"
        yield column, f"CASE {better} {equal} ELSE t.{column} END"


def _changed(rule: Rule) -> str:
    if isinstance(rule, Extreme):
        column = rule.column
        return f"t.{column} IS DISTINCT FROM {_keep(rule)}(t.{column}, excluded.{column})"
    rest = [column for column in columns_of(rule) if column not in rule.rank]
    if not rest:
        return _wins(rule)
    differs = f"({_row('t', rest)}) IS DISTINCT FROM ({_row('excluded', rest)})"
    return f"{_wins(rule)} OR ({_ties(rule)} AND {differs})"


def _keep(rule: Extreme) -> str:
    return "LEAST" if rule.keep == "min" else "GREATEST"


def _wins(facts: Facts) -> str:
    better = "<" if facts.wins == "first" else ">"
    # Facts are either all unknown or have a whole rank.
    return (
        f"(excluded.{facts.rank[0]} IS NOT NULL AND (t.{facts.rank[0]} IS NULL"
        f" OR ({_row('excluded', facts.rank)}) {better} ({_row('t', facts.rank)})))"
    )


def _ties(facts: Facts) -> str:
    return f"({_row('excluded', facts.rank)}) = ({_row('t', facts.rank)})"


def _row(alias: str, columns: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{alias}.{column}" for column in columns)
