"""Connector logs: one text file per attempt, scrubbed of secrets, capped, its head and tail kept.

HOME/logs/jobs/<job_id>/<attempt_number>.log holds the head, up to half of the limit. What follows goes to
`.new`, which at a quarter of the limit becomes `.old`; the `.old` before it is what gets cut. So the newest
lines are on disk at any time, also when the writer is killed, and nothing is ever rewritten.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from jobtrail.events import utc_now
from jobtrail.producers.scrub import known

#: Characters kept of one line.
LINE_LIMIT: Final = 20_000
#: Lines of each origin that a failure carries.
LAST_LINES: Final = 20
#: What could move a terminal's cursor or text: control characters, line separators, bidirectional overrides,
#: halves of surrogate pairs. Tabs stay.
_UNSEEN: Final = re.compile(
    "[\0-\x08\n-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

#: A private key whose end is not in the same text, what its further lines are, and how many lines its end may
#: be away: what else its owner says meanwhile, on another channel or from another thread, comes in between.
_KEY_BEGINS: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?!.*-----END )", re.DOTALL
)
_KEY_LINE: Final = re.compile(r"\s*(?:[A-Za-z0-9+/=]*|(?:Proc-Type|DEK-Info|Version|Comment): .*)\s*")
_KEY_END: Final = "-----END "
_KEY_LINES: Final = 200


def visible(text: str) -> str:
    r"""`text` on one line with its control characters as \x1b or \u202e."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def log_path(home: Path, job_id: int, attempt_number: int) -> Path:
    """Where the head of an attempt's log is."""
    return home / "logs" / "jobs" / str(job_id) / f"{attempt_number}.log"


class AttemptLog:
    """Writes the log of one attempt, from any thread. A full disk ends logging and nothing else."""

    def __init__(self, home: Path, job_id: int, attempt_number: int, limit: int) -> None:
        """`limit`: bytes kept in all, notes and names of origins included."""
        self.path = log_path(home, job_id, attempt_number)
        #: Why nothing is written any more.
        self.error: OSError | None = None
        self._limit = limit
        self._cut_lines = self._cut_bytes = 0
        self._old = (0, 0)
        self._lines = self._size = 0
        self._head = True
        self._lock = threading.Lock()
        self._last: dict[str, deque[str]] = {}
        #: Most characters of a line: its bytes fit into a part, whatever they are.
        self._longest = min(LINE_LIMIT, limit // 24)
        #: Who is printing a private key, and within how many lines it ends.
        self._keys: dict[str, int] = {}
        self._file: IO[bytes] | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _part(self.path, "old").unlink(missing_ok=True)
            _part(self.path, "new").unlink(missing_ok=True)
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            self.error = error

    def write(self, origin: str, text: str | bytes, at: datetime | None = None) -> None:
        """Adds the lines of `text`, each with the time and who said it (source, destination, jobtrail)."""
        if isinstance(text, bytes):
            text = text.decode(errors="backslashreplace")
        moment = (at or utc_now()).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        with self._lock:
            for line in self._without_keys(origin, text):
                shown = visible(line.rstrip("\r")[: self._longest])
                if len(line) > self._longest:
                    shown += f" … {len(line) - self._longest:,} characters cut"
                self._last.setdefault(origin, deque(maxlen=LAST_LINES)).append(shown)
                self._put(f"{moment} {origin:<11} {shown}\n".encode())

    def _without_keys(self, origin: str, text: str) -> Iterator[str]:
        """The lines without secrets. A private key that comes line by line is known by its first line."""
        for line in known.text(text).rstrip("\r\n").split("\n"):
            if left := self._keys.get(origin, 0):
                self._keys[origin] = 0 if line.lstrip().startswith(_KEY_END) else left - 1
                if not self._keys[origin] or _KEY_LINE.fullmatch(line):
                    continue
            yield line
        if "-----BEGIN" in text and _KEY_BEGINS.search(text):
            self._keys[origin] = _KEY_LINES

    def last_lines(self, origin: str) -> list[str]:
        """The newest lines of one origin, oldest first."""
        with self._lock:
            return list(self._last.get(origin, ()))

    def close(self) -> None:
        """Ends writing; a second call does nothing."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _put(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            share = self._limit // 2 if self._head else self._limit // 4
            if self._size and self._size + len(line) > share:
                self._turn()
            self._file.write(line)
        except OSError as error:
            self.error = error
            self._file.close()
            self._file = None
        self._lines += 1
        self._size += len(line)

    def _turn(self) -> None:
        """Begins a new part; the one before the last is cut."""
        assert self._file is not None  # noqa: S101  # _put looked
        self._file.close()
        new = _part(self.path, "new")
        if not self._head:
            self._cut_lines += self._old[0]
            self._cut_bytes += self._old[1]
            self._old = (self._lines, self._size)
            new.replace(_part(self.path, "old"))
        self._file = new.open("wb", buffering=0)
        note = f"{self._cut_lines} {self._cut_bytes}\n".encode()
        self._file.write(note)
        self._head, self._lines, self._size = False, 0, len(note)


def _part(path: Path, name: str) -> Path:
    return path.with_suffix(f".{name}")


def read_log(home: Path, job_id: int, attempt_number: int, tail: int | None = None) -> list[str]:
    """The lines of an attempt's log, the newest `tail` of them; empty where there is none.

    Where lines were cut, one line in square brackets says how many.
    """
    path = log_path(home, job_id, attempt_number)
    head, old, new = (_read(part) for part in (path, _part(path, "old"), _part(path, "new")))
    lines = head
    if new:
        # The first line of a part is its note: lines and bytes cut before it.
        if found := re.fullmatch(r"(\d+) (\d+)", new[0]):
            cut_lines, cut_bytes = map(int, found.groups())
            if cut_lines:
                lines.append(f"[{cut_lines:,} lines, {cut_bytes:,} bytes cut here]")
        lines = [*lines, *old[1:], *new[1:]]
    return lines if tail is None else lines[max(0, len(lines) - tail) :]


def _read(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").split("\n")[:-1]
    except OSError:
        return []
