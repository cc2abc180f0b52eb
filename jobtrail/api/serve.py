"""The HTTP server: uvicorn on a socket that is bound before anything else starts."""

from __future__ import annotations

import errno
import gc
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from fastapi import FastAPI

from jobtrail.api.app import create_app
from jobtrail.errors import JobtrailError, SettingError
from jobtrail.settings import Settings

#: Seconds that requests under way get when the server stops.
GRACE: Final = 5
BACKLOG: Final = 512


class Create(Protocol):
    """Makes an application."""

    def __call__(self, settings: Settings, tokens: Sequence[str], *, insecure: bool) -> FastAPI:
        """Raises as `create_app` does."""


def bind(settings: Settings) -> socket.socket:
    """Takes the port, so that nobody else does, without listening yet. Raises SettingError."""
    host, port = settings.api_host, settings.api_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingError(
            "JOBTRAIL_API_HOST", f"{host!r} is no address here ({error.strerror or error})", "try 127.0.0.1"
        ) from None
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingError(
                "JOBTRAIL_API_PORT", f"port {port} of {host} is taken", "set another one, or 0 for any"
            ) from None
        variable = "JOBTRAIL_API_PORT" if error.errno == errno.EACCES else "JOBTRAIL_API_HOST"
        raise SettingError(
            variable, f"{host}:{port} cannot be used ({error.strerror})", "set another"
        ) from None
    return taken


def url(taken: socket.socket) -> str:
    """http://host:port of a bound socket."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def serving(
    settings: Settings,
    taken: socket.socket,
    tokens: Sequence[str] = (),
    *,
    insecure: bool = False,
    create: Create = create_app,
) -> Iterator[None]:
    """Serves from a thread of its own. Returns when requests are taken; ends those under way on leaving.

    `create` makes the application: without the pages, or with them. Raises JobtrailError where the server
    cannot start.
    """
    import uvicorn

    from jobtrail.api.patience import Impatient
    from jobtrail.producers.client import PLAIN

    # One line a second while Postgres is away is no use: requests say it, and /ready.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    app = create(settings, tokens, insecure=insecure)
    # What is made once stays: without this, each full collection walks all of it, some 100 ms amid requests.
    gc.collect()
    gc.freeze()
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
        ws="none",
        http=Impatient,
    )
    for name in ("uvicorn", "uvicorn.error", "asyncio"):  # after the configuration, which makes them anew
        logging.getLogger(name).addFilter(PLAIN)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([taken],), name="jobtrail-http", daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        if not thread.is_alive():
            raise JobtrailError(f"the HTTP server at {url(taken)} did not start; the lines above say why")
    try:
        yield
    finally:
        for streams in app.state.streams:  # first: the server waits for those that are open
            streams.close()
        server.should_exit = True
        thread.join(GRACE + 5)
        taken.close()
