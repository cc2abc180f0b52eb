"""The projector: folds the event log into the read models, batch by batch, each in one transaction."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Final, TypeVar

import psycopg
from psycopg.errors import (
    ProgramLimitExceeded,
    ReadOnlySqlTransaction,
    StatementTooComplex,
    UndefinedTable,
)

from jobtrail.consumers.batch import Batch, Pending
from jobtrail.consumers.dead_letters import relay_once, relaying
from jobtrail.consumers.decode import Decoded, Decoder, Messages, together
from jobtrail.consumers.few import FEW, read_few
from jobtrail.consumers.gate import read_many
from jobtrail.consumers.records import Place
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.source import Source
from jobtrail.consumers.status import Rate, Status
from jobtrail.consumers.waiting import (
    Away,
    StoppedError,
    database_address,
    database_away,
    shown_address,
    until_it_answers,
)
from jobtrail.errors import UsageError
from jobtrail.projections.fold import Rows, fold
from jobtrail.projections.fold_few import FewRows
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.store import CheckpointMismatchError, Move, Store
from jobtrail.settings import Settings

log = logging.getLogger("jobtrail")
T = TypeVar("T")

#: Postgres does not answer, or not as the primary server: waiting may help.
AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, ReadOnlySqlTransaction)
#: Postgres refuses what an event holds: waiting does not help. Limits (the size of an index entry, the depth
#: of JSON) are OperationalErrors to psycopg, and yet about the data.
REFUSED: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    ProgramLimitExceeded,
    StatementTooComplex,
)
Read = Callable[[Decoder, Messages], Decoded]

#: Of a batch, the part (one in so many) that is written at once where nothing is being written.
IDLE_SHARE: Final = 3
#: Seconds between two reports of the status, but for a change of `caught_up`.
REPORT_INTERVAL: Final = 0.5


class Projector:
    """Folds what its source gives. Not thread-safe but for `status`.

    While there is more to read, chunk after chunk is folded in memory and written as one batch, so that many
    events of one row are one write; a thread writes a batch while the next one is folded.
    """

    def __init__(
        self,
        settings: Settings,
        stop: threading.Event,
        on_status: Callable[[Status], None] | None = None,
        *,
        until_caught_up: bool = False,
    ) -> None:
        self.status = Status()
        self._stop = stop
        self._on_status = on_status
        self._batch_size = settings.batch_size
        self._decoder = Decoder(schema_by_id=registry_of(settings))
        self._database_url = database_address(settings)
        self._store: Store | None = None
        self._postgres, self._registry = Away("Postgres"), Away("The schema registry")
        self._rate = Rate()
        self._next_report = 0.0
        self._folded = self._dead_letters = 0
        #: Folded, and not handed over to be written yet.
        self._pending = Pending()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="jobtrail-write")
        self._writing: Future[Pending] | None = None
        #: Partition → offset before which Postgres refused something: up to it batches are small.
        self._careful_to: dict[Place, int] = {}
        #: Called after dead letters were written.
        self.on_dead_letters: Callable[[], None] = lambda: None
        self._source = Source(settings, self, stop, until_caught_up=until_caught_up)

    def run(self) -> None:
        """Until it is told to stop. Raises LogError where going on could lose events."""
        try:
            for batch in self._source:
                try:
                    self._take(batch)
                except CheckpointMismatchError as error:
                    log.info("reading the checkpoints anew: %s", error)
                    self._forget_store()
                    self._source.rewind()
                self._report(batch)
        except StoppedError:
            log.info("stopped while a server was away; nothing is lost")
        finally:
            self._writer.shutdown()
            self._report(None, last=True)
            self._source.close()
            self._forget_store()

    def _take(self, batch: Batch | None) -> None:
        """Folds a batch, and writes what is folded where no more waits to be read, or where it is enough."""
        if batch is not None and self._must_be_careful(batch):
            self._settle()
            self._fold(batch)
            self._source.folded(batch)
        elif batch is not None:
            self._add(batch)
        if batch is None or not batch.more or self._is_enough():
            was_busy = self._is_writing
            self._settle()
            if self._pending and was_busy and not self._careful_to and (late := self._source.at_once()):
                self._add(late)  # else what came meanwhile would wait for all of this to be written
            if self._pending:
                self._writing = self._writer.submit(self._written, self._pending)
                self._pending = Pending()
        if batch is None:
            self._settle()

    def _add(self, batch: Batch) -> None:
        few = len(batch) + len(self._pending) <= FEW and not batch.more
        self._pending.add(batch, self._decode(batch, read_few if few else read_many))

    @property
    def _is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def _is_enough(self) -> bool:
        """Whether to write though more waits: while the last are written, so many rows.

        Where nothing is written just now, a part of as many events: Postgres shall not wait for them.
        """
        if self._is_writing:
            return self._pending.height >= self._batch_size
        return len(self._pending) >= self._batch_size // IDLE_SHARE

    def _settle(self) -> None:
        """Waits for what is being written, and raises what went wrong.

        Where Postgres refused it, it is read again, and with care.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            written = writing.result()
        except REFUSED:
            self._forget_store()
            self._careful_to = self._source.positions
            self._source.rewind()
        else:
            self._source.folded(written)

    def _must_be_careful(self, batch: Batch) -> bool:
        """Whether it has what Postgres may refuse; past that, all is as before."""
        for move in batch.moves:
            place = move.topic, move.partition
            if move.expected >= self._careful_to.get(place, 0):
                self._careful_to.pop(place, None)
            else:
                return True
        return False

    def _fold(self, batch: Batch) -> None:
        """Folds a batch. Where Postgres refuses what it holds, its halves, down to the one message."""
        decoded = self._decode(batch, read_many)
        try:
            self._write(batch.moves, decoded.bad, [fold(decoded.frames)], len(batch))
        except REFUSED as error:
            self._forget_store()
            if len(batch) > 1:
                for half in batch.halves():
                    self._fold(half)
            else:
                bad = _refused(batch, error)
                self._write(batch.moves, bad, [], 1)

    def _decode(self, batch: Batch, read: Read) -> Decoded:
        """The events of a batch, and its dead letters. Pure, but for schemas that a registry has to tell."""
        parts = [
            until_it_answers(self._registry, self._stop, partial(read, self._decoder, part))
            for part in batch.records
        ]
        return parts[0] if len(parts) == 1 else together(parts)

    def _written(self, pending: Pending) -> Pending:
        self._write(pending.moves, pending.bad, pending.rows(), len(pending))
        return pending

    def _write(
        self,
        moves: Sequence[Move],
        bad: Sequence[DeadLetter],
        rows: Sequence[Rows | FewRows],
        messages: int,
    ) -> None:
        """One transaction: checkpoints, dead letters and rows, or nothing."""
        few = all(isinstance(found, list) for part in rows for found in part.values())

        def write(store: Store) -> None:
            with store.transaction(few=few) as tx:
                tx.advance(moves)  # first: if we were replaced, nothing else is done
                tx.dead_letters(bad)
                for part in rows:
                    tx.merge(part)
                tx.derive()

        self._with_store(write)
        self._folded += messages
        self._dead_letters += len(bad)
        if bad:
            self.on_dead_letters()

    # The source asks these two, through the same patience.

    def checkpoints(self, topic_id: str) -> Mapping[int, int]:
        """Partition → next offset, as the live read models have it. What was not written is read again."""
        self._pending = Pending()
        if self._writing is not None:
            wait([self._writing])
        return self._with_store(lambda store: store.checkpoints(topic_id))

    def known_topic_ids(self, topic: str) -> set[str]:
        """Ids under which a topic of this name was folded."""
        return self._with_store(lambda store: store.known_topic_ids(topic))

    def _with_store(self, use: Callable[[Store], T]) -> T:
        """What `use` returns; while Postgres is away, tried again with a new connection.

        Raises StoppedError when told to stop meanwhile, UsageError for a database without Jobtrail's tables.
        """

        def attempt() -> T:
            try:
                if self._store is None:
                    self._store = Store.open(self._database_url)
                return use(self._store)
            except REFUSED:
                raise
            except AWAY as error:
                self._forget_store()
                raise database_away(self._database_url, error) from error
            except UndefinedTable as error:
                raise UsageError(
                    f"the database {shown_address(self._database_url)} lacks tables of Jobtrail"
                    f" ({str(error).splitlines()[0]}); run `jobtrail migrate`"
                ) from error

        return until_it_answers(self._postgres, self._stop, attempt)

    def _forget_store(self) -> None:
        """The next use makes a new connection: what a failed one prepared is not relied on."""
        if self._store is not None:
            with contextlib.suppress(psycopg.Error):
                self._store.close()
        self._store = None

    def _report(self, batch: Batch | None, *, last: bool = False) -> None:
        rate = self._rate.count(len(batch) if batch else 0)
        caught_up = self._source.caught_up and (self._writing is None or self._writing.done())
        if not last and time.monotonic() < self._next_report and self.status.caught_up == caught_up:
            return
        self._next_report = time.monotonic() + REPORT_INTERVAL
        self.status = Status(self._folded, self._dead_letters, rate, caught_up, self._source.lag())
        if self._on_status:
            self._on_status(self.status)


def _refused(batch: Batch, error: psycopg.Error) -> list[DeadLetter]:
    (records,) = batch.records
    detail = error.diag.message_primary or str(error)
    return [records.dead_letter(0, "refused_by_postgres", detail)]


def run_projector(
    settings: Settings, stop: threading.Event, on_status: Callable[[Status], None] | None = None
) -> None:
    """Folds the log into the read models and publishes dead letters, until `stop` is set.

    Waits for servers that are away. Raises LogError, UsageError or SettingError for what waiting cannot heal.
    """
    projector = Projector(settings, stop, on_status)
    with relaying(settings) as wake:
        projector.on_dead_letters = wake
        projector.run()


def project_until_caught_up(settings: Settings) -> Status:
    """Folds what is in the log now and publishes the dead letters. For tests, and whoever needs it done."""
    projector = Projector(settings, threading.Event(), until_caught_up=True)
    projector.run()
    relay_once(settings)
    return projector.status
