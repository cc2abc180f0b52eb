"""The real airbyte-source-faker, installed apart: it needs Python below 3.13, and is ELv2 licensed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobtrail.demo.apart import InstallError, environment_of

REQUIREMENTS: Final = Path(__file__).with_name("faker-requirements.txt")
#: Pythons that the list was made for, the best first.
VERSIONS: Final = ("3.12", "3.11")
#: Seconds for a Python to say its version.
_ANSWER: Final = 20.0


class FakerError(Exception):
    """The faker cannot be had; says why."""


def faker_command(folder: Path, on_progress: Callable[[str], None]) -> list[str]:
    """The command of the faker, installed under `folder` unless it is there; takes a minute or two then.

    Raises FakerError where no fitting Python is found, or something cannot be downloaded.
    """
    try:
        environment = environment_of(REQUIREMENTS, "airbyte-source-faker", folder, find_python, on_progress)
    except InstallError as error:
        raise FakerError(str(error)) from error
    return [str(environment / "bin" / "python"), str(environment / "bin" / "source-faker")]


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
