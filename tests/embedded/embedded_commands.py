"""Commands in processes of their own that use the embedded servers of a home, and what they leave."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from conftest import CACHE, refuse

from jobtrail import embedded
from jobtrail.embedded import postgres
from jobtrail.embedded.account import Account
from jobtrail.embedded.jars import Lock, class_path
from jobtrail.embedded.process import Server
from jobtrail.errors import EmbeddedError

#: Seconds for whatever a test waits for, on a machine that has other things to do.
PATIENCE = 60.0

#: Uses the servers until its standard input ends; `check` in it asks whether they are still there.
USE = """
import json, sys
from pathlib import Path
from jobtrail import embedded
from jobtrail.errors import EmbeddedError
home, cache, *wanted = sys.argv[1:]
try:
    with embedded.servers(
        Path(home), cache=Path(cache), kafka="kafka" in wanted, postgres="postgres" in wanted
    ) as servers:
        print(json.dumps([servers.kafka_address, servers.postgres_address]), flush=True)
        for _ in sys.stdin:
            servers.check()
            print("all there", flush=True)
except EmbeddedError as error:
    sys.exit(f"error: {error}")
"""


_running: list[Command] = []


class Command:
    """A process that uses the servers of `home`."""

    def __init__(self, home: Path, *wanted: str) -> None:
        _running.append(self)
        self._told = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in `end`
        self.process = subprocess.Popen(
            [sys.executable, "-c", USE, home, CACHE, *wanted],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
            start_new_session=True,  # as a shell does: Ctrl-C goes to its process group
        )

    def line(self) -> str:
        """Its next line; empty when it has ended instead."""
        assert self.process.stdout
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.process.stdout, selectors.EVENT_READ)
            ready = waiting.select(PATIENCE)
        assert ready, f"it says nothing for {PATIENCE} s; to people it said: {self.told()}"
        return self.process.stdout.readline().strip()

    def check(self) -> str:
        """Lets it look at its servers."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def told(self) -> str:
        """What it has said to people so far."""
        self._told.seek(0)
        return self._told.read()

    def leave(self) -> str:
        """Lets it end by itself; what it said to people."""
        assert self.process.stdin
        self.process.stdin.close()
        return self._ended(0)

    def signal(self, number: int) -> str:
        """Sends a signal as a terminal does, to its group, and waits for its end; what it said to people."""
        os.killpg(self.process.pid, number)
        return self._ended(-number)

    def failed(self) -> str:
        """Waits for its end by an error; what it said to people."""
        return self._ended(1)

    def _ended(self, status: int) -> str:
        assert self.process.wait(PATIENCE) == status, self.told()
        told = self.told()
        self.close()
        return told

    def close(self) -> None:
        """Ends it at once, if it has not ended."""
        _running.remove(self)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self._told):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


@cache
def real_jars() -> list[Path]:
    """Kafka's jars in the cache. Where they, or Postgres' binaries, cannot be had, the test is refused."""
    try:
        postgres._binaries(Account.choose(), CACHE)
        return class_path(Lock.read(), CACHE, lambda _: None)
    except EmbeddedError as error:
        refuse(str(error))


@contextmanager
def new_home(*parts: str) -> Iterator[Path]:
    """A home in a folder that the account of the servers can enter; nothing may be left at the end."""
    real_jars()
    folder = Path(tempfile.mkdtemp(prefix="jobtrail-home-"))
    folder.chmod(0o755)
    home = folder.joinpath(*parts, "home")
    try:
        yield home
        assert not left(home)
    finally:
        while _running:
            _running[-1].close()
        embedded.stop(home, on_progress=lambda _: None)
        shutil.rmtree(folder)


def left(home: Path) -> list[str]:
    """What runs under `home` still: servers that hold their lock, and on Linux processes that work there."""
    found = [name for name in ("kafka", "postgres") if Server(home, name).alive()]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(home):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def pid(home: Path, name: str) -> int:
    """Process id of a server."""
    return int((home / "run" / f"{name}.pid").read_text())


def kill(home: Path, *names: str) -> None:
    """Kill -9 of servers; waits until the kernel has ended all their processes."""
    for name in names:
        os.kill(pid(home, name), signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while any(Server(home, name).alive() for name in names):
        assert time.monotonic() < deadline, left(home)
        time.sleep(0.01)
