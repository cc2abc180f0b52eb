"""Programs that are installed apart, each in an environment of its own.

A virtual environment under a folder of the cache, from a list that fixes every version and every file by its
SHA-256. Made once; its name has the hash of that list, so that another list makes another.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Written last, so that what was interrupted is not taken for complete.
_COMPLETE: Final = "complete"


class InstallError(Exception):
    """A program cannot be installed; says why."""


def environment_of(
    requirements: Path,
    what: str,
    folder: Path,
    find_python: Callable[[], str],
    on_progress: Callable[[str], None],
) -> Path:
    """The environment of `<name>-requirements.txt` under `folder`, made there unless it is complete.

    `what` is its name for people. Raises InstallError where something cannot be downloaded or written.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    environment = folder / f"{requirements.stem.removesuffix('-requirements')}-{digest}"
    if (environment / _COMPLETE).exists():
        return environment
    python = find_python()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(environment.with_name(f"{environment.name}.lock")):
            if not (environment / _COMPLETE).exists():
                _install(requirements, what, python, environment, on_progress)
    except OSError as error:
        raise InstallError(f"{environment} cannot be made: {error}") from error
    return environment


def _install(
    requirements: Path, what: str, python: str, environment: Path, on_progress: Callable[[str], None]
) -> None:
    on_progress(f"installing {what}, once; this takes a minute or two")
    shutil.rmtree(environment, ignore_errors=True)
    _checked([python, "-m", "venv", str(environment)], lambda _line: None)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-input", "--no-deps"]
    pip += ["--no-compile", "--disable-pip-version-check", "--progress-bar", "off"]
    total = sum("==" in line for line in requirements.read_text("utf-8").splitlines())
    fetched = 0

    def progress(line: str) -> None:
        nonlocal fetched
        if line.startswith("Collecting "):
            fetched += 1
            if fetched * 4 // total > (fetched - 1) * 4 // total:
                on_progress(f"installing {what}: {fetched} of {total} packages fetched")
        elif line.startswith("Installing "):
            on_progress(f"installing {what}: unpacking")

    _checked([*pip, "--require-hashes", "-r", str(requirements)], progress)
    (environment / _COMPLETE).touch()


def _checked(command: list[str], on_line: Callable[[str], None]) -> None:
    """Runs a command; raises InstallError with its last line unless it succeeds."""
    # Settings of this process's own environment must not lead pip into another.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    last = ""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as running:
        try:
            for line in running.stdout or ():
                last = line.strip() or last
                on_line(line)
        except BaseException:
            running.terminate()
            raise
    if running.returncode:
        raise InstallError(f"{' '.join(command[1:4])} ended with exit status {running.returncode}: {last}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for others who install the same."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
