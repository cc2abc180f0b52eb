"""A process of a rebuild: folds partitions in memory and appends their rows to the generation in the making.

It is told what to do on stdin, a JSON document a line: first what it works for, then one partition at a time.
On stdout it says in the same way how far it is, and of each line when it is done. It ends with stdin, and so
with whoever leads it; what it had not appended then is read again by the next rebuild.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

import polars as pl
import psycopg

from jobtrail import kinds
from jobtrail.consumers.archive import Archive
from jobtrail.consumers.decode import OFFSET, PARTITION, Decoder, Messages
from jobtrail.consumers.ends import Log
from jobtrail.consumers.fetching import FAR
from jobtrail.consumers.gate import read_many
from jobtrail.consumers.registry_schemas import registry_of
from jobtrail.consumers.stretch import BlockReader, TopicReader
from jobtrail.consumers.waiting import database_address, database_away
from jobtrail.errors import JobtrailError, LogError, NotFoundError
from jobtrail.events import DataplaneHeartbeat
from jobtrail.projections.fold import Frames
from jobtrail.projections.folding import Folding
from jobtrail.projections.letters import DeadLetter
from jobtrail.projections.shadow import SQL, Part, Shadow, refused
from jobtrail.projections.store import CheckpointMismatchError, Move
from jobtrail.settings import Settings

#: Messages that are read and decoded at once.
AT_ONCE: Final = 50_000
#: Events that are folded at once.
FOLD: Final = 150_000
#: Seconds of reading that a kill costs at most.
APPEND_EVERY: Final = 60.0

#: Hears where in its partition the worker is, and how many messages it has read of it in all.
Tell = Callable[[int, int], None]


class Worker:
    """Reads partitions for one rebuild, one after the other."""

    def __init__(self, settings: Settings, generation: int, rows: int, archive: str | None) -> None:
        """`rows`: the most that it keeps in memory. Raises ServerAwayError."""
        self._settings = settings
        self._rows = rows
        self._archive = Archive.open(archive) if archive else None
        self._reader = BlockReader(settings)
        self._topic_ids = topic_ids(settings)
        self._decoder = Decoder(schema_by_id=registry_of(settings))
        url = database_address(settings)
        try:
            self._shadow = Shadow(url, generation)
            with self._shadow.transaction() as tx:
                self._refused = refused(tx.connection)
                row = tx.connection.execute(SQL["kept_from"]).fetchone()
                self._horizon = kinds.micros(row[0]) if row else 0
        except psycopg.OperationalError as error:
            raise database_away(url, error) from error

    def warm_up(self) -> None:
        """Does beforehand what reading blocks takes."""
        self._decoder.warm_up()

    def read(self, part: Part, tell: Tell) -> None:
        """Folds a partition from `part.at` to `part.end` and appends it, in one go where memory allows."""
        folding, letters = Folding(FOLD), list[DeadLetter]()
        begun = at = part.at
        messages, last = 0, time.monotonic()
        for read in self._messages(part):
            decoded = read_many(self._decoder, read)
            folding.add(self._kept(part, decoded.frames))
            letters += decoded.bad
            at = int(read.offsets[-1]) + 1
            messages += len(read)
            tell(at, messages)
            if folding.height > self._rows or time.monotonic() - last > APPEND_EVERY:
                self._append(part, folding, letters, begun, at)
                folding, letters, begun, last = Folding(FOLD), [], at, time.monotonic()
        self._append(part, folding, letters, begun, part.end)
        tell(part.end, messages)

    def _append(self, part: Part, folding: Folding, letters: list[DeadLetter], begun: int, end: int) -> None:
        if end > begun:
            move = Move(part.topic_id, part.topic, part.partition, begun, end)
            try:
                self._shadow.append(folding.rows(), letters, move)
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                raise LogError(
                    f"Postgres refuses rows of topic {part.topic}, partition {part.partition}, offsets "
                    f"{begun} to "
                    f"{end - 1}: {error.diag.message_primary or error}; nothing was swapped"
                ) from error

    def _messages(self, part: Part) -> Iterator[Messages]:
        most = min(AT_ONCE, self._settings.batch_size)
        passed_by = self._refused.get((part.topic_id, part.partition), set())
        for messages in stretches(part, self._archive, self._reader, most):
            if passed_by.isdisjoint(range(int(messages.offsets[0]), int(messages.offsets[-1]) + 1)):
                yield messages
            elif kept := [row for row, at in enumerate(messages.offsets) if at not in passed_by]:
                yield messages.take(kept)

    def _kept(self, part: Part, frames: Frames) -> Frames:
        """Without heartbeats that the horizon ignores: those of years would fill the memory."""
        if part.topic_id not in self._topic_ids:
            # Of a topic that is no more: its places in the log would be taken for those of the one that is.
            nowhere = [pl.lit(None, pl.Int64).alias(name) for name in (PARTITION, OFFSET)]
            frames = {event_type: frame.with_columns(nowhere) for event_type, frame in frames.items()}
        beats = frames.get(DataplaneHeartbeat)
        if beats is None:
            return frames
        newest = pl.col("occurred_at").max().over("dataplane_id")
        kept = beats.filter((pl.col("occurred_at") >= self._horizon) | (pl.col("occurred_at") == newest))
        return {**frames, DataplaneHeartbeat: kept}


def topic_ids(settings: Settings) -> dict[str, str]:
    """Id → name of the topics that are there. Raises ServerAwayError."""
    found, log = {}, Log(settings)
    for topic in settings.projected_topics:
        with contextlib.suppress(NotFoundError):  # all of it comes from the archive
            found[log.topic(topic).topic_id] = topic
    return found


def stretches(
    part: Part, archive: Archive | None, reader: TopicReader | BlockReader, most: int
) -> Iterator[Messages]:
    """What is left of a part, at most so many messages at a time: of the archive, then of the topic."""
    where = part.topic, part.topic_id, part.partition
    if part.at < part.archived_to:
        if archive is None:  # a rebuild that began with one goes on without it
            raise LogError(
                f"topic {part.topic}, partition {part.partition}: offsets {part.at} to"
                f" {part.archived_to - 1} are to be read from the archive that this rebuild began with; say"
                " --archive ADDRESS again, or `jobtrail rebuild cancel`"
            )
        yield from archive.read(*where, part.at, min(part.archived_to, part.end), most)
    if part.end > part.archived_to:
        yield from reader.read(*where, max(part.at, part.archived_to), part.end, most)


def main() -> None:
    """Works until stdin ends."""
    line = sys.stdin.readline()
    if not line:
        return  # nothing is to be read after all
    order = json.loads(line)
    settings = Settings(**order["settings"])
    with _answering(settings):
        worker = Worker(settings, order["generation"], order["rows"], order["archive"])
        if order["far"]:
            worker.warm_up()
    for line in sys.stdin:
        with _answering(settings):
            worker.read(Part(**json.loads(line)), lambda at, messages: _say(at=at, messages=messages))


@contextlib.contextmanager
def _answering(settings: Settings) -> Iterator[None]:
    """Says that it is done, or why not; then the process ends."""
    try:
        yield
    except CheckpointMismatchError:
        _fail("another rebuild reads the same generation", 1)
    except psycopg.OperationalError as error:
        away = database_away(settings.database_url or "", error)
        _fail(str(away), away.exit_status)
    except JobtrailError as error:
        _fail(str(error), error.exit_status)
    else:
        _say(done=True)


def _fail(error: str, status: int) -> NoReturn:
    _say(error=error, status=status)
    sys.exit(status)


def order_of(  # as it is written
    settings: Settings, generation: int, rows: int, archive: str | None, parts: Iterable[Part]
) -> Mapping[str, Any]:
    """The first line for a worker, of those that read the parts."""
    far = any(part.end - max(part.at, part.archived_to) >= FAR for part in parts)
    found = settings.model_dump(mode="json", exclude={"kafka_client"})
    found["kafka_client"] = dict(settings.kafka_client)
    return {"settings": found, "generation": generation, "rows": rows, "archive": archive, "far": far}


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
