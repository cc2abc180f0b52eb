"""What a round costs: seconds, processor seconds, memory; of one program beside the servers. Needs Linux."""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
#: Seconds between two looks at the memory: the kernel walks the page tables for each.
LOOK: Final = 0.5


@dataclass
class Round:
    """One measurement. Memory is PSS, the part of shared pages that is a process's own included, in MB."""

    events: int
    seconds: float
    cpu: float = 0.0
    postgres_cpu: float = 0.0
    kafka_cpu: float = 0.0
    pss_mb: float = 0.0
    #: Seconds that it took to start, which are not among `seconds`.
    start: float = 0.0
    #: Table → rows, or what else says that the work was done.
    found: dict[str, Any] = field(default_factory=dict)
    #: Of the machine, as the round began: who else worked there.
    load: float = 0.0

    @property
    def each(self) -> float:
        """Microseconds of processor time an event, of all: what other work on the machine changes least."""
        return 1_000_000 * (self.cpu + self.postgres_cpu + self.kafka_cpu) / self.events

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds


def median(rounds: list[Round]) -> Round:
    """The round with the median rate; of an even number, the slower of the two."""
    wanted = statistics.median_low([each.rate for each in rounds])
    return next(each for each in rounds if each.rate == wanted)


def spent() -> float:
    """Processor seconds of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def tree(root: int) -> list[int]:
    """A process and those below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(_stat(int(folder.name))[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu(root: int) -> float:
    """Processor seconds of a process, of those below it, and of those that it had."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            total += sum(map(int, _stat(pid)[11:15]))
    return total / TICKS


def pss_mb(root: int) -> float:
    """Memory of a process and those below it."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Meter:
    """Processor seconds and the most memory between `begin` and `end`."""

    def __init__(self, home: Path, root: int) -> None:
        """`root`: the program; `home`: of the servers."""
        self._roots = [root, *(int((home / "run" / f"{name}.pid").read_text()) for name in SERVERS)]
        self._before = [0.0, 0.0, 0.0]
        self._begun = self.most_mb = 0.0
        self._done = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()
        self.load = os.getloadavg()[0]
        self.begin()

    def begin(self) -> None:
        """Counts from here."""
        self._begun = time.perf_counter()
        self._before = [cpu(root) for root in self._roots]

    def end(self, events: int) -> Round:
        """Counts to here."""
        seconds = time.perf_counter() - self._begun
        used = [cpu(root) - before for root, before in zip(self._roots, self._before, strict=True)]
        self.most_mb = max(self.most_mb, pss_mb(self._roots[0]))  # a short one ended between two looks
        self.close()
        return Round(events, seconds, *used, self.most_mb, load=self.load)

    def close(self) -> None:
        """Looks no longer."""
        self._done.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK):
            self.most_mb = max(self.most_mb, pss_mb(self._roots[0]))


SERVERS: Final = ("postgres", "kafka")


@contextlib.contextmanager
def metered(home: Path, root: int) -> Iterator[Meter]:
    """A meter that ends with the block."""
    meter = Meter(home, root)
    try:
        yield meter
    finally:
        meter.close()


def await_true(true: Callable[[], bool], seconds: float, what: str, alive: Callable[[], bool]) -> None:
    """Looks every 50 ms. Raises RuntimeError when the time is over, or what should do it has ended."""
    deadline = time.monotonic() + seconds
    while not true():
        if not alive():
            raise RuntimeError(f"{what}: it ended too early")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:,.0f} s")
        time.sleep(0.05)
