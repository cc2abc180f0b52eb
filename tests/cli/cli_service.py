"""A service in a process of its own, and a server that goes away and comes back."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from cli_scenes import COMMAND, environment

from jobtrail.settings import Settings

#: Seconds for a start, on a machine that has other things to do.
PATIENCE = 90.0


class Process:
    """A running command."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(line.rstrip("\n") for line in self.process.stdout)

    def await_line(self, part: str) -> str:
        """The first line that has `part`."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for line in list(self.lines):
                if part in line:
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {part!r} in {self.lines}")

    def url(self) -> str:
        """Where it answers, once it does."""
        line = self.await_line("http://")
        return line[line.index("http://") :].split()[0].rstrip(";")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal; gives the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status


@contextmanager
def started(settings: Settings, *arguments: str, **more: str) -> Iterator[Process]:
    """A command in the background, that is ended if the test has not."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(settings, JOBTRAIL_API_PORT="0", PYTHONUNBUFFERED="1", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        mine = Process(process)
        try:
            yield mine
        finally:
            try:
                if process.poll() is None:
                    mine.end()
            finally:
                process.kill()  # one that does not end must not keep the tests


class Door:
    """A port that leads to another one while it is open."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port: int = self._held.getsockname()[1]
        self._listening: socket.socket | None = None
        self._pairs: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        """Lets callers through from now on."""
        self._held.close()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._run(self._accept, self._listening)

    def close(self) -> None:
        """Breaks all connections and takes no more."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        for one in self._pairs:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._pairs:
            one.close()
        self._pairs, self._threads = [], []
        self._held.close()

    def _run(self, target: object, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listening.accept()
                called = socket.create_connection(self._target)
                self._pairs += [caller, called]
                self._run(self._carry, caller, called)

    def _carry(self, caller: socket.socket, called: socket.socket) -> None:
        with contextlib.suppress(OSError), selectors.DefaultSelector() as ready_ones:
            ready_ones.register(caller, selectors.EVENT_READ, called)
            ready_ones.register(called, selectors.EVENT_READ, caller)
            while True:
                for key, _ in ready_ones.select():
                    part = cast("socket.socket", key.fileobj).recv(65_536)
                    if not part:
                        caller.shutdown(socket.SHUT_RDWR)
                        called.shutdown(socket.SHUT_RDWR)
                        return
                    key.data.sendall(part)


def memory(roots: list[int]) -> int:
    """Proportional set size of the processes and all their children, in bytes."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    ours = set(roots)
    while grown := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= grown
    total = 0
    for pid in ours:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(rollup.split("\nPss:")[1].split()[0]) * 1024
    return total


def exists(pid: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
