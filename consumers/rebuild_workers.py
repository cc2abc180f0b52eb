"""The processes of a rebuild, and who has which partition."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Final

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


def read_parts(  # noqa: PLR0917  # what, how, and who hears of it
    settings: Settings,
    generation: int,
    parts: Iterable[Part],
    workers: int,
    archive: str | None,
    look: Callable[[int], None],
) -> int:
    """Has every part read, the longest first, by so many processes at once; gives the number of messages.

    `look` hears now and then how many offsets were read, and may raise. Raises WorkerError. Whatever is
    raised, no process is left.
    """
    left = deque(sorted((part for part in parts if part.at < part.end), key=lambda p: p.at - p.end))
    crew = _Crew(settings, generation, left, min(workers, len(left)), archive)
    if not left:
        return 0
    with ThreadPoolExecutor(crew.size, thread_name_prefix="jobtrail-rebuild") as pool:
        tasks = [pool.submit(crew.work) for _ in range(crew.size)]
        try:
            crew.ready.wait()
            look(0)
            while not all(task.done() for task in tasks):
                crew.ended.wait(LOOK)
                crew.ended.clear()
                look(crew.offsets)
                for task in tasks:
                    if task.done():
                        task.result()
        finally:
            crew.stop()
    for task in tasks:
        task.result()
    return crew.messages


class _Crew:
    """Threads that each lead one process."""

    def __init__(
        self, settings: Settings, generation: int, left: deque[Part], size: int, archive: str | None
    ) -> None:
        self.size = size
        #: The first process is ready to read, or has failed.
        self.ready = threading.Event()
        #: A process has ended.
        self.ended = threading.Event()
        self._order = order_of(settings, generation, settings.rebuild_rows // max(size, 1), archive)
        self._left = left
        self._at: dict[tuple[str, int], int] = {}
        self._read: dict[tuple[str, int], int] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._stopped = False

    @property
    def offsets(self) -> int:
        """Offsets passed so far."""
        return sum(self._at.values())

    @property
    def messages(self) -> int:
        """Messages read so far."""
        return sum(self._read.values())

    def work(self) -> None:
        """Starts a process and gives it one part after the other."""
        # One process for each core: polars' own threads would only wait for each other.
        environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
        command = [sys.executable, "-m", "jobtrail.consumers.rebuild_worker"]
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            self._processes.append(process)
            try:
                if not self._stopped:
                    self._tell(process, json.dumps(self._order))
                    self._follow(process, None)
                    self.ready.set()
                    while part := self._next():
                        self._tell(process, json.dumps(asdict(part)))
                        self._follow(process, part)
            finally:
                process.kill()
                self.ready.set()
                self.ended.set()

    def stop(self) -> None:
        """Ends every process."""
        self._stopped = True
        for process in self._processes:
            process.kill()

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
