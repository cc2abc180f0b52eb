"""What is done to each byte of a log, as machine code: numba compiles each function when it is first called.

They take and fill arrays of numbers, and hold no lock of Python's meanwhile. Nothing checks an index but what
is written here, so each place is compared with the end of what may be read before it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core import config

from jobtrail.kinds import EVENT_ID_SIZE
from jobtrail.settings import default_cache

F = TypeVar("F", bound=Callable[..., Any])
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

#: Kinds of fields; with OPTIONAL they may be null. A JSON text is for others to judge: only null is good.
LONG: Final = 0
TEXT: Final = 1
EVENT_ID: Final = 2
JSON: Final = 3
BOOLEAN: Final = 4
OPTIONAL: Final = 8
#: Marker C3 01 of a single-object encoding, its fingerprint, and both.
_FIRST: Final = 0xC3
_SECOND: Final = 0x01
_HEADER: Final = 10
#: Bytes of a text that stand in its view itself.
_INLINE: Final = 12
#: Characters of an event id; most digits of a number.
_ID_SIZE: Final = EVENT_ID_SIZE
_DIGITS: Final = 18
#: Bytes that a buffer has behind all that is in it, so that eight can be taken from any place at once.
PADDING: Final = 8
#: Of eight bytes: 01, 7F, 80 in each.
_ONES: Final = np.uint64(0x0101010101010101)
_LOW: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_HIGH: Final = np.uint64(0x8080808080808080)
#: Where an event id has its dashes, in its eight bytes from the eighth and from the sixteenth on.
_DASHED: Final = ((8, np.uint64(0x0000FF00000000FF)), (16, np.uint64(0xFF00000000FF0000)))
#: Milliseconds since 1970 of the last instant that Python has, the end of the year 9999.
_LATEST: Final = 253_402_300_799_999

if not config.CACHE_DIR:  # type: ignore[attr-defined]  # else NUMBA_CACHE_DIR is set
    config.CACHE_DIR = str(default_cache() / "compiled")  # type: ignore[attr-defined]


def _compiled(function: F) -> F:
    try:
        return cast("F", njit(nogil=True, cache=True)(function))
    except RuntimeError:  # there is no folder in which it could be kept
        return cast("F", njit(nogil=True)(function))


class Batches(NamedTuple):
    """Record batches in a buffer: where each begins and ends, and what its header says of all its records."""

    begins: Integers
    ends: Integers
    counts: Integers
    offsets: Integers
    times: Integers
    #: When the broker appended it, if it says; else -1.
    appended: Integers


class Messages(NamedTuple):
    """Places and sizes in a buffer; those of nulls are -1."""

    values: Integers
    value_sizes: Integers
    keys: Integers
    key_sizes: Integers


class Fields(NamedTuple):
    """Of a schema: what kind each field is, and which row of `Columns` it is; what its values may be."""

    kinds: Integers
    slots: Integers
    #: The least and the greatest number, or the most bytes of a text.
    least: Integers
    most: Integers
    #: The field that a message's key is the text of.
    key: int


class Columns(NamedTuple):
    """What is filled, a row for each field of one kind and a column for each message."""

    longs: Integers
    booleans: Bytes
    #: As views (Arrow format, "Variable-size Binary View Layout"): two numbers each.
    texts: npt.NDArray[np.uint64]
    #: A row for each field. 1 before, and 0 then where there is a null.
    known: Bytes


def words_of(buffer: Bytes) -> Words:
    """The eight bytes from each place on as one number, the first the least; nothing is copied."""
    return np.ndarray((len(buffer) - PADDING + 1,), np.uint64, buffer, strides=(1,))


@_compiled
def number(buffer: Bytes, at: int, end: int) -> tuple[int, int]:
    """A number at a place before the end, and the place behind it.

    That is -1 for what is not its shortest spelling, has more than 64 bits, or reaches beyond the end.
    """
    if at < end and buffer[at] < 128:  # as most are
        only = np.int64(buffer[at])
        return int((only >> 1) ^ -(only & 1)), at + 1
    found = np.uint64(0)
    shift = np.uint64(0)
    while at < end and shift < 64:
        byte = np.uint64(buffer[at])
        at += 1
        if byte < 128:
            if (byte == 0 and shift > 0) or (byte > 1 and shift == 63):
                return 0, -1
            found |= byte << shift
            return int(np.int64(found >> np.uint64(1)) ^ -np.int64(found & np.uint64(1))), at
        found |= (byte & np.uint64(0x7F)) << shift
        shift += np.uint64(7)
    return 0, -1


@_compiled
def walk(buffer: Bytes, batches: Batches, out: Integers) -> int:
    """Where the parts of each record of some record batches are (Kafka protocol, "Record Batch").

    `out` has a row for each part and a column for each record: offset, milliseconds, and the four of
    `Messages`. Gives the number of records, or -1 where a batch is not what it says, where an offset is not
    above the one before, or at an instant that no clock shows.
    """
    row = 0
    last = np.int64(-1)
    for batch in range(len(batches.begins)):
        at = batches.begins[batch]
        end = batches.ends[batch]
        for _ in range(batches.counts[batch]):
            size, at = number(buffer, at, end)
            if at < 0 or size < 1 or size > end - at:
                return -1
            stop = at + size
            later, at = number(buffer, at + 1, stop)  # after the attributes, which say nothing
            if at < 0:
                return -1
            further, at = number(buffer, at, stop)
            offset = batches.offsets[batch] + further  # beyond 64 bits it is below zero
            appended = batches.appended[batch]
            moment = batches.times[batch] + later if appended < 0 else appended
            if at < 0 or offset <= last or moment < -1 or moment > _LATEST:
                return -1
            out[0, row] = last = offset
            out[1, row] = moment
            for part in (4, 2):  # the key, then the value
                size, at = number(buffer, at, stop)
                if at < 0 or size < -1 or size > stop - at:
                    return -1
                out[part, row] = at
                out[part + 1, row] = size
                at += max(size, 0)
            at = stop  # passes the headers by
            row += 1
        if at != end:
            return -1
    return row


@_compiled
def fingerprints(buffer: Bytes, messages: Messages, out: npt.NDArray[np.uint64]) -> None:
    """The fingerprint of the schema that each message names; 0 for one without the marker."""
    for row in range(len(messages.values)):
        at = messages.values[row]
        out[row] = 0
        if messages.value_sizes[row] >= _HEADER and buffer[at] == _FIRST and buffer[at + 1] == _SECOND:
            found = np.uint64(0)
            for byte in range(8):
                found |= np.uint64(buffer[at + 2 + byte]) << np.uint64(8 * byte)
            out[row] = found


@_compiled
def cut(word: np.uint64, size: int) -> np.uint64:
    """The first bytes of a word, at most all of them, and zeros."""
    return word if size >= 8 else word & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))


@_compiled
def view(words: Words, at: int, size: int) -> tuple[np.uint64, np.uint64]:
    """A text as a view: its size, and itself or its first four bytes and its place."""
    rest = np.uint64(0)
    if size > _INLINE:
        rest = np.uint64(at) << np.uint64(32)
    elif size > 4:
        rest = cut(words[at + 4], size - 4)
    return np.uint64(size) | cut(words[at], min(size, 4)) << np.uint64(32), rest


@_compiled
def is_hexadecimal(word: np.uint64) -> bool:
    """Whether eight bytes are digits from 0 to f."""
    low = word & _LOW  # so that no byte's sum is carried into the next one
    digits = (low + np.uint64(0x50) * _ONES) & ~(low + np.uint64(0x46) * _ONES)  # from 30, not from 3A
    letters = (low + np.uint64(0x1F) * _ONES) & ~(low + np.uint64(0x19) * _ONES)  # from 61, not from 67
    return bool(((digits | letters) & ~word & _HIGH) == _HIGH)


@_compiled
def is_event_id(words: Words, at: int, size: int) -> bool:
    """Whether a text is one, as `kinds.EVENT_ID` has it."""
    if size != _ID_SIZE:
        return False
    good = is_hexadecimal(words[at]) and is_hexadecimal(words[at + 24]) and is_hexadecimal(words[at + 28])
    for place, dashes in _DASHED:
        word = words[at + place]
        good &= (word & dashes) == (np.uint64(0x2D) * _ONES & dashes)
        good &= is_hexadecimal((word & ~dashes) | (np.uint64(0x30) * _ONES & dashes))
    return good


@_compiled
def bits_of(words: Words, at: int, size: int) -> tuple[np.uint64, bool]:
    """The bits of all bytes of a text together, in eight bytes; and whether none of them is NUL."""
    bits, known = np.uint64(0), _HIGH
    for place in range(0, size, 8):
        word = cut(words[at + place], size - place)
        bits |= word
        word |= _ONES & ~cut(~np.uint64(0), size - place)  # behind its end there is no NUL
        known &= ((word & _LOW) + _LOW) | word
    return bits, bool(known == _HIGH)


@_compiled
def is_decimal(buffer: Bytes, at: int, size: int, value: int) -> bool:
    """Whether bytes spell a number that is not below zero, as Python does."""
    if size < 1 or size > _DIGITS or (size > 1 and buffer[at] == 48):
        return False
    found = np.int64(0)
    for place in range(at, at + size):
        if buffer[place] < 48 or buffer[place] > 57:
            return False
        found = found * 10 + (np.int64(buffer[place]) - 48)
    return found == value  # type: ignore[no-any-return]


@_compiled
def is_same(buffer: Bytes, at: int, size: int, other: int, other_size: int) -> bool:
    """Whether two texts have the same bytes."""
    same = size == other_size
    if same:
        for byte in range(size):
            same &= buffer[at + byte] == buffer[other + byte]
    return same


@_compiled
def read_flat(  # noqa: C901, PLR0912, PLR0917  # one pass
    buffer: Bytes,
    words: Words,
    messages: Messages,
    fields: Fields,
    out: Columns,
    good: npt.NDArray[np.bool_],
) -> bool:
    """Values of messages of one schema without lists or records in it.

    A message is good if it is spelled in the shortest way to its last byte, its values are within their
    bounds, no text has a NUL, and its key is right. Tells whether all texts are ASCII.
    """
    values, value_sizes, keys, key_sizes = messages
    kinds, slots, least, most, key_field = fields
    longs, booleans, texts, known = out
    bits = np.uint64(0)
    for row in range(len(values)):
        at = values[row] + _HEADER
        end = values[row] + value_sizes[row]
        key, key_size = keys[row], key_sizes[row]
        is_good = True
        for field in range(len(kinds)):
            kind = kinds[field]
            slot = slots[field]
            if kind & OPTIONAL:
                if at >= end or (buffer[at] != 0 and buffer[at] != 2):
                    is_good = False
                    break
                at += 1
                if buffer[at - 1] == 0:
                    known[field, row] = 0
                    continue
                kind ^= OPTIONAL
            if kind == BOOLEAN:
                if at >= end or buffer[at] > 1:
                    is_good = False
                    break
                booleans[slot, row] = buffer[at]
                at += 1
                continue
            value, at = number(buffer, at, end)
            if at < 0:
                break
            if kind == LONG:
                longs[slot, row] = value
                is_good &= least[field] <= value <= most[field]
                if field == key_field:
                    is_good &= is_decimal(buffer, key, key_size, value)
                continue
            if value < 0 or value > end - at:
                is_good = False
                break
            texts[slot, row, 0], texts[slot, row, 1] = view(words, at, value)
            if kind == EVENT_ID:
                is_good &= is_event_id(words, at, value)
            else:
                more, has_no_nul = bits_of(words, at, value)
                is_good &= kind == TEXT and value <= most[field] and has_no_nul
                bits |= more
            if field == key_field:
                is_good &= is_same(buffer, key, key_size, at, value)
            at += value
        good[row] = is_good and at == end
    return bool(bits & _HIGH == 0)
