"""A connector as a process: started in a session of its own, read to its end, stopped with all it started."""

from __future__ import annotations

import atexit
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import IO, Final

from jobtrail.errors import UsageError

#: Bytes read at once, at most.
CHUNK: Final = 256 * 1024
#: Seconds of silence after which the output of a process that has ended is taken as ended too, though
#: somebody whom it started holds it open.
IDLE: Final = 0.5


def words(command: str) -> list[str]:
    """A command as the shell splits it, without anything else that a shell does. Raises UsageError."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{command!r} is no command: {error}") from None
    if not found:
        raise UsageError("the command is empty")
    if sys.platform == "win32":
        raise UsageError("`jobtrail run` needs Linux or macOS; here, use `jobtrail tap` in a pipe")
    return found


def image_of(argv: list[str]) -> str:
    """What a command runs, in one word: what stands before read or write, else the program.

    Never its options, for they may hold what is secret.
    """
    for verb in ("read", "write"):
        if verb in argv[1:]:
            return PurePath(argv[argv.index(verb, 1) - 1]).name
    return PurePath(argv[0]).name


def option(argv: Sequence[str], name: str) -> str | None:
    """The value of an option such as --config in a command; the last, where there are several."""
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=False):
        if word == name:
            found = following
        elif word.startswith(f"{name}="):
            found = word.removeprefix(f"{name}=")
    return found


class Connector:
    """A running connector. Its output must be read, else it stands still."""

    def __init__(
        self,
        origin: str,
        argv: list[str],
        *,
        environment: Mapping[str, str],
        takes_input: bool,
        on_end: Callable[[], object],
    ) -> None:
        """Starts it. `on_end` is called from another thread. Raises OSError when it cannot be started."""
        self.origin = origin
        #: Set when the process has ended; those that it started may live on until `kill`.
        self.ended = threading.Event()
        #: When it ended (monotonic seconds).
        self.ended_at: float | None = None
        #: When `stop` was called (monotonic seconds): what it does from then on is not its fault.
        self.stopped_at: float | None = None
        self._on_end = on_end
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if takes_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        _running.add(self)
        self._start(self._wait, "wait")

    @property
    def exit_status(self) -> int | None:
        """As subprocess has it: negative for a signal; None while it runs."""
        return self._process.returncode if self.ended.is_set() else None

    def ending(self) -> str:
        """How it ended, for people."""
        status = self._process.returncode
        if status is None or status >= 0:
            return f"ended with exit status {status}"
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"

    def output(self) -> Iterator[bytes]:
        """What it prints, in chunks, to the end."""
        return self._read(self._process.stdout)

    def errors(self) -> Iterator[bytes]:
        """What it prints on stderr, in chunks, to the end."""
        return self._read(self._process.stderr)

    def write(self, data: bytes) -> None:
        """Gives it input, waiting until it takes it. Raises BrokenPipeError when it takes no more."""
        assert self._process.stdin is not None  # noqa: S101  # started with takes_input
        descriptor, rest = self._process.stdin.fileno(), memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def end_input(self) -> None:
        """Its input ends here."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def stop(self, grace: float) -> None:
        """SIGTERM to it and all it started, SIGKILL after `grace` seconds. A second call does nothing."""
        if self.stopped_at is not None:
            return
        self.stopped_at = time.monotonic()
        self._signal(signal.SIGTERM)
        self._start(lambda: self._kill_after(grace), "stop")

    def kill(self) -> None:
        """SIGKILL to it and all it started; nothing where nobody is left."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Ends all that is left of it, at once; what it printed can still be read."""
        if not self.ended.is_set() and self.stopped_at is None:
            self.stopped_at = time.monotonic()
        self.kill()
        self.ended.wait()

    def close(self) -> None:
        """Forgets what nobody has read. After `end`."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _signal(self, number: signal.Signals) -> None:
        # The group has the id of the process. PermissionError: on macOS, a group of zombies only.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _kill_after(self, grace: float) -> None:
        self.ended.wait(grace)
        self.kill()

    def _wait(self) -> None:
        self._process.wait()
        _running.discard(self)
        self.ended_at = time.monotonic()
        self.ended.set()
        self._on_end()

    def _start(self, task: Callable[[], None], name: str) -> None:
        threading.Thread(target=task, name=f"jobtrail-{self.origin}-{name}", daemon=True).start()

    def _read(self, stream: IO[bytes] | None) -> Iterator[bytes]:
        assert stream is not None  # noqa: S101  # started with pipes
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                if selector.select(IDLE):
                    chunk = os.read(stream.fileno(), CHUNK)
                    if not chunk:
                        return
                    yield chunk
                elif self.ended.is_set():
                    return


#: Those that must not outlive this process, also where it ends while they run.
_running: Final[weakref.WeakSet[Connector]] = weakref.WeakSet()


@atexit.register
def _kill_all() -> None:
    for connector in list(_running):
        connector.kill()
