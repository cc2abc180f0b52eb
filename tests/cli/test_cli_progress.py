"""What long work says of itself where there is no terminal."""

from __future__ import annotations

import io

from jobtrail.cli.progress import Shown


def said(quiet: float, *moments: tuple[float, int]) -> list[str]:
    """What is said of a work of 100 parts, of which so many are done at each moment."""
    out = io.StringIO()
    now = iter(moment for moment, _ in moments)
    with Shown(out, lambda: next(now), quiet=quiet) as shown:
        for _, done in moments:
            shown("copying", done, 100)
    return out.getvalue().splitlines()


def test_a_line_at_the_beginning_one_now_and_then_and_one_at_the_end() -> None:
    lines = said(0, (0, 0), (1, 10), (5, 50), (6, 60), (9, 100))
    assert lines == [
        "jobtrail: copying: 0 of 100 (0 %)",
        "jobtrail: copying: 50 of 100 (50 %), 10 a second, 5.0 s left",
        "jobtrail: copying: 100 of 100 (100 %)",
    ]


def test_what_is_done_soon_says_nothing_if_it_shall_not() -> None:
    assert said(5, (0, 0), (1, 50), (4, 100)) == []
    assert said(5, (0, 0), (6, 50), (7, 100)) == [
        "jobtrail: copying: 50 of 100 (50 %), 8 a second, 6.0 s left",
        "jobtrail: copying: 100 of 100 (100 %)",
    ]
