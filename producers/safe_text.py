"""Text that every later stage can hold: Avro takes no lone surrogate, Postgres no NUL, a message ends."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_UNSAFE: Final = re.compile("[\0\ud800-\udfff]")
#: A class of characters that could move a terminal's cursor or turn its text: control characters but NUL (no
#: text has it), line feeds and tabs, and directions. For Python's patterns and Rust's.
CONTROLS: Final = "[\x01-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
_CONTROLS: Final = re.compile(CONTROLS)
#: Most bytes of a name (`jobtrail.kinds.NAME`).
_NAME_BYTES: Final = 1024


def safe(text: str, limit: int | None = None) -> str:
    """`text` with NUL and lone surrogates replaced, and at most `limit` characters of it.

    What is too long keeps its head and its tail, and says between them how much was cut.
    """
    text = _UNSAFE.sub(REPLACEMENT, text)
    if limit is None or len(text) <= limit:
        return text
    note = f"\n… {len(text) - limit:,} of {len(text):,} characters and this note's length were cut …\n"
    head = (limit - len(note)) // 2
    tail = limit - len(note) - head
    return text[:head] + note + text[-tail:]


def shown(text: str) -> str:
    r"""`text`, of several lines if need be, with its control characters as \x1b or \u202e."""
    text = text.replace("\r\n", "\n")
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def safe_name(text: str) -> str:
    """`text` as a name: safe, and cut to the bytes that an index entry holds."""
    return safe(text).encode()[:_NAME_BYTES].decode(errors="ignore")


def safe_json(facts: Mapping[str, Any], limit: int) -> str:
    """`facts` as the text of a JSON object of at most `limit` characters.

    What JSON does not know is written as its `str`; an object that is too long is replaced by its size.
    """
    try:
        text = msgspec.json.encode(_plain(facts)).decode()
    except RecursionError:
        return '{"leftOut":"nested too deeply"}'
    return text if len(text) <= limit else f'{{"leftOut":"{len(text):,} characters"}}'


def _plain(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case Mapping():
            return {safe(str(key)): _plain(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(part) for part in value]
        case _:
            return safe(str(value))
