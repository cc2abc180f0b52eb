"""Servers that are away: one line when they go, one when they are back, and waiting in between."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from jobtrail.errors import EmbeddedError, JobtrailError, ServerAwayError, VersionError
from jobtrail.running import address
from jobtrail.settings import Settings

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger("jobtrail")
T = TypeVar("T")

#: Seconds between two tries: from the first to the longest, doubling.
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
DATABASE_SETTING: Final = "JOBTRAIL_DATABASE_URL"


class StoppedError(Exception):
    """The wait was ended by a request to stop."""


class Away:
    """Says once that a server is away, and once that it is back."""

    def __init__(self, server: str, level: int = logging.WARNING) -> None:
        self._server = server
        self._level = level
        self._said = False

    def __bool__(self) -> bool:
        return self._said

    def gone(self, error: JobtrailError) -> None:
        """The server does not answer, or is not ready for us."""
        if not self._said:
            log.log(self._level, "%s; waiting for it", error)
        self._said = True

    def back(self) -> None:
        """The server answers."""
        if self._said:
            log.log(self._level, "%s answers again; going on", self._server)
        self._said = False


class Refused:
    """Says once what Postgres refuses, and what is not done for it, until it is done again."""

    def __init__(self, undone: str, logger: logging.Logger) -> None:
        self._undone, self._logger = undone, logger
        self._said: type[psycopg.Error] | None = None

    def again(self, error: psycopg.Error) -> None:
        """It refuses."""
        if self._said is not type(error):
            self._logger.error("%s, and tried again; Postgres says: %s", self._undone, in_one_line(error))
        self._said = type(error)

    def over(self) -> None:
        """It was done."""
        self._said = None


def until_it_answers(
    away: Away, stop: threading.Event, ask: Callable[[], T], patience: float = math.inf
) -> T:
    """What `ask` returns, tried until it raises no ServerAwayError. Raises StoppedError when told to stop.

    Read models of an older version are waited for too: a rebuild makes those of this release. After
    `patience` seconds the error is raised.
    """
    pause, since = FIRST_PAUSE, time.monotonic()
    while True:
        try:
            answer = ask()
        except (ServerAwayError, VersionError) as error:
            if isinstance(error, VersionError) and error.live > error.ours:
                raise
            if time.monotonic() - since > patience:
                raise
            away.gone(error)
            if stop.wait(pause):
                raise StoppedError from error
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            away.back()
            return answer


def database_away(database_url: str, error: psycopg.Error) -> ServerAwayError:
    """The error for a Postgres that does not answer, without its password."""
    return ServerAwayError("Postgres", shown_address(database_url), DATABASE_SETTING, in_one_line(error))


def in_one_line(error: Exception) -> str:
    """What it says."""
    return " ".join(str(error).split()) or type(error).__name__


def shown_address(database_url: str) -> str:
    """host:port/database of an address, in either of libpq's notations."""
    # Whoever waits for Kafka alone needs no driver of Postgres.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(database_url)
    except ProgrammingError:
        return urlsplit(database_url).hostname or "?"
    return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


def database_address(settings: Settings) -> str:
    """The Postgres of the settings, else the one that runs under the home. Raises EmbeddedError for none."""
    found = settings.database_url or address(settings.home, "postgres")
    if found is None:
        raise EmbeddedError(
            f"no Postgres runs under {settings.home}, and {DATABASE_SETTING} is not set; "
            "start Jobtrail with `jobtrail up`, or set it to postgresql://… of yours"
        )
    return found
