"""Runs a command and keeps what it prints: `python -m jobtrail.demo.tee FILE -- COMMAND …`.

So that what a source really printed can be counted without asking Jobtrail. SIGTERM is the command's own
matter; all that it printed until then still passes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path


def main() -> int:
    """Gives the command's exit status; for a signal 128 and its number."""
    path, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.stderr.write("usage: python -m jobtrail.demo.tee FILE -- COMMAND …\n")
        return 2
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    with (
        Path(path).open("wb", buffering=0) as kept,
        subprocess.Popen(command, stdout=subprocess.PIPE) as running,
    ):
        assert running.stdout is not None  # noqa: S101  # asked for
        open_end = True
        while chunk := os.read(running.stdout.fileno(), 1 << 16):
            kept.write(chunk)
            while open_end and chunk:
                try:
                    chunk = chunk[os.write(1, chunk) :]  # what is left of it
                except BrokenPipeError:
                    open_end = False
                    running.terminate()
    return running.returncode if running.returncode >= 0 else 128 - running.returncode


def records(path: Path) -> Counter[str]:
    """Stream → records in a file of messages, by plain JSON."""
    found: Counter[str] = Counter()
    if not path.exists():
        return found
    for line in path.read_bytes().split(b"\n"):
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("type") == "RECORD":
            found[message["record"]["stream"]] += 1
    return found


if __name__ == "__main__":
    sys.exit(main())
