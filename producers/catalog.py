"""The streams that a connector's command is to move, from the configured catalog that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobtrail.events import ConfiguredStream
from jobtrail.producers.connector import option
from jobtrail.producers.safe_text import safe_name


class _Stream(msgspec.Struct):
    name: str
    namespace: str | None = None


class _Configured(msgspec.Struct):
    stream: _Stream
    sync_mode: str | None = None
    destination_sync_mode: str | None = None


class _Catalog(msgspec.Struct):
    streams: list[_Configured]


def streams_of(argv: Sequence[str]) -> list[ConfiguredStream]:
    """Streams of the file after --catalog in a command; none where there is none that can be read.

    Sync modes decide how totals add up over attempts, so it is worth looking.
    """
    path = option(argv, "--catalog")
    if path is None:
        return []
    try:
        catalog = msgspec.json.decode(Path(path).read_bytes(), type=_Catalog)
    except (OSError, msgspec.DecodeError, ValueError, RecursionError):  # the connector will say it
        return []
    return [
        ConfiguredStream(
            name=safe_name(entry.stream.name),
            namespace=safe_name(entry.stream.namespace) if entry.stream.namespace else None,
            sync_mode=safe_name(entry.sync_mode) if entry.sync_mode else None,
            destination_sync_mode=safe_name(entry.destination_sync_mode)
            if entry.destination_sync_mode
            else None,
        )
        for entry in catalog.streams
    ]
