"""Connections to Postgres on which one answer comes from one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec
import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from jobtrail.consumers.waiting import DATABASE_SETTING, database_address, database_away, shown_address
from jobtrail.errors import JobtrailError
from jobtrail.settings import Settings

if TYPE_CHECKING:
    from jobtrail.api.reads import Database

#: Seconds to wait for Postgres to take a connection.
CONNECT_TIMEOUT: Final = 5


def configure(connection: Database) -> None:
    """Makes each transaction of the connection one read-only snapshot."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    # A page of a list has a hundred small JSON columns. The gate let pass only what this reads.
    set_json_loads(msgspec.json.decode, connection)


@contextmanager
def reading(settings: Settings) -> Iterator[Database]:
    """A connection for reading.

    Raises EmbeddedError where no Postgres is set or runs, ServerAwayError where it does not answer, and
    JobtrailError where no migration ever ran.
    """
    with _connected(settings) as connection:
        configure(connection)
        yield connection


@contextmanager
def scratch(settings: Settings) -> Iterator[Database]:
    """A connection in autocommit mode, for temporary tables, or what is to be seen as it is now.

    Raises as `reading`.
    """
    with _connected(settings) as connection:
        connection.autocommit = True
        yield connection


@contextmanager
def _connected(settings: Settings) -> Iterator[Database]:
    url = database_address(settings)
    with (
        translated(url),
        psycopg.connect(
            url, connect_timeout=CONNECT_TIMEOUT, application_name="jobtrail", row_factory=dict_row
        ) as connection,
    ):
        yield connection


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Psycopg's errors in the words of `jobtrail.errors`."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
        raise JobtrailError(
            f"Postgres at {shown_address(url)} lacks tables of this version; `jobtrail migrate` makes them"
        ) from None
    except psycopg.OperationalError as error:
        raise database_away(url, error) from error
    except psycopg.ProgrammingError as error:
        if "connection string" in str(error) or "conninfo" in str(error):
            raise JobtrailError(f"{DATABASE_SETTING} is no address of Postgres") from None
        raise
