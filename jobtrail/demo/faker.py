"""The real airbyte-source-faker, installed apart: it needs Python below 3.13, and is ELv2 licensed.

A virtual environment under a folder of the cache, from faker-requirements.txt, which fixes every version and
every file by its SHA-256. Made once; its name has the hash of that list, so that another list makes another.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).with_name("faker-requirements.txt")
#: Pythons that the list was made for, the best first.
VERSIONS: Final = ("3.12", "3.11")
#: Written last, so that what was interrupted is not taken for complete.
_COMPLETE: Final = "complete"
#: Seconds for a Python to say its version.
_ANSWER: Final = 20.0


class FakerError(Exception):
    """The faker cannot be had; says why."""


def faker_command(folder: Path, on_progress: Callable[[str], None]) -> list[str]:
    """The command of the faker, installed under `folder` unless it is there; takes a minute or two then.

    Raises FakerError where no fitting Python is found, or something cannot be downloaded.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    environment = folder / f"faker-{digest}"
    command = [str(environment / "bin" / "python"), str(environment / "bin" / "source-faker")]
    if (environment / _COMPLETE).exists():
        return command
    python = find_python()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"faker-{digest}.lock"):
            if not (environment / _COMPLETE).exists():
                _install(python, environment, on_progress)
    except OSError as error:
        raise FakerError(f"{environment} cannot be made: {error}") from error
    return command


def find_python() -> str:
    """A Python that really starts, can make environments, and is neither too old nor too new."""
    candidates = [sys.executable, *(found for name in VERSIONS if (found := shutil.which(f"python{name}")))]
    for candidate in candidates:
        say = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        try:
            answer = subprocess.run(
                [candidate, "-c", say], capture_output=True, text=True, check=False, timeout=_ANSWER
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0 and answer.stdout.strip() in VERSIONS:
            return candidate
    raise FakerError(f"no Python {' or '.join(VERSIONS)} is found, which airbyte-source-faker needs")


def _install(python: str, environment: Path, on_progress: Callable[[str], None]) -> None:
    on_progress("installing airbyte-source-faker, once; this takes a minute or two")
    shutil.rmtree(environment, ignore_errors=True)
    _checked([python, "-m", "venv", str(environment)], lambda _line: None)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-input", "--no-deps"]
    pip += ["--no-compile", "--disable-pip-version-check", "--progress-bar", "off"]
    total = sum("==" in line for line in REQUIREMENTS.read_text("utf-8").splitlines())
    fetched = 0

    def progress(line: str) -> None:
        nonlocal fetched
        if line.startswith("Collecting "):
            fetched += 1
            if fetched * 4 // total > (fetched - 1) * 4 // total:
                on_progress(f"installing airbyte-source-faker: {fetched} of {total} packages fetched")
        elif line.startswith("Installing "):
            on_progress("installing airbyte-source-faker: unpacking")

    _checked([*pip, "--require-hashes", "-r", str(REQUIREMENTS)], progress)
    (environment / _COMPLETE).touch()


def _checked(command: list[str], on_line: Callable[[str], None]) -> None:
    """Runs a command; raises FakerError with its last line unless it succeeds."""
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
        raise FakerError(f"{' '.join(command[1:4])} ended with exit status {running.returncode}: {last}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for others who install the same."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
