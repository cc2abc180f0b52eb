"""What the files of an archive say of themselves: the manifests, and what is missing between them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import msgspec

from jobtrail.consumers.archive_store import Store
from jobtrail.errors import ArchiveError

#: Of the manifests and the data files.
FORMAT: Final = 1
#: From librdkafka's spelling of ids to Kafka's own, which has no slash.
_FOR_PATHS: Final = str.maketrans("+/", "-_")
_MANIFEST: Final = re.compile(r"[^/]+/[^/]+/\d+/\d{20}\.json")
_DATA: Final = re.compile(r"[^/]+/[^/]+/\d+/\d{20}-\d{20}-[0-9a-f]{16}\.avro")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in one data file."""

    topic: str
    topic_id: str
    partition: int
    first_offset: int
    #: After the range. Not every offset of a range has a message: transactions leave holes.
    next_offset: int
    messages: int
    #: Broker's times of the first and the last message, in ms since 1970; none where there is no message.
    first_broker_ms: int | None
    last_broker_ms: int | None
    #: The offsets had left the log before they could be archived, which was accepted: the data file is empty.
    missing: bool
    #: Of the data file, in bytes.
    size: int
    sha256: str
    #: When the file was written, in ms since 1970.
    archived_ms: int
    format: int = FORMAT

    @property
    def folder(self) -> str:
        """Of both files."""
        return f"{self.topic}/{self.topic_id.translate(_FOR_PATHS)}/{self.partition}"

    @property
    def name(self) -> str:
        """Of the manifest."""
        return f"{self.folder}/{self.first_offset:020}.json"

    @property
    def data_name(self) -> str:
        """Of the data file; part of its sum is in it, so that no other content comes under this name."""
        return f"{self.folder}/{self.first_offset:020}-{self.next_offset:020}-{self.sha256[:16]}.avro"

    def to_json(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets of a partition that are not in the archive."""

    topic: str
    topic_id: str
    partition: int
    first: int
    #: After the last that is missing.
    next: int
    #: They had left the log, and somebody said that the archive shall go on behind them.
    accepted: bool

    def __str__(self) -> str:
        how = ", as was accepted" if self.accepted else ""
        return (
            f"offsets {self.first} to {self.next - 1} of topic {self.topic} (id {self.topic_id}), partition"
            f" {self.partition}, are missing{how}"
        )


def gaps(chain: Sequence[Manifest]) -> Iterator[Gap]:
    """What is missing of a partition up to its last manifest; the manifests are in the order of offsets."""
    position = 0
    for one in chain:
        if one.first_offset > position:
            yield Gap(one.topic, one.topic_id, one.partition, position, one.first_offset, accepted=False)
        if one.missing:
            yield Gap(
                one.topic, one.topic_id, one.partition, one.first_offset, one.next_offset, accepted=True
            )
        position = max(position, one.next_offset)


def holds(chain: Sequence[Manifest], first: int, end: int) -> bool:
    """Whether the data files have the whole range; the manifests are in the order of offsets."""
    position = first
    for one in chain:
        if one.first_offset <= position and not one.missing:
            position = max(position, one.next_offset)
    return position >= end


def read_manifest(store: Store, name: str) -> Manifest:
    """The manifest of this name. Raises ArchiveError where it is damaged, or newer than this program."""
    text = store.read(name)
    try:
        read = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(store, name, str(error)) from None
    if read.format > FORMAT:
        raise ArchiveError(
            f"{store.shown(name)} is of format {read.format}, and this version reads {FORMAT};"
            " update this program"
        )
    if read.name != name or not 0 <= read.first_offset <= read.next_offset:
        raise _damaged(store, name, f"it says that it is {read.name}, up to offset {read.next_offset}")
    return read


def _damaged(store: Store, name: str, found: str) -> ArchiveError:
    return ArchiveError(
        f"{store.shown(name)} is damaged ({found}); bring it back from a copy, or delete it, and what is"
        " still in the log is archived anew"
    )


def is_manifest(name: str) -> bool:
    """Whether a file of this name is a manifest."""
    return bool(_MANIFEST.fullmatch(name))


def is_data(name: str) -> bool:
    """Whether a file of this name is a data file."""
    return bool(_DATA.fullmatch(name))
