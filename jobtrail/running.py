"""Which servers a client talks to: those of the settings, else those running under JOBTRAIL_HOME.

An embedded server holds a lock on HOME/run/NAME.lock while it lives, and HOME/run/NAME.address says where
it listens once it is ready. Clients only look; they start nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from jobtrail.errors import EmbeddedError
from jobtrail.settings import Settings

if sys.platform != "win32":
    import fcntl

KAFKA_SETTING: Final = "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS"


def address(home: Path, name: str) -> str | None:
    """Where the embedded server `name` (kafka or postgres) of `home` listens, if it is alive and ready."""
    run = home / "run"
    try:
        return (run / f"{name}.address").read_text() or None if _is_held(run / f"{name}.lock") else None
    except OSError:  # never started, or not for this account to read
        return None


def _is_held(lock: Path) -> bool:
    if sys.platform == "win32":  # embedded servers do not run there
        return False
    descriptor = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def kafka_address(settings: Settings) -> str:
    """host:port[,host:port] of Kafka. Raises EmbeddedError where none is set and none runs."""
    found = settings.kafka_bootstrap_servers or address(settings.home, "kafka")
    if found is None:
        raise EmbeddedError(
            f"no Kafka runs under {settings.home}, and {KAFKA_SETTING} is not set; "
            "start Jobtrail with `jobtrail up`, or set it to host:port of yours"
        )
    return found
