"""RESULTS.md, one section for each benchmark, written by the benchmark itself."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import confluent_kafka

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
#: Packages whose versions may matter to a figure.
PACKAGES: Final = ("confluent-kafka", "fastavro", "msgspec", "polars", "psycopg", "pydantic", "uuid-utils")


def write_section(name: str, text: str, *, command: str, settings: str = "", file: Path = RESULTS) -> None:
    """Replaces the section with the heading `name`, or adds it at the end.

    It has the command, when and on what it ran with how much else going on, `settings` (prose: sizes, rounds,
    what is durable), then `text`: tables and what they mean.
    """
    parts = [f"## {name}", f"    {command}", f"{machine()}\n{settings}".strip(), text.strip()]
    section = "\n\n".join(parts) + "\n"
    old = file.read_text("utf-8") if file.exists() else "# What was measured\n"
    # Until the next heading of this level; a heading in the text would end it, so there is none.
    found = re.search(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", old, re.DOTALL | re.MULTILINE)
    if found is None:
        new = f"{old.rstrip()}\n\n{section}"
    else:
        new = "\n\n".join(filter(None, (old[: found.start()].rstrip(), section.rstrip(), old[found.end() :])))
    file.write_text(new.rstrip() + "\n", "utf-8")


def machine() -> str:
    """The date, the machine, how busy it is, and versions."""
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{package} {found}" for package in PACKAGES if (found := _version(package)))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({_processor()}), {memory:.0f} GB; load "
        f"average {busy} at the end.\nPython {platform.python_version()}, {versions}, librdkafka "
        f"{confluent_kafka.libversion()[0]}."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
