"""One thread per process that lets live attempts publish what has changed, and say that they are alive."""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from jobtrail.producers.client import log
from jobtrail.producers.publisher import before_exit


class Beating(Protocol):
    """Something with a pulse."""

    @property
    def beat_interval(self) -> float:
        """Seconds between two beats."""

    def beat(self) -> None:
        """Publishes what there is to say."""


class Pulse:
    """Calls `beat` of whatever lives; its thread runs only while something does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: When each is due (monotonic seconds).
        self._due: dict[Beating, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, one: Beating) -> None:
        """`one` beats from now on."""
        with self._changed:
            self._due[one] = time.monotonic() + one.beat_interval
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobtrail-pulse", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, one: Beating) -> None:
        """`one` beats no more; a beat that is under way may still end."""
        with self._changed:
            self._due.pop(one, None)
            self._changed.notify()

    def last(self) -> None:
        """One more beat for each that still lives, at the exit of the process."""
        for one in list(self._due):
            self.remove(one)
            _beat(one)

    def _run(self) -> None:
        while (one := self._next()) is not None:
            _beat(one)

    def _next(self) -> Beating | None:
        """Waits for the next that is due, and makes it due again; None when none lives."""
        with self._changed:
            while self._due:
                one = min(self._due, key=self._due.__getitem__)
                now = time.monotonic()
                if self._due[one] <= now:
                    self._due[one] = now + one.beat_interval
                    return one
                self._changed.wait(self._due[one] - now)
            self._thread = None
            return None


def _beat(one: Beating) -> None:
    try:
        one.beat()
    except Exception:  # noqa: BLE001  # the pulse of the others goes on
        log.exception("progress of %r could not be published; it is tried again", one)


pulse = Pulse()
before_exit(pulse.last)
if hasattr(os, "register_at_fork"):  # a child has neither the thread nor the attempts of its parent
    os.register_at_fork(after_in_child=pulse.__init__)  # type: ignore[misc]
