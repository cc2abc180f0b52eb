"""Kafka's jars: which ones (the lock), where they are kept (the cache), and that they are the locked ones.

The lock names every jar of the class path that jgo resolved when the lock was written, with its SHA-256. A
start downloads exactly these and resolves nothing; with all of them in the cache it needs no network.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jobtrail.embedded.account import make_folder
from jobtrail.errors import EmbeddedError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

if sys.platform != "win32":
    import fcntl


@dataclass(frozen=True)
class Jar:
    """One locked jar."""

    #: group:artifact:version
    coordinate: str
    sha256: str

    @property
    def file(self) -> str:
        """Its file's name."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


@dataclass(frozen=True)
class Lock:
    """What runs: Kafka's version and all jars, in the order of the class path."""

    kafka: str
    jars: tuple[Jar, ...]

    @classmethod
    def read(cls, text: str | None = None) -> Lock:
        """The lock in `text`, or the one that comes with Jobtrail."""
        if text is None:
            text = resources.files("jobtrail.embedded").joinpath("kafka.lock").read_text()
        values = tomllib.loads(text)
        return cls(values["kafka"], tuple(Jar(name, digest) for name, digest in values["jars"].items()))


def class_path(lock: Lock, cache: Path, say: Callable[[str], None]) -> list[Path]:
    """The jars of `lock`, verified; what is missing in `cache` is downloaded first, as `say` is told.

    Raises EmbeddedError for a jar that is not what the lock says, and when a missing one cannot be had.
    """
    folder = cache / f"kafka-{lock.kafka}"
    if not all((folder / jar.file).exists() for jar in lock.jars):
        make_folder(folder)
        with (folder / "download.lock").open("w") as turn:
            if sys.platform != "win32":
                fcntl.flock(turn, fcntl.LOCK_EX)
            _download(lock, [jar for jar in lock.jars if not (folder / jar.file).exists()], folder, say)
    for jar in lock.jars:
        verify(jar, folder / jar.file)
    return [folder / jar.file for jar in lock.jars]


def verify(jar: Jar, path: Path) -> None:
    """Raises EmbeddedError, naming the jar, unless the file at `path` has the locked sum."""
    found = sha256(path)
    if found != jar.sha256:
        raise EmbeddedError(
            f"{jar.coordinate} is not what the lock says: {path} has SHA-256 {found}, expected {jar.sha256}; "
            f"nothing was started; delete that file to fetch it again, and ask who changed it if this returns"
        )


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def maven(repository: Path) -> MavenContext:
    """A context of jgo that downloads into `repository`; jgo's own settings may name mirrors to try first."""
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError:
        raise EmbeddedError(
            "Kafka is fetched by jgo, which is missing; pip install 'jobtrail[embedded]'"
        ) from None
    context = MavenContext(repo_cache=repository)
    context.remote_repos = GlobalSettings.load().repositories | context.remote_repos
    return context


def _download(lock: Lock, missing: list[Jar], folder: Path, say: Callable[[str], None]) -> None:
    from jobtrail.embedded.progress import bar

    incoming = folder / "incoming"  # a file appears in `folder` only when it is whole and verified
    shutil.rmtree(incoming, ignore_errors=True)
    context = maven(incoming)
    try:
        with bar(f"Apache Kafka {lock.kafka}: {len(missing)} jars", len(missing), say) as advance:
            for jar in missing:
                group, artifact, version = jar.coordinate.split(":")
                part = context.project(group, artifact).at_version(version).artifact()
                try:
                    path = part.resolve()
                except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
                    raise EmbeddedError(
                        f"Apache Kafka {lock.kafka} is not in {folder} and {jar.file} cannot be downloaded "
                        f"({_cause(error)}); connect to the network this once (HTTPS_PROXY is obeyed), copy "
                        "the folder from elsewhere, or set JOBTRAIL_KAFKA_BOOTSTRAP_SERVERS to your own Kafka"
                    ) from None
                verify(jar, path)
                path.chmod(0o644)
                path.replace(folder / jar.file)
                advance()
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _cause(error: BaseException) -> str:
    """What the innermost error says: those around it repeat it with addresses and object names."""
    while inner := error.__cause__ or error.__context__ or getattr(error, "reason", None):
        if not isinstance(inner, BaseException):
            break
        error = inner
    return f"{type(error).__name__}: {str(error).rpartition('>: ')[2][:200]}"
