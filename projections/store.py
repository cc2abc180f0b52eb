"""Where the read models are kept: merges rows, derives columns and moves checkpoints, in one transaction.

The transaction first moves the checkpoints from the expected offsets. Where they are not as expected, another
projector has folded these messages (we were replaced) and nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self

import msgspec
import polars as pl
import psycopg
from psycopg import Connection
from psycopg.rows import tuple_row

from jobtrail import events, kinds
from jobtrail.errors import JobtrailError, LogError
from jobtrail.projections import copying, merge
from jobtrail.projections import generation as g
from jobtrail.projections.fold import Rows
from jobtrail.projections.fold_few import FewRows
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.rules import Table
from jobtrail.projections.tables import ABOUT_WORKER, HEARTBEATS, TABLES, VERSION

PROJECTION_SET: Final = "core"
#: What a projector that was stopped, or whose machine is gone, may cost whoever replaced it: its transaction,
#: with the checkpoints in it, is ended by Postgres. (idle_in_transaction_session_timeout does not count the
#: time within a pipeline.) And who waits for another's lock looks up now and then, to be told to stop.
SESSION: Final = {
    "idle_in_transaction_session_timeout": "30s",
    "transaction_timeout": "300s",
    "lock_timeout": "30s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
#: So many jobs are derived by plans that are made once, and find everything by key.
FEW_JOBS: Final = 200
#: Deleted rows in the working tables from which on they are made anew.
MOST_DEAD: Final = 5_000


class CheckpointMismatchError(JobtrailError):
    """The checkpoints are not where this projector left them: another one took over. Read them anew."""


class Move(NamedTuple):
    """How far a batch moves one partition: from the offset expected in the checkpoint to the next one."""

    topic_id: str
    topic: str
    partition: int
    expected: int
    next: int


class Store:
    """The read models of the live generation. Not thread-safe; psycopg's errors pass through."""

    def __init__(self, connection: Connection[Any], projection_set: str = PROJECTION_SET) -> None:
        self.connection = connection
        self.projection_set = projection_set
        #: Rows that were deleted from the working tables and still take room there.
        self._dead = 0
        #: Whether Postgres expects few rows in them.
        self._expects_few = False
        #: The generation that the last transaction saw.
        self._generation: int | None = None

    @classmethod
    def open(cls, database_url: str, projection_set: str = PROJECTION_SET) -> Self:
        """Connects. Raises psycopg.OperationalError where Postgres does not answer."""
        connection = psycopg.connect(
            database_url, autocommit=True, connect_timeout=10, application_name="jobtrail-projector"
        )
        # Those that this Postgres knows: transaction_timeout came with 17.
        connection.execute(
            "SELECT set_config(s.name, wanted.value, false) FROM pg_settings s"
            " JOIN jsonb_each_text(%s::jsonb) wanted ON wanted.key = s.name",
            (json.dumps(SESSION),),
        )
        return cls(connection, projection_set)

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    def checkpoints(self, topic_id: str) -> dict[int, int]:
        """Partition → next offset, in the live generation."""
        rows = self.connection.execute(SQL["checkpoints"], {"set": self.projection_set, "topic_id": topic_id})
        return dict(rows.fetchall())

    def known_topic_ids(self, topic: str) -> set[str]:
        """Ids under which a topic of this name was folded into the live generation.

        Raises VersionError where that is another release's.
        """
        g.check_version(self.connection, VERSION)
        rows = self.connection.execute(SQL["known_topic_ids"], {"set": self.projection_set, "topic": topic})
        return {topic_id for (topic_id,) in rows}

    @contextmanager
    def transaction(self, *, few: bool = False) -> Iterator[Transaction]:
        """One batch: rows, checkpoints and dead letters are all written, or none of them.

        Statements about a `few` rows do not wait for each other's answers.
        """
        if self._generation is None:
            create_working_tables(self.connection)  # outside any transaction, so that no rollback undoes them
        with (
            self.connection.pipeline() if few else nullcontext(),
            g.live_tables(self.connection) as generation,
        ):
            if generation != self._generation is not None:
                g.check_version(self.connection, VERSION)
                self._generation = generation
                raise CheckpointMismatchError(f"generation {generation} of the read models is live now")
            self._generation = generation
            transaction = Transaction(
                self.connection, self.projection_set, generation, expects_few=self._expects_few
            )
            yield transaction
            dead, expects_few = self._dead + transaction.staged, transaction.expects_few
            if anew := dead > MOST_DEAD:
                dead, expects_few = 0, False
            if transaction.staged:
                clear_working_tables(self.connection, anew=anew)
        self._dead, self._expects_few = dead, expects_few


def create_working_tables(connection: Connection[Any]) -> None:
    """Makes the temporary tables that merging and deriving work in."""
    for table in TABLES:
        connection.execute(merge.create_staging(table).encode())
    create_derivation_tables(connection)


def create_derivation_tables(connection: Connection[Any]) -> None:
    """Makes those that deriving works in."""
    for statement in g.statements("derive_tables.sql"):
        connection.execute(statement.encode())


def clear_working_tables(connection: Connection[Any], *, anew: bool) -> None:
    """Empties them: by deleting what is in them, or `anew`, which frees the room of all that ever was.

    Not by ON COMMIT DELETE ROWS: that makes a new file for each of them, and Postgres plans every statement
    on them again; for a small batch both take several times as long as all else.
    """
    connection.execute(TRUNCATE if anew else DELETE)


class Transaction:
    """What can be done within one transaction of a `Store`."""

    def __init__(
        self,
        connection: Connection[Any],
        projection_set: str,
        generation: int,
        *,
        expects_few: bool = False,
    ) -> None:
        self.connection = connection
        self.projection_set = projection_set
        self.generation = generation
        #: Whether Postgres expects few rows in the working tables.
        self.expects_few = expects_few
        #: Rows that were put into the working tables.
        self.staged = 0
        #: Tables of which rows are in their staging tables.
        self._staging: set[str] = set()
        #: Table → column → values of merged rows, for `touch`.
        self._touched: dict[str, dict[str, list[int]]] = {
            "job_events": {"job_id": []},
            "attempts": {"job_id": [], "attempt_number": []},
        }

    def advance(self, moves: Sequence[Move]) -> None:
        """Moves the checkpoints. Raises CheckpointMismatchError where one is not at its expected offset."""
        columns = [list(column) for column in zip(*moves, strict=True)]
        values = {
            "set": self.projection_set,
            "generation": self.generation,
            **dict(zip(Move._fields, columns, strict=True)),
        }
        moved = len(self.connection.execute(SQL["advance"], values).fetchall())
        if moved < len(moves):
            moved += len(self.connection.execute(SQL["begin"], values).fetchall())
        if moved < len(moves):
            raise CheckpointMismatchError(
                f"{len(moves) - moved} of {len(moves)} partitions are not at the offset where they were left"
            )

    def dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps messages that cannot become events; one that is already kept stays as it is."""
        with self.connection.cursor() as cursor:
            cursor.executemany(SQL["dead_letter"], [asdict(letter) for letter in letters])

    def merge(self, rows: Rows | FewRows) -> None:
        """Merges folded rows, table by table in a fixed order. More may be merged before they are derived."""
        unknown = rows.keys() - {table.name for table in TABLES}
        if unknown:
            raise LogError(f"no read model is named {', '.join(sorted(unknown))}")
        for table in TABLES:
            if (ours := rows.get(table.name)) is not None:
                self._touch(table, ours)
                if table.name in self._staging:  # a row of the same key would come twice
                    self.connection.execute(EMPTY_STAGING[table.name])
                if isinstance(ours, pl.DataFrame):
                    copying.copy_rows(self.connection, STAGING[table.name], ours)
                    self._merge_staged(table, len(ours))
                elif table is HEARTBEATS:
                    self.connection.execute(STAGE_FEW_HEARTBEATS, (_json(table, ours),))
                    self._merge_staged(table, len(ours))
                else:
                    self.connection.execute(MERGE_FEW[table.name], (_json(table, ours),))

    def _merge_staged(self, table: Table, rows: int) -> None:
        self.staged += rows
        self._staging.add(table.name)
        if table is HEARTBEATS:
            for statement in RETAIN:
                self.connection.execute(statement)
        self.connection.execute(MERGE[table.name])

    def _touch(self, table: Table, rows: pl.DataFrame | Sequence[Mapping[str, Any]]) -> None:
        """Remembers what may have to be derived anew."""
        for column, found in self._touched.get(table.name, {}).items():
            if isinstance(rows, pl.DataFrame):
                found.extend(rows[column].to_list())
            else:
                found.extend(row[column] for row in rows)

    def derive(self, *, everything: bool = False) -> None:
        """Computes the derived columns of what this transaction touched, or of every job."""
        if everything:
            self.connection.execute(SQL["touch_everything"])
        else:
            lifecycle, heard = self._touched["job_events"], self._touched["attempts"]
            values = {
                "lifecycle": lifecycle["job_id"],
                "jobs": heard["job_id"],
                "numbers": heard["attempt_number"],
            }
            self.connection.execute(SQL["touch"], values)
        counting = self.connection.cursor(row_factory=tuple_row)  # the connection may have another
        (touched,) = counting.execute("SELECT count(*) FROM touched").fetchone() or (0,)
        if touched:
            self.staged += touched
            self._derive_few() if touched <= FEW_JOBS else self._derive_many()

    def _derive_few(self) -> None:
        if not self.expects_few:
            for statement in EXPECT_FEW:
                self.connection.execute(statement)
            self.expects_few = True
        for statement in DERIVE_FEW:
            self.connection.execute(statement, DERIVE_VALUES)

    def _derive_many(self) -> None:
        self.connection.execute("ANALYZE touched")
        if self.expects_few:  # else thousands of rows would be joined as if they were a few
            self.connection.execute(EXPECT_MANY)
        self.expects_few = False
        for statement in DERIVE:
            self.connection.execute(statement, DERIVE_VALUES)


def _json(table: Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as Postgres reads them."""
    instants = INSTANTS[table.name]
    found = [
        {name: _instant(value) if name in instants else value for name, value in row.items()} for row in rows
    ]
    return msgspec.json.encode(found).decode()


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else kinds.EPOCH + timedelta(microseconds=micros)


STAGING: Final = {
    table.name: copying.Target(
        merge.staging_table(table),
        {column: merge.staging_type(column) for column in table.merged_columns},
    )
    for table in TABLES
}
EMPTY_STAGING: Final = {
    table.name: f"DELETE FROM {merge.staging_table(table)}".encode()  # noqa: S608  # ours
    for table in TABLES
}
MERGE: Final = {table.name: merge.merge_statement(table).encode() for table in TABLES}
MERGE_FEW: Final = {table.name: merge.few_statement(table).encode() for table in TABLES}
STAGE_FEW_HEARTBEATS: Final = merge.few_statement(HEARTBEATS, merge.staging_table(HEARTBEATS)).encode()
INSTANTS: Final = {
    table.name: {name for name in table.merged_columns if name.endswith("_at")} for table in TABLES
}
#: What is derived anew, and what follows from it, in the order of derive.sql.
DERIVATION_TABLES: Final = ("touched", "own_ends", "decisions", "ends", "found")
WORKING_TABLES: Final = (*map(merge.staging_table, TABLES), *DERIVATION_TABLES)
_DELETES: Final = [f"from_{name} AS (DELETE FROM {name})" for name in WORKING_TABLES]  # noqa: S608  # ours
DELETE: Final = f"WITH {', '.join(_DELETES)} SELECT".encode()
CLEAR_DERIVATIONS: Final = f"TRUNCATE {', '.join(DERIVATION_TABLES)}".encode()
TRUNCATE: Final = f"TRUNCATE {', '.join(WORKING_TABLES)}".encode()
SQL: Final = g.named_statements("store.sql")
RETAIN: Final = tuple(g.named_statements("retain.sql").values())
DERIVE: Final = [statement.encode() for statement in g.statements("derive.sql")]
#: Postgres takes a working table that it never looked at for one of thousands of rows, and reads all jobs and
#: all attempts to join them with one. It is shown one row in each; `touched` is filled already.
EXPECT_FEW: Final = [
    statement.encode()
    for name in DERIVATION_TABLES[1:]
    for statement in (
        f"INSERT INTO {name} (job_id) VALUES (0)",  # noqa: S608  # ours
        f"ANALYZE {name}",
        f"DELETE FROM {name}",  # noqa: S608
    )
] + [b"ANALYZE touched"]
EXPECT_MANY: Final = f"TRUNCATE {', '.join(DERIVATION_TABLES[1:])}".encode()
#: The same statements under texts of their own, so that the plans made for a few are kept for a few.
DERIVE_FEW: Final = [b"-- Of a few jobs.\n" + statement for statement in DERIVE]
DERIVE_VALUES: Final = {
    "cancelled_internal": events.CANCELLED_INTERNAL_MESSAGE,
    "cancelled_external": events.CANCELLED_EXTERNAL_MESSAGE,
    "cancelled_job": events.CANCELLED_JOB_MESSAGE,
    "failed_job": events.FAILED_JOB_MESSAGE,
    "failed_at": events.FAILED_AT,
    "about_worker": list(ABOUT_WORKER),
}
