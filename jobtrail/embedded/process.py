"""A server process under a home, known by the lock that it holds itself.

The file HOME/run/NAME.lock is locked (flock) before the server starts and the open file is handed to it, so
the kernel frees the lock when the last of its processes is gone: no pid is ever mistaken for another, and a
kill -9 leaves nothing to clean up. Reading this state needs the standard library only and takes well under a
millisecond; the SDK does it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobtrail.errors import EmbeddedError

if TYPE_CHECKING:
    from jobtrail.embedded.account import Account

if sys.platform != "win32":
    import fcntl

#: Bytes of a server's console output beyond which a start puts it aside as NAME.out.1.
CONSOLE_LIMIT: Final = 10_000_000

_children: set[int] = set()


class Server:
    """One server (`name`: kafka or postgres) of one home."""

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.title = name.capitalize()
        self.run = home / "run"
        self.console = self.run / f"{name}.out"
        self._log = home / name / "logs" / f"{name}.log"
        self._lock = self.run / f"{name}.lock"
        self._pid = self.run / f"{name}.pid"
        self._address = self.run / f"{name}.address"

    def alive(self) -> bool:
        """Whether any of its processes is left, ready or not."""
        if sys.platform == "win32":
            return False
        _reap()
        try:
            descriptor = os.open(self._lock, os.O_RDONLY)
        except OSError:  # never started, or this account may not look
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def address(self) -> str | None:
        """Where it listens; None when it does not run, is not ready, or this account may not know."""
        if not self.alive():
            return None
        try:
            return self._address.read_text() or None
        except OSError:
            return None

    def last_address(self) -> str | None:
        """Where it listened when it was last ready, so that a restart may listen there again."""
        try:
            return self._address.with_suffix(".last").read_text()
        except OSError:
            return None

    def publish(self, address: str, *, secret: bool) -> None:
        """Says that it is ready; a `secret` address is readable by this account only."""
        mode = 0o600 if secret else 0o644
        for path in (self._address.with_suffix(".last"), self._address):
            write(path, address, mode)

    @contextmanager
    def preparing(self) -> Iterator[int]:
        """Holds its lock; processes that are handed this descriptor hold it too, should we be killed.

        Raises EmbeddedError when one of its processes is still there.
        """
        descriptor = os.open(self._lock, os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            self._acquire(descriptor)
            for path in (self._address, self._pid):
                path.unlink(missing_ok=True)
            yield descriptor
        finally:
            os.close(descriptor)

    def spawn(
        self, command: Sequence[str], *, folder: Path, account: Account, environment: Mapping[str, str]
    ) -> None:
        """Starts `command` in `folder` as `account`, in a session of its own that Ctrl-C does not reach.

        Raises EmbeddedError when one of its processes is still there.
        """
        if sys.platform == "win32":
            raise EmbeddedError(
                "embedded servers run on Linux and macOS; set the addresses of your own servers"
            )
        import subprocess

        if self.console.exists() and self.console.stat().st_size > CONSOLE_LIMIT:
            self.console.replace(self.console.with_suffix(".out.1"))
        with self.preparing() as descriptor:
            with self.console.open("ab") as console:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    pass_fds=[descriptor],
                    start_new_session=True,
                    umask=0o077,
                    user=account.uid,
                    group=account.gid,
                    extra_groups=account.extra_groups,
                )
            write(self._pid, str(process.pid), 0o644)
        _children.add(process.pid)
        process.returncode = 0  # it may outlive us: without this, Popen warns of a child still running

    def _acquire(self, descriptor: int) -> None:
        deadline = time.monotonic() + 2
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # also for an instant when someone else looks whether it is alive
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"{self.title} cannot start: a process still holds {self._lock}; "
                        f"end it (`fuser {self._lock}` names it) and start again"
                    ) from None
                time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Sends a signal to its first process, if that is there."""
        if not self.alive():
            return
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid.read_text())
            if os.getsid(pid) == pid:  # as spawn made it
                os.kill(pid, number)

    def wait_gone(self, seconds: float) -> bool:
        """Waits until no process of it is left; False when `seconds` were not enough."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        self._address.unlink(missing_ok=True)
        self._pid.unlink(missing_ok=True)
        return True

    def kill(self) -> None:
        """Ends it at once. Raises EmbeddedError when it does not go away."""
        self.signal(signal.SIGKILL)
        if not self.wait_gone(10):
            raise EmbeddedError(
                f"{self.title} does not end: a process still holds {self._lock}; end it by hand"
            )

    def complaint(self, what: str) -> EmbeddedError:
        """An error that says `what` went wrong, with the logs' most telling last line and their place."""
        logs = [path for path in (self.console, self._log) if path.exists()]
        lines = [
            line for path in logs for line in path.read_text(errors="replace").splitlines()[-40:] if line
        ]
        telling = [
            line for line in lines if any(word in line for word in ("FATAL", "ERROR", "Exception", "rror:"))
        ]
        said = (telling or lines or ["it said nothing"])[-1].strip()[:300]
        return EmbeddedError(
            f"{self.title} {what}; it said: {said}; more in {logs[-1] if logs else self.console}"
        )


def write(path: Path, text: str, mode: int) -> None:
    """Writes a whole file at once, so that no reader sees half of it; `mode` are its permissions."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(text)
    fresh.replace(path)


def _reap() -> None:
    for pid in list(_children):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _children.discard(pid)
