"""Runs a program several times at once, `several.py HOW_MANY PROGRAM ARGUMENTS`, until one of them ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time


def main() -> int:
    """Exit status 1: one ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    running = [subprocess.Popen(sys.argv[2:]) for _ in range(int(sys.argv[1]))]
    try:
        while all(process.poll() is None for process in running):
            time.sleep(0.2)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(15)
    return 1


if __name__ == "__main__":
    sys.exit(main())
