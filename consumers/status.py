"""What a projector says of itself while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from jobtrail.consumers.records import Place


@dataclass(frozen=True, slots=True)
class Status:
    """One reading."""

    #: Messages folded since the start, dead letters among them.
    messages: int = 0
    dead_letters: int = 0
    #: Messages per second over the last seconds.
    rate: float = 0.0
    #: All partitions of this projector were read to their end.
    caught_up: bool = False
    #: (topic, partition) → offsets behind the end of the log.
    lag: Mapping[Place, int] = field(default_factory=lambda: MappingProxyType({}))


class Rate:
    """Messages per second, over windows of a few seconds."""

    def __init__(self, window: float = 2.0) -> None:
        self._window = window
        self._since = time.monotonic()
        self._counted = 0
        self._last = 0.0

    def count(self, messages: int) -> float:
        """Counts them in and returns the rate."""
        self._counted += messages
        passed = time.monotonic() - self._since
        if passed >= self._window:
            self._last = self._counted / passed
            self._since, self._counted = time.monotonic(), 0
        elif not self._last and passed > 0:
            return self._counted / passed
        return self._last
