"""Counts, bytes, durations and instants as people read them, the same in commands and on pages."""

from __future__ import annotations

from datetime import UTC, datetime


def clock(moment: datetime | float | None) -> str:
    """An instant or epoch seconds as local time, to the second."""
    if moment is None:
        return "-"
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """A duration: 4.2 s, 3 m 05 s, 2 h 04 m."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


def amount(value: int | None, unknown: str = "-") -> str:
    """A count, or `unknown`."""
    return unknown if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Bytes in decimal units: 999 B, 12.3 MB."""
    if value is None:
        return "-"
    if value < 1000:
        return f"{value} B"
    number = float(value)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:,.1f} EB"
