"""How far a run is, on stderr: in place on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

from jobtrail.producers.logs import visible
from jobtrail.producers.report import Totals
from jobtrail.producers.scrub import known

#: Seconds between two shows on a terminal, and between two plain lines.
_IN_PLACE: Final = 0.2
_PLAIN: Final = 10.0


class Progress:
    """Shows totals; nothing at all when `quiet`."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._in_place = self._stream.isatty()
        self._began = self._shown = time.monotonic()
        self._dirty = False

    def show(self, totals: Totals) -> None:
        """Shows them if it is time to."""
        now = time.monotonic()
        if now - self._shown < (_IN_PLACE if self._in_place else _PLAIN):
            return
        self._shown = now
        text = f"{said(totals)}, {now - self._began:,.0f} s"
        if self._in_place:
            self._put(f"\r{text}\x1b[K")
            self._dirty = True
        else:
            self._put(f"jobtrail: {text}\n")

    def line(self, text: str) -> None:
        """A line that stays."""
        self._put(("\r\x1b[K" if self._dirty else "") + f"jobtrail: {visible(known.text(text))}\n")
        self._dirty = False

    def _put(self, text: str) -> None:
        if self._quiet:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody looks any more
            self._quiet = True


def said(totals: Totals) -> str:
    """Totals in words."""
    emitted = f"{totals.records:,} records ({totals.bytes:,} bytes) emitted"
    if totals.committed_records is None:
        return emitted
    return f"{emitted}, {totals.committed_records:,} committed"
