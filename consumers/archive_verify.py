"""Reads an archive back, all of it, and tells what is not as it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jobtrail.consumers.archive import Archive, no_archive
from jobtrail.consumers.archive_file import COLUMNS
from jobtrail.consumers.archive_manifest import Gap, Manifest, gaps, is_data, is_manifest, read_manifest
from jobtrail.consumers.archive_store import MARK, Store
from jobtrail.errors import ArchiveError

#: The headers as well.
_ALL: tuple[str, ...] = (*COLUMNS, "headers")


@dataclass(slots=True)
class Verified:
    """How much was read so far."""

    files: int = 0
    messages: int = 0
    bytes: int = 0
    #: Messages that the manifests promise.
    wanted: int = 0
    #: What is missing with somebody's consent: no finding.
    accepted: list[Gap] = field(default_factory=list)


def verify(address: str, verified: Verified, on_progress: Callable[[Verified], None]) -> Iterator[str]:
    """Reads all files and yields each finding: sums, counts, offsets, gaps and overlaps.

    A data file without a manifest is no finding: a run was killed, or is running. Raises UsageError or
    ArchiveError where there is no archive.
    """
    store = Store.open(address)
    names = store.names()
    if MARK not in names:
        raise no_archive(store)
    manifests = []
    for name in filter(is_manifest, names):
        try:
            manifests.append(read_manifest(store, name))
        except ArchiveError as error:
            yield str(error)
    archive = Archive(store, manifests)
    verified.wanted = sum(one.messages for one in manifests)
    for _, chain in sorted(archive.chains.items()):
        position = 0
        for one in chain:
            if one.first_offset < position:
                yield (
                    f"{store.shown(one.name)}: offsets {one.first_offset} to"
                    f" {min(position, one.next_offset) - 1} are in another file too"
                )
            position = max(position, one.next_offset)
            yield from _check(archive, one, verified)
            on_progress(verified)
        missing = list(gaps(chain))
        verified.accepted += [gap for gap in missing if gap.accepted]
        yield from (f"{store.address}: {gap}" for gap in missing if not gap.accepted)
    for name in names:
        if not (name == MARK or is_manifest(name) or is_data(name)):
            yield f"{store.shown(name)} is no file of an archive"


def _check(archive: Archive, manifest: Manifest, verified: Verified) -> Iterator[str]:
    """One data file against its manifest."""
    verified.files += 1
    verified.bytes += manifest.size
    name = archive.store.shown(manifest.data_name)
    messages = 0
    position = manifest.first_offset
    times: list[int] = []
    try:
        for frame in archive.frames(manifest, _ALL):
            messages += frame.height
            offsets = frame["offset"]
            rising = offsets.diff().drop_nulls().gt(0).all()
            if not rising or offsets[0] < position or offsets[-1] >= manifest.next_offset:
                yield (
                    f"{name}: its offsets do not rise from {manifest.first_offset} to"
                    f" {manifest.next_offset - 1}"
                )
                return
            position = offsets[-1] + 1
            times += [frame["broker_ms"][0], frame["broker_ms"][-1]]
    except ArchiveError as error:
        yield str(error)
        return
    verified.messages += messages
    if messages != manifest.messages:
        yield f"{name} has {messages:,} messages, and its manifest says {manifest.messages:,}"
    elif messages and (times[0], times[-1]) != (manifest.first_broker_ms, manifest.last_broker_ms):
        yield f"{name}: its manifest says other times than its messages have"
