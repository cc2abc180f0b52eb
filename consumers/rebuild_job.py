"""Rebuilds one job in place: its events are read back from the whole log, and its rows are replaced.

The log is read to the live checkpoints beside the projectors. What they fold meanwhile is read once they
wait: for the moment in which the rows are replaced.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import Connection, sql
from psycopg.rows import dict_row

from jobtrail.consumers import rebuild_plan
from jobtrail.consumers.archive import Archive
from jobtrail.consumers.decode import Decoder
from jobtrail.consumers.gate import read_many
from jobtrail.consumers.rebuild import Result, leading
from jobtrail.consumers.rebuild_worker import stretches
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.source import AT_ONCE
from jobtrail.consumers.stretch import TopicReader
from jobtrail.consumers.waiting import database_address
from jobtrail.errors import ConflictError, NotFoundError
from jobtrail.projections import generation as g
from jobtrail.projections import shadow
from jobtrail.projections.compare import COMPARED, TableComparison, side_by_side
from jobtrail.projections.folding import Folding
from jobtrail.projections.rules import Table
from jobtrail.projections.shadow import Part
from jobtrail.projections.store import PROJECTION_SET, Transaction, create_working_tables
from jobtrail.projections.tables import VERSION
from jobtrail.settings import Settings

#: The tables that have rows of jobs.
OF_JOBS: Final = tuple(table for table in COMPARED if "job_id" in table.key)
#: Most offsets that are read while projectors wait.
MOST_WHILE_LOCKED: Final = 5_000
#: Times that it tries to get ahead of the projectors.
TRIES: Final = 20

Row = dict[str, Any]


def rebuild_job(
    settings: Settings, job_id: int, *, archive: str | None, verify_only: bool, force: bool
) -> Result:
    """Replaces the rows of a job by what the log says of it, or with `verify_only` compares both.

    Raises NotFoundError for a job that neither has, ConflictError where a rebuild runs or projectors are too
    fast, LogError for a log with a gap, ServerAwayError, psycopg.Error.
    """
    url = database_address(settings)
    with (
        psycopg.connect(
            url, autocommit=True, connect_timeout=10, application_name="jobtrail-rebuild"
        ) as lead,
        leading(lead),
    ):
        g.check_version(lead, VERSION)
        return _RebuildJob(settings, job_id, lead, archive).run(verify_only=verify_only, force=force)


class _RebuildJob:
    def __init__(self, settings: Settings, job_id: int, lead: Connection[Any], archive: str | None) -> None:
        self._settings, self._job_id, self._lead = settings, job_id, lead
        self._archive = Archive.open(archive) if archive else None
        self._key = str(job_id).encode()
        self._decoder = Decoder(schema_by_id=registry_of(settings))
        self._reader = TopicReader(settings)
        self._folding = Folding()
        self._messages = 0
        self._begun = time.monotonic()

    def run(self, *, verify_only: bool, force: bool) -> Result:
        generation = g.current_generation(self._lead)
        create_working_tables(self._lead)
        live = shadow.live_checkpoints(self._lead, generation)
        planned = rebuild_plan.plan(self._settings, self._archive, live, "topic")
        parts = [part for part in planned if part.topic == self._settings.events_topic]
        try:
            for _ in range(TRIES):
                parts = self._read(parts)
                with self._lead.transaction(force_rollback=verify_only):
                    self._lead.execute("SELECT pg_advisory_xact_lock(%s, %s)", g.GENERATION_LOCK)
                    parts = self._further(parts, shadow.live_checkpoints(self._lead, generation))
                    if sum(part.end - part.at for part in parts) <= MOST_WHILE_LOCKED:
                        self._read(parts)
                        return self._replace(generation, verify_only=verify_only, force=force)
            raise ConflictError(
                "the projectors fold faster than one job can be read; try again in a calmer moment"
            )
        finally:
            self._reader.close()

    def _read(self, parts: Sequence[Part]) -> list[Part]:
        """Folds what the parts have of the job; gives them as read."""
        for part in parts:
            refused = shadow.refused(self._lead).get((part.topic_id, part.partition), set())
            for records in stretches(part, self._archive, self._reader, AT_ONCE):
                self._messages += len(records)
                ours = [
                    row
                    for row, key in enumerate(records.keys)
                    if key == self._key and records.offsets[row] not in refused
                ]
                if ours:
                    kept = records.take(ours)
                    # What is no event was put aside when it was folded first.
                    self._folding.add(read_many(self._decoder, kept).frames)
        return [replace(part, at=part.end) for part in parts]

    def _further(self, parts: Sequence[Part], live: rebuild_plan.Checkpoints) -> list[Part]:
        """The same parts to where the projectors are now."""
        return [
            replace(part, end=max(part.end, live.get((part.topic_id, part.partition), part.end)))
            for part in parts
        ]

    def _replace(self, generation: int, *, verify_only: bool, force: bool) -> Result:
        self._lead.execute(sql.SQL("SET LOCAL search_path = {}").format(g.search_path(generation)))
        before = {table.name: self._rows(table) for table in OF_JOBS}
        for table in OF_JOBS:
            self._lead.execute(
                sql.SQL("DELETE FROM {} WHERE job_id = %s").format(sql.Identifier(table.name)),
                (self._job_id,),
            )
        rows = self._folding.rows()
        if not rows and not before["jobs"]:
            raise NotFoundError(f"there is no job {self._job_id}, neither in the log nor in the read models")
        tx = Transaction(self._lead, PROJECTION_SET, generation)
        tx.merge(rows)
        tx.derive()
        tables = tuple(self._compared(table, before[table.name], self._rows(table)) for table in OF_JOBS)
        result = Result(
            generation, self._messages, time.monotonic() - self._begun, tables, swapped=not verify_only
        )
        if not verify_only and not rows and not force:
            raise ConflictError(
                f"the log has nothing of job {self._job_id}, and the read models have; nothing was changed "
                f"(--force "
                "deletes its rows)"
            )
        return result

    def _rows(self, table: Table) -> list[Row]:
        statement = sql.SQL("SELECT * FROM {} WHERE job_id = %s ORDER BY {}").format(
            sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, table.key))
        )
        with self._lead.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement, (self._job_id,)).fetchall()

    @staticmethod
    def _compared(table: Table, before: list[Row], after: list[Row]) -> TableComparison:
        differences = tuple(side_by_side(table, iter(before), iter(after)))
        return TableComparison(table.name, len(before), len(after), len(differences), differences)
