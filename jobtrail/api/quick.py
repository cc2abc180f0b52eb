"""Answers of one statement, read on the event loop: no thread, no transaction, one way to Postgres and back.

For what is asked most. A statement alone is a snapshot by itself; it stays prepared on its connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from jobtrail.api import database
from jobtrail.api.reads import Row
from jobtrail.consumers.waiting import database_away

#: Connections: a statement takes well under a millisecond; more would only take turns on the processors.
SIZE: Final = 4
#: Seconds for which a request waits for a connection.
ANSWER_WITHIN: Final = 2.0


class QuickReads:
    """One for each application; for its event loop alone."""

    def __init__(self, url: str) -> None:
        """Connects when it is opened."""
        self._url = url
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=SIZE,
            open=False,
            timeout=ANSWER_WITHIN,
            reconnect_timeout=database.CONNECT_TIMEOUT,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "application_name": "jobtrail-api",
                "connect_timeout": database.CONNECT_TIMEOUT,
                "options": "-c default_transaction_read_only=on -c jit=off",
            },
        )

    async def open(self) -> None:
        """Begins to connect."""
        await self._pool.open()

    async def close(self) -> None:
        """Ends what was opened."""
        await self._pool.close()

    async def row(self, statement: bytes, values: Mapping[str, Any]) -> Row | None:
        """The first row that a statement gives. Raises ServerAwayError."""
        with database.translated(self._url):
            try:
                return await self._row(statement, values)
            except PoolTimeout as error:
                raise database_away(self._url, error) from error
            except psycopg.OperationalError:
                # The connection may have died unseen, as all do when Postgres starts anew; asking each time
                # whether it lives would double the way.
                await self._pool.check()
                return await self._row(statement, values)

    async def _row(self, statement: bytes, values: Mapping[str, Any]) -> Row | None:
        connection = await self._pool.getconn()  # not connection(): there is no transaction to end
        try:
            cursor = await connection.execute(statement, values, prepare=True)
            return await cursor.fetchone()
        finally:
            await self._pool.putconn(connection)
