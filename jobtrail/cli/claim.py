"""One `jobtrail up` per home: the file HOME/run/up, locked for as long as it runs, says where it answers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobtrail.errors import EmbeddedError, JobtrailError

if sys.platform != "win32":
    import fcntl

#: Seconds that a service has to stop: its servers take up to a minute.
STOP_TIMEOUT: Final = 100.0


@dataclass(frozen=True, slots=True)
class Running:
    """The service of a home."""

    pid: int
    #: http://host:port; empty while it starts.
    url: str


class Claim:
    """The right to be the service of a home."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, url: str) -> None:
        """Lets others know who we are and where we answer."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n{url}\n".encode(), 0)


@contextmanager
def claim(home: Path) -> Iterator[Claim]:
    """Raises JobtrailError where another process is the service of `home` already."""
    from jobtrail.embedded.account import make_folder

    try:
        path = make_folder(home.absolute() / "run") / "up"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EmbeddedError(f"JOBTRAIL_HOME {home} cannot be used: {error}; choose another") from None
    try:
        if sys.platform != "win32":
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _already(home) from None
        claimed = Claim(descriptor)
        claimed.say("")
        yield claimed
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _already(home: Path) -> JobtrailError:
    found = running(home)
    where = f"{found.url or 'starting'} (process {found.pid})" if found else "starting or stopping just now"
    return JobtrailError(
        f"already running under {home}: {where}; use it, stop it with `jobtrail down`, "
        "or set JOBTRAIL_HOME to another folder"
    )


def running(home: Path) -> Running | None:
    """The service of `home`, if one runs."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(home.absolute() / "run" / "up", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        lines = os.pread(descriptor, 1000, 0).decode(errors="replace").split("\n")
        return Running(int(lines[0]), lines[1]) if len(lines) > 1 and lines[0].isdigit() else None
    finally:
        os.close(descriptor)
    return None


def stop(home: Path) -> bool:
    """Stops the service of `home` in good order and waits for that; whether there was one."""
    found = running(home)
    if found is None:
        return False
    try:
        os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    except PermissionError:
        raise JobtrailError(f"process {found.pid} belongs to another account; stop it from there") from None
    until = time.monotonic() + STOP_TIMEOUT
    while running(home) == found:
        if time.monotonic() > until:
            raise JobtrailError(f"process {found.pid} did not stop within {STOP_TIMEOUT:.0f} s")
        time.sleep(0.05)
    return True
