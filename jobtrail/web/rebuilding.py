"""A rebuild that a page begins: the command's own process, which goes on when the server ends."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Final

from jobtrail.api.context import Context
from jobtrail.consumers.rebuild import State, state
from jobtrail.errors import ConflictError
from jobtrail.producers.client import log

#: Seconds that it has to begin, and between two looks whether it has.
BEGIN_WITHIN: Final = 60.0
LOOK: Final = 0.1
#: Most bytes of its last line.
LAST_LINE: Final = 2_000

_beginning = threading.Lock()


def running() -> ConflictError:
    """There is one already."""
    return ConflictError("a rebuild runs already; the page of operations shows how far it is")


def start_rebuild(shared: Context, by: str) -> None:
    """Returns once it runs, as the record says.

    Raises ConflictError where one runs already, or where it does not begin, and why.
    """
    if not _beginning.acquire(blocking=False):
        raise running()
    try:
        _start(shared, by)
    finally:
        _beginning.release()


def _start(shared: Context, by: str) -> None:
    before = _state(shared)
    if before.running:
        raise running()
    said = tempfile.TemporaryFile()  # noqa: SIM115  # until its end; a pipe would break with this process
    process = subprocess.Popen(
        [sys.executable, "-m", "jobtrail.cli.main", "rebuild", "--yes", f"--by={by}"],
        env={**os.environ, **shared.settings.environ()},
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C in a terminal of the server is not meant for it
    )
    log.warning("%s began a rebuild from a page: process %d", by, process.pid)
    ended: list[str] = []
    following = threading.Thread(target=_follow, args=(process, said, by, ended), daemon=True)
    following.start()
    until = time.monotonic() + BEGIN_WITHIN
    while time.monotonic() < until:
        following.join(LOOK)
        found = _state(shared).last
        if found is not None and found != before.last and found.begun_by == by:
            return
        if not following.is_alive():
            raise ConflictError(f"the rebuild did not begin: {ended[0]}")
    raise ConflictError(
        f"the rebuild did not begin within {BEGIN_WITHIN:g} s; look at its process {process.pid}"
    )


def _state(shared: Context) -> State:
    with shared.writing() as database:
        return state(database)


def _follow(process: subprocess.Popen[bytes], said: IO[bytes], by: str, ended: list[str]) -> None:
    """Waits for its end and says it in the log."""
    status = process.wait()
    with said:
        said.seek(max(0, said.seek(0, os.SEEK_END) - LAST_LINE))
        lines = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    ended.append(lines[-1].removeprefix("jobtrail: "))
    log.log(
        logging.WARNING if status else logging.INFO,
        "the rebuild that %s began ended with status %d: %s; `jobtrail rebuild status` says what came of it",
        by,
        status,
        ended[0],
    )
