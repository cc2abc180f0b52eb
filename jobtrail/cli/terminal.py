"""What a person sees: colour and tables where there is a terminal and rich, plain aligned text otherwise.

All text that comes from elsewhere is shown with its control characters visible; it is never taken as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from jobtrail.producers.logs import visible

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ago",
    "amount",
    "as_json",
    "clock",
    "console",
    "line",
    "size",
    "span",
    "style_of",
    "table",
    "visible",
]

#: Status → colour.
STYLES: Final = {
    "succeeded": "green",
    "running": "cyan",
    "pending": "dim",
    "incomplete": "yellow",
    "failed": "red",
    "cancelled": "magenta",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


@cache
def console() -> Console | None:
    """Rich's console where stdout is a terminal and rich is installed."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(highlight=False)


def line(*parts: str, style: str = "", indent: int = 0) -> None:
    """One line; a style is a colour of rich's."""
    text = " " * indent + " ".join(visible(part) for part in parts if part)
    if (terminal := console()) is None:
        print(text)
    else:
        from rich.text import Text

        terminal.print(Text(text, style=style), soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A table; `right` names the columns of numbers, `status` colours its cells."""
    if (terminal := console()) is not None:
        terminal.print(rich_table(columns, rows, right))
        return
    for cells in plain_table(columns, rows, right):
        print(cells)


def plain_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> list[str]:
    """The lines of a table as aligned text."""
    shown = [list(columns), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in shown
    ]


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> Any:
    """The same for rich."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline")
    for name in columns:
        # Where room is short, text gives way: half a number would be another number.
        whole = name in right or name in {"status", "created", "started"}
        made.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        made.add_row(
            *(
                Text(visible(cell), style=style_of(cell) if name == "status" else "")
                for name, cell in zip(columns, row, strict=True)
            )
        )
    return made


def style_of(status: str) -> str:
    """The colour of a status."""
    return STYLES.get(status, "")


def as_json(value: object) -> None:
    """One JSON document on stdout; ASCII, so that no terminal is moved by it."""
    print(json.dumps(value, indent=2).replace("\x7f", r"\u007f"))


def clock(moment: datetime | float | None) -> str:
    """An instant or epoch seconds as local time, to the second."""
    if moment is None:
        return "-"
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(moment: datetime) -> float:
    """Seconds since an instant."""
    return (datetime.now(UTC) - moment).total_seconds()


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
