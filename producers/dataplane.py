"""Reports that a dataplane is alive, while it does or while attempts run in it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

from jobtrail.events import DataplaneHeartbeat
from jobtrail.producers.facts import make
from jobtrail.producers.publisher import Publisher
from jobtrail.producers.pulse import pulse
from jobtrail.producers.receipt import Receipt
from jobtrail.producers.shared import shared_publisher
from jobtrail.settings import Settings

#: Seconds between two heartbeats: two in a row may be lost before a dataplane counts as degraded (60 s).
INTERVAL: Final = 20.0


class Dataplane:
    """A dataplane that is alive until it is closed, or as a context manager until its block ends.

    However many of the same id a process has for one publisher, they share one heartbeat; it comes at once
    and then every INTERVAL seconds. Attempts that name a dataplane have one of these. Kafka being away costs
    nothing: while a heartbeat waits there is no other.
    """

    def __init__(self, publisher: Publisher, dataplane_id: str, version: str | None = None) -> None:
        """For `Dataplane.start`, and attempts. Raises UsageError for a name that does not fit."""
        make(DataplaneHeartbeat, dataplane_id=dataplane_id, dataplane_version=version)
        self._heart: _Heart | None = _heart_of(publisher, dataplane_id)
        self._heart.join(version)

    @classmethod
    def start(
        cls,
        dataplane_id: str,
        *,
        version: str | None = None,
        settings: Settings | None = None,
        publisher: Publisher | None = None,
    ) -> Self:
        """Says from now on that the dataplane is alive, and which version it runs.

        `publisher` is the process's own for `settings` unless given. Raises UsageError for a name that does
        not fit, EmbeddedError or SettingError as `Publisher` does.
        """
        return cls(publisher or shared_publisher(settings), dataplane_id, version)

    def close(self) -> None:
        """Says so no more. Does nothing the second time."""
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class _Heart:
    """What beats for all who share it."""

    beat_interval = INTERVAL

    def __init__(self, publisher: Publisher, dataplane_id: str) -> None:
        self._publisher = publisher
        self._dataplane_id = dataplane_id
        self._version: str | None = None
        self._lock = threading.Lock()
        self._users = 0
        #: When it last beat (monotonic seconds), and what became of that.
        self._told_at = -INTERVAL
        self._receipt: Receipt | None = None

    def join(self, version: str | None) -> None:
        """One more shares it. It beats at once, unless it has just done so and there is nothing new."""
        with self._lock:
            news = version not in {None, self._version}
            self._version = version or self._version
            if not self._users:
                pulse.add(self)
            self._users += 1
        if news or time.monotonic() - self._told_at >= INTERVAL:
            self.beat()

    def leave(self) -> None:
        """One less."""
        with self._lock:
            self._users -= 1
            if not self._users:
                pulse.remove(self)

    def beat(self) -> None:
        """For the pulse: publishes a heartbeat, unless the last one still waits for Kafka."""
        if self._publisher.closed:
            pulse.remove(self)
        elif self._receipt is None or self._receipt.done:
            self._told_at = time.monotonic()
            self._receipt = self._publisher.offer(
                DataplaneHeartbeat(dataplane_id=self._dataplane_id, dataplane_version=self._version)
            )

    def __repr__(self) -> str:
        return f"the heartbeat of dataplane {self._dataplane_id}"


#: One for each dataplane of an open publisher: attempts may be short and follow each other.
_hearts: Final[dict[tuple[Publisher, str], _Heart]] = {}
_choosing: Final = threading.Lock()


def _heart_of(publisher: Publisher, dataplane_id: str) -> _Heart:
    with _choosing:
        for gone in [key for key in _hearts if key[0].closed]:
            del _hearts[gone]
        key = (publisher, dataplane_id)
        if key not in _hearts:
            _hearts[key] = _Heart(publisher, dataplane_id)
        return _hearts[key]
