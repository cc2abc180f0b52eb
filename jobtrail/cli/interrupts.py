"""Ctrl-C and SIGTERM for commands that have something to put in order before they end."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def leave_in_order() -> None:
    """The first Ctrl-C or SIGTERM raises KeyboardInterrupt; later ones do not disturb the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _patience)
    raise KeyboardInterrupt


def _patience(_number: int, _frame: FrameType | None) -> None:
    print("jobtrail: stopping; a moment, please", file=sys.stderr)
