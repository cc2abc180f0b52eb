"""What a partition is far behind by, read as blocks while its consumer group waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from jobtrail.consumers.block import Block
from jobtrail.consumers.fetching import FAR, Fetcher, UnusualError
from jobtrail.consumers.records import Place
from jobtrail.settings import Settings

#: Messages in a block at the most, and compressed bytes that are fetched at once: half of what a rebuild
#: takes, for here all is in one process.
AT_ONCE: Final = 25_000
FETCH: Final = 2 * 1024 * 1024
#: Seconds until it is tried again after something unusual.
PAUSE: Final = 60.0


class FarBehind:
    """One stretch of one partition at a time. Not thread-safe; close it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._most = min(AT_ONCE, settings.batch_size)
        self._fetcher: Fetcher | None = None
        self._blocks: Iterator[Block] | None = None
        self._not_before = 0.0
        #: What is read, if anything is.
        self.place: Place | None = None

    def begin(self, place: Place, topic_id: str, start: int, end: int) -> bool:
        """Whether it is far enough, and is read from now on."""
        if end - start < FAR or time.monotonic() < self._not_before:
            return False
        try:
            self._fetcher = self._fetcher or Fetcher(self._settings, FETCH)
        except UnusualError:
            self._not_before = float("inf")
            return False
        topic, partition = place
        self._blocks = self._fetcher.read(topic, topic_id, partition, start, end, self._most)
        self.place = place
        return True

    def next(self) -> Block | None:
        """None: the end of the stretch is reached, or another client must go on."""
        assert self._blocks is not None  # noqa: S101  # begun
        try:
            block = next(self._blocks, None)
        except UnusualError:
            self._not_before = time.monotonic() + PAUSE
            block = None
        if block is None:
            self.stop()
        return block

    def stop(self) -> None:
        """Leaves the stretch."""
        self._blocks = self.place = None

    def close(self) -> None:
        """Leaves Kafka."""
        self.stop()
        if self._fetcher is not None:
            self._fetcher.close()
