"""A rebuild: new read models from the log, beside the live ones, that take their place at the end.

    plan      which partitions, to which offsets: the live generation's checkpoints
    read      processes fold partitions in memory and append their rows           (rebuild_worker)
    index     one row for each key, then keys                                     (projections/shadow)
    derive    derived columns, other indexes
    compare   both at the same checkpoints, by key                                (projections/compare)
    swap      the views move to the new generation, the old one goes

Every step is recorded in Postgres: a rebuild that was killed goes on with the step it was in. The live
projector keeps folding and readers keep reading. Nothing is published.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.errors import LockNotAvailable
from psycopg.rows import class_row, dict_row

from jobtrail.consumers import rebuild_plan
from jobtrail.consumers.archive import Archive
from jobtrail.consumers.catching_up import CatchingUp, Place
from jobtrail.consumers.rebuild_worker import topic_ids
from jobtrail.consumers.rebuild_workers import Crew
from jobtrail.consumers.waiting import database_address, in_one_line
from jobtrail.errors import ConflictError, JobtrailError
from jobtrail.producers.safe_text import safe
from jobtrail.projections import generation as g
from jobtrail.projections import shadow
from jobtrail.projections.compare import Difference, TableComparison, compare
from jobtrail.projections.shadow import Phase, Shadow
from jobtrail.projections.store import PROJECTION_SET, Transaction, create_working_tables
from jobtrail.projections.tables import VERSION
from jobtrail.settings import Settings

#: Milliseconds that the swap waits for readers or a projector before it lets them pass and tries again.
LOCK_TIMEOUT: Final = 250
#: Times that it tries.
SWAP_TRIES: Final = 200
#: Most offsets that are folded while projectors wait for the swap.
MOST_WHILE_LOCKED: Final = 5_000
#: Seconds for the live projector to reach where the new generation is.
LIVE_PATIENCE: Final = 60.0
#: What becomes of a generation that was not swapped.
LEFT: Final = "`jobtrail rebuild` goes on from here, `jobtrail rebuild cancel` drops it"
#: Seconds that a cancel waits for the process that rebuilds.
CANCEL_PATIENCE: Final = 15.0
#: Characters that are kept of why one failed.
MOST_DETAIL: Final = 2_000
#: What came of one: in place; compared alone; not swapped, and why; cancelled; failed.
Ended = Literal["swapped", "compared", "refused", "cancelled", "failed"]


class CancelledError(JobtrailError):
    """Somebody cancelled the rebuild; the live generation is untouched."""


class Tell(Protocol):
    """Hears how far it is: offsets while reading, pieces while deriving; 0 of 0 where that is unknown."""

    def __call__(self, phase: str, done: int = 0, total: int = 0) -> None:
        """So much is done of so much."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    generation: int
    messages: int
    seconds: float
    tables: tuple[TableComparison, ...]
    swapped: bool
    #: Why it was not swapped, or could not be compared at the same checkpoints.
    note: str | None = None

    @property
    def same(self) -> bool:
        """Whether both generations hold the same."""
        return not any(table.differing for table in self.tables)

    def said(self, options: Options) -> tuple[Ended, str]:
        """What came of it in a word, and in a sentence."""
        if not self.swapped and not options.verify_only:
            return "refused", self.note or "not swapped"
        differing = [f"{table.table} in {table.differing:,}" for table in self.tables if table.differing]
        rows = f"rows differed: {', '.join(differing)}" if differing else "all rows were the same"
        said = f"{self.messages:,} messages read; {rows}"
        return "swapped" if self.swapped else "compared", f"{said}; {self.note}" if self.note else said

    @property
    def differences(self) -> Iterator[Difference]:
        """Those told one by one."""
        return (difference for table in self.tables for difference in table.differences)


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for."""

    workers: int
    #: Who does it, for the record.
    by: str
    origin: rebuild_plan.Origin = "topic"
    archive: str | None = None
    #: Compare, and leave the live generation where it is.
    verify_only: bool = False
    #: Swap even where the result is empty or shorter.
    force: bool = False
    #: Asked before the swap where something differs; without it, it is done.
    confirm: Callable[[Result], bool] | None = None


def rebuild(settings: Settings, options: Options, tell: Tell) -> Result:
    """Does all of it, going on with what was left unfinished.

    Raises ConflictError where another one runs, CancelledError, LogError for a log with a gap,
    ServerAwayError, psycopg.Error. Whatever is raised, the live generation serves as before.
    """
    url = database_address(settings)
    with (
        psycopg.connect(
            url, autocommit=True, connect_timeout=10, application_name="jobtrail-rebuild"
        ) as lead,
        leading(lead),
    ):
        begun = lead.execute(shadow.SQL["begin_run"], {"by": options.by}).fetchone()
        assert begun is not None  # noqa: S101  # RETURNING

        def end(result: Ended, detail: str) -> None:
            about = {"begun_at": begun[0], "result": result, "detail": safe(detail, MOST_DETAIL)}
            lead.execute(shadow.SQL["end_run"], about)

        try:
            result = _Rebuild(settings, options, tell, url, lead).run()
        except Exception as error:
            with contextlib.suppress(psycopg.Error):  # what is raised says more than that it is not on record
                end("cancelled" if isinstance(error, CancelledError) else "failed", in_one_line(error))
            raise
        end(*result.said(options))
        return result


@contextmanager
def leading(connection: Connection[Any]) -> Iterator[None]:
    """One rebuild at a time. Raises ConflictError where another runs."""
    (mine,) = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", g.REBUILD_LOCK).fetchone() or (False,)
    if not mine:
        raise ConflictError("a rebuild runs already; `jobtrail rebuild status` shows it, `cancel` ends it")
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", g.REBUILD_LOCK)


class _Rebuild:
    def __init__(
        self, settings: Settings, options: Options, tell: Tell, url: str, lead: Connection[Any]
    ) -> None:
        self._settings, self._options, self._tell = settings, options, tell
        self._url, self._lead = url, lead
        self._messages = 0
        self._begun = time.monotonic()
        self._crew = Crew(options.workers)

    def run(self) -> Result:
        with contextlib.closing(self._crew):
            return self._run()

    def _run(self) -> Result:
        new, phase = self._begin()
        try:
            if phase == "reading":
                self._read(new)
            if phase in {"reading", "indexing"}:
                self._tell("making keys")
                new.index(self._options.workers, lambda _text: None)
            if phase != "ready":
                self._tell("deriving")
                new.derive(self._options.workers, lambda done, total: self._tell("deriving", done, total))
            self._check(new)
            return self._finish(new)
        except CancelledError:
            new.drop()
            raise
        finally:
            new.close()

    def _begin(self) -> tuple[Shadow, Phase]:
        """What was left unfinished, or a new generation."""
        found = shadow.unfinished(self._lead)
        if found and found.version == VERSION and found.phase != "making" and not found.cancel_requested:
            if found.phase == "reading":
                self._crew.start()
            return Shadow(self._url, found.generation), found.phase
        if found:
            shadow.drop(self._lead, found.generation)
        self._crew.start()
        archive = Archive.open(self._options.archive) if self._options.archive else None
        live = shadow.live_checkpoints(self._lead, g.current_generation(self._lead))
        parts = rebuild_plan.plan(self._settings, archive, live, self._options.origin)
        return Shadow.make(self._url, self._lead, parts), "reading"

    def _read(self, new: Shadow) -> None:
        parts = new.parts()
        total = sum(part.end for part in parts)
        before = sum(part.at for part in parts)

        def look(offsets: int) -> None:
            self._check(new)
            self._tell("reading", before + offsets, total)

        self._messages = self._crew.read(self._settings, new.generation, parts, self._options.archive, look)
        self._tell("reading", total, total)

    def _check(self, new: Shadow) -> None:
        if new.is_cancelled():
            raise CancelledError("the rebuild was cancelled; the live read models are as they were")

    def _finish(self, new: Shadow) -> Result:
        catching_up = CatchingUp(self._settings, topic_ids(self._settings), shadow.refused(self._lead))
        create_working_tables(new.connection)
        create_working_tables(self._lead)
        try:
            tables, note = self._compare(new, catching_up)
            result = Result(
                new.generation,
                self._messages,
                time.monotonic() - self._begun,
                tables,
                swapped=False,
                note=note,
            )
            refusal = self._refusal(result)
            if self._options.verify_only:
                new.drop()
                return result
            if refusal and not self._options.force:
                return replace(result, note=refusal)
            if self._options.confirm and not result.same and not self._options.confirm(result):
                return replace(result, note=f"not swapped, as you said; {LEFT}")
            self._tell("swapping")
            self._swap(new, catching_up)
            return replace(result, swapped=True, seconds=time.monotonic() - self._begun)
        finally:
            catching_up.close()

    def _compare(
        self, new: Shadow, catching_up: CatchingUp
    ) -> tuple[tuple[TableComparison, ...], str | None]:
        """Both at the checkpoints of one snapshot of the live generation."""
        until = time.monotonic() + LIVE_PATIENCE
        while True:
            self._tell("comparing")
            with psycopg.connect(
                self._url, connect_timeout=10, application_name="jobtrail-rebuild"
            ) as snapshot:
                snapshot.isolation_level = IsolationLevel.REPEATABLE_READ
                snapshot.read_only = True
                old = g.current_generation(snapshot)
                live = _checkpoints(snapshot, old)
                mine = self._mine(new)
                ahead = [place for place, at in mine.items() if place in live and at > live[place]]
                if ahead and time.monotonic() < until:
                    self._check(new)
                    time.sleep(0.5)
                    continue
                catching_up.go(mine, live, new.transaction)
                new.ignore_old()
                tables = compare(snapshot, g.schema_name(old), new.connection, new.schema)
            notes = []
            if ahead:
                topic_id, partition = ahead[0]
                notes.append(
                    "the live read models are behind the new ones, as in partition "
                    f"{partition} of topic id {topic_id}"
                )
            gone = {topic_id for topic_id, _ in live} - topic_ids(self._settings).keys()
            if gone:
                notes.append(
                    "the live read models came from topics that are no more "
                    f"(ids {', '.join(sorted(gone))}); the new ones have their events from the archive, "
                    "and those of the topics of today"
                )
            return tuple(tables), "; ".join(notes) or None

    def _mine(self, new: Shadow) -> dict[Place, int]:
        with new.transaction():
            return shadow.live_checkpoints(new.connection, new.generation)

    def _refusal(self, result: Result) -> str | None:
        jobs = next(table for table in result.tables if table.table == "jobs")
        if not jobs.new_rows:
            return "the result is empty: the log has no jobs; nothing was swapped (--force does it)"
        shorter = [
            f"{table.table} has {table.new_rows:,} rows instead of {table.live_rows:,}"
            for table in result.tables
            if table.new_rows < table.live_rows and table.table != "anomalies"
        ]
        if shorter:
            return f"the result is shorter: {'; '.join(shorter)}; nothing was swapped (--force does it)"
        return None

    def _swap(self, new: Shadow, catching_up: CatchingUp) -> None:
        """Moves the views, once the new generation is as far as the live one in every partition."""
        old = g.current_generation(self._lead)
        for _ in range(SWAP_TRIES):
            try:
                if self._try_to_swap(new, old, catching_up):
                    break
            except LockNotAvailable:
                # Whoever waited behind us for a moment goes first.
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311
            self._check(new)
        else:
            raise ConflictError(
                f"readers or projectors held the views for all of {SWAP_TRIES} tries; end long "
                f"transactions, and run "
                "`jobtrail rebuild` again: it goes on with the swap"
            )
        self._drop_old(old)

    def _try_to_swap(self, new: Shadow, old: int, catching_up: CatchingUp) -> bool:
        """Whether it did; False: the live generation was too far ahead, and now it is less so."""
        catching_up.go(self._mine(new), _checkpoints(self._lead, old), new.transaction)
        with self._lead.transaction():
            self._lead.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
            self._lead.execute("SELECT pg_advisory_xact_lock(%s, %s)", g.GENERATION_LOCK)
            live, mine = _checkpoints(self._lead, old), _checkpoints(self._lead, new.generation)
            if sum(max(0, end - mine.get(place, 0)) for place, end in live.items()) > MOST_WHILE_LOCKED:
                return False
            g.create_views(self._lead, new.generation)  # also makes unqualified names mean its tables
            if g.version_of(self._lead, old) != VERSION:
                g.create_analytics(self._lead)  # else they stay, and analysts notice nothing
            catching_up.at_once(mine, live, Transaction(self._lead, PROJECTION_SET, new.generation))
            self._lead.execute(shadow.SQL["ignore_heartbeats"])
            self._lead.execute(shadow.SQL["swap"], {"generation": new.generation})
            self._lead.execute(shadow.SQL["set_phase"], {"generation": new.generation, "phase": "live"})
            self._lead.execute(shadow.SQL["retire"], {"generation": old})
        return True

    def _drop_old(self, old: int) -> None:
        """Readers of a moment ago may still be at it; what cannot be dropped now, the next rebuild drops."""
        for _ in range(SWAP_TRIES):
            try:
                with self._lead.transaction():
                    self._lead.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
                    shadow.drop(self._lead, old)
            except LockNotAvailable:
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311
            else:
                return


def _checkpoints(connection: Connection[Any], generation: int) -> dict[Place, int]:
    return shadow.live_checkpoints(connection, generation)


@dataclass(frozen=True, slots=True)
class Run:
    """One rebuild: who began it, and what came of it."""

    begun_at: datetime
    begun_by: str
    #: None: it runs, or its process was ended before it was done.
    ended_at: datetime | None
    result: Ended | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class State:
    """Which generation is live, and the rebuild that runs or was left."""

    live: int
    version: int
    unfinished: shadow.Unfinished | None
    #: Whether a process is at it.
    running: bool
    #: Offsets whose rows are in the new generation, of how many.
    read: int
    total: int
    #: The newest one, also that which runs.
    last: Run | None

    @property
    def outcome(self) -> Ended | Literal["running", "interrupted"] | None:
        """Of the newest one; `interrupted`: its process was ended before it was done."""
        if self.last is None:
            return None
        return self.last.result or ("running" if self.running else "interrupted")


def state(connection: Connection[Any]) -> State:
    """How things are. Lets psycopg's errors pass.

    On a connection of which each statement sees what was committed before it: whether a process is at it is
    seen as it is now, and what came of it must not be older.
    """
    found = _state(connection)
    # It may have ended between the two looks, or another one begun.
    while found.outcome == "interrupted" and (again := _state(connection)) != found:
        found = again
    return found


def _state(connection: Connection[Any]) -> State:
    assert connection.isolation_level is None  # noqa: S101  # a snapshot may be older than the lock
    class_id, object_id = g.REBUILD_LOCK
    by_name = connection.cursor(row_factory=dict_row)
    live = by_name.execute(shadow.SQL["live"], {"class": class_id, "object": object_id}).fetchone()
    assert live is not None  # noqa: S101  # a migration makes it
    found, progress = shadow.unfinished(connection), {"read": 0, "total": 0}
    if found is not None:
        values = {"generation": found.generation, "set": PROJECTION_SET}
        progress = by_name.execute(shadow.SQL["progress"], values).fetchone() or progress
    last = connection.cursor(row_factory=class_row(Run)).execute(shadow.SQL["last_run"]).fetchone()
    return State(live["generation"], live["version"], found, live["running"], **progress, last=last)


def cancel(settings: Settings) -> str | None:
    """Ends what runs, or drops what was left; says what it did. None: there was nothing."""
    url = database_address(settings)
    with psycopg.connect(url, autocommit=True, connect_timeout=10, application_name="jobtrail") as connection:
        found = shadow.unfinished(connection)
        if found is None:
            return None
        shadow.request_cancel(connection, found.generation)
        until = time.monotonic() + CANCEL_PATIENCE
        while True:
            try:
                with leading(connection):
                    shadow.drop(connection, found.generation)
            except ConflictError:
                if time.monotonic() > until:
                    return "asked the rebuild to end; it does at its next step"
                time.sleep(0.2)
            else:
                return f"dropped what the rebuild of generation {found.generation} had made"
