"""Cursors: where a reader of a job list goes on while jobs arrive.

A cursor holds the place of the last job that was given out, its instant in the list's order and its id, and a
digest of that order and the filters: it goes on with the list that it came from and with no other. No state
is kept for it, and it does not expire.

By createdAt each job that was there at the beginning comes exactly once, however many arrive meanwhile; those
are met at the end (ASC) or not at all (DESC). By updatedAt a job that changes meanwhile moves: ASC shows it
again, as it is then; DESC may pass it by. (A creation that becomes known after the job's first events moves
the job too.)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from jobtrail.errors import FieldError

FIELD: Final = "pagination.cursor"
#: A version, the digest of the list, microseconds since 1970, the job's id.
_LAYOUT: Final = struct.Struct(">B8sqq")
_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """A place in an order of jobs."""

    at: datetime
    job_id: int


def digest(filters: Mapping[str, Any], order: tuple[str, str]) -> bytes:
    """Tells one list from another, 8 bytes; the order of the values of a filter does not matter."""
    same = {name: sorted(value) if isinstance(value, list) else value for name, value in filters.items()}
    text = msgspec.json.encode((order, same), order="sorted")
    return hashlib.blake2b(text, digest_size=8).digest()


def encode(of: bytes, place: Place) -> str:
    """The cursor behind a place of the list whose digest is `of`."""
    microseconds = (place.at - _EPOCH) // timedelta(microseconds=1)
    packed = _LAYOUT.pack(_VERSION, of, microseconds, place.job_id)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(cursor: str, of: bytes) -> Place:
    """The place of a cursor. Raises FieldError for one that is malformed or of another list."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, found, microseconds, job_id = _LAYOUT.unpack(packed)
        place = Place(_EPOCH + timedelta(microseconds=microseconds), job_id)
    except (binascii.Error, ValueError, struct.error, OverflowError):
        raise FieldError(FIELD, "is no cursor; take nextCursor of the page before, unchanged") from None
    if version != _VERSION:
        raise FieldError(FIELD, f"is of version {version}, which is not known here; begin without a cursor")
    if found != of:
        raise FieldError(FIELD, "is of a list with another order or other filters; ask for the same list")
    return place
