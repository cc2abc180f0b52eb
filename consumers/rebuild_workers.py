"""The processes of a rebuild, and who has which partition."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Final

from jobtrail.consumers.rebuild_worker import order_of
from jobtrail.errors import JobtrailError
from jobtrail.projections.shadow import Part
from jobtrail.settings import Settings

#: Seconds between two looks at how far the workers are.
LOOK: Final = 0.25


class WorkerError(JobtrailError):
    """A process of a rebuild ended, or could not do its part; says which and why."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status  # type: ignore[misc]  # that of the error which the process met


class Crew:
    """Processes that read partitions; they import while it is planned which. Not thread-safe; close it."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._processes: list[subprocess.Popen[str]] = []
        #: A process is ready to read, or has failed.
        self._ready = threading.Event()
        #: A process has ended.
        self._ended = threading.Event()
        self._order: Mapping[str, Any] = {}
        self._left: deque[Part] = deque()
        self._at: dict[tuple[str, int], int] = {}
        self._read: dict[tuple[str, int], int] = {}

    def start(self) -> None:
        """Starts them."""
        # One process for each core: polars' own threads would only wait for each other.
        environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
        command = [sys.executable, "-m", "jobtrail.consumers.rebuild_worker"]
        for _ in range(self._workers):
            self._processes.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )

    def close(self) -> None:
        """Ends every process."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            # Closes its pipes, and waits. What it had ended too early to be told is still to be flushed.
            with contextlib.suppress(BrokenPipeError), process:
                pass
        self._processes.clear()

    def read(
        self,
        settings: Settings,
        generation: int,
        parts: Iterable[Part],
        archive: str | None,
        look: Callable[[int], None],
    ) -> int:
        """Has every part read, the longest first; gives the number of messages. Ends every process.

        `look` hears now and then how many offsets were read, and may raise. Raises WorkerError.
        """
        self._left = deque(sorted((part for part in parts if part.at < part.end), key=lambda p: p.at - p.end))
        if not self._left:
            self.close()
            return 0
        mine = self._processes[: len(self._left)]
        rows = settings.rebuild_rows // len(mine)
        self._order = order_of(settings, generation, rows, archive, self._left)
        with ThreadPoolExecutor(len(mine), thread_name_prefix="jobtrail-rebuild") as pool:
            tasks = [pool.submit(self._lead, process) for process in mine]
            try:
                self._ready.wait()
                look(0)
                while not all(task.done() for task in tasks):
                    self._ended.wait(LOOK)
                    self._ended.clear()
                    look(self._offsets)
                    for task in tasks:
                        if task.done():
                            task.result()
            finally:
                self.close()
        for task in tasks:
            task.result()
        return sum(self._read.values())

    @property
    def _offsets(self) -> int:
        """Offsets passed so far."""
        return sum(self._at.values())

    def _lead(self, process: subprocess.Popen[str]) -> None:
        """Gives a process one part after the other."""
        try:
            self._tell(process, json.dumps(self._order))
            self._follow(process, None)
            self._ready.set()
            while part := self._next():
                self._tell(process, json.dumps(asdict(part)))
                self._follow(process, part)
        finally:
            self._ready.set()
            self._ended.set()

    def _next(self) -> Part | None:
        try:
            return self._left.popleft()
        except IndexError:
            return None

    @staticmethod
    def _tell(process: subprocess.Popen[str], text: str) -> None:
        assert process.stdin is not None  # noqa: S101  # a pipe
        try:
            process.stdin.write(text + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; its output says so

    def _follow(self, process: subprocess.Popen[str], part: Part | None) -> None:
        """Hears what it says of a part, or of how it starts, until it is done."""
        for line in process.stdout or ():
            said = json.loads(line)
            if "done" in said:
                return
            if "error" in said:
                raise WorkerError(said["error"], said["status"])
            if part is not None:
                self._at[part.topic_id, part.partition] = said["at"] - part.at
                self._read[part.topic_id, part.partition] = said["messages"]
        doing = f"read topic {part.topic}, partition {part.partition}" if part else "started"
        raise WorkerError(
            f"a process of the rebuild ended (status {process.wait()}) while it {doing}; run "
            "`jobtrail rebuild` again: it goes on from there"
        )
