"""Free ports on 127.0.0.1."""

from __future__ import annotations

import socket


def free_port(wanted: int | None = None) -> int:
    """`wanted` when nothing listens there, so that clients find a restarted server; else any free port."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("127.0.0.1 has no free port")
