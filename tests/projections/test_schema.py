"""The tables are what the declarations say, and the views are what readers were promised."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest

from jobtrail.events import ALERT_TYPES, EVENT_TYPES
from jobtrail.projections import migrate as migrations
from jobtrail.projections.migrate import migrate
from jobtrail.projections.rules import Table
from jobtrail.projections.tables import FREQUENT, JOB_EVENTS, TABLES

#: Columns are a contract: they may be added at the end, and never renamed or removed.
VIEWS = {
    "jobs": "job_id status config_type config_id connection_id scope_type scope_id workspace_id created_at"
    " started_at ended_at updated_at cancel_requested_at cancel_requested_by cancelled_by streams"
    " streams_to_reset streams_to_refresh labels log_partition first_offset last_offset failure_reason"
    " successive_complete_failures total_complete_failures successive_partial_failures"
    " total_partial_failures given_workspace_id records_emitted bytes_emitted records_committed"
    " bytes_committed records_rejected",
    "counted_streams": "job_id attempt_number stream_namespace stream_name records_emitted bytes_emitted"
    " records_committed bytes_committed records_rejected counts",
    "attempts": "attempt_id job_id attempt_number status created_at started_at ended_at updated_at worker"
    " dataplane source_image source_version destination_image destination_version failure_summary"
    " partial_success last_received_at",
    "attempt_totals": "job_id attempt_number records_emitted bytes_emitted state_messages_emitted"
    " records_committed bytes_committed records_rejected estimated_records estimated_bytes",
    "stream_totals": "job_id attempt_number stream_namespace stream_name records_emitted bytes_emitted"
    " state_messages_emitted records_committed bytes_committed records_rejected estimated_records"
    " estimated_bytes reported_at",
    "stream_stats": "job_id attempt_number stream_namespace stream_name reporter reported_at records_emitted"
    " bytes_emitted state_messages_emitted records_committed bytes_committed records_rejected"
    " estimated_records estimated_bytes",
    "stream_reconciliation": "job_id attempt_number stream_namespace stream_name source_records_emitted"
    " platform_records_emitted platform_records_committed destination_records_committed differs",
    "stream_statuses": "job_id attempt_number stream_namespace stream_name run_state transitioned_at"
    " incomplete_run_cause quota_reset_at event_id",
    "job_events": "job_id attempt_number event_type occurred_at event_id body received_at",
    "anomalies": "job_id attempt_number kind detail",
    "workspaces": "workspace_id organization_id is_default name registered_at",
    "heartbeats": "dataplane_id heard_at dataplane_version received_at",
    "window_parts": "window_id measure window_type starts_at ends_at log_partition sequence computed_at"
    " connection_id connector_role connector failure_origin failure_type stream_namespace stream_name"
    " attempts_succeeded attempts_failed attempts_cancelled attempts_timed duration_ms longest_ms"
    " records_emitted bytes_emitted records_committed bytes_committed streams_stalled messages_refused",
    "windows": "measure window_type starts_at ends_at connection_id connector_role connector failure_origin"
    " failure_type stream_namespace stream_name attempts_succeeded attempts_failed attempts_cancelled"
    " failure_rate attempts_timed duration_ms average_ms longest_ms records_emitted bytes_emitted"
    " records_committed bytes_committed streams_stalled messages_refused computed_at",
    "failure_rates": "window_type starts_at ends_at connector_role connector failure_origin failure_type"
    " attempts_failed attempts_ended failure_rate",
    "dataplanes": "dataplane_id last_received_at dataplane_version",
}


def columns(url: str, schema: str, table: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
            " ORDER BY ordinal_position",
            (schema, table),
        ).fetchall()
    return [name for (name,) in rows]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_has_the_declared_columns(database: str, table: Table) -> None:
    """A column that a rule fills and no migration makes, or the other way about, is found here."""
    assert set(columns(database, "jobtrail_g1", table.name)) == {*table.merged_columns, *table.derived}


def test_every_event_has_a_place_or_is_told_of_only() -> None:
    """What no table holds is an alert, whose state is the alerter's own; anything else was forgotten."""
    used = {event for table in TABLES for rule in table.rules for event in rule.events}
    assert {*EVENT_TYPES} - used == ALERT_TYPES


def test_every_job_event_has_a_place(database: str) -> None:
    """Each event type is one that fills a table, or none would notice that it was forgotten."""
    del database
    used = {event for table in TABLES for rule in table.rules for event in rule.events}
    streams = [table for table in TABLES if table.name.startswith("stream_")]
    own_tables = {event for table in streams for rule in table.rules for event in rule.events}
    assert used >= set(JOB_EVENTS)
    assert own_tables <= FREQUENT


def test_text_compares_by_bytes_whatever_the_database_does(database: str) -> None:
    with psycopg.connect(database) as connection:
        other = connection.execute(
            "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_type t ON t.oid = a.atttypid JOIN pg_collation l ON l.oid = a.attcollation"
            " WHERE c.relnamespace IN ('jobtrail'::regnamespace, 'jobtrail_g1'::regnamespace)"
            " AND c.relkind = 'r' AND c.relname NOT LIKE '%yoyo%' AND l.collname <> 'C'"
        ).fetchall()
    assert other == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_the_promised_columns(database: str, view: str) -> None:
    assert columns(database, "jobtrail", view) == VIEWS[view].split()


def test_migrating_again_does_nothing(database: str) -> None:
    assert migrate(database) == []


def test_failure_summary_arrives_by_a_migration_of_its_own(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: no column, and rows that stay. After, and after a second time: nullable jsonb, indexed."""
    before = tmp_path / "jobtrail"
    shutil.copytree(Path(str(files("jobtrail") / "migrations")), before / "migrations")
    _, *added = sorted((before / "migrations" / "read_models").glob("*.sql"))
    for later in added:
        later.unlink()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA jobtrail CASCADE")
        connection.execute("DROP SCHEMA jobtrail_g1 CASCADE")
        connection.execute("CREATE SCHEMA jobtrail")
        connection.execute("CREATE SCHEMA jobtrail_g1")
        with monkeypatch.context() as older:
            older.setattr(migrations, "files", lambda _: before)
            for schema, folder in (("jobtrail", "control"), ("jobtrail_g1", "read_models")):
                migrations._apply(database, schema, folder)
        assert "failure_summary" not in columns(database, "jobtrail_g1", "attempts")
        connection.execute(
            "INSERT INTO jobtrail_g1.attempts (job_id, attempt_number, first_heard_at, last_heard_at, status)"
            " VALUES (1, 0, now(), now(), 'failed')"
        )
        assert migrate(database) == [f"read_models/{later.stem}" for later in added]
        kept = connection.execute("SELECT status, failure_summary FROM jobtrail_g1.attempts").fetchall()
        assert kept == [("failed", None)]
        described = connection.execute(
            "SELECT data_type, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'jobtrail_g1' AND table_name = 'attempts'"
            " AND column_name = 'failure_summary'"
        ).fetchone()
        assert described == ("jsonb", "YES")
        text = (Path(str(files("jobtrail"))) / "migrations/read_models/0002_failure_summary.sql").read_text()
        connection.execute("SET search_path = jobtrail_g1")
        connection.execute(text.encode())
        plan = connection.execute(
            "SELECT indexdef FROM pg_indexes"
            " WHERE indexname = 'attempts_by_failure' AND schemaname = 'jobtrail_g1'"
        ).fetchone()
        assert plan is not None
        assert "gin" in plan[0]


def test_failures_are_found_by_index(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM jobtrail.attempts"
            """ WHERE failure_summary @> '{"failures": [{"failureOrigin": "source"}]}'"""
        ).fetchall()
    assert any("attempts_by_failure" in line for (line,) in plan)
