"""What the handlers of requests share: connections to Postgres, and the way of a write.

A write publishes events, returns once Kafka has them, and waits a little until the read models show them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import psycopg
from fastapi import Request
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from jobtrail.api import database
from jobtrail.api.queries import query
from jobtrail.api.quick import QuickReads
from jobtrail.api.reads import Database
from jobtrail.consumers.waiting import database_address, database_away
from jobtrail.errors import JobtrailError, PublishError, ServerAwayError
from jobtrail.events import Event
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.receipt import Receipt
from jobtrail.running import KAFKA_SETTING
from jobtrail.settings import Settings

#: Connections to Postgres: reads are short, and the projector needs the processors too.
POOL_SIZE: Final = 8
#: Seconds for which a request waits for a connection.
ANSWER_WITHIN: Final = 2.0
#: Seconds between two looks whether a write can be read back.
LOOK: Final = 0.01
#: Most requests that wait for Kafka at a time, well below the 40 threads of all requests: reads need some.
MOST_PUBLISHING: Final = 24
#: Seconds for which one more waits: far longer than Kafka takes, unless it hangs.
TURN_WITHIN: Final = 0.25


class NotYetReadableError(JobtrailError):
    """What was written is durable in Kafka, and the read models do not show it yet; may name its job."""

    def __init__(self, message: str, job_id: int | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class Context:
    """One for each application. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Raises EmbeddedError where there is no Postgres. It need not answer yet."""
        self.settings = settings
        self._url = database_address(settings)
        self._reads = self._pool(POOL_SIZE, database.configure)
        self._writes = self._pool(POOL_SIZE, None)
        #: For answers of one statement, on the event loop.
        self.quick = QuickReads(self._url)
        self._publisher: Publisher | None = None
        self._making = threading.Lock()
        self._publishing = threading.Semaphore(MOST_PUBLISHING)

    def _pool(self, size: int, configure: Callable[[Database], None] | None) -> ConnectionPool[Database]:
        return ConnectionPool(
            self._url,
            min_size=1,
            max_size=size,
            open=False,
            timeout=ANSWER_WITHIN,
            # A lost connection is not waited for with ever longer pauses: the next request makes a new one.
            reconnect_timeout=database.CONNECT_TIMEOUT,
            configure=configure,
            check=ConnectionPool.check_connection,
            kwargs={
                "row_factory": dict_row,
                "application_name": "jobtrail-api",
                "connect_timeout": database.CONNECT_TIMEOUT,
            },
        )

    def open(self) -> None:
        """Begins to connect."""
        self._reads.open()
        self._writes.open()

    def close(self) -> None:
        """Ends what was opened."""
        self._reads.close()
        self._writes.close()
        if self._publisher is not None:
            self._publisher.close()

    def reading(self) -> AbstractContextManager[Database]:
        """A connection for one answer: one snapshot, read-only. Raises ServerAwayError."""
        return self._connection(self._reads)

    def writing(self) -> AbstractContextManager[Database]:
        """A connection for the tables that are no projections; commits on leaving. Raises ServerAwayError."""
        return self._connection(self._writes)

    @contextmanager
    def _connection(self, pool: ConnectionPool[Database]) -> Iterator[Database]:
        with database.translated(self._url):
            try:
                with pool.connection() as connection:
                    yield connection
            except PoolTimeout as error:
                raise database_away(self._url, psycopg.OperationalError("no connection in time")) from error

    @property
    def publisher(self) -> Publisher:
        """Made at the first write. Raises as `Publisher` does."""
        with self._making:
            if self._publisher is None or self._publisher.closed:
                self._publisher = Publisher(self.settings)
            return self._publisher

    def publish(self, *events: Event) -> list[Receipt]:
        """Publishes the events, of one job, and returns when Kafka has them all.

        Raises ServerAwayError when Kafka does not answer, or too many wait for it already, and nothing is
        published then, also not later; PublishError when it refuses one; UnconfirmedError after
        settings.flush_timeout seconds.
        """
        publisher = self.publisher
        if not self._publishing.acquire(timeout=TURN_WITHIN):
            why = f"too many writes wait for Kafka: {MOST_PUBLISHING}"
            raise ServerAwayError("Kafka", publisher.address, KAFKA_SETTING, why)
        try:
            publisher.reach(ANSWER_WITHIN)
            receipts = [publisher.send(event) for event in events[:-1]]
            receipts.append(
                publisher.deliver(events[-1])
            )  # in one partition: the others were answered before
        finally:
            self._publishing.release()
        if refused := next((receipt.error for receipt in receipts if receipt.error), None):
            raise PublishError(f"Kafka at {publisher.address} refuses an event: {refused}")
        return receipts

    def write(self, *events: Event) -> None:
        """Publishes the events and waits until the read models show them.

        Raises as `publish` does, and NotYetReadableError after settings.read_back_timeout seconds.
        """
        self.await_readable(type(events[-1]), self.publish(*events)[-1])

    def await_readable(self, event_type: type[Event], receipt: Receipt) -> None:
        """Waits until the event of the receipt is folded. Raises NotYetReadableError, ServerAwayError."""
        topic = self.publisher.topic_of(event_type)
        until = time.monotonic() + self.settings.read_back_timeout
        place: dict[str, Any] = {"topic": topic, "partition": receipt.partition, "offset": receipt.offset}
        while True:
            with self.reading() as connection:
                if connection.execute(query("is_folded"), place).fetchone():
                    return
            if time.monotonic() >= until:
                raise NotYetReadableError(
                    f"accepted and durable in Kafka, but the read models did not show it within "
                    f"{self.settings.read_back_timeout:g} s; ask again later"
                )
            time.sleep(LOOK)


def context(request: Request) -> Context:
    """The application's. Not a dependency: each of those costs two changes of thread."""
    found: Context = request.app.state.context
    return found
