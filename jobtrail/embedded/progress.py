"""What a start tells people, on stderr: lines, and a bar for a download when that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def say(line: str) -> None:
    """One line to stderr."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def bar(title: str, total: int, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Shows a download of `total` files; the caller calls what it is given after each.

    A bar when `tell` is `say`, stderr a terminal and rich installed; else a line at each quarter.
    """
    done = 0
    if tell is say and sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            pass
        else:
            with Progress(console=Console(stderr=True)) as progress:
                task = progress.add_task(f"downloading {title}", total=total)
                yield lambda: progress.advance(task)
            return
    tell(f"downloading {title}")

    def advance() -> None:
        nonlocal done
        done += 1
        if done * 4 // total > (done - 1) * 4 // total:
            tell(f"downloading {title}: {done} done")

    yield advance
