"""Apache Kafka, one KRaft node that is broker and controller, on 127.0.0.1."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import stat
import subprocess
import time
import uuid
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Final

from jobtrail.embedded import java
from jobtrail.embedded.account import Account
from jobtrail.embedded.jars import Lock, class_path
from jobtrail.embedded.ports import free_port
from jobtrail.embedded.process import Server, write
from jobtrail.errors import EmbeddedError

NAME: Final = "kafka"
#: Seconds for a start, which may have to check its logs after a crash.
START_LIMIT: Final = 120.0

#: The quick compiler alone (C1) starts sooner, needs less memory and moves as many messages.
JVM: Final = (
    *("-Xms64m", "-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *("-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-XX:ErrorFile=logs/crash-%p.log"),
    *("-Xlog:disable", "-Xlog:all=error:stderr", "-Djava.awt.headless=true", "-Djava.io.tmpdir=tmp"),
)


def start(home: Path, cache: Path, account: Account, say: Callable[[str], None]) -> Callable[[], None]:
    """Starts Kafka under `home`; the function it returns waits until it takes requests.

    Both raise EmbeddedError.
    """
    lock = Lock.read()
    jars = class_path(lock, cache, say)
    if account.uid is not None:
        account.require_entry(jars[0].parent, "JOBTRAIL_CACHE")
    program, version = java.find(account, cache)
    server = Server(home, NAME)
    folder = account.own_folder(home / NAME)
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    for part in ("data", "logs", "tmp"):
        account.own_folder(folder / part)
    last = server.last_address()
    port = free_port(int(last.rpartition(":")[2]) if last else None)
    properties = _configure(server.run, port, free_port())
    options = [*JVM, f"-Dlog4j2.configurationFile={(server.run / 'log4j2.properties').as_uri()}"]
    options += ["-cp", os.pathsep.join(map(str, jars))]
    if not (folder / "data" / "meta.properties").exists():
        with server.preparing() as held:
            _format([str(program), *options], properties, folder, account, held)
    archive = cache / f"kafka-{lock.kafka}" / f"java-{version}.jsa"
    server.spawn(
        [str(program), *_class_data(archive, server.run), *options, "kafka.Kafka", str(properties)],
        folder=folder,
        account=account,
        environment=_environment(),
    )

    def wait() -> None:
        _wait_ready(server, f"127.0.0.1:{port}")
        server.publish(f"127.0.0.1:{port}", secret=False)

    return wait


def answers(address: str, seconds: float = 10) -> bool:
    """Whether a broker replies there within `seconds` and lists itself among the usable ones."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0, "reconnect.backoff.max.ms": 100})
    try:
        return bool(admin.list_topics(timeout=seconds).brokers)
    except KafkaException:
        return False


def _configure(run: Path, port: int, controller: int) -> Path:
    """Writes the configuration into a folder that is ours even where another account runs the broker."""
    here = resources.files("jobtrail.embedded")
    write(run / "log4j2.properties", here.joinpath("log4j2.properties").read_text(), 0o644)
    listeners = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"
    text = here.joinpath("kafka.properties").read_text()
    text += f"listeners={listeners}\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n"
    properties = run / "kafka.properties"
    write(properties, text, 0o644)
    return properties


def _format(java_command: list[str], properties: Path, folder: Path, account: Account, held: int) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    ran = subprocess.run(
        [
            *java_command,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            "--config",
            str(properties),
        ],
        cwd=folder,
        env=_environment(),
        pass_fds=[held],  # nobody begins anew before it is gone
        start_new_session=True,
        stdin=subprocess.DEVNULL,
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
        said = " ".join((ran.stdout + ran.stderr).split())[-400:]
        raise EmbeddedError(f"Kafka could not prepare {folder / 'data'}: it said: {said}")


def _wait_ready(server: Server, address: str) -> None:
    deadline = time.monotonic() + START_LIMIT
    host, _, port = address.partition(":")
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), 1).close()
            if answers(address, 5):
                return
        if not server.alive():
            raise server.complaint("did not start")
        if time.monotonic() > deadline:
            server.kill()
            raise server.complaint(f"was not ready within {START_LIMIT:.0f} s")
        time.sleep(0.02)


def _environment() -> dict[str, str]:
    # JAVA_TOOL_OPTIONS, CLASSPATH and KAFKA_* of the user's are for other programs.
    return {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}


#: Where a broker leaves, as it ends, the archive of its loaded classes.
FRESH_ARCHIVE: Final = "tmp/classes.jsa"


def _class_data(archive: Path, run: Path) -> list[str]:
    """Options for the JVM's archive of loaded classes, which halves the time of a start (3.3 s to 1.5 s).

    The first broker on a version of Java writes one as it ends: 4 s, once. `keep_class_data` keeps it.
    """
    (run / "kafka.archive").unlink(missing_ok=True)
    if archive.exists():
        return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"]
    write(run / "kafka.archive", str(archive), 0o600)
    return [f"-XX:ArchiveClassesAtExit={FRESH_ARCHIVE}"]


def keep_class_data(home: Path) -> None:
    """Copies the archive that a broker left as it ended to the cache; without it starts are slower."""
    note = home / "run" / "kafka.archive"
    with contextlib.suppress(OSError):
        archive = Path(note.read_text())
        note.unlink()
        # Another account may own this folder and put a link to somebody's file there.
        descriptor = os.open(home / NAME / FRESH_ARCHIVE, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as source:
            found, folder = os.fstat(descriptor), (home / NAME).stat()
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == folder.st_uid:
                fresh = archive.with_name(f"{archive.name}.{os.getpid()}")
                with fresh.open("wb") as target:
                    shutil.copyfileobj(source, target)
                fresh.chmod(0o644)
                fresh.replace(archive)
