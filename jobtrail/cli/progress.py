"""How far long work is, on stderr: a bar with rate and time left on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TextIO

from jobtrail.cli.terminal import span

#: Seconds between two plain lines of one phase.
EVERY: Final = 5.0


class Shown:
    """Hears how far the work is: phase, what is done, of how much; 0 of 0 where that is unknown.

    Without a terminal, a phase that ends within `quiet` seconds says nothing.
    """

    def __init__(
        self, stream: TextIO, clock: Callable[[], float] = time.monotonic, *, quiet: float = 0.0
    ) -> None:
        self._stream, self._clock, self._quiet = stream, clock, quiet
        #: What was done when a line of this phase was printed last.
        self._said: int | None = None
        self._phase = ""
        self._begun = self._next = 0.0
        self._done_before = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Nothing is shown before there is something to show."""
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Leaves the terminal as it was."""
        self.close()

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = None
        self._phase = ""

    def __call__(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Shows it."""
        now = self._clock()
        if phase != self._phase:
            self._begin(phase, done, total, now)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None)
        elif now >= self._next or (self._said is not None and self._said < total <= done):
            self._next = now + EVERY
            self._said = done
            print(f"jobtrail: {self._line(done, total, now)}", file=self._stream, flush=True)

    def _begin(self, phase: str, done: int, total: int, now: float) -> None:
        self.close()
        self._phase, self._begun, self._done_before, self._next = phase, now, done, now + self._quiet
        self._said = None
        if not self._stream.isatty():
            return
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            return

        class Rate(TextColumn):
            """How many a second."""

            def render(self, task: Any) -> Any:
                from rich.text import Text

                return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s" if task.total else "")

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(""),
            TimeRemainingColumn(),
            console=Console(file=self._stream),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(phase, total=total or None, completed=done)

    def _line(self, done: int, total: int, now: float) -> str:
        if not total:
            return self._phase
        said = f"{self._phase}: {done:,} of {total:,} ({100 * done // total} %)"
        passed = now - self._begun
        rate = (done - self._done_before) / passed if passed > 0 else 0.0
        if rate > 0 and done < total:
            said += f", {rate:,.0f} a second, {span((total - done) / rate)} left"
        return said
