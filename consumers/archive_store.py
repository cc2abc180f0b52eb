"""Where an archive is: a folder, or any address of fsspec. Files are there whole or not at all.

In a folder a file is written aside, made durable and moved; a run holds a lock on the folder. Object stores
write whole by themselves, and of two that make the same file anew only one succeeds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from jobtrail.errors import ArchiveError, ConflictError, JobtrailError, UsageError

if sys.platform != "win32":
    import fcntl

#: Says that an archive is here; a run in a folder holds a lock on it.
MARK: Final = "jobtrail-archive.json"
#: How the name of a file ends while it is written.
UNFINISHED: Final = ".part"
_MARKED: Final = b'{"jobtrail_archive": 1}\n'


class Store:
    """The files below an address, by their names relative to it, with "/" between folders."""

    def __init__(self, address: str, file_system: Any, root: str) -> None:
        self.address = address
        self._files = file_system
        self._root = root.rstrip("/")

    @classmethod
    def open(cls, address: str) -> Self:
        """Raises UsageError for an address that fsspec cannot use; asks nothing of the place itself yet."""
        from fsspec.core import url_to_fs

        try:
            file_system, root = url_to_fs(address)
        except (ValueError, ImportError, TypeError) as error:
            raise UsageError(
                f"{_shown(address)} is no address of an archive ({error}); name a folder, or an address that"
                " fsspec knows and whose package is installed (pip install s3fs for s3://bucket/folder)"
            ) from None
        from fsspec.implementations.local import LocalFileSystem

        made = FolderStore if isinstance(file_system, LocalFileSystem) else cls
        return made(_shown(address), file_system, root)  # type: ignore[return-value]  # a subclass, or this

    def names(self) -> list[str]:
        """All files that are there whole, sorted."""
        with self._speaking(""):
            self._files.invalidate_cache()
            found = self._files.find(self._root or "/")
        names = (str(path)[len(self._root) + 1 :] for path in found)
        return sorted(name for name in names if name and not name.endswith(UNFINISHED))

    def read(self, name: str) -> bytes:
        """The whole file. Raises ArchiveError where there is none."""
        with self._speaking(name):
            return bytes(self._files.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """The file with this content, whatever was there."""
        with self._speaking(name):
            self._files.pipe_file(self._path(name), content)

    def write_new(self, name: str, content: bytes) -> None:
        """The same for a file that is not there yet. Raises ConflictError where it is."""
        with self._speaking(name):
            try:
                self._files.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                raise self._conflict(name) from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[bool]:
        """Makes the archive if there is none; gives whether nobody else writes to it meanwhile."""
        if MARK not in self.names():
            self.write(MARK, _MARKED)
        yield False

    def remove(self, name: str) -> None:
        """Takes a file away."""
        with self._speaking(name):
            self._files.rm_file(self._path(name))

    def shown(self, name: str) -> str:
        """A file's full address, for people."""
        return f"{self.address.rstrip('/')}/{name}" if name else self.address

    def _conflict(self, name: str) -> ConflictError:
        return ConflictError(
            f"another run wrote {self.shown(name)} at the same time; the archive is as it should be, so run"
            " it again when the other one has ended"
        )

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _speaking(self, name: str) -> Iterator[None]:
        try:
            yield
        except JobtrailError:
            raise
        except FileNotFoundError:
            raise ArchiveError(f"{self.shown(name)} is not there") from None
        except Exception as error:  # each file system has errors of its own, of its client's library
            said = " ".join(str(error).split()) or type(error).__name__
            raise ArchiveError(f"{self.shown(name)} cannot be used: {said}") from error


class FolderStore(Store):
    """A folder of this machine. What it wrote survives a loss of power."""

    def write(self, name: str, content: bytes) -> None:
        """Aside, durably, and then moved."""
        path = Path(self._path(name))
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
        with self._speaking(name):
            _make_folder(path.parent)
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            _sync_folder(path.parent)

    def write_new(self, name: str, content: bytes) -> None:
        """Whoever writes holds the lock, so that nobody comes between."""
        if Path(self._path(name)).exists():
            raise self._conflict(name)
        self.write(name, content)

    @contextlib.contextmanager
    def writing(self) -> Iterator[bool]:
        """Locks the folder. Raises ConflictError where another run has it."""
        with contextlib.ExitStack() as stack:
            with self._speaking(MARK):
                _make_folder(Path(self._root))
                descriptor = os.open(self._path(MARK), os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, descriptor)
                self._lock(descriptor)
                # Never replaced, only filled: a lock is on this very file.
                if not os.fstat(descriptor).st_size:
                    os.write(descriptor, _MARKED)
                    os.fsync(descriptor)
                    _sync_folder(Path(self._root))
                for aside in Path(self._root).rglob(f"*{UNFINISHED}"):  # of a run that was killed
                    aside.unlink()
            yield sys.platform != "win32"

    def _lock(self, descriptor: int) -> None:
        if sys.platform == "win32":  # the manifests' names alone keep two runs apart there
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another `jobtrail archive` writes to {self.address}; let it end, it copies what there is"
            ) from None


def _make_folder(folder: Path) -> None:
    """Makes it and its parents, durably."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(address: str) -> str:
    """The address without a password."""
    if "@" not in address or "://" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
