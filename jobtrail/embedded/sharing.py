"""Commands share the servers of a home: the first starts them, the last to leave stops them.

Each command holds a shared lock on HOME/run/lease while it uses the servers; joining, starting, leaving and
stopping happen under the exclusive lock HOME/run/turn. The kernel frees both when a command is killed: its
servers then stay until the next command has joined and left, or until `stop`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobtrail.embedded.process import Server
from jobtrail.embedded.progress import say
from jobtrail.errors import EmbeddedError

if TYPE_CHECKING:
    from jobtrail.embedded.account import Account

if sys.platform != "win32":
    import fcntl

#: Server → the signal that ends it in good order, and the seconds that this may take.
GOODBYES: Final = {"kafka": (signal.SIGTERM, 30.0), "postgres": (signal.SIGINT, 60.0)}


@dataclass(frozen=True)
class EmbeddedServers:
    """The servers of one home as a command uses them, or as `running` found them."""

    home: Path
    #: None: not among the servers that run.
    kafka_address: str | None
    postgres_address: str | None

    @property
    def kafka_bootstrap_servers(self) -> str:
        """127.0.0.1:port. Raises EmbeddedError when Kafka is not among them."""
        return self._present("Kafka", self.kafka_address)

    @property
    def database_url(self) -> str:
        """postgresql://user:password@127.0.0.1:port/jobtrail. Raises EmbeddedError without Postgres."""
        return self._present("Postgres", self.postgres_address)

    def _present(self, title: str, address: str | None) -> str:
        if address is None:
            raise EmbeddedError(
                f"no {title} that this account may use runs under {self.home}; start it: jobtrail up"
            )
        return address

    def check(self) -> None:
        """Raises EmbeddedError, with the log's last words, when one of them has ended; takes microseconds."""
        for name, address in (("kafka", self.kafka_address), ("postgres", self.postgres_address)):
            server = Server(self.home, name)
            if address is not None and not server.alive():
                raise server.complaint("ended while it was in use")


def running(home: Path) -> EmbeddedServers | None:
    """What runs and is ready under `home` now; None when nothing is. Starts nothing, raises nothing."""
    home = home.absolute()
    kafka, postgres = (Server(home, name).address() for name in GOODBYES)
    return EmbeddedServers(home, kafka, postgres) if kafka or postgres else None


@contextmanager
def servers(
    home: Path,
    *,
    kafka: bool = True,
    postgres: bool = True,
    durable: bool = True,
    cache: Path | None = None,
    on_progress: Callable[[str], None] = say,
) -> Iterator[EmbeddedServers]:
    """Starts the embedded servers under `home`, or joins those that run; the last to leave stops them.

    `durable=False` lets a Postgres that is started here skip fsync: for tests. `cache` is where downloads are
    kept (default: as in Settings). `on_progress` is told what happens, line by line. Raises EmbeddedError,
    and then nothing that was started here is left. SIGTERM ends Python without leaving: a command that wants
    its servers stopped by it as well turns it into an exception.
    """
    if sys.platform == "win32":
        raise EmbeddedError(
            "embedded servers run on Linux (glibc) and macOS; on Windows, set "
            "JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS and JOBTRAIL_DATABASE_URL to servers of yours"
        )
    from jobtrail.embedded.account import Account, make_folder
    from jobtrail.settings import default_cache

    home = home.absolute()
    cache = (cache or default_cache()).absolute()
    wanted = [name for name, on in (("kafka", kafka), ("postgres", postgres)) if on]
    account = Account.choose()
    try:
        run = make_folder(home / "run")
        lease = os.open(run / "lease", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EmbeddedError(
            f"JOBTRAIL_HOME {home} cannot be used ({error.strerror}: {error.filename}); "
            "choose a folder that you can write"
        ) from error
    try:
        account.require_entry(home, "JOBTRAIL_HOME")
        with _turn(run, on_progress):
            fcntl.flock(lease, fcntl.LOCK_SH)
            _ensure(home, cache, account, wanted, durable=durable, tell=on_progress)
            addresses = [Server(home, name).address() if name in wanted else None for name in GOODBYES]
        yield EmbeddedServers(home, *addresses)
    finally:
        with _turn(run, on_progress):
            fcntl.flock(lease, fcntl.LOCK_UN)  # not close() alone: a forked child would keep holding it
            if _last(lease):
                _stop_all(home, on_progress)
        os.close(lease)


def stop(home: Path, on_progress: Callable[[str], None] = say) -> bool:
    """Stops what runs under `home`, used or not; True if there was anything. May raise EmbeddedError."""
    home = home.absolute()
    if not any(Server(home, name).alive() for name in GOODBYES):
        return False
    with _turn(home / "run", on_progress):
        return _stop_all(home, on_progress)


@contextmanager
def _turn(run: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """One command at a time joins, leaves, starts or stops."""
    try:
        turn = (run / "turn").open("a")
    except OSError as error:
        raise EmbeddedError(
            f"{run} belongs to somebody else's servers ({error.strerror}); ask them"
        ) from error
    with turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another command that starts or stops the embedded servers")
            fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def _last(lease: int) -> bool:
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ensure(
    home: Path,
    cache: Path,
    account: Account,
    wanted: list[str],
    *,
    durable: bool,
    tell: Callable[[str], None],
) -> None:
    """Has the wanted servers running: those that answer stay, those that do not are started anew."""
    from jobtrail.embedded import kafka, postgres

    waits = []
    for name in wanted:
        server = Server(home, name)
        address = server.address()
        if address and (kafka if name == "kafka" else postgres).answers(address):
            continue
        if server.alive():
            tell(f"the {server.title} that is left under {home} does not answer; it is started anew")
            server.kill()
        tell(f"starting {server.title} under {home}")
        try:
            if name == "kafka":
                waits.append(kafka.start(home, cache, account, tell))
            else:
                waits.append(postgres.start(home, cache, account, durable=durable))
        except OSError as error:
            raise EmbeddedError(f"{server.title} cannot start under {home}: {error}") from error
    for wait in waits:  # after all are started: they get ready side by side
        wait()


def _stop_all(home: Path, tell: Callable[[str], None]) -> bool:
    """Ends the servers of `home`, side by side, each in good order or, after its time, by force."""
    alive = [server for server in (Server(home, name) for name in GOODBYES) if server.alive()]
    for server in alive:
        tell(f"stopping {server.title}")
        server.signal(GOODBYES[server.name][0])
    for server in alive:
        seconds = GOODBYES[server.name][1]
        if not server.wait_gone(seconds):
            tell(f"{server.title} did not stop within {seconds:.0f} s; it is killed")
            server.kill()
        elif server.name == "kafka":
            from jobtrail.embedded.kafka import keep_class_data

            keep_class_data(home)
    return bool(alive)
