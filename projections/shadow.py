"""A generation of the read models that is being made beside the live one.

    making    its schema, by the same migrations; keys and indexes are taken off and remembered
    reading   folded rows are appended, with the checkpoints they belong to, in any number of goes
    indexing  rows of one key become one row, keys are made
    deriving  the derived columns, then the other indexes
    ready     a whole generation: more is merged as into the live one, until it takes its place

Each step is recorded with what it does, so a rebuild that was killed goes on with the step it was in.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final, Literal, NamedTuple, Self

import polars as pl
import psycopg
from psycopg import Connection, sql
from psycopg.errors import UniqueViolation
from psycopg.rows import class_row

from jobtrail.projections import copying, merge, migrate
from jobtrail.projections import generation as g
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.rules import Table
from jobtrail.projections.store import (
    CLEAR_DERIVATIONS,
    DERIVE,
    DERIVE_VALUES,
    PROJECTION_SET,
    Move,
    Transaction,
    clear_working_tables,
    create_derivation_tables,
)
from jobtrail.projections.tables import TABLES, VERSION

Phase = Literal["making", "reading", "indexing", "deriving", "ready"]
SQL: Final = g.named_statements("shadow.sql")
#: Jobs that one statement derives: bounds its memory, and is what a killed rebuild does again.
PIECE: Final = 1_000
#: Tables in which something is derived.
DERIVED: Final = (*(table.name for table in TABLES if table.derived), "anomalies")
#: Memory of a session that makes an index.
INDEX_MEMORY: Final = "128MB"


@dataclass(frozen=True, slots=True)
class Part:
    """One partition that a rebuild reads: from the archive before `archived_to`, then from the topic."""

    topic: str
    topic_id: str
    partition: int
    archived_to: int
    #: Next offset after the last one.
    end: int
    #: The next offset to read.
    at: int = 0


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A generation that a rebuild was making."""

    generation: int
    version: int
    phase: Phase
    begun_at: datetime
    phase_at: datetime
    cancel_requested: bool


#: What is done on a connection of its own.
_Task = Callable[[Connection[Any]], None]


class _Index(NamedTuple):
    """DDL of a key or index: its table, how to make it, and whether it is a key."""

    table: str
    statement: str
    is_key: bool


def unfinished(connection: Connection[Any]) -> Unfinished | None:
    """What a rebuild left or is making."""
    return connection.cursor(row_factory=class_row(Unfinished)).execute(SQL["unfinished"]).fetchone()


class Shadow:
    """One generation in the making. Not thread-safe; the connection is in autocommit."""

    def __init__(self, database_url: str, generation: int) -> None:
        """Connects. Raises psycopg.OperationalError where Postgres does not answer."""
        self.database_url = database_url
        self.generation = generation
        self.schema = g.schema_name(generation)
        self.connection: Connection[Any] = psycopg.connect(
            database_url, autocommit=True, connect_timeout=10, application_name="jobtrail-rebuild"
        )

    @classmethod
    def make(cls, database_url: str, connection: Connection[Any], parts: Sequence[Part]) -> Self:
        """A new one, empty, that is to be filled from `parts`."""
        with connection.transaction():
            _control_tables(connection)
            (generation,) = _row(connection, "next_generation")
            connection.execute(SQL["register"], {"generation": generation, "version": VERSION})
        shadow = cls(database_url, generation)
        migrate.make_read_models(database_url, shadow.connection, generation)
        with shadow.transaction():
            shadow._take_indexes_off()
            for part in parts:
                values = {"generation": generation, **asdict(part)}
                shadow.connection.execute(SQL["plan_part"], values)
                shadow.connection.execute(SQL["plan_checkpoint"], {**values, "set": PROJECTION_SET})
            shadow._enter("reading")
        return shadow

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction in which unqualified names mean this generation's tables."""
        with self.connection.transaction():
            self.connection.execute("SET LOCAL synchronous_commit = off")
            self.connection.execute(
                sql.SQL("SET LOCAL search_path = {}").format(g.search_path(self.generation))
            )
            transaction = Transaction(self.connection, PROJECTION_SET, self.generation)
            yield transaction
            if transaction.staged:
                clear_working_tables(self.connection, anew=True)

    def parts(self) -> list[Part]:
        """What is read, and how far each partition is."""
        values = {"generation": self.generation, "set": PROJECTION_SET}
        with self.transaction(), self.connection.cursor(row_factory=class_row(Part)) as cursor:
            return cursor.execute(SQL["parts"], values).fetchall()

    def is_cancelled(self) -> bool:
        """Whether somebody asked for its end; also where it is gone."""
        with self.transaction():
            row = self.connection.execute(SQL["is_cancelled"], {"generation": self.generation}).fetchone()
        return row is None or bool(row[0])

    # Reading: called by the workers, each with a Shadow of its own.

    def append(self, rows: Mapping[str, pl.DataFrame], letters: Sequence[DeadLetter], move: Move) -> None:
        """Rows of a stretch of the log, and how far it goes: all or nothing.

        Raises CheckpointMismatchError where another worker has read that stretch.
        """
        with self.transaction() as tx:
            tx.advance([move])
            tx.dead_letters(letters)
            for table in TABLES:
                if (ours := rows.get(table.name)) is not None:
                    # In the order of its key: what belongs together is read together from then on.
                    copying.copy_rows(self.connection, self._targets[table.name], ours.sort(*table.key))

    @cached_property
    def _targets(self) -> dict[str, copying.Target]:
        return {table.name: copying.target(self.connection, self.schema, table.name) for table in TABLES}

    # After it: called by whoever leads the rebuild.

    def index(self, workers: int, say: Callable[[str], None]) -> None:
        """Makes one row of each key, then the keys. The phase is then `deriving`."""
        with self.transaction():
            self._enter("indexing")
            sizes = dict(self.connection.execute(SQL["sizes"], {"schema": self.schema}).fetchall())
        # The longest first, so that none of them is left alone at the end.
        keys = sorted((one for one in self._kept_indexes() if one.is_key), key=lambda one: -sizes[one.table])
        self._beside(workers, [partial(self._make_key, say, key) for key in keys])
        with self.transaction():
            self.connection.execute(SQL["ignore_heartbeats"])
            self._enter("deriving")

    def derive(self, workers: int, tell: Callable[[int, int], None]) -> None:
        """Computes the derived columns, then makes the other indexes. The phase is then `ready`.

        `tell` hears how many of how many pieces are done.
        """
        with self.transaction():
            begins = [job_id for (job_id,) in self.connection.execute(SQL["bounds"], {"size": PIECE})]
        pieces = [*zip(begins, [*begins[1:], None], strict=False)]
        done: list[None] = []

        def piece(begin: int, end: int | None, connection: Connection[Any]) -> None:
            create_derivation_tables(connection)
            with self._as_ours(connection):
                connection.execute(SQL["touch_range"], {"from": begin, "to": end})
                connection.execute("ANALYZE touched")
                for statement in DERIVE:
                    connection.execute(statement, DERIVE_VALUES)
                connection.execute(CLEAR_DERIVATIONS)
            done.append(None)
            tell(len(done), len(pieces))

        others = [index for index in self._kept_indexes() if not index.is_key]
        # Of tables in which nothing is derived, while others are derived.
        early = [partial(self._make, index) for index in others if index.table not in DERIVED]
        self._beside(workers, [*early, *(partial(piece, *one) for one in pieces)])
        self._beside(workers, [partial(self._make, index) for index in others if index.table in DERIVED])
        self._beside(workers, [partial(self._look_at, table) for table in DERIVED])
        with self.transaction():
            self._enter("ready")

    def ignore_old(self) -> None:
        """Deletes heartbeats that the horizon has passed by meanwhile."""
        with self.transaction():
            self.connection.execute(SQL["ignore_heartbeats"])

    def drop(self) -> None:
        """Nothing of it stays."""
        drop(self.connection, self.generation)

    def _enter(self, phase: Phase) -> None:
        self.connection.execute(SQL["set_phase"], {"generation": self.generation, "phase": phase})

    def _take_indexes_off(self) -> None:
        """Drops what slows the appending down, and remembers how it was made."""
        found: list[_Index] = []
        connection = self.connection
        for table, name, definition in connection.execute(
            SQL["constraints"], {"schema": self.schema}
        ).fetchall():
            where, key = sql.Identifier(self.schema, table), sql.Identifier(name)
            make = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} ").format(where, key).as_string() + definition
            found.append(_Index(table, make, is_key=True))
            connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(where, key))
        for table, name, definition in connection.execute(SQL["indexes"], {"schema": self.schema}).fetchall():
            found.append(_Index(table, definition, is_key=False))
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(self.schema, name)))
        values = {"generation": self.generation, "indexes": json.dumps(found)}
        connection.execute(SQL["keep_indexes"], values)

    def _kept_indexes(self) -> list[_Index]:
        with self.transaction():
            (kept,) = self.connection.execute(
                SQL["kept_indexes"], {"generation": self.generation}
            ).fetchone() or ([],)
        return [_Index(*index) for index in kept]

    def _make_key(self, say: Callable[[str], None], key: _Index, connection: Connection[Any]) -> None:
        try:
            self._make(key, connection)
        except UniqueViolation:
            # Rows of a job that were appended in several goes, or from several partitions.
            say(f"{key.table}: rows of one key are merged")
            with self._as_ours(connection):
                waves = self._move_repeated_aside(connection, key.table)
                connection.execute(key.statement.encode())
                self._merge_waves(connection, key.table, waves)
        # What is derived is looked at again, when it is.
        columns = [name for one in TABLES if one.name == key.table and one.derived for name in one.key]
        self._look_at(key.table, connection, columns)

    def _look_at(self, table: str, connection: Connection[Any], columns: Collection[str] = ()) -> None:
        """So that Postgres plans for what is in it, or in some of its columns."""
        named = sql.SQL(", ").join(map(sql.Identifier, columns))
        only = sql.SQL(" ({})").format(named) if columns else sql.SQL("")
        connection.execute(sql.SQL("ANALYZE {}{}").format(sql.Identifier(self.schema, table), only))

    def _make(self, index: _Index, connection: Connection[Any]) -> None:
        with self._as_ours(connection):
            made = connection.execute(
                "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = %s AND c.relkind = 'i' AND c.relname = %s",
                (self.schema, _index_name(index)),
            )
            if not made.rowcount:  # else an earlier run came that far
                connection.execute(index.statement.encode())

    def _move_repeated_aside(self, connection: Connection[Any], table: str) -> int:
        """All rows of a key but one, numbered; gives the highest number."""
        declared = _declared(table)
        names = {"table": sql.Identifier(table), "key": sql.SQL(", ").join(map(sql.Identifier, declared.key))}
        connection.execute(
            sql.SQL(
                "CREATE TEMP TABLE repeated ON COMMIT DROP AS SELECT * FROM ("
                " SELECT *, ctid AS place, row_number() OVER (PARTITION BY {key} ORDER BY ctid) AS wave "
                "FROM {table}"
                ") numbered WHERE wave > 1"
            ).format(**names)
        )
        connection.execute(
            sql.SQL("DELETE FROM {table} t USING repeated r WHERE t.ctid = r.place").format(**names)
        )
        (waves,) = connection.execute("SELECT coalesce(max(wave), 1) FROM repeated").fetchone() or (1,)
        return int(waves)

    def _merge_waves(self, connection: Connection[Any], table: str, waves: int) -> None:
        declared = _declared(table)
        for wave in range(2, waves + 1):
            which = sql.SQL("CREATE TEMP VIEW wave AS SELECT * FROM repeated WHERE wave = {}")
            connection.execute(which.format(sql.Literal(wave)))
            connection.execute(merge.merge_statement(declared, "wave").encode())
            connection.execute("DROP VIEW wave")

    @contextmanager
    def _as_ours(self, connection: Connection[Any]) -> Iterator[None]:
        with connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = off")
            connection.execute(sql.SQL("SET LOCAL search_path = {}").format(g.search_path(self.generation)))
            yield

    def _beside(self, workers: int, tasks: Sequence[_Task]) -> None:
        """Runs the tasks, in this order, on so many connections at once.

        Raises the first error, after all that ran have ended.
        """
        left = deque(tasks)

        def run() -> None:
            with psycopg.connect(
                self.database_url, autocommit=True, connect_timeout=10, application_name="jobtrail-rebuild"
            ) as connection:
                connection.execute(f"SET maintenance_work_mem = '{INDEX_MEMORY}'".encode())
                connection.execute(f"SET work_mem = '{INDEX_MEMORY}'".encode())
                try:
                    for task in iter(partial(_next, left), None):
                        task(connection)
                except BaseException:
                    left.clear()  # the others need not go on
                    raise

        with ThreadPoolExecutor(workers, thread_name_prefix="jobtrail-rebuild") as pool:
            for future in [pool.submit(run) for _ in range(min(workers, len(tasks)))]:
                future.result()


def _declared(table: str) -> Table:
    (found,) = (one for one in TABLES if one.name == table)
    return found


def _next(tasks: deque[_Task]) -> _Task | None:
    try:
        return tasks.popleft()
    except IndexError:
        return None


def drop(connection: Connection[Any], generation: int) -> None:
    """Drops a generation that is not live, and forgets it."""
    with connection.transaction():
        connection.execute(
            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(g.schema_name(generation)))
        )
        _control_tables(connection)
        connection.execute(SQL["forget"], {"generation": generation})


def refused(connection: Connection[Any]) -> dict[tuple[str, int], set[int]]:
    """(topic id, partition) → offsets that Postgres refused once, so that no read model has them."""
    found: dict[tuple[str, int], set[int]] = defaultdict(set)
    for topic_id, partition, offset in connection.execute(SQL["refused"]):
        found[topic_id, partition].add(offset)
    return found


def request_cancel(connection: Connection[Any], generation: int) -> None:
    """Asks the process that makes a generation to stop."""
    with connection.transaction():
        _control_tables(connection)
        connection.execute(SQL["request_cancel"], {"generation": generation})


def live_checkpoints(connection: Connection[Any], generation: int) -> dict[tuple[str, int], int]:
    """(topic id, partition) → next offset of a generation."""
    values = {"set": PROJECTION_SET, "generation": generation}
    rows = connection.execute(SQL["checkpoints_of"], values)
    return {(topic_id, partition): at for _, topic_id, partition, at in rows}


def _index_name(index: _Index) -> str:
    """Of a definition that we or pg_get_indexdef wrote: the name stands after CONSTRAINT or INDEX."""
    words = index.statement.split()
    return words[words.index("CONSTRAINT" if index.is_key else "INDEX") + 1].strip('"')


def _control_tables(connection: Connection[Any]) -> None:
    connection.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(g.STABLE_SCHEMA)))


def _row(connection: Connection[Any], name: str, **values: Any) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(SQL[name], values).fetchone() or (None,)
    return row
