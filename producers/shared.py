"""The publishers that a process's reporters share, one for each reading of the settings."""

from __future__ import annotations

import threading
from typing import Final

from jobtrail.producers.publisher import Publisher
from jobtrail.settings import Settings

_publishers: Final[list[Publisher]] = []
_choosing: Final = threading.Lock()


def shared_publisher(settings: Settings | None = None) -> Publisher:
    """This process's publisher for `settings` (default: the environment's). Raises as `Publisher` does."""
    settings = settings or Settings.from_env()
    with _choosing:
        _publishers[:] = [publisher for publisher in _publishers if not publisher.closed]
        for publisher in _publishers:
            if publisher.settings == settings:
                return publisher
        _publishers.append(Publisher(settings))
        return _publishers[-1]
