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
from jobtrail.words import amount, clock, size, span

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


def ago(moment: datetime) -> float:
    """Seconds since an instant."""
    return (datetime.now(UTC) - moment).total_seconds()
