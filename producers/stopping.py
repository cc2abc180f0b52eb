"""Ctrl-C, SIGTERM and SIGHUP as something to look at, for commands that first put things in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stop:
    """Whether the command was told to stop, how often, and by which signal."""

    def __init__(self) -> None:
        self.count = 0
        #: The first signal's number; none: it was asked for in another way.
        self.signal: int | None = None

    def ask(self, number: int | None = None) -> None:
        """Asks to stop; a second time, to do so at once."""
        if not self.count:
            self.signal = number
        self.count += 1

    @property
    def exit_status(self) -> int:
        """As the shell says it: 128 and the signal's number."""
        return 128 + (self.signal or signal.SIGINT)


@contextmanager
def signals_ask(stop: Stop, then: Callable[[int, FrameType | None], None] | None = None) -> Iterator[None]:
    """Within the block the signals ask `stop` and call `then`; elsewhere than in the main thread, nothing.

    A signal that was ignored before, as under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.ask(number)
        if then is not None:
            then(number, frame)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and handler != signal.SIG_IGN:
                signal.signal(number, handler)
