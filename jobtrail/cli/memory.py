"""What was freed goes back to the system: a catch-up needs hundreds of megabytes, for seconds."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from typing import Final

#: Of jemalloc, which polars has: what is free is given back soon, and does not count as ours until then.
JEMALLOC: Final = ("_RJEM_MALLOC_CONF", "dirty_decay_ms:100,muzzy_decay_ms:0")
#: glibc's M_ARENA_MAX.
_ARENA_MAX: Final = -8


def give_back() -> None:
    """To be called before there are threads, and before polars is imported.

    glibc else has a heap for each of some threads, and each keeps what its thread once needed: a tenth of a
    projector's memory.
    """
    os.environ.setdefault(*JEMALLOC)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another libc
            ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
