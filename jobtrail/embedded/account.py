"""Who runs the servers: this account, or as root an unprivileged one, and what that one can reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from jobtrail.errors import EmbeddedError

#: Accounts that run the servers when we are root, the first that exists.
UNPRIVILEGED: Final = ("postgres", "_postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An account to run servers as; all fields None: the one we are."""

    name: str | None = None
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls) -> Self:
        """This account, or as root one that PostgreSQL accepts. Raises EmbeddedError when there is none."""
        if sys.platform == "win32" or os.geteuid() != 0:
            return cls()
        import pwd

        for name in UNPRIVILEGED:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(name, entry.pw_uid, entry.pw_gid)
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and none of {', '.join(UNPRIVILEGED)} exists here; "
            "make one (`useradd --system postgres`) or start as another user"
        )

    @property
    def extra_groups(self) -> list[int] | None:
        """Groups beside its own: none, lest it keeps root's."""
        return None if self.uid is None else []

    def can(self, path: Path, access: str = "x") -> bool:
        """Whether it may read (r), write (w), or enter or execute (x) `path`: tried, not computed."""
        if self.uid is None:
            return os.access(path, {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}[access])
        command = ["/bin/sh", "-c", f'test -{access} "$0"', str(path)]
        tried = subprocess.run(
            command, check=False, cwd="/", user=self.uid, group=self.gid, extra_groups=self.extra_groups
        )
        return tried.returncode == 0

    def require_entry(self, folder: Path, purpose: str) -> None:
        """Raises EmbeddedError, naming the closed folder, unless it can enter `folder` and all above."""
        if self.can(folder):
            return
        closed = next((parent for parent in reversed(folder.parents) if not self.can(parent)), folder)
        raise EmbeddedError(
            f"{purpose} {folder} cannot be used: account {self.name}, which runs the servers, may not "
            f"enter {closed} (mode {closed.stat().st_mode & 0o7777:04o}); "
            f"choose a place that it can enter, such as /var/lib/jobtrail, or open {closed} to it"
        )

    def own_folder(self, path: Path) -> Path:
        """A folder of the servers' own (0700), made if missing. Raises EmbeddedError if another owns it."""
        if not path.exists():
            path.mkdir(mode=0o700)
            if self.uid is not None and self.gid is not None:
                os.chown(path, self.uid, self.gid)
        owner = path.stat().st_uid
        if owner != (os.geteuid() if self.uid is None else self.uid):
            raise EmbeddedError(
                f"{path} belongs to account number {owner}, but {self.name or 'this one'} runs the servers; "
                "start as the account that made it, or choose another JOBTRAIL_HOME"
            )
        return path


def make_folder(path: Path) -> Path:
    """Makes `path` and what is missing above it, open to read for all; what exists keeps its permissions."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    return path


def reachable(account: Account, root: Path, parts: Iterable[str], probe: str, target: Path) -> Path:
    """A folder in which `account` can execute `probe`: `root`, or else `target` with a copy of `parts` of it.

    The copy is made once and is complete or absent. Raises EmbeddedError when `target` is closed as well.
    """
    if account.can(root / probe):
        return root
    if not target.exists():
        make_folder(target.parent)
        account.require_entry(target.parent, "JOBTRAIL_CACHE")
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        make_folder(fresh)
        for part in parts:
            if (root / part).exists():
                make_folder((fresh / part).parent)
                shutil.copytree(root / part, fresh / part, symlinks=True)
        for folder, _, files in os.walk(fresh):
            Path(folder).chmod(0o755)
            for file in files:
                copied = Path(folder, file)
                if not copied.is_symlink():
                    copied.chmod(copied.stat().st_mode | 0o444 | (copied.stat().st_mode & 0o100 and 0o111))
        try:
            fresh.rename(target)
        except OSError:  # another start was quicker
            shutil.rmtree(fresh)
    if not account.can(target / probe):
        raise EmbeddedError(
            f"{account.name} cannot execute {target / probe}; delete {target} and start again"
        )
    return target
